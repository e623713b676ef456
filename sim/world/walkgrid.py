"""Cells an agent can stand in and how they connect, floor by floor. Finds no paths and moves nobody.

Source: the filters of Recast (clearance, ledges, low obstacles, erosion, small regions), told by its documentation.
Differs: heights are exact instead of rounded to voxels, erosion measures round instead of octagonal distances, and
slopes are judged by the triangles alone, not once more by the rise between cells, which refuses stairs on coarse cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

from sim.world.heightfield import Heightfield
from vlm3r_core.config import check_settings, setting

# Neighbours in this order everywhere: +x, +y, -x, -y; the opposite of d is (d + 2) % 4.
STEPS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
# What rounding of heights to float32 may cost, metres.
_SLACK_M = 1e-3


@dataclass(frozen=True)
class NavSettings:
    """Who walks, and how finely the walkable area is resolved."""

    radius_m: float = setting(0.2, "radius of the agent, metres", span=(0.0, 10.0))
    height_m: float = setting(1.5, "free height the agent needs, metres", span=(0.01, 100.0))
    climb_m: float = setting(0.2, "highest step it takes, metres", span=(0.0, 10.0))
    slope_deg: float = setting(45.0, "steepest slope it walks on, degrees", span=(0.0, 89.0))
    cell_m: float = setting(0.05, "edge of a cell, metres", span=(0.005, 10.0))
    min_area_m2: float = setting(1.0, "smaller separate areas are dropped, square metres", span=(0.0, 1e6))

    def __post_init__(self):
        check_settings(self)
        if 2 * self.climb_m >= self.height_m:  # it could step from one cell to two floors above each other
            raise ValueError(
                f"NavSettings.climb_m must be less than half of height_m {self.height_m}, got {self.climb_m}"
            )


@dataclass(frozen=True, eq=False)
class WalkGrid:
    """Walkable cells after erosion: the agent's centre may be anywhere in them.

    Args:
        origin_m: [2] x and y of the grid's lower corner.
        cell_m: edge of a cell.
        shape: cells along x and y.
        xy: int32 [N, 2], which cell of the grid; cells on different floors share it. Sorted by x, then y, then height.
        z_m: float64 [N], height of the floor.
        neighbors: int32 [N, 4], cells beside in the order of STEPS, -1 for none.
        island: int32 [N], which connected area, 0 the largest.
        covered: bool [N], whether something is above.
    """

    origin_m: np.ndarray
    cell_m: float
    shape: tuple[int, int]
    xy: np.ndarray
    z_m: np.ndarray
    neighbors: np.ndarray
    island: np.ndarray
    covered: np.ndarray

    def centers(self) -> np.ndarray:
        """Middle of every cell's floor, float64 [N, 3]."""
        return np.column_stack([self.origin_m + (self.xy + 0.5) * self.cell_m, self.z_m])


