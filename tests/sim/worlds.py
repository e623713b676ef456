"""Small worlds made of boxes, for tests of the simulator."""

from __future__ import annotations

import numpy as np
import trimesh

from sim.world.mesh import Mesh, mesh_of

# Habitat's axes (Y up) in the house's (Z up): (x, y, z) -> (x, -z, y).
R_WH = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def from_habitat(point) -> np.ndarray:
    return R_WH @ np.array(point, np.float64)


def box(low, high) -> trimesh.Trimesh:
    low, high = np.array(low, float), np.array(high, float)
    part = trimesh.creation.box(extents=high - low)
    part.apply_translation((low + high) / 2)
    return part


def plain_material(color, *, double_sided: bool = True, **options):
    return trimesh.visual.material.PBRMaterial(baseColorFactor=[*color, 255], doubleSided=double_sided, **options)


def painted(part: trimesh.Trimesh, color, **options) -> trimesh.Trimesh:
    part.visual = trimesh.visual.TextureVisuals(material=plain_material(color, **options))
    return part


def room(width: float = 6.0, depth: float = 4.0, *, ceiling: bool = False, **things: trimesh.Trimesh) -> Mesh:
    """A floor of width x depth from the origin, with walls of 0.1 m around it and things in it."""
    parts = {
        "floor": painted(box([0, 0, -0.1], [width, depth, 0]), (150, 120, 90)),
        "west": painted(box([-0.1, -0.1, 0], [0, depth + 0.1, 2.5]), (200, 60, 60)),
        "east": painted(box([width, -0.1, 0], [width + 0.1, depth + 0.1, 2.5]), (60, 200, 60)),
        "south": painted(box([0, -0.1, 0], [width, 0, 2.5]), (60, 60, 200)),
        "north": painted(box([0, depth, 0], [width, depth + 0.1, 2.5]), (200, 200, 60)),
    }
    if ceiling:
        parts["ceiling"] = painted(box([-0.1, -0.1, 2.5], [width + 0.1, depth + 0.1, 2.6]), (240, 240, 240))
    return mesh_of(parts | things)


def quad(corners, *, uv=((0, 0), (1, 0), (1, 1), (0, 1)), image=None, **options) -> trimesh.Trimesh:
    """Two triangles over four corners, counter-clockwise seen from the front."""
    part = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], process=False)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=image, **options)
    part.visual = trimesh.visual.TextureVisuals(uv=np.array(uv, float), material=material)
    return part


def wall_ahead(distance: float = 2.0, half: float = 2.0) -> list[list[float]]:
    """Corners of a wall facing a camera at the origin that looks along +X: lower left, lower right, upper right, ..."""
    return [[distance, half, -half], [distance, -half, -half], [distance, -half, half], [distance, half, half]]
