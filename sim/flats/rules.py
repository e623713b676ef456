"""What belongs into a living room, bedroom, kitchen, bathroom or study, and how it stands. Checks no passages."""

from __future__ import annotations

from math import pi

from sim.flats import groups
from sim.flats.placing import WALL_GAP_M, Rect, Space
from sim.flats.plan import Wall

_EYE_M = (1.35, 1.7)


def furnish(space: Space, clutter: float) -> None:
    """Fills a room according to its kind.

    Args:
        space: the room.
        clutter: how many small things, 1 is usual.
    """
    _windows(space)
    {"living": _living, "bed": _bed, "kitchen": _kitchen, "bath": _bath, "study": _study}[space.room.kind](space)
    _common(space, clutter)


def _windows(space: Space) -> None:
    """Windows in outer walls, and now and then a heater below one."""
    kind = space.room.kind
    outer = [wall for wall in space.walls if wall.outer]
    wanted = [0, 1, 2, 3][
        int(space.rng.choice(4, p=[0.35, 0.5, 0.15, 0] if kind == "bath" else [0.1, 0.45, 0.3, 0.15]))
    ]
    for _ in range(wanted):
        wall = outer[int(space.rng.integers(len(outer)))]
        sill = space.pick(0.75, 1.05) if kind != "bath" else space.pick(1.0, 1.3)
        size = space.size("window", high=(1, wall.length_m - 0.4, space.height_m - sill - 0.15))
        window = space.along_wall("window", size=size, wall=wall, z_m=sill)
        if window is not None and space.chance(0.35):
            middle = space.along(space.items[window], wall)
            heater = space.size("heater", high=(1, max(size[1], 0.45), sill - 0.12))
            space.along_wall("heater", size=heater, wall=wall, near_m=middle, z_m=0.06, tries=1)


def _living(space: Space) -> None:
    """A sofa that faces a tv across a table, a dining place, shelves."""
    if space.chance(0.92):
        groups.tv_corner(space)
    if space.chance(0.6):
        groups.dining(space)
    for _ in range(int(space.rng.integers(0, 3))):
        space.along_wall("bookshelf", front_m=0.45)
    if space.chance(0.4):
        groups.things_on(space, space.along_wall("cabinet", front_m=0.45))
    if space.room.area_m2 > 16 and space.chance(0.25):
        groups.desk(space)
    if space.chance(0.07):
        space.along_wall("refrigerator", size=space.size("refrigerator", high=(0.6, 0.6, 1.0)), front_m=0.6)


def _bed(space: Space) -> None:
    """A bed with its head at a wall, something beside it, a closet."""
    for _ in range(2 if space.room.area_m2 > 12 and space.chance(0.35) else 1):
        groups.bed(space)
    for _ in range(1 + space.chance(0.3)):
        if space.chance(0.8):
            space.along_wall("closet", front_m=0.55, corner=space.chance(0.6), tries=14)
    if space.chance(0.3):
        groups.things_on(space, space.along_wall("cabinet", front_m=0.45))
    if space.chance(0.3):
        groups.desk(space)
    if space.chance(0.2):
        space.along_wall("bookshelf", front_m=0.45)
    beds = [item for item in space.items if item.kind == "bed"]
    if beds and space.chance(0.45):
        head = space.behind(beds[0])
        groups.tv(space, space.opposite(head))
    if space.chance(0.04):
        space.along_wall("refrigerator", size=space.size("refrigerator", high=(0.6, 0.6, 1.0)), front_m=0.6)


def _kitchen(space: Space) -> None:
    """Counter, sink, stove and refrigerator side by side along a wall, a table, cabinets above."""
    units = ["stove", "counter"]
    units += ["refrigerator"] if space.chance(0.88) else []
    units += ["counter"] if space.chance(0.55) else []
    units += ["washer"] if space.chance(0.3) else []
    units += ["refrigerator"] if space.chance(0.1) else []
    units += ["stove"] if space.chance(0.16) else []
    units = [units[int(i)] for i in space.rng.permutation(len(units))]
    walls = [space.walls[int(i)] for i in space.rng.permutation(4)]
    counters: list[int] = []
    for wall in walls:
        units = _run(space, wall, units, counters)
        if not units:
            break
    sinks = 0
    for counter in counters:
        if not sinks or space.chance(0.12):
            sinks += space.on_top("kitchen sink", counter, ahead_m=0.0) is not None
    for counter in counters:
        if space.chance(0.6):
            space.on_top("microwave", counter, ahead_m=-0.05)
        if space.chance(0.15):
            space.on_top("pot plant", counter)
    _hang_cabinets(space, counters)
    if space.chance(0.75):
        groups.dining(space)


