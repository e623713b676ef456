"""What belongs into a living room, bedroom, kitchen, bathroom or study, and how it stands. Checks no passages."""

from __future__ import annotations

from math import pi

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
            middle = _along(space, window, wall)
            heater = space.size("heater", high=(1, max(size[1], 0.45), sill - 0.12))
            space.along_wall("heater", size=heater, wall=wall, near_m=middle, z_m=0.06, tries=1)


def _along(space: Space, index: int, wall: Wall) -> float:
    """How far along a wall a thing stands."""
    item = space.items[index]
    return float((item.x_m - wall.start[0]) * wall.along[0] + (item.y_m - wall.start[1]) * wall.along[1])


def _opposite(space: Space, wall: Wall) -> Wall:
    return next(other for other in space.walls if float(other.inward @ wall.inward) < -0.5)


def _living(space: Space) -> None:
    """A sofa that faces a tv across a table, a dining place, shelves."""
    if space.chance(0.92):
        _tv_corner(space)
    if space.chance(0.6):
        dining(space)
    for _ in range(int(space.rng.integers(0, 3))):
        space.along_wall("bookshelf", front_m=0.45)
    if space.chance(0.4):
        _with_things_on(space, space.along_wall("cabinet", front_m=0.45))
    if space.room.area_m2 > 16 and space.chance(0.25):
        desk(space)
    if space.chance(0.07):
        space.along_wall("refrigerator", size=space.size("refrigerator", high=(0.6, 0.6, 1.0)), front_m=0.6)


def _tv_corner(space: Space) -> None:
    """The tv at a wall, the sofa before it, facing it; a table between them, perhaps a second sofa beside it."""
    for _ in range(8):
        wall = space.walls[int(space.rng.integers(4))]
        tv = _tv(space, wall)
        if tv is None:
            continue
        _face_with_sofa(space, tv, wall)
        return


def _tv(space: Space, wall: Wall) -> int | None:
    """A tv on a low cabinet, or hung on the wall; its index."""
    stands = space.chance(0.65)
    size = space.size("tv" if stands else "wall tv", high=(1, wall.length_m - 0.5, 2))
    size = (size[0], size[1], min(max(size[1] * space.pick(0.55, 0.65), 0.34), 1.02))
    if not stands:
        return space.along_wall("wall tv", size=size, wall=wall, z_m=space.pick(0.75, 1.15), front_m=0.5, tries=4)
    low = space.size("tv cabinet", low=(0, size[1] + 0.06, 0))
    if low[1] > wall.length_m - 0.3:
        return None
    below = space.along_wall("tv cabinet", size=low, wall=wall, front_m=0.35, tries=4)
    return None if below is None else space.on_top("tv", below, size=size, left_m=space.pick(-0.1, 0.1), ahead_m=0)


def _face_with_sofa(space: Space, tv: int, wall: Wall) -> None:
    """A sofa in front of the tv: against the far wall in a narrow room, in the open in a deep one."""
    screen = space.items[tv]
    depth = float(abs((space.room.high_m - space.room.low_m) @ wall.inward))
    for attempt in range(16):
        size = space.size("sofa")
        far = depth - WALL_GAP_M - size[0] / 2
        shift = space.pick(-0.35, 0.35) * (1 + attempt / 8)
        away = far if depth < 4.2 or space.chance(0.3) else min(space.pick(2.3, 3.4), far)
        base = (screen.x_m - wall.start[0]) * wall.inward[0] + (screen.y_m - wall.start[1]) * wall.inward[1]
        if away - base < 1.3:
            continue
        x, y = screen.ahead(away - float(base), shift)
        sofa = space.try_add(space.item("sofa", size, x, y, 0.0, screen.yaw_rad + pi))
        if sofa is None:
            continue
        gap = away - float(base) - size[0] / 2
        if gap > 1.5 and space.chance(0.8):
            table = space.size("coffee table", high=(gap - 1.0, 2, 1))
            if table[0] >= 0.38:
                space_at = space.items[sofa].ahead(size[0] / 2 + 0.3 + table[0] / 2, space.pick(-0.15, 0.15))
                low = space.try_add(space.item("coffee table", table, *space_at, 0.0, screen.yaw_rad + pi))
                _with_things_on(space, low)
        if space.chance(0.6):
            _second_sofa(space, sofa, gap)
        for _ in range(int(space.rng.choice(4, p=[0.3, 0.25, 0.25, 0.2]))):
            pillow(space, sofa)
        return


