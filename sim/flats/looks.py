"""Colours and materials of one flat. Draws no shapes."""

from __future__ import annotations

import numpy as np

from sim.flats.textures import VARIANTS, texture
from sim.world.mesh import Material

WOODS = ((170, 120, 78), (120, 76, 46), (214, 176, 128), (88, 56, 38), (196, 150, 104), (232, 222, 204), (150, 98, 70))
CLOTHS = (
    (96, 110, 130),
    (168, 72, 62),
    (72, 108, 86),
    (190, 170, 138),
    (126, 104, 88),
    (60, 72, 104),
    (204, 160, 76),
    (120, 84, 118),
    (150, 152, 150),
    (84, 132, 142),
    (198, 120, 110),
    (222, 214, 200),
)
PAINTS = (
    (236, 230, 218), (222, 208, 182), (196, 210, 200), (190, 204, 220), (226, 198, 186), (214, 206, 222),
    (232, 220, 170), (176, 192, 178), (208, 180, 160), (240, 238, 234), (160, 180, 196), (206, 196, 176),
)  # fmt: skip
ENAMELS = (
    (240, 240, 238),
    (226, 224, 216),
    (200, 204, 206),
    (90, 94, 98),
    (235, 228, 205),
    (170, 60, 56),
    (110, 150, 160),
)
CARPETS = (
    (150, 140, 125),
    (120, 125, 138),
    (168, 150, 138),
    (112, 122, 110),
    (142, 112, 100),
    (96, 102, 118),
    (182, 172, 156),
    (128, 92, 84),
)
METALS = ((190, 192, 196), (150, 152, 156), (70, 72, 76), (190, 170, 120), (40, 40, 44))
DARKS = ((34, 34, 38), (52, 52, 56), (70, 66, 62))
GREENS = ((70, 130, 60), (96, 150, 70), (58, 104, 74), (128, 160, 84))
GLAZES = ((176, 98, 66), (220, 214, 204), (92, 104, 120), (60, 62, 66), (150, 120, 90), (100, 130, 120))
SOLIDS = ((70, 110, 160), (180, 70, 60), (90, 140, 90), (60, 60, 64), (200, 200, 198), (210, 170, 70), (150, 110, 150))
# How wide a texture lies on a surface, metres, and whether it repeats; one that does not is stretched over the front.
_TILE_M = {
    "wood": 1.1, "planks": 2.0, "parquet": 1.6, "tiles": 2.0, "wall tiles": 2.4, "marble": 1.4, "carpet": 1.8,
    "plaster": 3.6, "stripes": 2.6, "motif": 3.0, "brick": 2.2, "panels": 1.6, "fabric": 0.5, "checks": 0.6,
    "leather": 0.9, "brushed": 0.9, "smooth": 1.0, "ceiling": 2.4, "leaves": 0.4,
}  # fmt: skip
# How many variants of a texture one flat uses.
_POOL = {"wood": 3, "fabric": 3, "picture": 10, "books": 3, "outdoors": 3, "screen": 3}


class Looks:
    """The materials in use; the same look twice is one material.

    Args:
        rng: source of chance.
    """

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.materials: list[Material] = []
        self.tile_m: list[tuple[float, float]] = []
        self._known: dict[tuple, int] = {}
        self._pools: dict[str, list[int]] = {}

    def material(self, kind: str, color: tuple[int, int, int] = (255, 255, 255), variant: int = 0) -> int:
        """Index of a material.

        Args:
            kind: of texture, a key of textures.KINDS.
            color: RGB that tints it.
            variant: of the texture.
        """
        key = (kind, tuple(color), variant)
        if key not in self._known:
            image = texture(kind, variant)
            factor = tuple(int(value) / 255 for value in color)
            self._known[key] = len(self.materials)
            self.materials.append(Material((*factor, 1.0), image))
            wide = _TILE_M.get(kind, 0.0)
            self.tile_m.append((wide, wide * image.shape[0] / image.shape[1]))
        return self._known[key]

    def board(self, rng: np.random.Generator, painted: float = 0.3) -> int:
        """What furniture is made of: wood, or painted that often."""
        if rng.random() < painted:
            return self.pick("smooth", ENAMELS[:5] + PAINTS[:4], rng)
        return self.pick("wood", WOODS, rng)

    def pick(self, kind: str, colors: tuple = (), rng: np.random.Generator | None = None) -> int:
        """A material of some kind, its colour a little off one of some; one flat uses few variants of a texture."""
        rng = rng or self.rng
        if kind not in self._pools:
            self._pools[kind] = self.rng.integers(VARIANTS, size=_POOL.get(kind, 2)).tolist()
        pool = self._pools[kind]
        variant = pool[int(rng.integers(len(pool)))]
        if not colors:
            return self.material(kind, variant=variant)
        color = np.array(colors[int(rng.integers(len(colors)))]) * rng.uniform(0.88, 1.08) + rng.uniform(-7, 7, 3)
        return self.material(kind, tuple(int(value) for value in np.clip(color, 12, 252)), variant)
