"""Where an agent can walk: snapping, sampling, shortest paths and moving with sliding. Knows no pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.world.geodesic import Geodesics, path_length
from sim.world.heightfield import build_heightfield
from sim.world.walkgrid import STEPS, NavSettings, WalkGrid, build_walkgrid

# Half extents of the box in which snapping looks, metres: Habitat's (2, 4, 2) with the height last.
SNAP_BOX_M = (2.0, 2.0, 4.0)
# Habitat's rule: a move is a collision if it fell short by more than this, in square metres.
_COLLISION_M2 = 1e-5
# A surface is indoors where this share of it has something above.
_COVERED_SHARE = 0.5
_SLIDE_STEP_CELLS = 0.5
# How many cells around tell the direction of a border.
_NORMAL_REACH_CELLS = 3


@dataclass(frozen=True, eq=False)
class GeodesicPath:
    """A shortest path.

    Args:
        distance_m: its length, infinite where there is none.
        points: [N, 3] waypoints from start to goal, metres; empty where there is none.
    """

    distance_m: float
    points: np.ndarray

    @property
    def found(self) -> bool:
        """Whether there is a path."""
        return bool(np.isfinite(self.distance_m))


NO_PATH = GeodesicPath(np.inf, np.zeros((0, 3)))


class NavMesh:
    """The walkable area of a mesh for one agent. Points are its feet [3], metres, Z up.

    Args:
        corners_W: triangles [T, 3, 3].
        settings: who walks.

    Raises:
        ValueError: there is no walkable area, or the mesh is too large for the cell size.
    """

    def __init__(self, corners_W: np.ndarray, settings: NavSettings | None = None):
        self.settings = settings or NavSettings()
        slope_rad = np.radians(self.settings.slope_deg)
        field = build_heightfield(corners_W, self.settings.cell_m, slope_rad, self.settings.climb_m)
        self.footprint_m2 = (1 + np.count_nonzero(np.diff(field.column))) * field.cell_m**2
        self.grid: WalkGrid = build_walkgrid(field, self.settings)
        self._key = self.grid.xy[:, 0].astype(np.int64) * self.grid.shape[1] + self.grid.xy[:, 1]
        self._geodesics: Geodesics | None = None
        self.island_areas_m2 = np.bincount(self.grid.island) * self.settings.cell_m**2
        self.main_island = self._find_main_island()

    def is_navigable(self, point: np.ndarray, max_height_diff_m: float = 0.5) -> bool:
        """Whether an agent could stand at a point, give or take a height."""
        return self._cell_at(point, max_height_diff_m) is not None

    def island_of(self, point: np.ndarray, max_height_diff_m: float = 0.5) -> int:
        """Number of the connected area at a point, 0 the largest; -1 where it is not navigable."""
        cell = self._cell_at(point, max_height_diff_m)
        return -1 if cell is None else int(self.grid.island[cell])

    def snap(
        self, point: np.ndarray, half_extents_m: tuple[float, float, float] = SNAP_BOX_M, island: int | None = None
    ) -> np.ndarray | None:
        """The nearest navigable point [3] within a box around a point, None where there is none."""
        cell = self._nearest_cell(point, half_extents_m, island)
        return None if cell is None else self._into_cell(point, cell)

    def sample(self, rng: np.random.Generator, island: int | None = None) -> np.ndarray:
        """A navigable point [3], uniform over the area of an island; of the main one where none is given.

        Raises:
            ValueError: there is no such island.
        """
        island = self.main_island if island is None else island
        cells = np.flatnonzero(self.grid.island == island)
        if not len(cells):
            raise ValueError(f"island must be in 0..{len(self.island_areas_m2) - 1}, got {island}")
        cell = int(rng.choice(cells))
        xy = self.grid.origin_m + (self.grid.xy[cell] + rng.uniform(0.01, 0.99, 2)) * self.grid.cell_m
        return np.array([*xy, self.grid.z_m[cell]])

    def shortest_path(
        self, start: np.ndarray, goal: np.ndarray, half_extents_m: tuple[float, float, float] = SNAP_BOX_M
    ) -> GeodesicPath:
        """The shortest path between two points, each snapped first; without a path where one snaps to nothing."""
        cells = [self._nearest_cell(point, half_extents_m, None) for point in (start, goal)]
        if None in cells:
            return NO_PATH
        ends = [self._into_cell(point, cell) for point, cell in zip((start, goal), cells, strict=True)]
        if self._geodesics is None:
            self._geodesics = Geodesics(self.grid)
        points = self._geodesics.way(ends[0], cells[0], ends[1], cells[1])
        return NO_PATH if points is None else GeodesicPath(path_length(points), points)

    def move(self, start: np.ndarray, offset_m: np.ndarray, *, slide: bool = True) -> tuple[np.ndarray, bool]:
        """Moves from a navigable point.

        Args:
            start: [3].
            offset_m: [2], wanted displacement along x and y.
            slide: along borders; otherwise the agent stops at the first one.

        Returns:
            (where it ends [3], whether it collided: fell short of the wanted distance).

        Raises:
            ValueError: start is not navigable.
        """
        cell = self._cell_at(start, 0.5)
        if cell is None:
            raise ValueError(f"a move must start where one can stand, not at {np.round(start, 3).tolist()}; snap it")
        if self._geodesics is None:
            self._geodesics = Geodesics(self.grid)
        begin, offset = np.asarray(start, np.float64)[:2], np.asarray(offset_m, np.float64)
        point, cell, free, met = self._advance(begin, cell, offset)
        if free < 1.0 and slide:
            point, cell = self._slide(point, cell, offset * (1 - free), self._border_normal(cell, met))
        moved = point - begin
        return np.array([*point, self.grid.z_m[cell]]), bool(moved @ moved + _COLLISION_M2 < offset @ offset)

    def _find_main_island(self) -> int:
        """The largest area that lies indoors; the largest of all where none does. Roofs are walkable too."""
        covered = np.bincount(self.grid.island, weights=self.grid.covered) / np.bincount(self.grid.island)
        indoors = np.flatnonzero(covered > _COVERED_SHARE)
        return int(indoors[0]) if len(indoors) else 0

    def _cell_at(self, point: np.ndarray, max_height_diff_m: float) -> int | None:
        """The cell under or over a point, the nearest in height."""
        x, y = np.floor((np.asarray(point, np.float64)[:2] - self.grid.origin_m) / self.grid.cell_m).astype(int)
        if not (0 <= x < self.grid.shape[0] and 0 <= y < self.grid.shape[1]):
            return None
        first, last = np.searchsorted(self._key, [x * self.grid.shape[1] + y, x * self.grid.shape[1] + y + 1])
        if first == last:
            return None
        rise = np.abs(self.grid.z_m[first:last] - point[2])
        return int(first + rise.argmin()) if rise.min() <= max_height_diff_m else None

    def _nearest_cell(self, point: np.ndarray, half_extents_m: tuple, island: int | None) -> int | None:
        """The cell nearest to a point within a box; directly over or under it a step's height costs nothing."""
        point = np.asarray(point, np.float64)
        local = (point[:2] - self.grid.origin_m) / self.grid.cell_m
        beside = np.maximum(np.abs(self.grid.xy + 0.5 - local) - 0.5, 0.0) * self.grid.cell_m
        rise = np.abs(self.grid.z_m - point[2])
        good = (beside <= half_extents_m[:2]).all(axis=1) & (rise <= half_extents_m[2])
        if island is not None:
            good &= self.grid.island == island
        chosen = np.flatnonzero(good)
        if not len(chosen):
            return None
        over = (beside[chosen] == 0).all(axis=1)
        rise = np.where(over, np.maximum(rise[chosen] - self.settings.climb_m, 0), rise[chosen])
        return int(chosen[((beside[chosen] ** 2).sum(axis=1) + rise**2).argmin()])

    def _into_cell(self, point: np.ndarray, cell: int) -> np.ndarray:
        low = self.grid.origin_m + self.grid.xy[cell] * self.grid.cell_m
        inset = 1e-6 * self.grid.cell_m  # the borders belong to the cells beside
        xy = np.clip(np.asarray(point, np.float64)[:2], low + inset, low + self.grid.cell_m - inset)
        return np.array([*xy, self.grid.z_m[cell]])

    def _advance(self, point: np.ndarray, cell: int, offset: np.ndarray) -> tuple[np.ndarray, int, float, int]:
        """Straight on until the offset is done or a border is met: point, cell, share done, direction of the border."""
        passed, free, met = self._geodesics.walk(point, cell, point + offset)
        return self._into_cell(point + offset * free, passed[-1])[:2], passed[-1], free, met

    def _slide(self, point: np.ndarray, cell: int, rest: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, int]:
        """Spends the rest of a move along the border, in small steps because borders are made of cells' edges."""
        into = min(float(rest @ normal), 0.0)
        along = rest - into * normal
        count = int(np.ceil(np.hypot(*along) / (_SLIDE_STEP_CELLS * self.grid.cell_m)))
        for _ in range(count):
            part = along / count
            by_size = (np.array([part[0], 0.0]), np.array([0.0, part[1]]))
            for attempt in (part, *sorted(by_size, key=lambda v: -np.abs(v).max())):
                after, after_cell, free, _ = self._advance(point, cell, attempt)
                if free == 1.0 and attempt.any():
                    point, cell = after, after_cell
                    break
            else:
                return point, cell
        return point, cell

    def _border_normal(self, cell: int, met: int) -> np.ndarray:
        """Unit direction [2] away from the border that was met in a direction.

        Along a straight border it is exactly against that direction. A slanting or round border is a stair of cells:
        there it points away from the mean of what is missing around the cell.
        """
        if all(self._is_straight(cell, met, side) for side in ((met + 1) % 4, (met + 3) % 4)):
            return -STEPS[met].astype(np.float64)
        missing, places, edge = np.zeros(2), {cell: np.zeros(2)}, [cell]
        while edge:
            here = edge.pop()
            for direction in range(4):
                place = places[here] + STEPS[direction]
                other = int(self.grid.neighbors[here, direction])
                if other < 0:
                    missing += place / max(np.hypot(*place), 1.0) ** 2
                elif other not in places and np.abs(place).max() <= _NORMAL_REACH_CELLS:
                    places[other] = place
                    edge.append(other)
        size = np.hypot(*missing)
        return -missing / size if size > 0 else -STEPS[met].astype(np.float64)

    def _is_straight(self, cell: int, met: int, side: int) -> bool:
        """Whether the border goes on straight to a side, up to where another border ends it."""
        for _ in range(_NORMAL_REACH_CELLS):
            cell = int(self.grid.neighbors[cell, side])
            if cell < 0:
                return True
            if self.grid.neighbors[cell, met] >= 0:
                return False
        return True
