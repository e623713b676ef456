"""Small procedural textures: wood, cloth, tiles, wallpaper, pictures, screens. Puts them on nothing.

They are near white so that a material's colour tints them, and repeat without a seam. Every variant is computed once a
process; flats share them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import numpy as np

VARIANTS = 48
_SIZE = 128


@lru_cache(maxsize=1024)
def texture(kind: str, variant: int) -> np.ndarray:
    """A texture.

    Args:
        kind: a key of KINDS.
        variant: of it, 0 or more.

    Returns:
        uint8 [H, W, 4], opaque, read-only, row 0 at the top.
    """
    rng = np.random.default_rng((sorted(KINDS).index(kind), variant, 77))
    rgb = KINDS[kind](rng)
    if rgb.ndim == 2:
        rgb = rgb[..., None]
    image = np.full((*rgb.shape[:2], 4), 255, np.uint8)
    image[..., :3] = (np.clip(rgb, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    image.setflags(write=False)
    return image


def _noise(rng: np.random.Generator, height: int, width: int, across: float, along: float | None = None) -> np.ndarray:
    """Smooth seamless noise of mean 0 and deviation 1 with bumps of a width in pixels; `along` is their length in x."""
    along = across if along is None else along
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    gain = np.exp(-((fy * across) ** 2 + (fx * along) ** 2) * 6.0)
    gain[0, 0] = 0.0
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * gain
    field = np.fft.irfft2(spectrum, (height, width))
    return field / field.std()


def _grain(rng: np.random.Generator, height: int = _SIZE, width: int = _SIZE) -> np.ndarray:
    """Wood grain along x."""
    rings = np.sin(_noise(rng, height, width, 14, 160) * 7.0)
    return 0.86 + 0.07 * rings + 0.05 * _noise(rng, height, width, 1.5, 60)


def _wood(rng: np.random.Generator) -> np.ndarray:
    return _grain(rng, 64, 128)


def _planks(rng: np.random.Generator) -> np.ndarray:
    """Floor boards of different shades, with joints."""
    rows, image = 6, _grain(rng, 128, 256)
    edges = np.linspace(0, 128, rows + 1).astype(int)
    for top, bottom in pairwise(edges):
        start = int(rng.integers(256))
        for part in range(2):
            columns = (start + part * 128 + np.arange(128)) % 256
            image[top:bottom, columns] *= rng.uniform(0.72, 1.1)
        image[top:bottom, [start, (start + 128) % 256]] *= 0.55
        image[top] *= 0.6
    return image


def _parquet(rng: np.random.Generator) -> np.ndarray:
    """Squares of short boards, turned in turn."""
    image = np.empty((128, 128))
    for i in range(4):
        for j in range(4):
            block = _grain(rng, 32, 32)
            block[::8] *= 0.72
            block *= rng.uniform(0.78, 1.08)
            image[32 * i : 32 * i + 32, 32 * j : 32 * j + 32] = block if (i + j) % 2 else block.T
    return image


def _tiles(rng: np.random.Generator, count: int = 0) -> np.ndarray:
    """Square tiles, each of its own shade, with joints."""
    count = count or int(rng.choice([4, 6, 8]))
    shades = 1.0 - rng.uniform(0.02, 0.3) * rng.random((count, count))
    if rng.random() < 0.4:
        shades *= np.where(np.indices((count, count)).sum(axis=0) % 2, 1.0, rng.uniform(0.5, 0.8))
    at = (np.arange(_SIZE) * count) // _SIZE
    image = shades[at[:, None], at[None, :]] + 0.02 * _noise(rng, _SIZE, _SIZE, 6)
    joint = np.diff(at, prepend=-1) != 0
    image[joint] = image[:, joint] = rng.uniform(0.45, 0.8)
    return image


def _wall_tiles(rng: np.random.Generator) -> np.ndarray:
    """Wide pale tiles, some coloured, in uneven shades."""
    rows, columns = int(rng.choice([6, 8, 10])), int(rng.choice([6, 8, 12]))
    colors = np.repeat(1.0 - 0.14 * rng.random((rows, columns, 1)), 3, axis=2)
    accent = rng.random((rows, columns)) < rng.uniform(0.08, 0.22)
    colors[accent] *= 0.35 + 0.55 * rng.random((int(accent.sum()), 3))
    row, column = (np.arange(128) * rows) // 128, (np.arange(192) * columns) // 192
    image = colors[row[:, None], column[None, :]]
    image[np.diff(row, prepend=-1) != 0] *= 0.72
    image[:, np.diff(column, prepend=-1) != 0] *= 0.72
    return image


def _marble(rng: np.random.Generator) -> np.ndarray:
    veins = np.abs(_noise(rng, _SIZE, _SIZE, 22) + 0.35 * _noise(rng, _SIZE, _SIZE, 6))
    return 0.92 - 0.28 * np.exp(-veins * 7) + 0.03 * _noise(rng, _SIZE, _SIZE, 3)


def _carpet(rng: np.random.Generator) -> np.ndarray:
    return 0.84 + 0.08 * _noise(rng, _SIZE, _SIZE, 1.2) + 0.06 * _noise(rng, _SIZE, _SIZE, 14)


def _plaster(rng: np.random.Generator) -> np.ndarray:
    """Rough paint with clouds of shade wide enough to be seen from across a room."""
    clouds = _noise(rng, 128, 192, 26) + 0.7 * _noise(rng, 128, 192, 9)
    return 0.89 + rng.uniform(0.03, 0.05) * clouds + 0.02 * _noise(rng, 128, 192, 2)


def _ceiling(rng: np.random.Generator) -> np.ndarray:
    """Nearly even paint, or panels with joints."""
    image = 0.96 + 0.015 * _noise(rng, _SIZE, _SIZE, 22)
    if rng.random() < 0.4:
        count = int(rng.integers(2, 5))
        joint = np.diff((np.arange(_SIZE) * count) // _SIZE, prepend=-1) != 0
        image[joint] = image[:, joint] = 0.78
    return image


def _stripes(rng: np.random.Generator) -> np.ndarray:
    """Wallpaper with upright stripes of uneven widths and tints."""
    edges = np.sort(rng.choice(np.arange(2, 190), int(rng.integers(9, 22)), replace=False))
    band = np.searchsorted(edges, np.arange(192))
    tints = 1.0 - rng.uniform(0.12, 0.4) * rng.random((len(edges) + 1, 1)) * rng.uniform(0.5, 1.0, (len(edges) + 1, 3))
    tints[-1] = tints[0]
    rows = 1.0 + 0.02 * _noise(rng, 128, 192, 8)
    return tints[band][None] * rows[..., None]


def _motif(rng: np.random.Generator) -> np.ndarray:
    """Wallpaper strewn with spots, rings and diamonds of many sizes."""
    image = np.ones((128, 192, 3)) * (0.94 + 0.03 * _noise(rng, 128, 192, 12))[..., None]
    inks = 0.45 + 0.5 * rng.random((3, 3))
    shape = int(rng.integers(3))
    dy, dx = np.abs(np.mgrid[-12:13, -12:13])
    far = dx + dy if shape == 1 else np.hypot(dx, dy)
    for _ in range(int(rng.integers(26, 60))):
        radius = rng.uniform(3, 12)
        row, column = np.nonzero(far < radius if shape < 2 else np.abs(far - radius * 0.8) < radius * 0.25)
        row, column = (row + int(rng.integers(128))) % 128, (column + int(rng.integers(192))) % 192
        image[row, column] = inks[int(rng.integers(3))]
    return image


def _brick(rng: np.random.Generator) -> np.ndarray:
    rows, columns = 12, 9
    y, x = np.mgrid[0:128, 0:192]
    row = y * rows // 128
    shifted = (x + (row % 2) * 10) % 192
    column = shifted * columns // 192
    shades = 0.6 + 0.4 * rng.random((rows, columns))
    image = shades[row, column] + 0.03 * _noise(rng, 128, 192, 3)
    joint = (y * rows % 128 < rows) | (shifted * columns % 192 < columns)
    image[joint] = 0.98
    return image


def _panels(rng: np.random.Generator) -> np.ndarray:
    """Upright boards on a wall."""
    return np.ascontiguousarray(np.swapaxes(_planks(rng), 0, 1)[:, :128])


def _fabric(rng: np.random.Generator) -> np.ndarray:
    weave = 0.04 * np.sin(np.arange(64) * np.pi / 2)
    return 0.86 + weave[:, None] + weave[None, :] + 0.05 * _noise(rng, 64, 64, 2) + 0.04 * _noise(rng, 64, 64, 14)


def _checks(rng: np.random.Generator) -> np.ndarray:
    """Cloth with coloured bands crossing."""
    bands = np.ones((2, 64, 3))
    for side in range(2):
        for _ in range(3):
            start, wide = int(rng.integers(64)), int(rng.integers(3, 14))
            bands[side, (start + np.arange(wide)) % 64] *= rng.uniform(0.45, 0.9, 3)
    return bands[0][:, None] * bands[1][None] * (0.97 + 0.02 * _noise(rng, 64, 64, 2))[..., None]


def _leather(rng: np.random.Generator) -> np.ndarray:
    return 0.85 + 0.06 * _noise(rng, 64, 64, 5) + 0.06 * _noise(rng, 64, 64, 18)


def _brushed(rng: np.random.Generator) -> np.ndarray:
    return 0.9 + 0.05 * _noise(rng, 64, 64, 1.2, 60) + 0.03 * _noise(rng, 64, 64, 24)


def _smooth(rng: np.random.Generator) -> np.ndarray:
    return 0.93 + 0.03 * _noise(rng, 32, 32, 10)


def _leaves(rng: np.random.Generator) -> np.ndarray:
    spots = _noise(rng, 64, 64, 5)
    return (0.62 + 0.3 * np.sin(spots * 3.0))[..., None] * [0.95, 1.0, 0.8]


def _picture(rng: np.random.Generator) -> np.ndarray:
    """Something framed: hills under a sky, or shapes."""
    y, x = np.mgrid[0:48, 0:64] / 48.0
    ink = rng.random((6, 3))
    if rng.random() < 0.5:
        image = ink[0] * (1 - y[..., None]) + (0.5 + 0.5 * ink[1]) * y[..., None]
        for layer in range(3):
            line = 0.35 + 0.2 * layer + 0.1 * np.sin(x[0] * rng.uniform(2, 9) + rng.uniform(0, 6))
            image[y > line[None]] = ink[2 + layer]
        return image
    image = np.ones((48, 64, 3)) * (0.5 + 0.5 * ink[0])
    for number in range(int(rng.integers(4, 10))):
        cx, cy, size = rng.uniform(0, 1.33), rng.uniform(0, 1), rng.uniform(0.08, 0.35)
        box = np.maximum(np.abs(x - cx), np.abs(y - cy)) if rng.random() < 0.5 else np.hypot(x - cx, y - cy)
        image[box < size] = ink[number % 6]
    return image


def _outdoors(rng: np.random.Generator) -> np.ndarray:
    """What one sees through a window: sky, roofs or trees."""
    y = np.linspace(0, 1, 64)[:, None, None]
    image = np.broadcast_to([0.62, 0.8, 0.98] * (1 - y) + np.array([0.93, 0.95, 0.98]) * y, (64, 64, 3)).copy()
    clouds = _noise(rng, 64, 64, 14, 28)[..., None]
    image = np.where(clouds > 0.8, 0.97, image)
    height, low = 0, rng.uniform(0.45, 0.8)
    green = rng.random() < 0.5
    for column in range(64):
        if height <= 0:
            height, top = int(rng.integers(4, 12)), low + rng.uniform(-0.15, 0.15)
            shade = [0.25, 0.45, 0.25] * rng.uniform(0.7, 1.3, 3) if green else rng.uniform(0.4, 0.75, 3)
        height -= 1
        image[int(top * 64) :, column] = shade
    return image


def _books(rng: np.random.Generator) -> np.ndarray:
    """Backs of books in rows."""
    image = np.full((64, 128, 3), 0.16)
    for row in range(2):
        column = 0
        while column < 126:
            wide, tall = int(rng.integers(2, 7)), int(rng.integers(19, 29))
            color = 0.15 + 0.75 * rng.random(3)
            image[32 * (row + 1) - 1 - tall : 32 * (row + 1) - 1, column : column + wide] = color
            column += wide + (int(rng.integers(3, 14)) if rng.random() < 0.08 else 0)
    return image


def _keys(rng: np.random.Generator) -> np.ndarray:
    image = np.full((20, 60), rng.uniform(0.35, 0.6))
    for row in range(5):
        for column in range(15):
            image[4 * row + 1 : 4 * row + 4, 4 * column + 1 : 4 * column + 4] = 1.0
    return image


def _screen(rng: np.random.Generator) -> np.ndarray:
    """A dark screen with a faint reflection, or one that shows something."""
    y, x = np.mgrid[0:32, 0:48] / 32.0
    image = np.ones((32, 48, 3)) * (0.05 + 0.06 * np.exp(-((x - y - rng.uniform(0, 0.6)) ** 2) * 30))[..., None]
    if rng.random() < 0.4:
        picture = _picture(rng)
        image[1:31, 1:47] = picture[:30, :46] * 0.8
    return image


def _clock_face(rng: np.random.Generator) -> np.ndarray:
    y, x = (np.mgrid[0:48, 0:48] - 23.5) / 24.0
    far, angle = np.hypot(x, y), np.arctan2(y, x)
    image = np.full((48, 48), 1.0)
    image[(far > 0.68) & (far < 0.86) & (np.abs((angle * 6 / np.pi) % 1 - 0.5) > 0.38)] = 0.1
    for length, hand in ((0.45, rng.uniform(0, 6.28)), (0.7, rng.uniform(0, 6.28))):
        along, across = x * np.cos(hand) + y * np.sin(hand), np.abs(-x * np.sin(hand) + y * np.cos(hand))
        image[(along > 0) & (along < length) & (across < 0.05)] = 0.1
    return image


def _hob(rng: np.random.Generator) -> np.ndarray:
    """A stove's top with four rings."""
    y, x = np.mgrid[0:48, 0:48] / 48.0
    image = np.full((48, 48), 0.12)
    for cx in (0.28, 0.72):
        for cy in (0.28, 0.72):
            far = np.hypot(x - cx, y - cy)
            image[far < 0.16] = rng.uniform(0.28, 0.4)
            image[(far > 0.10) & (far < 0.12)] = 0.7
    return image


KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "wood": _wood,
    "planks": _planks,
    "parquet": _parquet,
    "tiles": _tiles,
    "wall tiles": _wall_tiles,
    "marble": _marble,
    "carpet": _carpet,
    "plaster": _plaster,
    "ceiling": _ceiling,
    "stripes": _stripes,
    "motif": _motif,
    "brick": _brick,
    "panels": _panels,
    "fabric": _fabric,
    "checks": _checks,
    "leather": _leather,
    "brushed": _brushed,
    "smooth": _smooth,
    "leaves": _leaves,
    "picture": _picture,
    "outdoors": _outdoors,
    "books": _books,
    "keys": _keys,
    "screen": _screen,
    "clock face": _clock_face,
    "hob": _hob,
}