def _run(space: Space, wall: Wall, units: list[str], counters: list[int]) -> list[str]:
    """Puts units side by side along a wall from one end; those that found no place."""
    from_end = space.chance(0.5)
    cursor, left = WALL_GAP_M, []
    for kind in units:
        size = space.size(kind)
        placed = None
        while cursor + size[1] <= wall.length_m - WALL_GAP_M and placed is None:
            middle = cursor + size[1] / 2
            near = wall.length_m - middle if from_end else middle
            placed = space.along_wall(kind, size=size, wall=wall, near_m=near, tries=1, front_m=0.6)
            cursor += 0.15 if placed is None else size[1] + 0.015
        if placed is None:
            left.append(kind)
        elif kind == "counter":
            counters.append(placed)
    return left


def _hang_cabinets(space: Space, counters: list[int]) -> None:
    for counter in counters:
        if not space.chance(0.55):
            continue
        base = space.items[counter]
        size = space.size("wall cabinet", high=(0.42, base.size_m[1], space.height_m - 1.6))
        wall = space.behind(base)
        middle = space.along(base, wall)
        space.along_wall("wall cabinet", size=size, wall=wall, near_m=middle, z_m=space.pick(1.45, 1.58), tries=1)


def _bath(space: Space) -> None:
    """Toilet, washbasin with a mirror, bathtub, washer, along the walls."""
    for _ in range(1 + space.chance(0.12)):
        if space.chance(0.8):
            space.along_wall("bathtub", corner=True, tries=16, size=_turned_tub(space))
    space.along_wall("toilet", front_m=0.5, tries=20)
    if space.chance(0.06):
        space.along_wall("toilet", front_m=0.5, tries=20)
    for _ in range(1 + space.chance(0.2)):
        basin = space.along_wall("washbasin", front_m=0.5, tries=20)
        if basin is not None and space.chance(0.75):
            item = space.items[basin]
            wall = space.behind(item)
            size = space.size("mirror", high=(1, 1.2, min(1.1, space.height_m - 1.35)))
            bottom = max(item.top_m + 0.1, 1.1)
            space.along_wall("mirror", size=size, wall=wall, near_m=space.along(item, wall), z_m=bottom, tries=1)
    for _ in range(int(space.rng.choice(3, p=[0.45, 0.4, 0.15]))):
        space.along_wall("washer", front_m=0.5)
    if space.chance(0.3):
        space.along_wall("cabinet", size=space.size("cabinet", high=(0.5, 0.9, 1.3)), front_m=0.4)


def _turned_tub(space: Space) -> tuple[float, float, float]:
    shortest = space.sides()[1]
    return space.size("bathtub", high=(1.1, shortest - 0.1, 1))


def _study(space: Space) -> None:
    """Desks with chairs, shelves, perhaps a sofa."""
    for _ in range(1 + space.chance(0.3)):
        groups.desk(space)
    for _ in range(int(space.rng.choice([0, 1, 2, 3], p=[0.15, 0.45, 0.3, 0.1]))):
        space.along_wall("bookshelf", front_m=0.45)
    if space.chance(0.4):
        sofa = space.along_wall("sofa", front_m=0.4)
        if sofa is not None and space.chance(0.5):
            groups.pillow(space, sofa)
    if space.chance(0.35):
        groups.things_on(space, space.along_wall("cabinet", front_m=0.45))
    if space.chance(0.15):
        groups.tv(space, space.walls[int(space.rng.integers(4))])


