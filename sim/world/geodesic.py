"""Shortest ways over a walk grid, pulled tight. Snaps nothing: it starts and ends in given cells."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from scipy.sparse.csgraph import dijkstra

from sim.world.walkgrid import WalkGrid, diagonal, graph_of, step

# Distance fields kept; asking again for the way to the same goal costs only the pulling.
_KEPT_FIELDS = 8
_NUDGE = 1e-9  # in cells


class Geodesics:
    """Answers many questions about one grid."""

    def __init__(self, grid: WalkGrid):
        self._grid = grid
        self._centers = grid.centers()
        self._graph = graph_of(_moves(grid, self._centers))
        self._next_cell: OrderedDict[int, np.ndarray] = OrderedDict()
        # A memoryview reads single cells several times faster than an array.
        self._neighbors = memoryview(np.ascontiguousarray(grid.neighbors).reshape(-1))

    def way(self, start: np.ndarray, start_cell: int, goal: np.ndarray, goal_cell: int) -> np.ndarray | None:
        """The shortest path between two points in given cells.

        Args:
            start: [3] in start_cell; goal [3] in goal_cell.
            start_cell: index into the grid; goal_cell likewise.

        Returns:
            Waypoints [N, 3] from start to goal, or None where no path exists.
        """
        if self._grid.island[start_cell] != self._grid.island[goal_cell]:
            return None
        cells = [start_cell]
        following = self._field_to(goal_cell)
        while cells[-1] != goal_cell:
            cells.append(int(following[cells[-1]]))
        inner = self._centers[cells[1:-1]]
        points, cells = np.vstack([start, inner, goal]), [start_cell, *cells[1:-1], goal_cell]
        return self._pulled(points, cells)

    def walk(self, start: np.ndarray, cell: int, end: np.ndarray) -> tuple[list[int], float, int]:
        """Goes straight from a point in a cell until the end or the border of the walkable area.

        Args:
            start: [2+] in the cell; end [2+], anywhere.
            cell: where start lies.

        Returns:
            (cells passed, share of the way that is free in 0..1, direction of the border met or -1).
        """
        px, py, dx, dy = self._in_cells(start, end)
        x, y = (int(v) for v in self._grid.xy[cell])
        right, up = (0 if dx > 0 else 2), (1 if dy > 0 else 3)
        # Share of the way at which the next border across x, or across y, is met, and its growth per cell.
        to_x = ((x + (dx > 0)) - px) / dx if dx else np.inf
        to_y = ((y + (dy > 0)) - py) / dy if dy else np.inf
        per_x, per_y = abs(1 / dx) if dx else np.inf, abs(1 / dy) if dy else np.inf
        neighbors, passed = self._neighbors, [cell]
        while min(to_x, to_y) < 1.0:
            if abs(to_x - to_y) < _NUDGE:  # through a corner: either way around will do
                around = neighbors[4 * cell + right]
                following = neighbors[4 * around + up] if around >= 0 else -1
                if following < 0:
                    around = neighbors[4 * cell + up]
                    following = neighbors[4 * around + right] if around >= 0 else -1
                met, at = right, to_x
                to_x, to_y = to_x + per_x, to_y + per_y
            elif to_x < to_y:
                following, met, at = neighbors[4 * cell + right], right, to_x
                to_x += per_x
            else:
                following, met, at = neighbors[4 * cell + up], up, to_y
                to_y += per_y
            if following < 0:
                return passed, max(at, 0.0), met
            cell = following
            passed.append(cell)
        return passed, 1.0, -1

    def _in_cells(self, start: np.ndarray, end: np.ndarray) -> tuple[float, float, float, float]:
        ox, oy = self._grid.origin_m
        scale = 1 / self._grid.cell_m
        px, py = (float(start[0]) - ox) * scale, (float(start[1]) - oy) * scale
        return px, py, (float(end[0]) - ox) * scale - px, (float(end[1]) - oy) * scale - py

    def _sees(self, points: np.ndarray, cells: list[int], here: int, there: int) -> bool:
        passed, free, _ = self.walk(points[here], cells[here], points[there])
        return free == 1.0 and self._same_place(passed[-1], cells[there])

    def _same_place(self, cell: int, other: int) -> bool:
        """Whether a straight walk that ended in a cell reached the other: itself, or beside it on a shared border."""
        return cell == other or other in self._neighbors[4 * cell : 4 * cell + 4].tolist()

    def _field_to(self, goal_cell: int) -> np.ndarray:
        """For every cell the next one on the shortest way to the goal."""
        if goal_cell in self._next_cell:
            self._next_cell.move_to_end(goal_cell)
        else:
            _, following = dijkstra(self._graph, indices=goal_cell, return_predecessors=True)
            self._next_cell[goal_cell] = following
            if len(self._next_cell) > _KEPT_FIELDS:
                self._next_cell.popitem(last=False)
        return self._next_cell[goal_cell]

    def _pulled(self, points: np.ndarray, cells: list[int]) -> np.ndarray:
        """The path without its slack: shortcuts from the start, then from the goal, then from the start again."""
        points, cells = self._shortcuts(points, cells)
        for _ in range(2):
            points, cells = self._shortcuts(*self._refined(points[::-1], cells[::-1]))
        return points

    def _shortcuts(self, points: np.ndarray, cells: list[int]) -> tuple[np.ndarray, list[int]]:
        """From each kept point straight to the last one it sees: steps are doubled while it sees, then halved."""
        kept, last = [0], len(points) - 1
        while kept[-1] < last:
            here = near = kept[-1]
            stride = 1
            while near < last and self._sees(points, cells, here, min(near + stride, last)):
                near, stride = min(near + stride, last), 2 * stride
            while stride > 1:
                stride //= 2
                if near + stride <= last and self._sees(points, cells, here, near + stride):
                    near += stride
            kept.append(max(near, here + 1))
        return points[kept], [cells[index] for index in kept]

    def _refined(self, points: np.ndarray, cells: list[int]) -> tuple[np.ndarray, list[int]]:
        """The same path with a point about every cell."""
        dense, dense_cells = [points[0]], [cells[0]]
        for start, end, end_cell in zip(points[:-1], points[1:], cells[1:], strict=True):
            count = max(1, int(np.hypot(*(end - start)[:2]) / self._grid.cell_m))
            for index in range(1, count):
                point = start + (end - start) * (index / count)
                passed, _, _ = self.walk(dense[-1], dense_cells[-1], point)
                point[2] = self._grid.z_m[passed[-1]]
                dense.append(point)
                dense_cells.append(passed[-1])
            dense.append(end)
            dense_cells.append(end_cell)
        return np.array(dense), dense_cells


def path_length(points: np.ndarray) -> float:
    """Length of a polyline [N, 3], metres."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _moves(grid: WalkGrid, centers: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Moves to the 8 cells around and the 8 a chess knight reaches, with their lengths: directions every 22 degrees."""
    targets = [grid.neighbors[:, d] for d in range(4)]
    targets += [diagonal(grid.neighbors, d, around_both=False) for d in range(4)]
    for ahead in range(4):
        for aside in ((ahead + 1) % 4, (ahead + 3) % 4):
            passed = step(grid.neighbors, step(grid.neighbors, grid.neighbors[:, ahead], aside), ahead)
            targets.append(passed)
    return [(target, np.linalg.norm(centers[target] - centers, axis=1)) for target in targets]
