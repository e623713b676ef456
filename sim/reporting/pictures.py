"""Makes one small picture of an episode's film strip, for a page that carries everything with it. Reads no results."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

_COLUMNS = 6
# Edge of a picture in pixels and JPEG quality, best first; the first that fits is taken, the last if none does.
_SIZES = ((144, 80), (128, 72), (112, 65), (96, 60), (80, 50), (64, 40))
_GAP_PX = 2


def film_strip(paths: list[Path], max_bytes: int) -> tuple[dict | None, int]:
    """Sets pictures side by side, at most six in a row.

    Args:
        paths: picture files in order.
        max_bytes: what the strip may take as JPEG, before it is written as text.

    Returns:
        (href, a JPEG as data URI, with its width and height in pixels and count; None where no picture could be read,
        how many could not be read).
    """
    pictures = [picture for picture in map(_read, paths) if picture is not None]
    unreadable = len(paths) - len(pictures)
    if not pictures:
        return None, unreadable
    for edge, quality in _SIZES:
        strip = _side_by_side(pictures, edge)
        buffer = io.BytesIO()
        strip.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= max_bytes:
            break
    href = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"href": href, "width": strip.width, "height": strip.height, "count": len(pictures)}, unreadable


def _read(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return None


def _side_by_side(pictures: list[Image.Image], edge: int) -> Image.Image:
    rows = -(-len(pictures) // _COLUMNS)
    columns = -(-len(pictures) // rows)
    pitch = edge + _GAP_PX
    strip = Image.new("RGB", (columns * pitch - _GAP_PX, rows * pitch - _GAP_PX), (128, 128, 128))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        small = picture.resize((edge, edge), Image.Resampling.LANCZOS)
        strip.paste(small, (column * pitch, row * pitch))
    return strip
