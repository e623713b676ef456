"""How small things, lamps, plants, windows and doors look; otherwise as models.py. Places nothing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from sim.flats import looks as colors
from sim.flats.models import Model
from sim.flats.shapes import Shapes


def _tv(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    dark, foot = s.looks.pick("smooth", colors.DARKS, rng), h * 0.1
    s.box("foot", dark, -d / 2, d / 2, -w * 0.22, w * 0.22, 0.0, 0.015)
    s.box("foot", dark, -0.02, 0.02, -w * 0.05, w * 0.05, 0.015, foot)
    _panel(s, dark, d, w, foot, h, rng)


def _wall_tv(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    dark, back = s.looks.pick("smooth", colors.DARKS, rng), -d / 2 + d * 0.4
    s.box("mount", dark, -d / 2, back, -w * 0.15, w * 0.15, h * 0.3, h * 0.7)
    s.box("case", dark, back, d / 2 - 0.006, -w / 2, w / 2, 0.0, h)
    s.box("screen", s.looks.pick("screen", (), rng), d / 2 - 0.006, d / 2, -w / 2 + 0.02, w / 2 - 0.02, 0.025, h - 0.02)


def _panel(s: Shapes, dark: int, d: float, w: float, z0: float, z1: float, rng: np.random.Generator) -> None:
    """A flat screen with a frame around it."""
    s.box("case", dark, -min(0.04, d / 2), 0.0, -w / 2, w / 2, z0, z1)
    s.box("screen", s.looks.pick("screen", (), rng), 0.0, 0.006, -w / 2 + 0.02, w / 2 - 0.02, z0 + 0.025, z1 - 0.02)


def _monitor(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    dark, foot = s.looks.pick("smooth", colors.DARKS + colors.METALS[:2], rng), h * 0.28
    s.box("foot", dark, -d / 2, d / 2, -w * 0.2, w * 0.2, 0.0, 0.015)
    s.box("foot", dark, -0.045, -0.015, -0.03, 0.03, 0.015, h * 0.6)
    _panel(s, dark, min(d, 0.05), w, foot, h, rng)


def _keyboard(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    s.box(
        "case",
        s.looks.pick("smooth", colors.DARKS + colors.ENAMELS[:3], rng),
        -d / 2,
        d / 2,
        -w / 2,
        w / 2,
        0.0,
        h * 0.6,
    )
    keys = s.looks.pick("keys", ((60, 60, 64), (230, 230, 226), (120, 122, 126)), rng)
    s.box("keys", keys, -d / 2 + 0.008, d / 2 - 0.008, -w / 2 + 0.01, w / 2 - 0.01, h * 0.6, h)


def _microwave(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    body, dark = s.looks.pick("brushed", colors.ENAMELS, rng), s.looks.pick("smooth", colors.DARKS, rng)
    x = d / 2 - 0.03
    s.box("body", body, -d / 2, x, -w / 2, w / 2, 0.0, h)
    s.box("door", dark, x, x + 0.01, -w * 0.46, w * 0.2, h * 0.12, h * 0.88)
    s.box("handle", body, x + 0.01, x + 0.03, w * 0.21, w * 0.25, h * 0.15, h * 0.85)
    s.box("panel", dark, x, x + 0.01, w * 0.29, w * 0.46, h * 0.5, h * 0.85)


def _trash_bin(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    kind, tints = ("brushed", colors.METALS) if rng.random() < 0.4 else ("smooth", colors.SOLIDS)
    body, dark = s.looks.pick(kind, tints, rng), s.looks.pick("smooth", colors.DARKS, rng)
    if rng.random() < 0.75:
        s.tube("body", body, -d / 2, d / 2, -w / 2, w / 2, 0.0, h * 0.9, taper=rng.uniform(1.1, 1.35))
        s.tube("lid", dark, -d * 0.47, d * 0.47, -w * 0.47, w * 0.47, h * 0.9, h, taper=0.7)
    else:
        s.box("body", body, -d / 2, d / 2, -w / 2, w / 2, 0.0, h * 0.88)
        s.box("lid", dark, -d / 2 + 0.01, d / 2 - 0.01, -w / 2 + 0.01, w / 2 - 0.01, h * 0.88, h)


def _floor_lamp(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    metal, shade = s.looks.pick("brushed", colors.METALS, rng), s.looks.pick("fabric", colors.PAINTS, rng)
    s.tube("foot", metal, -d * 0.36, d * 0.36, -w * 0.36, w * 0.36, 0.0, 0.03)
    tall = min(h * 0.28, 0.4)
    s.tube("pole", metal, -0.015, 0.015, -0.015, 0.015, 0.03, h - tall)
    s.tube("shade", shade, -d / 2, d / 2, -w / 2, w / 2, h - tall, h, taper=rng.uniform(0.5, 0.95))


def _table_lamp(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    foot, shade = s.looks.pick("smooth", colors.GLAZES + colors.METALS, rng), s.looks.pick("fabric", colors.PAINTS, rng)
    s.tube("foot", foot, -d * 0.3, d * 0.3, -w * 0.3, w * 0.3, 0.0, h * 0.5, taper=rng.uniform(0.25, 0.8))
    s.tube("shade", shade, -d / 2, d / 2, -w / 2, w / 2, h * 0.5, h, taper=rng.uniform(0.5, 0.9))


def _plant(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    pot, leaf = s.looks.pick("smooth", colors.GLAZES, rng), s.looks.pick("leaves", colors.GREENS, rng)
    stem, tall, r = s.looks.pick("wood", colors.WOODS[1:2], rng), h * rng.uniform(0.22, 0.35), d * 0.33
    s.tube("pot", pot, -r, r, -r, r, 0.0, tall, taper=rng.uniform(1.1, 1.4))
    s.tube("stem", stem, -0.02, 0.02, -0.02, 0.02, tall, h * 0.7)
    if rng.random() < 0.5:  # one crown
        middle = tall + (h - tall) * rng.uniform(0.35, 0.5)
        s.tube("leaves", leaf, -d / 2, d / 2, -w / 2, w / 2, tall + 0.02, middle, taper=2.2)
        s.tube("leaves", leaf, -d / 2, d / 2, -w / 2, w / 2, middle, h, taper=0.3)
        return
    heights = np.linspace(tall + 0.02, h, 4)
    for low, high in pairwise(heights):
        r = d / 2 * rng.uniform(0.55, 0.8)
        x, y = rng.uniform(-1, 1, 2) * (d / 2 - r)
        s.tube("leaves", leaf, x - r, x + r, y - r, y + r, low, high, taper=rng.uniform(0.3, 0.6))
    s.tube("leaves", leaf, -d / 2, d / 2, -w / 2, w / 2, heights[1], heights[1] + (h - tall) * 0.2, taper=0.5)


def _pillow(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    cloth = s.looks.pick("checks" if rng.random() < 0.3 else "fabric", colors.CLOTHS + colors.PAINTS[:3], rng)
    s.box("cushion", cloth, -d / 2, d / 2, -w / 2, w / 2, h * 0.22, h * 0.78)
    s.box("cushion", cloth, -d * 0.42, d * 0.42, -w * 0.42, w * 0.42, 0.0, h)


def _heater(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    white = s.looks.pick("smooth", colors.ENAMELS[:3], rng)
    s.box("body", white, -d / 2, d / 2 - d * 0.35, -w / 2, w / 2, 0.0, h)
    for y in np.linspace(-w / 2 + 0.03, w / 2 - 0.03, max(4, int(w / 0.12))):
        s.box("ribs", white, d / 2 - d * 0.35, d / 2, y - 0.02, y + 0.02, h * 0.05, h * 0.95)


def _clock(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    rim = s.looks.pick("smooth", colors.SOLIDS + colors.METALS, rng)
    face = s.looks.pick("clock face", ((245, 243, 236), (225, 215, 190)), rng)
    s.tube("rim", rim, -d / 2, d / 2 - 0.008, -w / 2, w / 2, 0.0, h, axis=0)
    s.tube("face", face, d / 2 - 0.008, d / 2, -w * 0.44, w * 0.44, h * 0.06, h * 0.94, axis=0)


def _framed(s: Shapes, d: float, w: float, h: float, inside: int, frame: int, part: str, border: float) -> None:
    """A frame of four bars around a thin plate."""
    for y in (-w / 2, w / 2 - border):
        s.box("frame", frame, -d / 2, d / 2, y, y + border, 0.0, h)
    for z in (0.0, h - border):
        s.box("frame", frame, -d / 2, d / 2, -w / 2 + border, w / 2 - border, z, z + border)
    s.box(part, inside, -d / 2, d / 2 - d * 0.4, -w / 2 + border, w / 2 - border, border, h - border)


def _mirror(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    glass = s.looks.pick("brushed", ((188, 204, 214), (176, 190, 204)), rng)
    _framed(s, d, w, h, glass, s.looks.pick("wood", colors.WOODS + colors.METALS, rng), "glass", min(0.04, w * 0.1))


def _picture(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    frame = s.looks.pick("wood", colors.WOODS + colors.DARKS + colors.METALS[3:4], rng)
    _framed(s, d, w, h, s.looks.pick("picture", (), rng), frame, "canvas", min(0.035, w * 0.1, h * 0.1))


def _ceiling_light(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    metal, shade = s.looks.pick("brushed", colors.METALS, rng), s.looks.pick("smooth", ((252, 248, 232),), rng)
    if h > 0.22:  # hangs
        s.tube("pole", metal, -0.015, 0.015, -0.015, 0.015, h * 0.45, h)
        s.tube("shade", shade, -d / 2, d / 2, -w / 2, w / 2, 0.0, h * 0.45, taper=rng.uniform(0.3, 0.9))
    elif rng.random() < 0.6:
        s.tube("shade", shade, -d / 2, d / 2, -w / 2, w / 2, 0.0, h, taper=1.25)
    else:
        s.box("shade", shade, -d / 2, d / 2, -w / 2, w / 2, 0.0, h)


def _window(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    frame = s.looks.pick("smooth", colors.ENAMELS[:2] + colors.WOODS[:2] + colors.DARKS[:1], rng)
    _framed(s, d, w, h, s.looks.pick("outdoors", (), rng), frame, "glass", 0.06)
    for y in np.linspace(-w / 2, w / 2, 1 + max(1, round(w / 0.8)))[1:-1]:
        s.box("frame", frame, -d / 2, d / 2 - 0.01, y - 0.025, y + 0.025, 0.06, h - 0.06)


def _door(s: Shapes, d: float, w: float, h: float, rng: np.random.Generator) -> None:
    wood, metal = s.looks.board(rng, 0.4), s.looks.pick("brushed", colors.METALS, rng)
    x = -d / 2 + 0.045
    s.box("leaf", wood, -d / 2, x, -w / 2, w / 2, 0.0, h)
    for z0, z1 in ((h * 0.08, h * 0.44), (h * 0.52, h * 0.93)):
        s.box("panels", wood, x, x + 0.008, -w * 0.34, w * 0.34, z0, z1)
    side = w * 0.42 * (1 if rng.random() < 0.5 else -1)
    s.box("handle", metal, x, d / 2, side - 0.012, side + 0.012, 1.0, 1.03)
    inner = -0.12 if side > 0 else 0.12
    s.box("handle", metal, d / 2 - 0.015, d / 2, min(side, side + inner), max(side, side + inner), 1.0, 1.03)


SMALL_MODELS: dict[str, Model] = {
    "tv": _tv,
    "wall tv": _wall_tv,
    "monitor": _monitor,
    "keyboard": _keyboard,
    "microwave": _microwave,
    "trash bin": _trash_bin,
    "floor lamp": _floor_lamp,
    "table lamp": _table_lamp,
    "plant": _plant,
    "pot plant": _plant,
    "pillow": _pillow,
    "heater": _heater,
    "clock": _clock,
    "mirror": _mirror,
    "picture": _picture,
    "ceiling light": _ceiling_light,
    "window": _window,
    "door": _door,
}
