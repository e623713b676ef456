"""Rounds the corners of a walkable path without leaving the walkable area. Finds no path and knows no time."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from sim.env import Env

# Half the edge of a square around a point that must be walkable as well: between two points of a fine path, which
# are nearer to each other than this square is wide, every position is then walkable too.
INSET_M = 0.005
FINE_M = 0.01
_BAND_M = 0.1
_ROUNDS = 60
_SMOOTHING_ROUNDS = 10  # the last ones, which do not push: they take out the folds that pushing leaves
_PULL, _PUSH = 0.5, 0.25
# A point that is off the walkable area is put back over at most this distance.
_RINGS_M = (0.0, 0.006, 0.012, 0.02, 0.03, 0.05, 0.08, 0.12)
_AROUND = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CORNERS = INSET_M * np.array([[-1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0]])


class Band:
    """Rounds paths in one world.

    Args:
        env: the world; where its floor ends is taken from its floor map, what is walkable from is_navigable.
        margin_m: the distance paths keep to the border of the walkable area, where there is room.
    """

    def __init__(self, env: Env, margin_m: float):
        self._env, self._margin_m = env, margin_m
        floor = env.floor_map()
        self._origin_m, self._cell_m = floor.origin_m, floor.cell_m
        # The border of the map ends the floor too.
        self._room_m = distance_transform_edt(np.pad(floor.free, 1)) * floor.cell_m
        self._slope = np.gradient(self._room_m, floor.cell_m)

    def rounded(self, points: np.ndarray) -> np.ndarray:
        """A smooth path [M, 3] with the ends of a path [N, 3], its points at most FINE_M apart, all of them walkable.

        Like a rubber band it is pulled straight and pushed off the borders; a point only moves to where one can stand.
        """
        band = self._walkable(resampled(points, _BAND_M))
        for left in reversed(range(_ROUNDS)):
            pull = _PULL * ((band[:-2] + band[2:]) / 2 - band[1:-1])
            if left >= _SMOOTHING_ROUNDS:
                pull[:, :2] += _PUSH * self._push(band[1:-1])
            moving = np.flatnonzero(np.abs(pull).max(axis=1) > 3e-4)
            if not len(moving):
                break
            for index in moving:
                self._move(band, index + 1, pull[index])
        fine = self._walkable(resampled(band, FINE_M))
        if self._joined(fine):
            return fine
        return self._walkable(resampled(points, FINE_M))

    def inside(self, point: np.ndarray) -> np.ndarray:
        """The nearest point [3] with a little room around it; the point itself where there is none near."""
        for radius in _RINGS_M:
            for angle in _AROUND if radius else _AROUND[:1]:
                moved = point + radius * np.array([np.cos(angle), np.sin(angle), 0.0])
                if self._is_free(moved):
                    return moved
        return point

    def _is_free(self, point: np.ndarray) -> bool:
        return all(self._env.is_navigable(corner) for corner in point + _CORNERS)

    def _walkable(self, points: np.ndarray) -> np.ndarray:
        return np.array([self.inside(point) for point in points])

    def _joined(self, fine: np.ndarray) -> bool:
        """Whether no point had to jump."""
        return bool(np.abs(np.diff(fine[:, :2], axis=0)).max(initial=0) <= 2 * INSET_M + 1e-9)

    def _move(self, band: np.ndarray, index: int, by: np.ndarray) -> None:
        """Moves a point of the band, along a border where it meets one."""
        for part in (by, by * [1, 0, 1], by * [0, 1, 1]):
            if self._env.is_navigable(band[index] + part):  # the room around it is made at the end
                band[index] += part
                return

    def _push(self, points: np.ndarray) -> np.ndarray:
        """Moves [N, 2] away from borders that are too near."""
        at = ((points[:, :2] - self._origin_m) / self._cell_m + 0.5).T  # one cell of padding, values at cells' middles
        room, *slope = (map_coordinates(grid, at, order=1, mode="nearest") for grid in (self._room_m, *self._slope))
        return np.maximum(self._margin_m - room, 0.0)[:, None] * np.clip(np.column_stack(slope), -1.0, 1.0)


def resampled(points: np.ndarray, spacing_m: float) -> np.ndarray:
    """A polyline [N, 3] with points at equal distances of at most spacing_m, its ends kept."""
    along = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    count = max(2, 1 + int(np.ceil(along[-1] / spacing_m)))
    where = np.linspace(0.0, along[-1], count)
    return np.column_stack([np.interp(where, along, values) for values in points.T])
