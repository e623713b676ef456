"""Finds free places for things in one room: along walls, in corners, on tables, under the ceiling. Knows no rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import atan2, cos, sin

import numpy as np

from sim.flats.catalogue import KINDS, draw_size
from sim.flats.plan import Plan, Room, Wall

# Skirting boards are thinner than this.
WALL_GAP_M = 0.02
# Between neighbours, metres; touching things would flicker where their sides meet.
_APART_M = 0.012
APPROACH_M = 0.95


@dataclass(frozen=True)
class Item:
    """A thing in its place.

    Args:
        kind: a key of catalogue.KINDS.
        room: index of its room.
        x_m: middle of its footprint; y_m likewise; z_m its lowest point.
        size_m: depth, width, height.
        yaw_rad: direction of its front.
        style: seed of how it looks.
        on: index in the room's items of what it stands on, -1 for floor, wall and ceiling.
    """

    kind: str
    room: int
    x_m: float
    y_m: float
    z_m: float
    size_m: tuple[float, float, float]
    yaw_rad: float
    style: int
    on: int = -1

    @property
    def category(self) -> str:
        """Its name in questions."""
        return KINDS[self.kind].category

    @property
    def top_m(self) -> float:
        """Height of its highest point."""
        return self.z_m + self.size_m[2]

    @property
    def rect(self) -> Rect:
        """Its footprint."""
        return Rect(self.x_m, self.y_m, self.size_m[0] / 2, self.size_m[1] / 2, self.yaw_rad)

    def ahead(self, distance_m: float, left_m: float = 0.0) -> tuple[float, float]:
        """A point in front of its middle and to its own left."""
        c, s = cos(self.yaw_rad), sin(self.yaw_rad)
        return self.x_m + c * distance_m - s * left_m, self.y_m + s * distance_m + c * left_m


@dataclass(frozen=True)
class Rect:
    """A rectangle on the floor: middle, half lengths along and across its yaw, metres and radians."""

    x: float
    y: float
    half_d: float
    half_w: float
    yaw: float = 0.0

    def reach(self) -> tuple[float, float]:
        """Half extents along the world's x and y."""
        c, s = abs(cos(self.yaw)), abs(sin(self.yaw))
        return c * self.half_d + s * self.half_w, s * self.half_d + c * self.half_w

    def grown(self, margin_m: float) -> Rect:
        """The same with every side moved out."""
        return replace(self, half_d=self.half_d + margin_m, half_w=self.half_w + margin_m)

    def meets(self, other: Rect) -> bool:
        """Whether two rectangles overlap: no side of either parts them."""
        dx, dy = other.x - self.x, other.y - self.y
        turn = other.yaw - self.yaw
        c, s = abs(cos(turn)), abs(sin(turn))
        for base, first, second in ((self.yaw, self, other), (other.yaw, other, self)):
            along, across = cos(base) * dx + sin(base) * dy, -sin(base) * dx + cos(base) * dy
            if abs(along) >= first.half_d + c * second.half_d + s * second.half_w:
                return False
            if abs(across) >= first.half_w + s * second.half_d + c * second.half_w:
                return False
        return True


