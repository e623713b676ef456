"""What stands in a household and how large it may be. Places nothing and draws nothing.

An object's own axes: x is its depth and points to its front, y its width, z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# How much of the spread of a size an object's three lengths share: a large chair is large in all of them.
_SHARED = 0.8
_TRIES = 40


@dataclass(frozen=True)
class Kind:
    """One sort of object.

    Args:
        category: its name in questions; several kinds may share one.
        depth_m: usual, smallest and largest length along its front's direction; width_m, height_m likewise.
        square: width and depth are equal.
    """

    category: str
    depth_m: tuple[float, float, float]
    width_m: tuple[float, float, float]
    height_m: tuple[float, float, float]
    square: bool = False


def _round(category: str, width_m: tuple[float, float, float], height_m: tuple[float, float, float]) -> Kind:
    return Kind(category, width_m, width_m, height_m, square=True)


# Usual sizes are those of furniture shops; the limits are what a person would still call by that name.
KINDS: dict[str, Kind] = {
    "chair": Kind("chair", (0.50, 0.36, 0.78), (0.48, 0.34, 0.75), (0.86, 0.60, 1.30)),
    "stool": _round("stool", (0.38, 0.28, 0.55), (0.55, 0.36, 0.85)),
    "sofa": Kind("sofa", (0.90, 0.70, 1.15), (1.80, 1.15, 2.90), (0.80, 0.60, 1.08)),
    "dining table": Kind("table", (0.82, 0.62, 1.20), (1.30, 0.70, 2.30), (0.75, 0.64, 0.95)),
    "coffee table": Kind("table", (0.58, 0.38, 0.90), (0.95, 0.50, 1.50), (0.42, 0.30, 0.56)),
    "desk": Kind("table", (0.65, 0.50, 0.85), (1.25, 0.85, 1.90), (0.75, 0.64, 0.95)),
    "bed": Kind("bed", (1.95, 1.35, 2.45), (1.35, 0.75, 2.15), (0.85, 0.48, 1.45)),
    "nightstand": Kind("nightstand", (0.42, 0.29, 0.60), (0.47, 0.31, 0.75), (0.55, 0.37, 0.82)),
    "closet": Kind("closet", (0.58, 0.40, 0.80), (1.20, 0.55, 2.80), (1.85, 1.25, 2.45)),
    "bookshelf": Kind("bookshelf", (0.31, 0.20, 0.45), (0.90, 0.45, 1.90), (1.60, 0.75, 2.30)),
    "cabinet": Kind("cabinet", (0.42, 0.30, 0.60), (1.05, 0.50, 2.00), (0.80, 0.45, 1.35)),
    "tv cabinet": Kind("cabinet", (0.42, 0.32, 0.60), (1.35, 0.85, 2.20), (0.48, 0.34, 0.68)),
    "wall cabinet": Kind("cabinet", (0.33, 0.25, 0.42), (0.90, 0.45, 1.80), (0.60, 0.42, 0.80)),
    "tv": Kind("tv", (0.08, 0.04, 0.15), (1.05, 0.55, 1.80), (0.63, 0.34, 1.06)),
    "wall tv": Kind("tv", (0.07, 0.04, 0.12), (1.05, 0.55, 1.80), (0.60, 0.32, 1.02)),
    "monitor": Kind("monitor", (0.19, 0.12, 0.28), (0.55, 0.36, 0.95), (0.45, 0.31, 0.62)),
    "keyboard": Kind("keyboard", (0.15, 0.10, 0.22), (0.42, 0.26, 0.58), (0.035, 0.02, 0.05)),
    "refrigerator": Kind("refrigerator", (0.65, 0.50, 0.82), (0.66, 0.48, 1.00), (1.55, 0.80, 2.05)),
    "stove": Kind("stove", (0.60, 0.46, 0.76), (0.60, 0.44, 1.10), (0.90, 0.68, 1.20)),
    "counter": Kind("counter", (0.60, 0.50, 0.75), (1.15, 0.50, 2.80), (0.90, 0.78, 1.06)),
    "kitchen sink": Kind("sink", (0.42, 0.32, 0.50), (0.55, 0.36, 0.88), (0.28, 0.16, 0.42)),
    "washbasin": Kind("sink", (0.48, 0.34, 0.62), (0.58, 0.38, 1.15), (0.88, 0.74, 1.05)),
    "microwave": Kind("microwave", (0.36, 0.26, 0.50), (0.47, 0.34, 0.70), (0.28, 0.20, 0.42)),
    "washer": Kind("washer", (0.58, 0.42, 0.78), (0.59, 0.42, 0.80), (0.87, 0.65, 1.30)),
    "toilet": Kind("toilet", (0.66, 0.48, 0.86), (0.39, 0.30, 0.54), (0.76, 0.52, 1.10)),
    "bathtub": Kind("bathtub", (0.76, 0.58, 1.10), (1.50, 1.00, 2.10), (0.57, 0.40, 0.75)),
    "trash bin": _round("trash bin", (0.31, 0.19, 0.50), (0.44, 0.24, 0.80)),
    "floor lamp": _round("lamp", (0.38, 0.24, 0.58), (1.50, 1.00, 1.95)),
    "table lamp": _round("lamp", (0.26, 0.15, 0.42), (0.43, 0.24, 0.75)),
    "plant": _round("plant", (0.48, 0.26, 0.90), (0.95, 0.42, 1.90)),
    "pot plant": _round("plant", (0.23, 0.13, 0.38), (0.36, 0.18, 0.62)),
    "pillow": Kind("pillow", (0.40, 0.27, 0.62), (0.54, 0.33, 0.88), (0.14, 0.08, 0.23)),
    "heater": Kind("heater", (0.11, 0.07, 0.18), (0.95, 0.45, 1.80), (0.58, 0.33, 0.90)),
    "clock": Kind("clock", (0.05, 0.03, 0.08), (0.32, 0.17, 0.62), (0.32, 0.17, 0.62)),
    "mirror": Kind("mirror", (0.04, 0.025, 0.07), (0.58, 0.28, 1.20), (0.80, 0.38, 1.50)),
    "picture": Kind("picture", (0.035, 0.02, 0.05), (0.58, 0.24, 1.40), (0.48, 0.22, 1.00)),
    "ceiling light": _round("ceiling light", (0.40, 0.18, 1.00), (0.18, 0.07, 0.50)),
    "window": Kind("window", (0.07, 0.05, 0.10), (1.15, 0.55, 2.40), (1.15, 0.60, 1.60)),
    "door": Kind("door", (0.10, 0.08, 0.12), (0.88, 0.70, 1.15), (2.04, 1.80, 2.35)),
}
CATEGORIES = tuple(dict.fromkeys(kind.category for kind in KINDS.values()))


def draw_size(rng: np.random.Generator, kind: str, sigma: float = 0.3) -> tuple[float, float, float]:
    """A believable size.

    Args:
        rng: source of chance.
        kind: a key of KINDS.
        sigma: spread of the logarithm of every length before the limits cut it.

    Returns:
        (depth, width, height), metres.
    """
    entry = KINDS[kind]
    spans = (entry.depth_m, entry.width_m, entry.height_m)
    own = np.sqrt(1 - _SHARED**2)
    draws = rng.standard_normal((_TRIES, 4))
    factors = np.exp(sigma * (_SHARED * draws[:, :1] + own * draws[:, 1:]))
    if entry.square:
        factors[:, 0] = factors[:, 1]
    sizes = factors * [span[0] for span in spans]
    low, high = np.array([span[1] for span in spans]), np.array([span[2] for span in spans])
    good = ((sizes >= low) & (sizes <= high)).all(axis=1)
    depth, width, height = np.clip(sizes[good.argmax()], low, high).tolist()
    if kind == "clock":
        height = width
    return depth, width, height