def _second_sofa(space: Space, sofa: int, gap: float) -> None:
    """Beside the place before the tv, at a right angle."""
    first, size = space.items[sofa], space.size("sofa", high=(1, 2.2, 2))
    side = 1.0 if space.chance(0.5) else -1.0
    left = side * (first.size_m[1] / 2 + 0.15 + size[0] / 2)
    x, y = first.ahead(first.size_m[0] / 2 + size[1] / 2 - 0.3, left)
    space.try_add(space.item("sofa", size, x, y, 0.0, first.yaw_rad - side * pi / 2))


def pillow(space: Space, below: int) -> None:
    """A pillow on a sofa, upright against its back."""
    size = space.size("pillow", high=(0.45, 0.6, 0.2))
    seat = space.items[below]
    space.on_top("pillow", below, size=size, ahead_m=-seat.size_m[0] * 0.02)


def dining(space: Space) -> None:
    """A table with chairs around it that face it."""
    for _ in range(8):
        size = space.size("dining table", high=(*(side - 1.2 for side in _inner(space)), 2))
        if size[0] < 0.6 or size[1] < 0.65:
            return
        turn = space.pick(0, 4) // 1 * pi / 2
        x, y = (
            space.pick(low + 0.5, high - 0.5) for low, high in zip(space.room.low_m, space.room.high_m, strict=True)
        )
        at = space.item("dining table", size, float(x), float(y), 0.0, turn)
        if not space.fits(at, apart_m=0.35):
            continue
        table = space.add(at)
        _chairs(space, table)
        _with_things_on(space, table)
        return


def _inner(space: Space) -> tuple[float, float]:
    size = sorted((space.room.high_m - space.room.low_m).tolist())
    return size[0], size[1]


def _chairs(space: Space, table: int) -> None:
    """One to six chairs around a table, most drawn a little under it."""
    base = space.items[table]
    places = []
    for side, turn, length, depth in (
        (0, 0.0, base.size_m[1], base.size_m[0]),
        (1, pi, base.size_m[1], base.size_m[0]),
        (2, pi / 2, base.size_m[0], base.size_m[1]),
        (3, -pi / 2, base.size_m[0], base.size_m[1]),
    ):
        count = max(1, int(length / 0.62)) if side < 2 else 1
        places += [(turn, (step + 0.5) / count * length - length / 2, depth) for step in range(count)]
    order = space.rng.permutation(len(places))
    kind = "stool" if space.chance(0.15) else "chair"
    size, style = space.size(kind), space.style()
    for number in order[: int(space.rng.choice([1, 2, 3, 4, 6], p=[0.12, 0.25, 0.18, 0.3, 0.15]))]:
        turn, left, depth = places[int(number)]
        beside(space, table, kind, size, (turn, left, depth), style if space.chance(0.9) else None)


def beside(
    space: Space, table: int, kind: str, size: tuple, place: tuple[float, float, float], style: int | None = None
) -> int | None:
    """A seat at one side of a table, facing it, with a gap that keeps the two apart.

    Args:
        space: the room.
        table: index of the table.
        kind: of seat.
        size: of it.
        place: which side (its direction less the table's yaw), how far left there, and how deep the table is there.
        style: how it looks, like no other by default.
    """
    (turn, left, depth), base = place, space.items[table]
    away = depth / 2 + size[0] / 2 + space.pick(0.03, 0.12)
    turned = space.item("chair", size, base.x_m, base.y_m, 0.0, base.yaw_rad + turn)
    x, y = turned.ahead(away, left)
    jitter = space.pick(-0.16, 0.16)
    return space.try_add(space.item(kind, size, x, y, 0.0, base.yaw_rad + turn + pi + jitter, style=style))


def desk(space: Space) -> int | None:
    """A desk at a wall with what stands on it and a chair that faces it."""
    size = space.size("desk")
    found = space.along_wall("desk", size=size, tries=14)
    if found is None:
        return None
    if space.chance(0.85):
        for _ in range(2 if size[1] > 1.3 and space.chance(0.35) else 1):
            space.on_top("monitor", found, ahead_m=-size[0] * 0.22)
    if space.chance(0.75):
        space.on_top("keyboard", found, ahead_m=size[0] * 0.25)
    if space.chance(0.4):
        space.on_top("table lamp", found, ahead_m=-size[0] * 0.2)
    chair = space.size("chair")
    if beside(space, found, "chair", chair, (0.0, space.pick(-0.1, 0.1), size[0])) is None:
        space.keep_free(space.front(space.items[found], 0.5))
    return found