class Space:
    """One room that is being filled.

    Args:
        plan: the flat.
        index: which room.
        rng: source of chance.
        sigma: spread of sizes, see draw_size.
    """

    def __init__(self, plan: Plan, index: int, rng: np.random.Generator, sigma: float):
        self.room: Room = plan.rooms[index]
        self.index, self.rng, self.sigma = index, rng, sigma
        self.height_m = plan.height_m
        self.walls: tuple[Wall, ...] = self.room.walls
        self.items: list[Item] = []
        self.kept_free: list[Rect] = []
        self._low, self._high = self.room.low_m.tolist(), self.room.high_m.tolist()

    def chance(self, probability: float) -> bool:
        """True that often."""
        return bool(self.rng.random() < probability)

    def pick(self, low: float, high: float) -> float:
        """A number in between."""
        return low + (high - low) * float(self.rng.random())

    def size(self, kind: str, low: tuple | None = None, high: tuple | None = None) -> tuple[float, float, float]:
        """A size for a new thing, cut to limits where some are given."""
        size = draw_size(self.rng, kind, self.sigma)
        if low is not None:
            size = tuple(max(value, limit) for value, limit in zip(size, low, strict=True))
        if high is not None:
            size = tuple(min(value, limit) for value, limit in zip(size, high, strict=True))
        return size

    def keep_free(self, rect: Rect) -> None:
        """Nothing will be put here that stands lower than a person."""
        self.kept_free.append(rect)

    def item(
        self, kind: str, size: tuple, x: float, y: float, z: float, yaw: float, on: int = -1, style: int | None = None
    ) -> Item:
        """A thing that is not in the room yet, of a style of its own unless one is given."""
        yaw = atan2(sin(yaw), cos(yaw))
        return Item(kind, self.index, x, y, z, size, yaw, self.style() if style is None else style, on)

    def style(self) -> int:
        """A seed of looks."""
        return int(self.rng.integers(2**31))

    def add(self, item: Item) -> int:
        """Puts a thing into the room without asking; its index."""
        self.items.append(item)
        return len(self.items) - 1

    def fits(self, item: Item, *, apart_m: float = _APART_M, ignore_free: bool = False, ignore: tuple = ()) -> bool:
        """Whether a thing is inside the room, meets nothing else and leaves free what is kept free."""
        rect = item.rect
        rx, ry = rect.reach()
        edge = WALL_GAP_M / 2
        if not (self._low[0] + rx + edge <= item.x_m <= self._high[0] - rx - edge):
            return False
        if not (self._low[1] + ry + edge <= item.y_m <= self._high[1] - ry - edge):
            return False
        if item.top_m > self.height_m + 1e-6:
            return False
        wide = rect.grown(apart_m)
        rx, ry = rx + apart_m, ry + apart_m
        for index, other in enumerate(self.items):
            if index in ignore or index == item.on or other.z_m >= item.top_m or other.top_m <= item.z_m:
                continue
            there = other.rect
            ox, oy = there.reach()
            if abs(other.x_m - item.x_m) < rx + ox and abs(other.y_m - item.y_m) < ry + oy and wide.meets(there):
                return False
        return ignore_free or item.z_m > 1.6 or not any(rect.meets(free) for free in self.kept_free)

    def try_add(self, item: Item, **how) -> int | None:
        """Puts a thing into the room where it fits; its index."""
        return self.add(item) if self.fits(item, **how) else None

    def along_wall(
        self,
        kind: str,
        *,
        size: tuple | None = None,
        wall: Wall | None = None,
        z_m: float = 0.0,
        front_m: float = 0.0,
        corner: bool = False,
        tries: int = 10,
        near_m: float | None = None,
    ) -> int | None:
        """Puts a thing with its back to a wall.

        Args:
            kind: what.
            size: of it; drawn where not given.
            wall: which wall; any by default, an outer one for windows.
            z_m: height of its lowest point.
            front_m: floor in front of it that must be free and stays so.
            corner: at one of the wall's ends.
            tries: places looked at.
            near_m: middle of the thing, metres along the wall; random by default.
        """
        size = size or self.size(kind)
        for _ in range(tries):
            side = wall or self.walls[int(self.rng.integers(4))]
            span = side.length_m - size[1] - 2 * WALL_GAP_M
            if span < 0:
                continue
            share = float(self.rng.integers(2)) if corner else float(self.rng.random())
            middle = WALL_GAP_M + size[1] / 2 + share * span if near_m is None else near_m
            at = self.at_wall(kind, size, side, middle, z_m)
            if not self.fits(at):
                continue
            if front_m:
                front = self.front(at, front_m)
                if any(other.z_m < 1.6 and front.meets(other.rect) for other in self.items):
                    continue
                self.keep_free(front)
            return self.add(at)
        return None

    def at_wall(self, kind: str, size: tuple, wall: Wall, middle_m: float, z_m: float = 0.0) -> Item:
        """A thing with its back to a wall, its middle so far along it."""
        x, y = wall.start + wall.along * middle_m + wall.inward * (WALL_GAP_M + size[0] / 2)
        return self.item(kind, size, float(x), float(y), z_m, wall.yaw_rad)

    def front(self, item: Item, depth_m: float) -> Rect:
        """The floor before a thing, a little narrower than it."""
        x, y = item.ahead(item.size_m[0] / 2 + depth_m / 2 + 0.001)
        return Rect(x, y, depth_m / 2, max(item.size_m[1] / 2 - 0.02, 0.05), item.yaw_rad)

    def on_top(
        self,
        kind: str,
        below: int,
        *,
        size: tuple | None = None,
        ahead_m: float | None = None,
        left_m: float | None = None,
        turn_rad: float = 0.0,
        tries: int = 8,
        **how,
    ) -> int | None:
        """Stands a thing on another one.

        Args:
            kind: what.
            below: index of what it stands on.
            size: of it; drawn where not given.
            ahead_m: from the middle of the lower one towards its front; random where not given.
            left_m: likewise to its left.
            turn_rad: its yaw less the lower one's.
            tries: places looked at.
        """
        base = self.items[below]
        size = size or self.size(kind)
        rx, ry = Rect(0, 0, size[0] / 2, size[1] / 2, turn_rad).reach()
        spare_d, spare_w = base.size_m[0] / 2 - rx - 0.01, base.size_m[1] / 2 - ry - 0.01
        if spare_d < 0 or spare_w < 0:
            return None
        for _ in range(tries):
            ahead = self.pick(-spare_d, spare_d) if ahead_m is None else min(max(ahead_m, -spare_d), spare_d)
            left = self.pick(-spare_w, spare_w) if left_m is None else min(max(left_m, -spare_w), spare_w)
            x, y = base.ahead(ahead, left)
            found = self.try_add(
                self.item(kind, size, x, y, self.surface_m(below), base.yaw_rad + turn_rad, below),
                ignore_free=True,
                **how,
            )
            if found is not None:
                return found
        return None

    def surface_m(self, index: int) -> float:
        """Height of the surface things stand on: the seat of a sofa, the mattress of a bed, else the top."""
        item = self.items[index]
        return item.z_m + item.size_m[2] * {"bed": 0.55, "sofa": 0.52}.get(item.kind, 1.0)

    def behind(self, item: Item) -> Wall:
        """The wall a thing has its back to."""
        return min(self.walls, key=lambda wall: abs(wall.yaw_rad - item.yaw_rad))

    def opposite(self, wall: Wall) -> Wall:
        """The wall across the room."""
        return min(self.walls, key=lambda other: float(other.inward @ wall.inward))

    def along(self, item: Item, wall: Wall) -> float:
        """How far along a wall a thing is, metres from the wall's start."""
        return float(wall.along @ ([item.x_m, item.y_m] - wall.start))

    def sides(self) -> tuple[float, float]:
        """The shorter and the longer side of the room."""
        shorter, longer = sorted((self.room.high_m - self.room.low_m).tolist())
        return shorter, longer
