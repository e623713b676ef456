"""Turns the bytes of a raw or compressed camera image into RGB. Plain arguments, no ROS types, no files."""

from __future__ import annotations

import difflib
import io
import zlib
from struct import error as struct_error

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# bytes of one pixel and the slice of its bytes that gives R, G, B; 8UC3 and 8UC4 carry OpenCV's order
_COLOUR = {
    "rgb8": (3, slice(0, 3)),
    "rgba8": (4, slice(0, 3)),
    "bgr8": (3, slice(2, None, -1)),
    "bgra8": (4, slice(2, None, -1)),
    "8UC3": (3, slice(2, None, -1)),
    "8UC4": (4, slice(2, None, -1)),
}
_GREY = {"mono8": 1, "8UC1": 1, "mono16": 2}
# offset of luma in each pair of bytes: UYVY has chroma first, YUY2 luma
_YUV = {"yuv422": 1, "uyvy": 1, "yuv422_yuy2": 0, "yuyv": 0}
ENCODINGS = (*_COLOUR, *_GREY, *_YUV)
"""Raw encodings that `to_rgb` reads."""

_BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, zlib.error, struct_error)


def to_rgb(encoding: str, height: int, width: int, step: int, data, is_bigendian: bool = False) -> np.ndarray:
    """Decodes a raw image as sensor_msgs/Image carries it.

    Args:
        encoding: one of ENCODINGS.
        height: rows in pixels.
        width: columns in pixels; even for the yuv encodings.
        step: bytes from one row to the next; more than a row needs is padding.
        data: any buffer of at least step * height bytes (bytes, array.array, numpy array).
        is_bigendian: byte order of mono16.

    Returns:
        A new array, uint8 [H, W, 3]. mono16 is scaled from 0..65535 to 0..255; alpha is dropped; yuv is read as
        BT.601 limited range.

    Raises:
        ValueError: unsupported encoding, no pixels, a step smaller than a row, an odd yuv width, or missing data.
    """
    rows = _rows(encoding, height, width, step, data)
    if encoding in _COLOUR:
        channels, order = _COLOUR[encoding]
        return np.array(rows.reshape(height, width, channels)[..., order], order="C")
    if encoding in _YUV:
        return _yuv422_to_rgb(rows.reshape(height, width, 2), _YUV[encoding])
    grey = rows
    if encoding == "mono16":
        samples = np.ascontiguousarray(rows).view(">u2" if is_bigendian else "<u2")
        grey = _to_8_bit(samples)
    return np.repeat(grey[..., None], 3, axis=2)


def decode_compressed(data) -> np.ndarray:
    """Decodes a JPEG, PNG or any other image file that Pillow reads; EXIF orientation is applied.

    Args:
        data: the bytes of the file (bytes, array.array, numpy array of uint8).

    Returns:
        A new array, uint8 [H, W, 3]. 16-bit grey is scaled to 8 bit, alpha is dropped.

    Raises:
        ValueError: no data, an unknown format, or a file that is cut off or damaged.
    """
    raw = bytes(memoryview(data).cast("B"))
    if not raw:
        raise ValueError("compressed image must hold a JPEG or PNG file, got 0 bytes; check the camera's publisher")
    try:
        with Image.open(io.BytesIO(raw)) as image:
            return _picture_to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ValueError(
            f"compressed image must be a JPEG, PNG or other picture file, got {len(raw)} bytes starting with "
            f"{raw[:8].hex(' ')}; for compressed depth or video packets publish raw images or JPEG instead"
        ) from None
    except (*_BROKEN_IMAGE, Image.DecompressionBombError) as error:
        raise ValueError(
            f"compressed image of {len(raw)} bytes is cut off or damaged ({error}); check the camera or the file"
        ) from error


def _rows(encoding: str, height: int, width: int, step: int, data) -> np.ndarray:
    """The bytes of the pixels without row padding, uint8 [H, W * bytes per pixel], a view."""
    row_bytes = width * _bytes_per_pixel(encoding)
    if height < 1 or width < 1:
        raise ValueError(f"image must have at least one pixel, got {width} x {height} (width x height); drop it")
    if encoding in _YUV and width % 2:
        raise ValueError(f"{encoding} shares chroma between two pixels, so width must be even, got {width}; use rgb8")
    if step < row_bytes:
        raise ValueError(
            f"step must be at least {row_bytes} bytes for {width} pixels of {encoding}, got {step}; "
            "set step to the bytes of one row"
        )
    buffer = np.frombuffer(memoryview(data).cast("B"), np.uint8)
    if buffer.size < step * height:
        raise ValueError(
            f"data must hold step * height = {step} * {height} = {step * height} bytes, got {buffer.size}; "
            "the image is cut off, check the publisher"
        )
    return buffer[: step * height].reshape(height, step)[:, :row_bytes]


def _bytes_per_pixel(encoding: str) -> int:
    if encoding in _COLOUR:
        return _COLOUR[encoding][0]
    if encoding in _GREY:
        return _GREY[encoding]
    if encoding in _YUV:
        return 2
    raise ValueError(f"image encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}; {_advice(encoding)}")


def _advice(encoding: str) -> str:
    """What to do about an encoding that is not read."""
    if encoding.startswith("bayer"):
        return "debayer it first (image_proc) and subscribe to the colour topic"
    if encoding in ("16UC1", "32FC1"):
        return "this is a depth image, choose the camera's colour topic"
    near = difflib.get_close_matches(encoding, ENCODINGS, n=1)
    return f"did you mean {near[0]!r}?" if near else "publish rgb8 or bgr8"


def _yuv422_to_rgb(pairs: np.ndarray, luma_at: int) -> np.ndarray:
    """pairs: uint8 [H, W, 2], luma beside alternating U and V. Source: ITU-R BT.601, 8-bit fixed point."""
    luma = 298 * (pairs[..., luma_at].astype(np.int32) - 16)
    chroma = pairs[..., 1 - luma_at].astype(np.int32) - 128
    u, v = np.repeat(chroma[:, 0::2], 2, axis=1), np.repeat(chroma[:, 1::2], 2, axis=1)
    rgb = np.stack([luma + 409 * v, luma - 100 * u - 208 * v, luma + 516 * u], axis=2)
    return np.clip((rgb + 128) >> 8, 0, 255).astype(np.uint8)


def _to_8_bit(samples: np.ndarray) -> np.ndarray:
    """Scales 0..65535 to 0..255, rounded: 65535 = 255 * 257."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _picture_to_rgb(image: Image.Image) -> np.ndarray:
    # Pillow clips 16-bit grey instead of scaling it
    if image.mode.startswith("I"):
        grey = _to_8_bit(np.clip(np.asarray(image), 0, 65535))
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))
