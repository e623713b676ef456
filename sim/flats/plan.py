"""Floor plans: rectangular rooms side by side, doorways between them, windows in outer walls. Furnishes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

KINDS = ("living", "bed", "kitchen", "bath", "study")
NAMES = {"living": "living room", "bed": "bedroom", "kitchen": "kitchen", "bath": "bathroom", "study": "study"}
# Floor area of a kind of room, square metres, and its shortest side, metres.
_AREAS_M2 = {"living": (14, 28), "bed": (9.5, 18), "kitchen": (7.5, 15), "bath": (4.5, 9), "study": (7.5, 15)}
_SIDES_M = {"living": 3.1, "bed": 2.7, "kitchen": 2.3, "bath": 1.9, "study": 2.3}
_LONGEST_TO_SHORTEST = 2.1
INNER_WALL_M = 0.12
# From a doorway to the nearest corner of a room.
_CORNER_M = 0.14
_TRIES = 400


@dataclass(frozen=True, eq=False)
class Wall:
    """One side of a room, seen from inside: along it one goes counter-clockwise around the room.

    Args:
        start: [2] its first corner.
        along: [2] unit direction of the wall; inward [2] unit normal into the room.
        length_m: from corner to corner.
        outer: whether nothing of the flat lies behind it.
    """

    start: np.ndarray
    along: np.ndarray
    inward: np.ndarray
    length_m: float
    outer: bool

    @property
    def yaw_rad(self) -> float:
        """Direction of the normal into the room."""
        return float(np.arctan2(self.inward[1], self.inward[0]))


@dataclass(frozen=True, eq=False)
class Room:
    """A rectangular room.

    Args:
        name: unique in its flat, such as "bedroom" or "bedroom 2".
        kind: one of KINDS.
        low_m: [2] lowest corner of its floor; high_m [2] the highest.
        outer: whether the walls at low y, high x, high y and low x are outer walls.
        doorways: indices of the flat's doorways that lead into it.
    """

    name: str
    kind: str
    low_m: np.ndarray
    high_m: np.ndarray
    outer: tuple[bool, bool, bool, bool]
    doorways: tuple[int, ...] = ()

    @property
    def area_m2(self) -> float:
        """Area of the floor."""
        return float(np.prod(self.high_m - self.low_m))

    @property
    def polygon_m(self) -> np.ndarray:
        """Corners of the floor [4, 2], counter-clockwise."""
        (x0, y0), (x1, y1) = self.low_m, self.high_m
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])

    @property
    def walls(self) -> tuple[Wall, ...]:
        """Its walls in the order of `outer`."""
        corners, found = self.polygon_m, []
        for side in range(4):
            start, end = corners[side], corners[(side + 1) % 4]
            length = float(np.abs(end - start).sum())
            along = (end - start) / length
            found.append(Wall(start, along, np.array([-along[1], along[0]]), length, self.outer[side]))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Doorway:
    """A hole in the wall between two rooms.

    Args:
        rooms: indices of the two rooms.
        center_m: [2] middle of the hole, half-way through the wall.
        axis: 0 where one walks through it along x, 1 along y.
        width_m: of the hole; height_m likewise; thickness_m of the wall.
        has_leaf: whether a door leaf hangs in it.
    """

    rooms: tuple[int, int]
    center_m: np.ndarray
    axis: int
    width_m: float
    height_m: float
    thickness_m: float
    has_leaf: bool

    def span_on(self, wall: Wall) -> tuple[float, float] | None:
        """Where the hole lies along a wall, metres from its start; None where it is in another wall."""
        offset = self.center_m - wall.start
        if abs(wall.inward[self.axis]) < 0.5 or abs(offset @ wall.inward + self.thickness_m / 2) > 1e-6:
            return None
        middle = float(offset @ wall.along)
        return (middle - self.width_m / 2, middle + self.width_m / 2) if 0 < middle < wall.length_m else None


@dataclass(frozen=True, eq=False)
class Plan:
    """The empty flat.

    Args:
        rooms: at least one.
        doorways: between rooms; every room can be reached.
        height_m: from floor to ceiling.
    """

    rooms: tuple[Room, ...]
    doorways: tuple[Doorway, ...]
    height_m: float


@dataclass
class _Cut:
    """A rectangle and what shall be in it."""

    low: np.ndarray
    high: np.ndarray
    kinds: list[str] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)


def make_plan(rng: np.random.Generator, count: int) -> Plan:
    """A flat with a number of rooms, 1 to 5."""
    kinds = _draw_kinds(rng, count)
    height = float(rng.uniform(2.4, 3.0))
    for attempt in range(_TRIES):
        areas = [rng.uniform(*_AREAS_M2[kind]) * (1 + 0.25 * min(attempt / 100, 1)) for kind in kinds]
        cuts = _cut_up(rng, kinds, areas)
        if not all(map(_is_roomlike, cuts)):
            continue
        doors = _connect(rng, cuts)
        if doors is not None:
            return _finish(rng, cuts, doors, height)
    raise AssertionError(f"no floor plan for {kinds}")


def _draw_kinds(rng: np.random.Generator, count: int) -> list[str]:
    """What the rooms are for: usual sets, with a room twice now and then."""
    first = str(rng.choice(["living", "bed", "kitchen", "study"], p=[0.4, 0.3, 0.15, 0.15])) if count == 1 else "living"
    if count >= 2 and rng.random() < 0.15:
        first = "bed"
    kinds, wanted = [first], {"bed": 1.0, "kitchen": 1.0, "bath": 1.0, "study": 0.6, "living": 0.15}
    while len(kinds) < count:
        weights = np.array([wanted[kind] * (0.35 if kind in kinds else 1.0) for kind in wanted])
        kind = list(wanted)[int(rng.choice(len(wanted), p=weights / weights.sum()))]
        if kind != "bath" or kinds.count("bath") < (2 if count >= 3 else 1):
            kinds.append(kind)
    return kinds


def _cut_up(rng: np.random.Generator, kinds: list[str], areas: list[float]) -> list[_Cut]:
    """Divides a rectangle into rooms of about the wanted areas, cut by cut."""
    total, aspect = sum(areas), rng.uniform(1.0, 1.7)
    size = np.array([np.sqrt(total * aspect), np.sqrt(total / aspect)])
    if rng.random() < 0.5:
        size = size[::-1]
    order = rng.permutation(len(kinds))
    todo = [_Cut(np.zeros(2), size, [kinds[i] for i in order], [areas[i] for i in order])]
    done = []
    while todo:
        cut = todo.pop()
        if len(cut.kinds) == 1:
            done.append(cut)
            continue
        size = cut.high - cut.low
        axis = int(size.argmax()) if rng.random() < 0.85 else int(size.argmin())
        first = int(rng.integers(1, len(cut.kinds)))
        share = sum(cut.areas[:first]) / sum(cut.areas)
        middle = cut.low[axis] + share * size[axis]
        left_high, right_low = cut.high.copy(), cut.low.copy()
        left_high[axis], right_low[axis] = middle - INNER_WALL_M / 2, middle + INNER_WALL_M / 2
        todo.append(_Cut(right_low, cut.high, cut.kinds[first:], cut.areas[first:]))
        todo.append(_Cut(cut.low, left_high, cut.kinds[:first], cut.areas[:first]))
    return done


def _is_roomlike(cut: _Cut) -> bool:
    size = cut.high - cut.low
    kind = cut.kinds[0]
    large = size.prod() > 1.3 * _AREAS_M2[kind][1]
    return bool(size.min() >= _SIDES_M[kind] and size.max() <= _LONGEST_TO_SHORTEST * size.min() and not large)


def _shared_wall(first: _Cut, second: _Cut) -> tuple[int, float, float, float] | None:
    """(axis across the wall, its middle, lowest and highest coordinate along it) of two rooms side by side."""
    for axis in (0, 1):
        for a, b in ((first, second), (second, first)):
            if abs(b.low[axis] - a.high[axis] - INNER_WALL_M) < 1e-6:
                other = 1 - axis
                low, high = max(a.low[other], b.low[other]), min(a.high[other], b.high[other])
                if high > low:
                    return axis, (a.high[axis] + b.low[axis]) / 2, low, high
    return None


def _connect(rng: np.random.Generator, cuts: list[_Cut]) -> list[tuple] | None:
    """Pairs of rooms to join, with where their walls meet and how wide the hole is; None where a room stays apart.

    A bathroom is never on the way to another room.
    """
    width = {}
    walls = {}
    for i in range(len(cuts)):
        for j in range(i + 1, len(cuts)):
            wall = _shared_wall(cuts[i], cuts[j])
            wide = float(rng.uniform(0.78, 1.12))
            if wall is not None and wall[3] - wall[2] >= wide + 2 * _CORNER_M:
                walls[i, j], width[i, j] = wall, wide
    baths = {index for index, cut in enumerate(cuts) if cut.kinds[0] == "bath"}
    pairs = sorted(walls, key=lambda pair: (len(baths & set(pair)), rng.random()))
    group, chosen = list(range(len(cuts))), []
    for i, j in pairs:
        joined = baths & {i, j}
        entered = any(joined & set(pair) for pair in chosen)
        if group[i] != group[j] and not (len(joined) == 2 or (joined and entered)):
            chosen.append((i, j))
            group = [group[i] if label == group[j] else label for label in group]
        elif not joined and rng.random() < 0.25:
            chosen.append((i, j))
    if len(set(group)) > 1:
        return None
    return [(pair, walls[pair], width[pair]) for pair in chosen]


def _finish(rng: np.random.Generator, cuts: list[_Cut], doors: list[tuple], height: float) -> Plan:
    doorways = tuple(_doorway(rng, *door, height) for door in doors)
    extent = np.stack([np.min([cut.low for cut in cuts], axis=0), np.max([cut.high for cut in cuts], axis=0)])
    rooms, used = [], {}
    for index, cut in enumerate(cuts):
        kind = cut.kinds[0]
        used[kind] = used.get(kind, 0) + 1
        name = NAMES[kind] + (f" {used[kind]}" if used[kind] > 1 else "")
        near_low, near_high = np.abs(cut.low - extent[0]) < 1e-6, np.abs(cut.high - extent[1]) < 1e-6
        outer = (bool(near_low[1]), bool(near_high[0]), bool(near_high[1]), bool(near_low[0]))
        into = tuple(number for number, door in enumerate(doorways) if index in door.rooms)
        rooms.append(Room(name, kind, cut.low, cut.high, outer, into))
    return Plan(tuple(rooms), doorways, height)


def _doorway(rng: np.random.Generator, rooms: tuple[int, int], wall: tuple, width: float, ceiling: float) -> Doorway:
    """A hole somewhere in a shared wall, more often near one of its ends: that leaves wall for furniture."""
    axis, across, low, high = wall
    span = (low + _CORNER_M + width / 2, high - _CORNER_M - width / 2)
    share = float(rng.choice([0.0, 1.0])) if rng.random() < 0.55 else float(rng.random())
    center = np.empty(2)
    center[axis], center[1 - axis] = across, span[0] + share * (span[1] - span[0])
    height = float(rng.uniform(1.88, min(2.34, ceiling - 0.2)))
    return Doorway(rooms, center, axis, width, height, INNER_WALL_M, bool(rng.random() < 0.7))