def _bed(space: Space) -> None:
    """A bed with its head at a wall, something beside it, a closet."""
    for _ in range(2 if space.room.area_m2 > 12 and space.chance(0.35) else 1):
        _one_bed(space)
    for _ in range(1 + space.chance(0.3)):
        if space.chance(0.8):
            space.along_wall("closet", front_m=0.55, corner=space.chance(0.6), tries=14)
    if space.chance(0.3):
        _with_things_on(space, space.along_wall("cabinet", front_m=0.45))
    if space.chance(0.3):
        desk(space)
    if space.chance(0.2):
        space.along_wall("bookshelf", front_m=0.45)
    beds = [item for item in space.items if item.kind == "bed"]
    if beds and space.chance(0.45):
        head = next(wall for wall in space.walls if abs(wall.yaw_rad - beds[0].yaw_rad) < 1e-6)
        _tv(space, _opposite(space, head))
    if space.chance(0.04):
        space.along_wall("refrigerator", size=space.size("refrigerator", high=(0.6, 0.6, 1.0)), front_m=0.6)


def _one_bed(space: Space) -> None:
    size = space.size("bed")
    bed = space.along_wall("bed", size=size, tries=24, corner=space.chance(0.3))
    if bed is None:
        return
    item = space.items[bed]
    for _ in range(int(space.rng.choice([0, 1, 2, 3], p=[0.1, 0.4, 0.4, 0.1]))):
        pill = space.size("pillow", high=(0.55, size[1] - 0.1, 0.2))
        space.on_top("pillow", bed, size=pill, ahead_m=-size[0] / 2 + 0.12 + pill[0] / 2)
    wall = next(wall for wall in space.walls if abs(wall.yaw_rad - item.yaw_rad) < 1e-6)
    middle = _along(space, bed, wall)
    for side in (1.0, -1.0):
        if space.chance(0.62):
            stand = space.size("nightstand")
            near = middle + side * (size[1] / 2 + stand[1] / 2 + 0.04)
            if stand[1] / 2 + WALL_GAP_M <= near <= wall.length_m - stand[1] / 2 - WALL_GAP_M:
                found = space.along_wall("nightstand", size=stand, wall=wall, near_m=near, tries=1)
                if found is not None and space.chance(0.55):
                    space.on_top("table lamp", found, ahead_m=0.0)


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
        dining(space)


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
        wall = next(wall for wall in space.walls if abs(wall.yaw_rad - base.yaw_rad) < 1e-6)
        middle = _along(space, counter, wall)
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
            wall = next(wall for wall in space.walls if abs(wall.yaw_rad - item.yaw_rad) < 1e-6)
            size = space.size("mirror", high=(1, 1.2, min(1.1, space.height_m - 1.35)))
            bottom = max(item.top_m + 0.1, 1.1)
            space.along_wall("mirror", size=size, wall=wall, near_m=_along(space, basin, wall), z_m=bottom, tries=1)
    for _ in range(int(space.rng.choice(3, p=[0.45, 0.4, 0.15]))):
        space.along_wall("washer", front_m=0.5)
    if space.chance(0.3):
        space.along_wall("cabinet", size=space.size("cabinet", high=(0.5, 0.9, 1.3)), front_m=0.4)


def _turned_tub(space: Space) -> tuple[float, float, float]:
    shortest = _inner(space)[1]
    return space.size("bathtub", high=(1.1, shortest - 0.1, 1))


def _study(space: Space) -> None:
    """Desks with chairs, shelves, perhaps a sofa."""
    for _ in range(1 + space.chance(0.3)):
        desk(space)
    for _ in range(int(space.rng.choice([0, 1, 2, 3], p=[0.15, 0.45, 0.3, 0.1]))):
        space.along_wall("bookshelf", front_m=0.45)
    if space.chance(0.4):
        sofa = space.along_wall("sofa", front_m=0.4)
        if sofa is not None and space.chance(0.5):
            pillow(space, sofa)
    if space.chance(0.35):
        _with_things_on(space, space.along_wall("cabinet", front_m=0.45))
    if space.chance(0.15):
        _tv(space, space.walls[int(space.rng.integers(4))])


def _with_things_on(space: Space, index: int | None) -> None:
    """A plant or a lamp on a cabinet or table."""
    if index is None:
        return
    if space.chance(0.3):
        space.on_top("pot plant", index)
    if space.chance(0.2):
        space.on_top("table lamp", index)
    if space.chance(0.1):
        space.on_top("microwave", index)


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
            _with_things_on(space, found)


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
