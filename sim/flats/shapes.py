"""Collects boxes and tubes of many things and turns them into one mesh at once. Knows no furniture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.flats.looks import Looks
from sim.world.mesh import Mesh

_SIDES = 12
# Faces of a unit cube, counter-clockwise from outside: its corners, and which axes run along u and v.
_CUBE = np.array(
    [
        [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]],  # front, +x
        [[0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1]],  # back
        [[1, 1, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1]],  # left, +y
        [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]],  # right
        [[1, 0, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1]],  # top
        [[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]],  # bottom
    ],
    np.float64,
)
_CUBE_UV_AXES = np.array([[1, 2], [1, 2], [0, 2], [0, 2], [1, 0], [1, 0]])
_CUBE_UV = np.take_along_axis(_CUBE, np.repeat(_CUBE_UV_AXES[:, None, :], 4, axis=1), axis=2)
_CUBE_UV[4:, :, 1] = 1 - _CUBE_UV[4:, :, 1]  # seen from the front, up on a table's top is away
# Which axis of an upright tube becomes x, y and z of a tube along x, y and z.
_TURNS = np.array([[2, 0, 1], [1, 2, 0], [0, 1, 2]])
_QUAD = np.array([[0, 1, 2], [0, 2, 3]])


def _tube_template() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of a tube in a unit cube: corners [V, 3], whether each is at the top [V], (u, v) [V, 2], triangles [T, 3]."""
    angle = np.arange(_SIDES + 1) * 2 * np.pi / _SIDES
    ring = np.column_stack([np.cos(angle), np.sin(angle)]) / 2 + 0.5
    share = np.arange(_SIDES + 1) / _SIDES
    low, high = np.column_stack([ring, np.zeros(_SIDES + 1)]), np.column_stack([ring, np.ones(_SIDES + 1)])
    corners = np.concatenate([low, high, low[:-1], high[:-1]])
    uv = np.concatenate(
        [np.column_stack([share, 0 * share]), np.column_stack([share, 0 * share + 1]), ring[:-1], ring[:-1]]
    )
    step = np.arange(_SIDES)
    up = _SIDES + 1
    sides = np.concatenate(
        [np.column_stack([step, step + 1, step + 1 + up]), np.column_stack([step, step + 1 + up, step + up])]
    )
    fan = np.column_stack([np.zeros(_SIDES - 2, int), np.arange(1, _SIDES - 1), np.arange(2, _SIDES)])
    bottom, top = 2 * up, 2 * up + _SIDES
    return corners, corners[:, 2] > 0.5, uv, np.concatenate([sides, bottom + fan[:, ::-1], top + fan])


_TUBE, _TUBE_TOP, _TUBE_UV, _TUBE_FACES = _tube_template()


@dataclass(frozen=True, eq=False)
class Solids:
    """The finished mesh.

    Args:
        mesh: all triangles, thing by thing.
        thing_of_face: int32 [T], which thing a triangle belongs to.
        low_m: float64 [N, 3], lowest corner of every thing in its own axes; high_m [N, 3] the highest.
    """

    mesh: Mesh
    thing_of_face: np.ndarray
    low_m: np.ndarray
    high_m: np.ndarray


