"""Things that belong together: a tv and its sofa, a table and its chairs, a desk, a bed and what is beside it.

Knows no kinds of rooms.
"""

from __future__ import annotations

from math import pi

from sim.flats.placing import WALL_GAP_M, Space
from sim.flats.plan import Wall


def tv_corner(space: Space) -> None:
    """The tv at a wall, the sofa before it, facing it; a table between them, perhaps a second sofa beside it."""
    for _ in range(8):
        wall = space.walls[int(space.rng.integers(4))]
        screen = tv(space, wall)
        if screen is not None:
            _face_with_sofa(space, screen, wall)
            return


def tv(space: Space, wall: Wall) -> int | None:
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


def _face_with_sofa(space: Space, screen: int, wall: Wall) -> None:
    """A sofa in front of the tv: against the far wall in a narrow room, in the open in a deep one."""
    at = space.items[screen]
    depth = float(abs((space.room.high_m - space.room.low_m) @ wall.inward))
    for attempt in range(16):
        size = space.size("sofa")
        far = depth - WALL_GAP_M - size[0] / 2
        away = far if depth < 4.2 or space.chance(0.3) else min(space.pick(2.3, 3.4), far)
        base = float(wall.inward @ ([at.x_m, at.y_m] - wall.start))
        if away - base < 1.3:
            continue
        aside = min(0.35 * (1 + attempt / 8), 0.4 * (away - base))  # it still faces the tv
        x, y = at.ahead(away - base, space.pick(-aside, aside))
        sofa = space.try_add(space.item("sofa", size, x, y, 0.0, at.yaw_rad + pi))
        if sofa is None:
            continue
        gap = away - base - size[0] / 2
        if gap > 1.5 and space.chance(0.8):
            table = space.size("coffee table", high=(gap - 1.0, 2, 1))
            if table[0] >= 0.38:
                space_at = space.items[sofa].ahead(size[0] / 2 + 0.3 + table[0] / 2, space.pick(-0.15, 0.15))
                low = space.try_add(space.item("coffee table", table, *space_at, 0.0, at.yaw_rad + pi))
                things_on(space, low)
        if space.chance(0.6):
            _second_sofa(space, sofa)
        for _ in range(int(space.rng.choice(4, p=[0.3, 0.25, 0.25, 0.2]))):
            pillow(space, sofa)
        return


def _second_sofa(space: Space, sofa: int) -> None:
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
        size = space.size("dining table", high=(*(side - 1.2 for side in space.sides()), 2))
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
        things_on(space, table)
        return


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


def bed(space: Space) -> None:
    """A bed with its head at a wall, pillows, and nightstands beside it."""
    size = space.size("bed")
    found = space.along_wall("bed", size=size, tries=24, corner=space.chance(0.3))
    if found is None:
        return
    item = space.items[found]
    for _ in range(int(space.rng.choice([0, 1, 2, 3], p=[0.1, 0.4, 0.4, 0.1]))):
        pill = space.size("pillow", high=(0.55, size[1] - 0.1, 0.2))
        space.on_top("pillow", found, size=pill, ahead_m=-size[0] / 2 + 0.12 + pill[0] / 2)
    wall = space.behind(item)
    middle = space.along(item, wall)
    for side in (1.0, -1.0):
        if space.chance(0.62):
            stand = space.size("nightstand")
            near = middle + side * (size[1] / 2 + stand[1] / 2 + 0.04)
            if stand[1] / 2 + WALL_GAP_M <= near <= wall.length_m - stand[1] / 2 - WALL_GAP_M:
                stood = space.along_wall("nightstand", size=stand, wall=wall, near_m=near, tries=1)
                if stood is not None and space.chance(0.55):
                    space.on_top("table lamp", stood, ahead_m=0.0)


def things_on(space: Space, index: int | None) -> None:
    """A plant or a lamp on a cabinet or table."""
    if index is None:
        return
    if space.chance(0.3):
        space.on_top("pot plant", index)
    if space.chance(0.2):
        space.on_top("table lamp", index)
    if space.chance(0.1):
        space.on_top("microwave", index)
