"""All textures of a mesh in one array, sampled for many pixels at once with mip levels. Knows no triangles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Textures:
    """Mip pyramids of several textures; wraps around at the borders, as glTF's default sampler does.

    Args:
        images: uint8 [H, W, 4] each, row 0 at v = 1.
    """

    def __init__(self, images: Sequence[np.ndarray]):
        pyramids = [_pyramid(image) for image in images]
        depth = max((len(levels) for levels in pyramids), default=1)
        self._tables = np.zeros((3, len(images), depth), np.int32)  # offset, width, height
        flat, offset = [], 0
        for index, levels in enumerate(pyramids):
            for level in range(depth):
                height, width = levels[min(level, len(levels) - 1)].shape
                start = offset if level < len(levels) else offset - height * width
                self._tables[:, index, level] = start, width, height
                if level < len(levels):
                    flat.append(levels[level].reshape(-1))
                    offset += height * width
        self._texels = np.concatenate(flat) if flat else np.zeros(0, np.uint32)
        self.deepest = depth - 1
        self.sizes = self._tables[1:, :, 0].T.astype(np.float32)  # [textures, 2]: width, height

    def sample(self, index: np.ndarray, uv: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Bilinear samples of the nearest mip level.

        Args:
            index: int [N], which texture.
            uv: float32 [N, 2], v up.
            level: float32 [N], 0 is the full picture, each further level halves it; clipped to what exists.

        Returns:
            float32 [N, 4], RGBA in 0..255.
        """
        level = np.clip(level + 0.5, 0, self.deepest).astype(np.int32)
        offset, width, height = self._tables[:, index, level]
        x, y = uv[:, 0] * width - 0.5, (1.0 - uv[:, 1]) * height - 0.5
        x0, y0 = np.floor(x), np.floor(y)
        fx, fy = (x - x0)[:, None], (y - y0)[:, None]
        column, row = x0.astype(np.int32) % width, y0.astype(np.int32) % height
        right = np.where(column + 1 == width, 0, column + 1)
        upper, lower = offset + row * width, offset + np.where(row + 1 == height, 0, row + 1) * width
        top = self._blend(upper + column, upper + right, fx)
        bottom = self._blend(lower + column, lower + right, fx)
        bottom -= top
        bottom *= fy
        top += bottom
        return top

    def _blend(self, left: np.ndarray, right: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        first = self._texels[left].view(np.uint8).reshape(-1, 4).astype(np.float32)
        second = self._texels[right].view(np.uint8).reshape(-1, 4).astype(np.float32)
        second -= first
        second *= fraction
        first += second
        return first


def _pyramid(image: np.ndarray) -> list[np.ndarray]:
    """A picture and its halves down to one pixel, a uint32 a texel."""
    levels, current = [], np.ascontiguousarray(image)
    while True:
        levels.append(np.ascontiguousarray(current).view(np.uint32)[..., 0])
        if max(current.shape[:2]) == 1:
            return levels
        current = _halved(current)


def _halved(image: np.ndarray) -> np.ndarray:
    """Mean of 2 x 2 pixels; an odd last row or column is counted into its neighbour's half."""
    for axis in (0, 1):
        size = image.shape[axis]
        if size == 1:
            continue
        even = np.take(image, np.arange(0, size - 1, 2), axis).astype(np.uint16)
        odd = np.take(image, np.arange(1, size, 2), axis)
        image = ((even + odd + 1) // 2).astype(np.uint8)
    return image
