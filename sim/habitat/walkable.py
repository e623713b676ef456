"""Habitat's walkable areas as triangles: which one is indoors, random points in it, its map. Finds no paths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.world.heightfield import Heightfield

# An area is indoors where this share of it has something above.
_COVERED_SHARE = 0.5
_COVER_SAMPLES = 256
# What is lower than this above the floor, metres, is no cover: Habitat's floors lie up to a cell's height off.
_COVER_ABOVE_M = 0.5


class WalkableAreas:
    """The connected areas of a scene.

    Args:
        islands: triangles [T, 3, 3] of each area, metres, Z up.
        field: the scene's solids, which say what is indoors and give the map its grid.

    Raises:
        ValueError: there is no area.
    """

    def __init__(self, islands: Sequence[np.ndarray], field: Heightfield):
        self._islands = [triangles[_footprints_m2(triangles) > 0] for triangles in islands]
        self._field = field
        areas = np.array([_footprints_m2(triangles).sum() for triangles in self._islands])
        if not areas.sum() > 0:
            raise ValueError("one cannot walk anywhere in the scene; is its up axis right, and its unit metres?")
        by_size = [int(number) for number in np.argsort(-areas, kind="stable") if areas[number] > 0]
        self.main_island = next((number for number in by_size if self._is_indoors(number)), by_size[0])

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """A point [3] of the main area, uniform over its floor."""
        return self._sampled(self.main_island, rng, 1)[0]

    def free_cells(self) -> np.ndarray:
        """Bool [X, Y], cells of the heightfield's grid whose middle is in the main area."""
        field = self._field
        free = np.zeros(field.shape, bool)
        for corners in (self._islands[self.main_island][..., :2] - field.origin_m) / field.cell_m:
            low = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, field.shape)
            high = np.clip(np.ceil(corners.max(axis=0)).astype(int), 0, field.shape)
            x, y = np.meshgrid(*(np.arange(*span) + 0.5 for span in zip(low, high, strict=True)), indexing="ij")
            free[low[0] : high[0], low[1] : high[1]] |= _inside(corners, x, y)
        return free

    def _is_indoors(self, number: int) -> bool:
        points = self._sampled(number, np.random.default_rng((0, number)), _COVER_SAMPLES)
        return float(np.mean(_is_covered(self._field, points))) > _COVERED_SHARE

    def _sampled(self, number: int, rng: np.random.Generator, count: int) -> np.ndarray:
        triangles = self._islands[number]
        areas = _footprints_m2(triangles)
        a, b, c = np.moveaxis(triangles[rng.choice(len(areas), count, p=areas / areas.sum())], 1, 0)
        # The square root makes a triangle's points uniform.
        u, v = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
        return (1 - u) * a + u * (1 - v) * b + u * v * c


def footprint_m2(field: Heightfield) -> float:
    """Area of everything seen from above, square metres."""
    return len(np.unique(field.column)) * field.cell_m**2


def _footprints_m2(triangles: np.ndarray) -> np.ndarray:
    """Area of each triangle [T, 3, 3] seen from above."""
    a, b, c = np.moveaxis(triangles[..., :2], 1, 0)
    return 0.5 * np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def _inside(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points lie in a triangle [3, 2] or on its border."""
    sides = []
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        sides.append((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0))
    return (np.stack(sides) >= 0).all(axis=0) | (np.stack(sides) <= 0).all(axis=0)


def _is_covered(field: Heightfield, points: np.ndarray) -> np.ndarray:
    """Whether a solid is above each point [N, 3]."""
    cell = np.clip(((points[:, :2] - field.origin_m) / field.cell_m).astype(int), 0, np.array(field.shape) - 1)
    column = cell[:, 0].astype(np.int64) * field.shape[1] + cell[:, 1]
    # Spans are sorted by column, then from below: the last one of a column is its highest.
    last = np.searchsorted(field.column, column, side="right") - 1
    known = (last >= 0) & (field.column[last] == column)
    return known & (field.bottom_m[last] > points[:, 2] + _COVER_ABOVE_M)
