"""Where a person can walk in a furnished room, and what is out of reach there. Moves nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from sim.flats.placing import Item, Rect
from sim.flats.plan import Plan

CELL_M = 0.05
# The agent's 0.2 m, and what its grid of 5 cm cells may round away.
_RADIUS_M = 0.28
_HEAD_M = 1.55
# How near one must get to what stands on the floor, and to what hangs or stands on other things.
_REACH_M, _FAR_REACH_M = 0.8, 1.2
_SHARE = 0.8


class _Grid:
    """Where the middle of a person can be in a room, cells of CELL_M from its lowest corner."""

    def __init__(self, low: np.ndarray, high: np.ndarray):
        self.low = low
        shape = np.maximum(np.ceil((high - low) / CELL_M).astype(int), 1)
        self.x, self.y = (low[axis] + (np.arange(shape[axis]) + 0.5) * CELL_M for axis in (0, 1))
        inside_x = (self.x > low[0] + _RADIUS_M) & (self.x < high[0] - _RADIUS_M)
        inside_y = (self.y > low[1] + _RADIUS_M) & (self.y < high[1] - _RADIUS_M)
        self.free = inside_x[:, None] & inside_y[None, :]

    def within(self, rect: Rect, margin_m: float) -> tuple[tuple[slice, slice], np.ndarray]:
        """The cells in a rectangle grown by a margin: a window of the grid and a mask in it."""
        big = rect.grown(margin_m)
        rx, ry = big.reach()
        i0, i1 = np.searchsorted(self.x, [big.x - rx, big.x + rx])
        j0, j1 = np.searchsorted(self.y, [big.y - ry, big.y + ry])
        dx, dy = self.x[i0:i1, None] - big.x, self.y[None, j0:j1] - big.y
        c, s = np.cos(big.yaw), np.sin(big.yaw)
        mask = (np.abs(c * dx + s * dy) <= big.half_d) & (np.abs(c * dy - s * dx) <= big.half_w)
        return (slice(i0, i1), slice(j0, j1)), mask


def out_of_reach(plan: Plan, index: int, items: Sequence[Item]) -> tuple[int, ...] | None:
    """What one cannot walk up to.

    Args:
        plan: the flat.
        index: of the room.
        items: in it.

    Returns:
        Indices of items; None where one cannot walk from every doorway to every other and through most of the room.
    """
    room = plan.rooms[index]
    grid = _Grid(room.low_m, room.high_m)
    ways = []
    for number in room.doorways:
        door = plan.doorways[number]
        middle = (room.low_m + room.high_m) / 2
        point = door.center_m.copy()
        point[door.axis] += np.sign(middle[door.axis] - point[door.axis]) * (door.thickness_m / 2 + _RADIUS_M + 0.1)
        ways.append(Rect(float(point[0]), float(point[1]), CELL_M, CELL_M))
    for item in items:
        if item.z_m < _HEAD_M and item.top_m > 0.1:
            window, mask = grid.within(item.rect, _RADIUS_M)
            grid.free[window] &= ~mask
    labels, count = ndimage.label(grid.free)
    if not count:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    main = int(sizes.argmax()) + 1
    if sizes[main - 1] < _SHARE * sizes.sum() or sizes[main - 1] * CELL_M**2 < 0.5:
        return None
    reached = labels == main
    for rect in ways:
        window, mask = grid.within(rect, 0.0)
        if not (reached[window] & mask).any():
            return None
    far = []
    for number, item in enumerate(items):
        stands = item.on < 0 and item.z_m < 0.1
        window, mask = grid.within(item.rect, _REACH_M if stands else _FAR_REACH_M)
        if not (reached[window] & mask).any():
            far.append(number)
    return tuple(far)