def build_walkgrid(field: Heightfield, settings: NavSettings) -> WalkGrid:
    """Cells with a flat floor, room above, no edge to fall from, and the agent's radius to every border.

    Raises:
        ValueError: there is none.
    """
    above = np.r_[field.bottom_m[1:], np.inf]
    above[np.r_[field.column[1:] != field.column[:-1], True]] = np.inf
    free = above - field.top_m >= settings.height_m - _SLACK_M
    stand = free & (field.flat | _low_obstacles(field, settings))
    stand[stand] = ~_is_ledge(field, above, np.flatnonzero(stand), settings)
    chosen = np.flatnonzero(stand)
    cells = _Cells(field, chosen, above[chosen], _connect(field, above, chosen, settings))
    cells = cells.keep(_clearance(cells.neighbors) >= np.ceil(settings.radius_m / field.cell_m - 1e-6))
    count, labels = _islands(cells.neighbors)
    areas = np.bincount(labels, minlength=count) * field.cell_m**2
    cells = cells.keep(areas[labels] >= settings.min_area_m2)
    if not len(cells.span):
        raise ValueError(
            f"there is no walkable area for an agent of radius {settings.radius_m} m and height {settings.height_m} m: "
            "the mesh has no floor that is flat, wide and free enough; is its up axis right?"
        )
    count, labels = _islands(cells.neighbors)
    rank = np.empty(count, np.int32)
    rank[np.argsort(-np.bincount(labels), kind="stable")] = np.arange(count)
    column = field.column[cells.span]
    xy = np.column_stack([column // field.shape[1], column % field.shape[1]]).astype(np.int32)
    return WalkGrid(
        field.origin_m,
        field.cell_m,
        field.shape,
        xy,
        field.top_m[cells.span],
        cells.neighbors,
        rank[labels],
        np.isfinite(cells.above_m),
    )


@dataclass(frozen=True, eq=False)
class _Cells:
    """Some spans of a heightfield and their neighbours among themselves."""

    field: Heightfield
    span: np.ndarray
    above_m: np.ndarray
    neighbors: np.ndarray

    def keep(self, mask: np.ndarray) -> _Cells:
        number = np.full(len(mask) + 1, -1, np.int32)  # the last stands for "none"
        number[:-1][mask] = np.arange(mask.sum())
        return _Cells(self.field, self.span[mask], self.above_m[mask], number[self.neighbors[mask]])


def _low_obstacles(field: Heightfield, settings: NavSettings) -> np.ndarray:
    """Spans that are not flat but a small step above a flat one: kerbs, thresholds, toys."""
    below = np.r_[False, field.flat[:-1] & (field.column[1:] == field.column[:-1])]
    rise = np.r_[np.inf, field.top_m[1:] - field.top_m[:-1]]
    return below & (rise <= settings.climb_m + _SLACK_M)


def _is_ledge(field: Heightfield, above: np.ndarray, spans: np.ndarray, settings: NavSettings) -> np.ndarray:
    """Which of the spans have a side where the agent would fall by more than a step."""
    top, ceiling = field.top_m[spans], above[spans]
    drop = np.zeros(len(spans), bool)
    for direction in range(4):
        first, count = _column_range(field, spans, direction)
        # The open air below the side's lowest solid, or a side with nothing at all.
        under = np.where(count > 0, field.bottom_m[np.minimum(first, len(above) - 1)], np.inf)
        drop |= np.minimum(ceiling, under) - top > settings.height_m
        for index, other in _each_layer(first, count):
            opening = np.minimum(ceiling[index], above[other]) - np.maximum(top[index], field.top_m[other])
            fall = top[index] - field.top_m[other]
            enter = opening > settings.height_m - _SLACK_M
            drop[index[enter & (fall > settings.climb_m + _SLACK_M)]] = True
    return drop


def _connect(field: Heightfield, above: np.ndarray, chosen: np.ndarray, settings: NavSettings) -> np.ndarray:
    """Neighbours [N, 4] among the chosen spans: reachable by a step, with room to pass."""
    number = np.full(len(above), -1, np.int32)
    number[chosen] = np.arange(len(chosen))
    neighbors = np.full((len(chosen), 4), -1, np.int32)
    for direction in range(4):
        first, count = _column_range(field, chosen, direction)
        for index, other in _each_layer(first, count):
            here = chosen[index]
            opening = np.minimum(above[here], above[other]) - np.maximum(field.top_m[here], field.top_m[other])
            rise = np.abs(field.top_m[other] - field.top_m[here])
            good = (number[other] >= 0) & (rise <= settings.climb_m + _SLACK_M)
            good &= opening >= settings.height_m - _SLACK_M
            neighbors[index[good], direction] = number[other[good]]
    return neighbors


def _column_range(field: Heightfield, spans: np.ndarray, direction: int) -> tuple[np.ndarray, np.ndarray]:
    """First span and number of spans of the column beside each span."""
    dx, dy = STEPS[direction]
    column = field.column[spans]
    x, y = column // field.shape[1] + dx, column % field.shape[1] + dy
    inside = (x >= 0) & (x < field.shape[0]) & (y >= 0) & (y < field.shape[1])
    target = x * field.shape[1] + y
    first = np.searchsorted(field.column, target, side="left")
    count = np.searchsorted(field.column, target, side="right") - first
    return first, np.where(inside, count, 0)


def _each_layer(first: np.ndarray, count: np.ndarray):
    """Yields (indices, span beside each) for the lowest spans of the columns, then the second lowest, and so on."""
    for layer in range(int(count.max(initial=0))):
        index = np.flatnonzero(count > layer)
        yield index, first[index] + layer


def diagonal(neighbors: np.ndarray, direction: int, *, around_both: bool) -> np.ndarray:
    """The cell [N] diagonally between a direction and the next one, -1 where it cannot be reached.

    Args:
        neighbors: int [N, 4].
        direction: index into STEPS.
        around_both: both ways around the corner must be walkable; otherwise one is enough, as for a line that just
            touches the corner.
    """
    turn = (direction + 1) % 4
    one, other = step(neighbors, neighbors[:, direction], turn), step(neighbors, neighbors[:, turn], direction)
    return np.where(one == other, one, -1) if around_both else np.where(one >= 0, one, other)


def step(neighbors: np.ndarray, cells: np.ndarray, direction: int) -> np.ndarray:
    """The neighbours of some cells in a direction; -1 stays -1."""
    return np.where(cells >= 0, neighbors[cells, direction], -1)


def _clearance(neighbors: np.ndarray) -> np.ndarray:
    """Distance in cells to the nearest cell that lacks a neighbour, [N]; infinite where there is none."""
    border = np.flatnonzero((neighbors < 0).any(axis=1))
    if not len(border):
        return np.full(len(neighbors), np.inf)
    moves = [(neighbors[:, d], 1.0) for d in range(4)]
    moves += [(diagonal(neighbors, d, around_both=True), np.sqrt(2.0)) for d in range(4)]
    return dijkstra(graph_of(moves), indices=border, min_only=True)


def graph_of(moves: list[tuple[np.ndarray, float | np.ndarray]]) -> csr_array:
    """A sparse graph of moves: (target cell [N] or -1, cost, one or [N])."""
    count = len(moves[0][0])
    rows, columns, costs = [], [], []
    for target, cost in moves:
        valid = np.flatnonzero(target >= 0)
        rows.append(valid)
        columns.append(target[valid])
        costs.append(np.broadcast_to(cost, count)[valid])
    entries = np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))
    return csr_array(entries, shape=(count, count))


def _islands(neighbors: np.ndarray) -> tuple[int, np.ndarray]:
    if not len(neighbors):
        return 0, np.zeros(0, np.int32)
    return connected_components(graph_of([(neighbors[:, d], 1.0) for d in range(4)]), directed=False)