class Shapes:
    """Boxes and tubes of things, each given in its thing's own axes.

    Args:
        looks: the materials.
    """

    def __init__(self, looks: Looks):
        self.looks = looks
        self.frames: list[tuple[float, float, float, float]] = []
        self.parts: list[str] = []
        self._names: list[str] = []
        self._part_index: dict[tuple[int, str, int], int] = {}
        self._looks_of_part: dict[tuple[int, str], int] = {}
        self._boxes: list[tuple] = []
        self._tubes: list[tuple] = []
        self._quads: list[tuple] = []

    def start(self, name: str, x: float, y: float, z: float, yaw_rad: float) -> int:
        """Begins a thing that stands somewhere; what follows belongs to it."""
        self.frames.append((x, y, z, yaw_rad))
        self._names.append(name)
        return len(self.frames) - 1

    def box(self, part: str, material: int, x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> None:
        """A box between two corners."""
        self._boxes.append((len(self.frames) - 1, self._part(part, material), material, x0, x1, y0, y1, z0, z1))

    def tube(
        self,
        part: str,
        material: int,
        x0: float,
        x1: float,
        y0: float,
        y1: float,
        z0: float,
        z1: float,
        *,
        taper: float = 1.0,
        axis: int = 2,
    ) -> None:
        """A tube that fills a box; its top's width is `taper` times its bottom's. It stands along an axis, 2 is up.

        A taper above 1 makes the bottom narrow instead.
        """
        self._tubes.append(
            (len(self.frames) - 1, self._part(part, material), material, x0, x1, y0, y1, z0, z1, taper, axis)
        )

    def quad(self, part: str, material: int, origin: tuple, right: tuple, up: tuple, uv_m: tuple = (0.0, 0.0)) -> None:
        """A flat rectangle seen from the side where `right` leads right and `up` up.

        Args:
            part: name.
            material: index.
            origin: [3] lower left corner; right, up [3]: edges from there.
            uv_m: where on the texture the corner lies, metres.
        """
        self._quads.append((len(self.frames) - 1, self._part(part, material), material, *origin, *right, *up, *uv_m))

    def _part(self, name: str, material: int) -> int:
        """Index of a part; a file's part has one material, so another material makes it another part."""
        thing = len(self.frames) - 1
        key = (thing, name, material)
        if key not in self._part_index:
            looks = self._looks_of_part[thing, name] = self._looks_of_part.get((thing, name), 0) + 1
            self._part_index[key] = len(self.parts)
            self.parts.append(f"{self._names[-1]}/{name}" + (f"_{looks}" if looks > 1 else ""))
        return self._part_index[key]

    def solids(self) -> Solids:
        """Everything collected so far as one mesh."""
        blocks = [
            make(rows)
            for make, rows in (
                (self._box_block, self._boxes),
                (self._tube_block, self._tubes),
                (self._quad_block, self._quads),
            )
            if rows
        ]
        points, uv, faces, owner = self._joined(blocks)
        vertex_thing = np.empty(len(points), np.int64)
        thing, part, material = owner.T
        vertex_thing[faces] = thing[:, None]
        low, high = np.full((len(self.frames), 3), np.inf), np.full((len(self.frames), 3), -np.inf)
        order = np.argsort(vertex_thing, kind="stable")
        starts = np.searchsorted(vertex_thing[order], np.arange(len(self.frames)))
        low, high = np.minimum.reduceat(points[order], starts), np.maximum.reduceat(points[order], starts)
        frames = np.array(self.frames)[vertex_thing]
        c, s = np.cos(frames[:, 3]), np.sin(frames[:, 3])
        world = np.empty_like(points)
        world[:, 0] = c * points[:, 0] - s * points[:, 1] + frames[:, 0]
        world[:, 1] = s * points[:, 0] + c * points[:, 1] + frames[:, 1]
        world[:, 2] = points[:, 2] + frames[:, 2]
        by_part = np.argsort(part, kind="stable")
        mesh = Mesh(
            world,
            faces[by_part].astype(np.int32),
            uv.astype(np.float32),
            np.full((len(points), 4), 255, np.uint8),
            tuple(self.parts),
            part[by_part].astype(np.int32),
            tuple(self.looks.materials),
            material[by_part].astype(np.int32),
        )
        return Solids(mesh, thing[by_part].astype(np.int32), low, high)

    @staticmethod
    def _joined(blocks: list[tuple]) -> tuple[np.ndarray, ...]:
        """Blocks of (points [N, V, 3], uv [N, V, 2], triangles [T, 3], owner [N, 3]) one after the other."""
        points, uvs, faces, owners, start = [], [], [], [], 0
        for corners, uv, triangles, owner in blocks:
            count, size = corners.shape[:2]
            points.append(corners.reshape(-1, 3))
            uvs.append(uv.reshape(-1, 2))
            faces.append((start + np.arange(count)[:, None, None] * size + triangles).reshape(-1, 3))
            owners.append(np.repeat(owner, len(triangles), axis=0))
            start += count * size
        return tuple(np.concatenate(block) for block in (points, uvs, faces, owners))

    def _tiles(self, material: np.ndarray) -> np.ndarray:
        return np.array(self.looks.tile_m)[material]

    def _box_block(self, rows: list[tuple]) -> tuple:
        table = np.array(rows)
        owner, bounds = table[:, :3].astype(np.int64), table[:, 3:].reshape(-1, 3, 2)
        low, size = bounds[..., 0], bounds[..., 1] - bounds[..., 0]
        points = low[:, None, :] + _CUBE.reshape(24, 3) * size[:, None, :]
        tile = self._tiles(owner[:, 2])
        # repeated textures: metres along the face, the grain along its longer side
        lengths = size[:, _CUBE_UV_AXES]  # [N, 6, 2]
        metres = _CUBE_UV * lengths[:, :, None, :]
        upright = lengths[..., 1] > lengths[..., 0]
        metres = np.where(upright[:, :, None, None], metres[..., ::-1], metres)
        shift = np.modf(owner[:, 0] * 0.381966 + owner[:, 1] * 0.137)[0]
        metres += shift[:, None, None, None]
        repeated = (tile[:, 0] > 0)[:, None, None, None]
        uv = np.where(repeated, metres / np.where(tile > 0, tile, 1.0)[:, None, None, :], _CUBE_UV)
        return points, uv.reshape(len(rows), 24, 2), (np.arange(6)[:, None, None] * 4 + _QUAD).reshape(-1, 3), owner

    def _tube_block(self, rows: list[tuple]) -> tuple:
        table = np.array(rows)
        owner, bounds = table[:, :3].astype(np.int64), table[:, 3:9].reshape(-1, 3, 2)
        taper, axis = table[:, 9], table[:, 10].astype(np.int64)
        low, size = bounds[..., 0], bounds[..., 1] - bounds[..., 0]
        top, bottom = np.minimum(taper, 1.0), np.minimum(1 / np.maximum(taper, 1e-9), 1.0)
        scale = np.where(_TUBE_TOP, top[:, None], bottom[:, None])
        unit = np.repeat(_TUBE[None], len(rows), axis=0)
        unit[..., :2] = (unit[..., :2] - 0.5) * scale[..., None] + 0.5
        turned = np.take_along_axis(unit, _TURNS[axis][:, None, :], axis=2)
        points = low[:, None, :] + turned * size[:, None, :]
        tile = self._tiles(owner[:, 2])
        around = np.pi * np.sort(size, axis=1)[:, 1]
        length = np.take_along_axis(size, axis[:, None], axis=1)[:, 0]
        metres = _TUBE_UV * np.stack([around, length], axis=1)[:, None, :]
        uv = np.where((tile[:, :1] > 0)[..., None], metres / np.where(tile > 0, tile, 1.0)[:, None, :], _TUBE_UV)
        return points, uv, _TUBE_FACES, owner

    def _quad_block(self, rows: list[tuple]) -> tuple:
        table = np.array(rows)
        owner, origin, right, up, start = np.split(table, [3, 6, 9, 12], axis=1)
        owner = owner.astype(np.int64)
        unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
        points = origin[:, None] + unit[None, :, :1] * right[:, None] + unit[None, :, 1:] * up[:, None]
        tile = self._tiles(owner[:, 2])
        lengths = np.stack([np.linalg.norm(right, axis=1), np.linalg.norm(up, axis=1)], axis=1)
        metres = unit * lengths[:, None] + start[:, None]
        uv = np.where((tile[:, :1] > 0)[..., None], metres / np.where(tile > 0, tile, 1.0)[:, None, :], unit)
        return points, uv, _QUAD, owner
