"""How large things look: each is a handful of boxes and tubes that fill its size. Places nothing.

Every function draws one kind into its own axes (x to its front, y to its left, z up, origin under its middle) from its
depth, width and height in metres and a source of chance for style.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from sim.flats import looks as colors
from sim.flats.shapes import Shapes

Model = Callable[[Shapes, float, float, float, np.random.Generator], None]


def _legs(s: Shapes, material: int, d: float, w: float, top: float, thick: float, inset: float = 0.0) -> None:
    """Four legs up to a height."""
    x, y = d / 2 - inset, w / 2 - inset
    for sx in (-1, 1):
        for sy in (-1, 1):
            x0, y0 = (x - thick) * sx, (y - thick) * sy
            s.box("legs", material, min(x0, x * sx), max(x0, x * sx), min(y0, y * sy), max(y0, y * sy), 0.0, top)


def _slab(s: Shapes, part: str, material: int, d: float, w: float, z0: float, z1: float, front: float = 0.0) -> None:
    """A box over the whole footprint, its front moved out by some."""
    s.box(part, material, -d / 2, d / 2 + front, -w / 2, w / 2, z0, z1)


def _chair(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    seat_z, looks = h * rng.uniform(0.49, 0.54), s.looks
    frame = looks.pick("wood", colors.WOODS, rng) if rng.random() < 0.6 else looks.pick("brushed", colors.METALS, rng)
    seat = looks.pick("fabric", colors.CLOTHS, rng) if rng.random() < 0.6 else frame
    thick = 0.05 * rng.uniform(0.7, 1.1)
    if rng.random() < 0.25:  # on one foot
        s.tube("legs", frame, -0.035, 0.035, -0.035, 0.035, 0.03, seat_z)
        s.tube("legs", frame, -d * 0.45, d * 0.45, -w * 0.45, w * 0.45, 0.0, 0.04, taper=0.4)
    else:
        _legs(s, frame, d, w, seat_z, 0.045, 0.01)
    _slab(s, "seat", seat, d, w, seat_z, seat_z + thick)
    back = -d / 2 + 0.045
    if rng.random() < 0.5:
        s.box("back", seat, -d / 2, back, -w / 2, w / 2, seat_z + thick + 0.06, h)
        for y in (-w * 0.32, w * 0.32):
            s.box("back", frame, -d / 2, back - 0.01, y - 0.02, y + 0.02, seat_z + thick, seat_z + thick + 0.06)
    else:
        for y in np.linspace(-w / 2 + 0.02, w / 2 - 0.02, int(rng.integers(3, 6))):
            s.box("back", frame, -d / 2, back - 0.01, y - 0.02, y + 0.02, seat_z + thick, h - 0.06)
        s.box("back", frame, -d / 2, back, -w / 2, w / 2, h - 0.08, h)
    if rng.random() < 0.25:
        for y in (-w / 2, w / 2 - 0.045):
            s.box("arms", frame, -d / 2, d / 2 - 0.05, y, y + 0.045, seat_z + 0.18, seat_z + 0.22)
            s.box("arms", frame, d / 2 - 0.1, d / 2 - 0.05, y, y + 0.045, seat_z + thick, seat_z + 0.18)


def _stool(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    frame, top = s.looks.pick("wood", colors.WOODS, rng), s.looks.pick("leather", colors.CLOTHS, rng)
    if rng.random() < 0.5:
        _legs(s, frame, d * 0.8, w * 0.8, h - 0.05, 0.04)
    else:
        s.tube("legs", frame, -0.04, 0.04, -0.04, 0.04, 0.03, h - 0.05)
        s.tube("legs", frame, -d * 0.4, d * 0.4, -w * 0.4, w * 0.4, 0.0, 0.04)
    s.tube("seat", top, -d / 2, d / 2, -w / 2, w / 2, h - 0.07, h)


def _sofa(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    cloth = s.looks.pick(str(rng.choice(["fabric", "leather", "checks"], p=[0.6, 0.25, 0.15])), colors.CLOTHS, rng)
    seat_z, arm, back = h * 0.52, min(0.24, w * 0.1), d * 0.26
    foot = 0.06 if rng.random() < 0.6 else 0.0
    if foot:
        _legs(s, s.looks.pick("wood", colors.WOODS, rng), d, w, foot, 0.06, 0.03)
    s.box("base", cloth, -d / 2, d / 2, -w / 2, w / 2, foot, seat_z - 0.14)
    count = 1 if w < 1.3 else 2 if w < 2.2 else 3
    edges = np.linspace(-w / 2 + arm, w / 2 - arm, count + 1)
    for left, right in pairwise(edges):
        s.box("cushions", cloth, -d / 2 + back, d / 2 - 0.01, left + 0.008, right - 0.008, seat_z - 0.14, seat_z)
        s.box("cushions", cloth, -d / 2 + 0.1, -d / 2 + back - 0.01, left + 0.008, right - 0.008, seat_z, h - 0.02)
    s.box("back", cloth, -d / 2, -d / 2 + 0.1, -w / 2, w / 2, seat_z - 0.14, h)
    for y in (-w / 2, w / 2 - arm):
        s.box("arms", cloth, -d / 2 + 0.1, d / 2, y, y + arm, seat_z - 0.14, seat_z + h * rng.uniform(0.14, 0.24))


def _table(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    wood = s.looks.pick("wood", colors.WOODS, rng)
    top = wood if rng.random() < 0.7 else s.looks.pick("marble", colors.ENAMELS[:3], rng)
    thick = rng.uniform(0.025, 0.05)
    style, oval = rng.random(), False
    if style < 0.65:
        _legs(s, wood, d, w, h - thick, rng.uniform(0.045, 0.08), rng.uniform(0.0, 0.05))
    elif style < 0.85:
        for y in (-w * 0.36, w * 0.36):
            s.box("legs", wood, -d * 0.36, d * 0.36, y - 0.025, y + 0.025, 0.0, h - thick)
    else:
        s.tube("legs", wood, -0.06, 0.06, -0.06, 0.06, 0.03, h - thick)
        s.tube("legs", wood, -d * 0.33, d * 0.33, -w * 0.3, w * 0.3, 0.0, 0.05)
        oval = rng.random() < 0.7
    if oval:
        s.tube("top", top, -d / 2, d / 2, -w / 2, w / 2, h - thick, h)
    else:
        _slab(s, "top", top, d, w, h - thick, h)
    if rng.random() < 0.3:
        s.box("shelf", wood, -d * 0.34, d * 0.34, -w * 0.34, w * 0.34, h * 0.3, h * 0.3 + 0.02)


def _desk(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    wood = s.looks.pick("wood", colors.WOODS, rng)
    leg = s.looks.pick("brushed", colors.METALS, rng) if rng.random() < 0.5 else wood
    _slab(s, "top", wood, d, w, h - 0.03, h)
    if rng.random() < 0.55:
        side = 1 if rng.random() < 0.5 else -1
        wide, edge = min(0.42, w * 0.33), side * w / 2
        y0, y1 = min(edge, edge - side * wide), max(edge, edge - side * wide)
        s.box("drawers", wood, -d / 2 + 0.02, d / 2 - 0.05, y0, y1, 0.05, h - 0.03)
        _fronts(s, wood, d / 2 - 0.05, y0, y1, 0.08, h - 0.05, 1, 3, rng)
        for x in (-d / 2 + 0.02, d / 2 - 0.07):
            s.box(
                "legs",
                leg,
                x,
                x + 0.05,
                -edge - (0.05 if side < 0 else 0),
                -edge + (0 if side < 0 else 0.05),
                0.0,
                h - 0.03,
            )
    else:
        _legs(s, leg, d, w, h - 0.03, 0.05)
        s.box("back", leg, -d / 2, -d / 2 + 0.02, -w / 2 + 0.05, w / 2 - 0.05, h * 0.55, h - 0.03)


def _fronts(
    s: Shapes, material: int, x: float, y0: float, y1: float, z0: float, z1: float, columns: int, rows: int, rng
) -> None:
    """Doors or drawers on a front at x, each with a handle; they stand out 1.5 cm, handles 3.5 cm."""
    handle = s.looks.pick("smooth", colors.METALS, rng)
    step_y, step_z = (y1 - y0) / columns, (z1 - z0) / rows
    for i in range(columns):
        for j in range(rows):
            a, b = y0 + i * step_y + 0.006, y0 + (i + 1) * step_y - 0.006
            low, high = z0 + j * step_z + 0.006, z0 + (j + 1) * step_z - 0.006
            s.box("fronts", material, x, x + 0.015, a, b, low, high)
            if b - a > high - low:
                middle = (a + b) / 2
                s.box("handles", handle, x + 0.015, x + 0.035, middle - 0.05, middle + 0.05, high - 0.06, high - 0.04)
            else:
                edge = b - 0.05 if i % 2 == 0 else a + 0.03
                middle = (low + high) / 2
                s.box("handles", handle, x + 0.015, x + 0.035, edge, edge + 0.02, middle - 0.06, middle + 0.06)


def _bed(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    wood = s.looks.pick("wood", colors.WOODS, rng)
    sheet, cover = (
        s.looks.pick("fabric", colors.PAINTS, rng),
        s.looks.pick("checks" if rng.random() < 0.4 else "fabric", colors.CLOTHS, rng),
    )
    top, frame = h * 0.55, h * 0.32
    _legs(s, wood, d, w, 0.1, 0.08, 0.01)
    _slab(s, "frame", wood, d, w, 0.08, frame)
    s.box("head", wood, -d / 2, -d / 2 + 0.05, -w / 2, w / 2, frame, h)
    s.box("mattress", sheet, -d / 2 + 0.05, d / 2 - 0.02, -w / 2 + 0.02, w / 2 - 0.02, frame, top - 0.015)
    s.box("cover", cover, -d * 0.12, d / 2 - 0.005, -w / 2 + 0.005, w / 2 - 0.005, frame + 0.03, top)
    if rng.random() < 0.3:
        s.box("foot", wood, d / 2 - 0.004, d / 2, -w / 2, w / 2, frame, top + 0.02)


def _storage(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    """A cabinet, closet or nightstand: a body with doors or drawers in front."""
    _body(s, d, w, h, rng, min(0.1, h * 0.12) if rng.random() < 0.6 else 0.0)


def _wall_cabinet(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    _body(s, d, w, h, rng, 0.0)


def _body(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator, foot: float) -> None:
    body = s.looks.board(rng)
    front = body if rng.random() < 0.6 else s.looks.board(rng)
    x = d / 2 - 0.035
    if foot:
        _legs(s, body, d - 0.05, w, foot, 0.05, 0.02)
    s.box("body", body, -d / 2, x, -w / 2, w / 2, foot, h)
    columns = max(1, round(w / rng.uniform(0.42, 0.6)))
    rows = 1 if h > 1.3 else max(1, round((h - foot) / rng.uniform(0.2, 0.5)))
    _fronts(s, front, x, -w / 2 + 0.01, w / 2 - 0.01, foot + 0.02, h - 0.02, columns, rows, rng)


def _bookshelf(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    wood, books = s.looks.board(rng), s.looks.pick("books", (), rng)
    side, rows = 0.025, max(2, round(h / rng.uniform(0.3, 0.42)))
    for y in (-w / 2, w / 2 - side):
        s.box("sides", wood, -d / 2, d / 2, y, y + side, 0.0, h)
    s.box("back", wood, -d / 2, -d / 2 + 0.01, -w / 2 + side, w / 2 - side, 0.0, h)
    for z in np.linspace(0.05, h - side, rows + 1):
        s.box("boards", wood, -d / 2 + 0.01, d / 2, -w / 2 + side, w / 2 - side, z, z + side)
    step = (h - side - 0.05) / rows
    for row in range(rows):
        if rng.random() < 0.85:
            z, inner = 0.05 + side + row * step, w - 2 * side
            left = -inner / 2 + inner * rng.uniform(0, 0.3)
            right = inner / 2 - inner * rng.uniform(0, 0.35)
            s.box(
                "books", books, -d / 2 + 0.01, d / 2 - 0.04, left, right, z, z + (step - side) * rng.uniform(0.6, 0.92)
            )


def _counter(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    body = s.looks.board(rng, 0.5)
    top = s.looks.pick("marble", colors.METALS[:3] + colors.ENAMELS[:4], rng)
    x = d / 2 - 0.035
    s.box("plinth", body, -d / 2, x - 0.04, -w / 2, w / 2, 0.0, 0.1)
    s.box("body", body, -d / 2, x, -w / 2, w / 2, 0.1, h - 0.04)
    _fronts(s, body, x, -w / 2, w / 2, 0.11, h - 0.05, max(1, round(w / 0.5)), 1 if rng.random() < 0.6 else 3, rng)
    _slab(s, "top", top, d, w, h - 0.04, h)


def _stove(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    body, dark = s.looks.pick("smooth", colors.ENAMELS, rng), s.looks.pick("smooth", colors.DARKS, rng)
    metal, x = s.looks.pick("brushed", colors.METALS, rng), d / 2 - 0.05
    s.box("body", body, -d / 2, x, -w / 2, w / 2, 0.0, h - 0.03)
    s.box("top", s.looks.pick("hob", (), rng), -d / 2, x, -w / 2, w / 2, h - 0.03, h)
    s.box("oven", dark, x, x + 0.02, -w * 0.42, w * 0.42, h * 0.2, h * 0.7)
    s.box("handle", metal, x + 0.02, x + 0.05, -w * 0.4, w * 0.4, h * 0.72, h * 0.72 + 0.025)
    for y in np.linspace(-w * 0.35, w * 0.35, 5):
        s.box("knobs", metal, x, x + 0.03, y - 0.02, y + 0.02, h * 0.85, h * 0.85 + 0.04)


def _refrigerator(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    kind = "brushed" if rng.random() < 0.5 else "smooth"
    body, metal = s.looks.pick(kind, colors.ENAMELS, rng), s.looks.pick("brushed", colors.METALS, rng)
    x, split = d / 2 - 0.07, h * (rng.uniform(0.55, 0.72) if rng.random() < 0.6 else rng.uniform(0.3, 0.4))
    s.box("body", body, -d / 2, x, -w / 2, w / 2, 0.0, h)
    side = w / 2 - 0.06 if rng.random() < 0.5 else -w / 2 + 0.03
    for z0, z1 in ((0.04, split - 0.008), (split + 0.008, h)):
        s.box("doors", body, x + 0.008, x + 0.04, -w / 2, w / 2, z0, z1)
        middle = z1 - 0.3 * (z1 - z0) if z0 < 0.1 else z0 + 0.35 * (z1 - z0)
        s.box("handles", metal, x + 0.04, x + 0.07, side, side + 0.03, middle - 0.12, middle + 0.12)


def _washer(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    body, dark = s.looks.pick("smooth", colors.ENAMELS[:4], rng), s.looks.pick("smooth", colors.DARKS, rng)
    x, r, z = d / 2 - 0.06, w * rng.uniform(0.27, 0.33), h * 0.45
    s.box("body", body, -d / 2, x, -w / 2, w / 2, 0.0, h)
    s.tube("rim", s.looks.pick("brushed", colors.METALS, rng), x, x + 0.04, -r, r, z - r, z + r, axis=0)
    s.tube("door", dark, x + 0.04, x + 0.06, -r * 0.78, r * 0.78, z - r * 0.78, z + r * 0.78, axis=0)
    s.box("panel", dark, x, x + 0.015, -w * 0.05, w * 0.42, h * 0.87, h * 0.95)
    s.tube("knob", dark, x, x + 0.03, -w * 0.36, -w * 0.24, h * 0.86, h * 0.86 + w * 0.12, axis=0)


def _toilet(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    white = s.looks.pick("smooth", colors.ENAMELS[:2], rng)
    lid = white if rng.random() < 0.85 else s.looks.pick("smooth", colors.SOLIDS, rng)
    rim, tank = h * 0.54, d * 0.28
    s.box("tank", white, -d / 2, -d / 2 + tank, -w / 2, w / 2, rim - 0.05, h)
    s.tube("foot", white, -d * 0.22, d * 0.25, -w * 0.3, w * 0.3, 0.0, rim - 0.1, taper=1.0)
    s.tube("bowl", white, -d / 2 + tank * 0.6, d / 2, -w / 2, w / 2, rim * 0.55, rim, taper=1.45)
    s.tube("lid", lid, -d / 2 + tank, d / 2, -w / 2, w / 2, rim, rim + 0.03)


def _bathtub(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    white = s.looks.pick("smooth", colors.ENAMELS[:2], rng)
    apron = white if rng.random() < 0.6 else s.looks.pick("wall tiles", colors.PAINTS, rng)
    rim = 0.07
    for y in (-w / 2, w / 2 - rim):
        s.box("sides", white, -d / 2, d / 2, y, y + rim, 0.0, h)
    s.box("sides", white, -d / 2, -d / 2 + rim, -w / 2 + rim, w / 2 - rim, 0.0, h)
    s.box("apron", apron, d / 2 - rim, d / 2, -w / 2 + rim, w / 2 - rim, 0.0, h - 0.02)
    s.box("sides", white, d / 2 - rim, d / 2, -w / 2 + rim, w / 2 - rim, h - 0.02, h)
    s.box("bottom", white, -d / 2 + rim, d / 2 - rim, -w / 2 + rim, w / 2 - rim, 0.0, 0.14)
    metal, side = s.looks.pick("brushed", colors.METALS[:2], rng), (w / 2 - rim / 2) * (1 if rng.random() < 0.5 else -1)
    inward = -0.12 if side > 0 else 0.12
    s.box("tap", metal, -0.02, 0.02, min(side, side + inward), max(side, side + inward), h - 0.05, h - 0.02)


def _washbasin(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    white, metal = s.looks.pick("smooth", colors.ENAMELS[:2], rng), s.looks.pick("brushed", colors.METALS[:2], rng)
    rim = h - 0.1
    if rng.random() < 0.5:
        s.tube("foot", white, -d * 0.3, d * 0.1, -w * 0.16, w * 0.16, 0.0, rim - 0.15)
    else:
        body = s.looks.board(rng)
        s.box("cabinet", body, -d / 2, d / 2 - 0.05, -w * 0.45, w * 0.45, 0.0, rim - 0.15)
        _fronts(s, body, d / 2 - 0.05, -w * 0.44, w * 0.44, 0.08, rim - 0.17, 2, 1, rng)
    _basin(s, white, -d / 2, d / 2, w, rim - 0.15, rim)
    s.box("tap", metal, -d / 2 + 0.03, -d / 2 + 0.07, -0.02, 0.02, rim, h)
    s.box("tap", metal, -d / 2 + 0.07, -d / 2 + 0.17, -0.015, 0.015, h - 0.03, h)


def _kitchen_sink(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    steel = s.looks.pick("brushed", colors.METALS[:2] + colors.ENAMELS[:1], rng)
    rim = min(0.1, h * 0.45)
    _basin(s, steel, -d / 2, d / 2, w, 0.0, rim)
    s.box("tap", steel, -d / 2 + 0.02, -d / 2 + 0.05, -0.02, 0.02, rim, h)
    s.box("tap", steel, -d / 2 + 0.05, d * 0.05, -0.015, 0.015, h - 0.03, h)


def _basin(s: Shapes, material: int, x0: float, x1: float, w: float, z0: float, z1: float) -> None:
    """An open box with thin walls."""
    t = 0.035
    s.box("basin", material, x0, x1, -w / 2, w / 2, z0, z0 + 0.02)
    for y in (-w / 2, w / 2 - t):
        s.box("basin", material, x0, x1, y, y + t, z0 + 0.02, z1)
    s.box("basin", material, x0, x0 + 2 * t, -w / 2 + t, w / 2 - t, z0 + 0.02, z1)
    s.box("basin", material, x1 - t, x1, -w / 2 + t, w / 2 - t, z0 + 0.02, z1)


MODELS: dict[str, Model] = {
    "chair": _chair,
    "stool": _stool,
    "sofa": _sofa,
    "dining table": _table,
    "coffee table": _table,
    "desk": _desk,
    "bed": _bed,
    "nightstand": _storage,
    "closet": _storage,
    "cabinet": _storage,
    "tv cabinet": _storage,
    "wall cabinet": _wall_cabinet,
    "bookshelf": _bookshelf,
    "counter": _counter,
    "stove": _stove,
    "refrigerator": _refrigerator,
    "washer": _washer,
    "toilet": _toilet,
    "bathtub": _bathtub,
    "washbasin": _washbasin,
    "kitchen sink": _kitchen_sink,
}
