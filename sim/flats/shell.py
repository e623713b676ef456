"""Walls with doorways, floors, ceilings, skirting boards and door frames of a flat. Knows no furniture."""

from __future__ import annotations

import numpy as np

from sim.flats import looks as colors
from sim.flats.plan import Doorway, Plan, Room, Wall
from sim.flats.shapes import Shapes

_SKIRTING_M = (0.012, 0.08)
_FRAME_M = (0.012, 0.06)
_WALLS = {
    "bath": (("wall tiles", 0.75), ("plaster", 0.15), ("motif", 0.1)),
    "kitchen": (("wall tiles", 0.3), ("plaster", 0.35), ("stripes", 0.15), ("brick", 0.2)),
    "other": (("plaster", 0.3), ("stripes", 0.25), ("motif", 0.25), ("brick", 0.1), ("panels", 0.1)),
}
_FLOORS = {
    "bath": (("tiles", 1.0),),
    "kitchen": (("tiles", 0.7), ("planks", 0.3)),
    "other": (("planks", 0.4), ("parquet", 0.3), ("carpet", 0.3)),
}


def build_shell(shapes: Shapes, plan: Plan, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Draws the empty flat.

    Returns:
        (name, category) of every thing drawn: a floor, a wall and a ceiling for each room and a wall for each doorway.
    """
    drawn = []
    for number, room in enumerate(plan.rooms):
        for category in ("floor", "wall", "ceiling"):
            name = f"{category}_{number}"
            shapes.start(name, 0.0, 0.0, 0.0, 0.0)
            drawn.append((name, category))
            {"floor": _floor, "wall": _walls, "ceiling": _ceiling}[category](shapes, plan, room, rng)
    for number, door in enumerate(plan.doorways):
        name = f"wall_doorway_{number}"
        shapes.start(name, float(door.center_m[0]), float(door.center_m[1]), 0.0, 0.0 if door.axis == 0 else np.pi / 2)
        drawn.append((name, "wall"))
        _doorway(shapes, door, rng)
    return drawn


def _choice(rng: np.random.Generator, options: dict, kind: str) -> str:
    names, weights = zip(*options.get(kind, options["other"]), strict=True)
    return str(rng.choice(names, p=weights))


def _floor(shapes: Shapes, plan: Plan, room: Room, rng: np.random.Generator) -> None:
    kind = _choice(rng, _FLOORS, room.kind)
    tints = {"tiles": colors.PAINTS + colors.ENAMELS[:3] + ((120, 124, 130),), "carpet": colors.CARPETS}
    material = shapes.looks.pick(kind, tints.get(kind, colors.WOODS), rng)
    size = room.high_m - room.low_m
    offset = tuple(rng.uniform(0, 2, 2))
    shapes.quad("surface", material, (*room.low_m, 0.0), (size[0], 0, 0), (0, size[1], 0), offset)


def _ceiling(shapes: Shapes, plan: Plan, room: Room, rng: np.random.Generator) -> None:
    material = shapes.looks.pick("ceiling", ((252, 251, 247), (246, 244, 236)), rng)
    size = room.high_m - room.low_m
    origin = (room.low_m[0], room.high_m[1], plan.height_m)
    shapes.quad("surface", material, origin, (size[0], 0, 0), (0, -size[1], 0), tuple(rng.uniform(0, 2, 2)))


def _walls(shapes: Shapes, plan: Plan, room: Room, rng: np.random.Generator) -> None:
    """Four walls around doorways; often one of them looks different."""
    material = _wall_look(shapes, room, rng)
    accent = _wall_look(shapes, room, rng)
    odd = int(rng.integers(4)) if rng.random() < 0.45 else -1
    wood = shapes.looks.board(rng)
    run = float(rng.uniform(0, 3))
    for side, wall in enumerate(room.walls):
        spans = [plan.doorways[number].span_on(wall) for number in room.doorways]
        doors = sorted((*span, plan.doorways[n].height_m) for n, span in zip(room.doorways, spans, strict=True) if span)
        _wall(shapes, accent if side == odd else material, wall, doors, plan.height_m, run)
        _skirting(shapes, wood, wall, doors)
        run += wall.length_m


def _wall_look(shapes: Shapes, room: Room, rng: np.random.Generator) -> int:
    kind = _choice(rng, _WALLS, room.kind)
    tints = {"brick": ((176, 110, 84), (200, 150, 120), (222, 214, 204)), "panels": colors.WOODS}
    return shapes.looks.pick(kind, tints.get(kind, colors.PAINTS), rng)


def _wall(shapes: Shapes, material: int, wall: Wall, doors: list[tuple], height: float, run: float) -> None:
    """The wall beside and above its doorways, seen from inside, where one goes left along it."""
    cursor = 0.0
    for low, high, top in [*doors, (wall.length_m, wall.length_m, height)]:
        _wall_piece(shapes, material, wall, cursor, low, 0.0, height, run)
        _wall_piece(shapes, material, wall, low, high, top, height, run)
        cursor = high


def _wall_piece(
    shapes: Shapes, material: int, wall: Wall, start: float, end: float, z0: float, z1: float, run: float
) -> None:
    if end - start < 1e-6 or z1 - z0 < 1e-6:
        return
    x, y = wall.start + wall.along * end  # from inside, the wall's end is on the left
    right = -wall.along * (end - start)
    shapes.quad("surface", material, (x, y, z0), (*right, 0.0), (0.0, 0.0, z1 - z0), (run - end, z0))


def _skirting(shapes: Shapes, material: int, wall: Wall, doors: list[tuple]) -> None:
    """Boards along the foot of a wall, up to the doors' frames."""
    thick, tall = _SKIRTING_M
    cursor = 0.0
    for low, high, _ in [*doors, (wall.length_m + _FRAME_M[1], 0.0, 0.0)]:
        end = low - _FRAME_M[1]
        if end - cursor > 0.01:
            a = wall.start + wall.along * cursor
            b = wall.start + wall.along * end + wall.inward * thick
            (x0, y0), (x1, y1) = np.minimum(a, b), np.maximum(a, b)
            shapes.box("skirting", material, x0, x1, y0, y1, 0.0, tall)
        cursor = high + _FRAME_M[1]


def _doorway(shapes: Shapes, door: Doorway, rng: np.random.Generator) -> None:
    """Frame, lintel and threshold; one walks through along x."""
    wood = shapes.looks.board(rng)
    half, depth, top = door.width_m / 2, door.thickness_m / 2, door.height_m
    out, wide = _FRAME_M
    for y in (-1.0, 1.0):
        edge = y * half
        shapes.quad("frame", wood, (-y * depth, edge, 0), (2 * y * depth, 0, 0), (0, 0, top))
        for x0, x1 in ((-depth - out, -depth), (depth, depth + out)):
            shapes.box("frame", wood, x0, x1, min(edge, edge + y * wide), max(edge, edge + y * wide), 0.0, top + wide)
    for x0, x1 in ((-depth - out, -depth), (depth, depth + out)):
        shapes.box("frame", wood, x0, x1, -half, half, top, top + wide)
    shapes.quad("frame", wood, (-depth, half, top), (2 * depth, 0, 0), (0, -2 * half, 0))
    shapes.quad("threshold", wood, (-depth, -half, 0), (2 * depth, 0, 0), (0, 2 * half, 0))