# Small things: how many of them a room gets on average, by kind of room.
_SMALL = {
    "trash bin": {"living": 0.4, "bed": 0.3, "kitchen": 0.8, "bath": 0.6, "study": 0.8},
    "plant": {"living": 0.8, "bed": 0.4, "kitchen": 0.2, "bath": 0.2, "study": 0.5},
    "floor lamp": {"living": 0.6, "bed": 0.3, "kitchen": 0.05, "bath": 0.0, "study": 0.35},
    "stool": {"living": 0.25, "bed": 0.25, "kitchen": 0.4, "bath": 0.3, "study": 0.15},
    "chair": {"living": 0.2, "bed": 0.35, "kitchen": 0.1, "bath": 0.05, "study": 0.15},
    "heater": {"living": 0.25, "bed": 0.25, "kitchen": 0.2, "bath": 0.35, "study": 0.25},
    "picture": {"living": 1.6, "bed": 1.2, "kitchen": 0.5, "bath": 0.3, "study": 1.0},
    "mirror": {"living": 0.15, "bed": 0.5, "kitchen": 0.05, "bath": 0.15, "study": 0.05},
    "clock": {"living": 0.4, "bed": 0.25, "kitchen": 0.45, "bath": 0.05, "study": 0.3},
}


# What stands along the walls of a room where there is still place.
_FILL = {
    "living": ("bookshelf", "cabinet", "plant", "floor lamp", "chair", "sofa", "tv cabinet"),
    "bed": ("closet", "cabinet", "bookshelf", "chair", "plant", "nightstand"),
    "kitchen": ("cabinet", "counter", "chair", "plant", "bookshelf"),
    "bath": ("cabinet", "stool", "trash bin", "plant"),
    "study": ("bookshelf", "cabinet", "closet", "chair", "plant"),
}
_FILL_M2 = 8.0


def _fill(space: Space, clutter: float) -> None:
    """The more furniture the larger the room."""
    kinds = _FILL[space.room.kind]
    for _ in range(min(int(space.rng.poisson(clutter * space.room.area_m2 / _FILL_M2)), 6)):
        kind = kinds[int(space.rng.integers(len(kinds)))]
        if kind == "sofa" and not any(item.kind == "sofa" for item in space.items):
            continue  # the first one faces the tv
        found = space.along_wall(kind, front_m=0.4, tries=5)
        if kind in ("cabinet", "tv cabinet", "nightstand"):
            groups.things_on(space, found)


def _common(space: Space, clutter: float) -> None:
    """What any room may have: lights, things in corners and on walls."""
    _fill(space, clutter)
    for kind, mean in _SMALL.items():
        for _ in range(min(int(space.rng.poisson(clutter * mean[space.room.kind])), 4)):
            _small(space, kind)
    _ceiling_lights(space)


def _small(space: Space, kind: str) -> None:
    if kind in ("picture", "mirror", "clock"):
        size = space.size(kind)
        bottom = max(space.pick(*_EYE_M) - size[2] / 2, 0.5)
        space.along_wall(kind, size=size, z_m=min(bottom, space.height_m - size[2] - 0.1))
    elif kind == "heater":
        space.along_wall(kind, z_m=0.06)
    elif kind == "chair":
        space.along_wall(kind, front_m=0.3, tries=6)
    else:
        _round_thing(space, kind)


def _round_thing(space: Space, kind: str) -> None:
    """A bin, plant, lamp or stool: mostly in a corner, else somewhere at a wall."""
    size = space.size(kind)
    found = space.along_wall(kind, size=size, corner=space.chance(0.7), tries=8)
    if found is None and kind == "stool":
        low, high = space.room.low_m, space.room.high_m
        x, y = (space.pick(float(a) + 0.4, float(b) - 0.4) for a, b in zip(low, high, strict=True))
        space.try_add(space.item(kind, size, x, y, 0.0, space.pick(-pi, pi)), apart_m=0.3)


def _ceiling_lights(space: Space) -> None:
    """One in the middle, or two or three in a row in a large room."""
    size = space.size("ceiling light", high=(1, 1, space.height_m - 2.1))
    low, high = space.room.low_m, space.room.high_m
    long = int((high - low).argmax())
    count = int(space.rng.choice([0, 1, 2, 3], p=[0.08, 0.62, 0.2, 0.1]))
    if space.room.area_m2 < 9:
        count = min(count, 1)
    for number in range(count):
        middle = (low + high) / 2
        middle[long] = low[long] + (number + 0.5) / count * (high - low)[long]
        rect = Rect(float(middle[0]), float(middle[1]), size[0] / 2, size[1] / 2)
        z = space.height_m - size[2]
        space.try_add(space.item("ceiling light", size, rect.x, rect.y, z, 0.0), ignore_free=True)
