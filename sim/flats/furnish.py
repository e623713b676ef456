"""Fills a flat with things, room by room: doors and windows first, then what the room is for, then the rest.

Draws nothing; how things stand to each other is in rules.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sim.flats import rules
from sim.flats.passages import out_of_reach
from sim.flats.placing import APPROACH_M, WALL_GAP_M, Item, Rect, Space
from sim.flats.plan import Plan

_ATTEMPTS = 5
# What the rest of a room stands around: rather another attempt than a room that lost it.
_MAIN = ("door", "sofa", "bed", "desk", "dining table", "toilet", "stove")
# A door's frame around its leaf.
FRAME_M = 0.07
# How far the floor before a doorway is kept free beside it; less than the frame, or its own leaf would be in the way.
_BESIDE_M = 0.06


def furnish(plan: Plan, seed: Sequence[int], *, clutter: float, sigma: float) -> tuple[Item, ...]:
    """Things for every room of a flat, none in the way.

    Args:
        plan: the empty flat.
        seed: of everything random.
        clutter: how many small things, 1 is usual.
        sigma: spread of sizes, see catalogue.draw_size.

    Returns:
        Items whose `on` counts within all of them.
    """
    found: list[Item] = []
    hang_entrance = int(np.random.default_rng((*seed, 1)).integers(len(plan.rooms)))
    for index in range(len(plan.rooms)):
        items = _furnish_room(plan, index, (*seed, 2, index), clutter, sigma, index == hang_entrance)
        first = len(found)
        for item in items:
            on = item.on + first if item.on >= 0 else -1
            found.append(replace(item, on=on))
    return tuple(found)


def _furnish_room(plan: Plan, index: int, seed: tuple, clutter: float, sigma: float, entrance: bool) -> list[Item]:
    """The first attempt that leaves a way and keeps what matters; else what is left of the last one."""
    for attempt in range(_ATTEMPTS):
        space = Space(plan, index, np.random.default_rng((*seed, attempt)), sigma)
        _hang_doors(plan, index, space, entrance)
        rules.furnish(space, clutter)
        matters = sum(item.kind in _MAIN for item in space.items)
        items = _in_reach(plan, index, space.items)
        if items is not None and sum(item.kind in _MAIN for item in items) == matters:
            return items
    items = space.items
    while items:
        left = _in_reach(plan, index, items)
        if left is not None:
            return left
        items = _without(items, {max(number for number, item in enumerate(items) if item.on < 0)})
    return items


def _in_reach(plan: Plan, index: int, items: list[Item]) -> list[Item] | None:
    """The items less those one cannot walk up to; None where one cannot walk through the room."""
    while far := out_of_reach(plan, index, items):
        items = _without(items, set(far))  # which may open a place nobody gets to
    return None if far is None else items


def _without(items: list[Item], gone: set[int]) -> list[Item]:
    """The items less some and all that stands on them."""
    for number, item in enumerate(items):
        if item.on in gone:
            gone = gone | {number}
    kept = [number for number in range(len(items)) if number not in gone]
    place = {number: at for at, number in enumerate(kept)}
    return [replace(items[number], on=place.get(items[number].on, -1)) for number in kept]


def _hang_doors(plan: Plan, index: int, space: Space, entrance: bool) -> None:
    """Keeps the doorways free, opens door leafs flat against a wall, and puts a closed door into an outer wall."""
    leafs = []
    for number in space.room.doorways:
        door = plan.doorways[number]
        wall, span = next((wall, door.span_on(wall)) for wall in space.walls if door.span_on(wall))
        x, y = door.center_m + wall.inward * (door.thickness_m / 2 + APPROACH_M / 2)
        space.keep_free(Rect(float(x), float(y), APPROACH_M / 2, door.width_m / 2 + _BESIDE_M, wall.yaw_rad))
        if door.has_leaf and door.rooms[number % 2] == index:
            leafs.append((wall, span, door.height_m))
    for leaf in leafs:  # none may stand before another doorway
        _open_leaf(space, *leaf)
    outer = [wall for wall in space.walls if wall.outer]
    for _ in range(12 if entrance else 0):
        wall = outer[int(space.rng.integers(len(outer)))]
        size = space.size("door", high=(1, 2, space.height_m - 0.1))
        at = space.along_wall("door", size=size, wall=wall, corner=space.chance(0.5), tries=1, front_m=APPROACH_M)
        if at is not None:
            return


def _open_leaf(space: Space, wall, span: tuple[float, float], height: float) -> None:
    """A leaf as wide as its doorway, turned open against the wall beside it, on the side where there is room."""
    width = span[1] - span[0] - 0.03
    size = (space.pick(0.09, 0.11), width, height - 0.02)
    middles = [span[0] - FRAME_M - width / 2, span[1] + FRAME_M + width / 2]
    for middle in middles if space.chance(0.5) else middles[::-1]:
        if width / 2 + WALL_GAP_M <= middle <= wall.length_m - width / 2 - WALL_GAP_M:
            item = space.at_wall("door", size, wall, middle)
            if space.try_add(item) is not None:
                space.keep_free(space.front(item, 0.25))
                return
