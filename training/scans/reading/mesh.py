"""Points of a scan's mesh and boxes around them. Knows no labels and no cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import ConvexHull, QhullError

from vlm3r_core.scene.box import OrientedBox

BOXES = ("minimal", "upright")
# what trimesh raises for files that are not what they say
_BROKEN_PLY = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, MemoryError)
_SHORT_M = 1e-9  # a side that has no direction
_AT_ONCE = 1 << 18  # projections held at a time


def read_vertices(path: Path) -> np.ndarray:
    """Vertices [N, 3] float64 of a PLY file, in the file's order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no readable PLY, no vertex, or one that is not finite.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path.name}")
    try:
        with path.open("rb") as file:
            # nothing may be merged or split: other files number the vertices
            loaded = trimesh.load(file, file_type="ply", process=False, fix_texture=False, skip_materials=True)
        vertices = np.asarray(loaded.vertices, np.float64)
    except _BROKEN_PLY as error:
        raise ValueError(f"{path.name} is no readable PLY mesh ({type(error).__name__}: {error})") from None
    if vertices.ndim != 2 or vertices.shape[1:] != (3,) or not len(vertices):
        raise ValueError(f"{path.name} has no vertices")
    bad = int((~np.isfinite(vertices).all(axis=1)).sum())
    if bad:
        raise ValueError(f"{path.name}: {bad} of {len(vertices)} vertices are not finite")
    return vertices


def box_around(points_W: np.ndarray, kind: str = "minimal") -> OrientedBox:
    """A box around points.

    Args:
        points_W: [N, 3], at least one.
        kind: `minimal`, the smallest box that has a triangle of the points' convex hull in a face and one of its sides
            along an edge, tilted as it comes; `upright`, the smallest with a vertical axis.

    Raises:
        ValueError: there is no point.

    Source: VSI-Bench's ScanNet boxes are Open3D's minimal ones, made in this way. Differs: Open3D tries one side of
        each triangle, here all three are tried, so that a box is never larger than theirs but for rounding. Points in
        one plane or on one line get an upright box.
    """
    points = np.asarray(points_W, np.float64)
    if not len(points):
        raise ValueError("a box needs at least one point, got none")
    return (_minimal_box(points) if kind == "minimal" else None) or _upright_box(points)


def _minimal_box(points: np.ndarray) -> OrientedBox | None:
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):  # in one plane, or too few
        return None
    corners, triangles = points[hull.vertices], points[hull.simplices]
    sides = (np.roll(triangles, -1, axis=1) - triangles).reshape(-1, 3)
    normals = np.repeat(hull.equations[:, :3], 3, axis=0)
    # along the side, within the triangle's plane
    sides -= (sides * normals).sum(axis=1, keepdims=True) * normals
    lengths = np.linalg.norm(sides, axis=1)
    sides, normals = sides[lengths > _SHORT_M] / lengths[lengths > _SHORT_M, None], normals[lengths > _SHORT_M]
    if not len(sides):
        return None
    axes = np.stack([sides, np.cross(normals, sides), normals], axis=1)
    step = max(1, _AT_ONCE // len(corners))
    volumes = np.concatenate([_volumes(corners, axes[start : start + step]) for start in range(0, len(axes), step)])
    R_WB = axes[np.argmin(volumes)].T
    low, high = (corners @ R_WB).min(axis=0), (corners @ R_WB).max(axis=0)
    return OrientedBox(R_WB @ ((low + high) / 2), high - low, R_WB)


def _volumes(corners: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Volumes [K] of the boxes around corners [N, 3] along axes [K, 3, 3], an axis a row."""
    along = corners @ axes.reshape(-1, 3).T
    return np.ptp(along, axis=0).reshape(-1, 3).prod(axis=1)


def _upright_box(points: np.ndarray) -> OrientedBox:
    """The one with the smallest floor area; one of its sides lies along an edge of the hull seen from above."""
    flat = points[:, :2]
    try:
        corners = flat[ConvexHull(flat).vertices]
        edges = np.roll(corners, -1, axis=0) - corners
    except (QhullError, ValueError):  # on one line, or too few
        corners = flat
        spread = flat - flat[0]
        edges = spread[[np.argmax(np.linalg.norm(spread, axis=1))]]
    yaws = np.unique(np.arctan2(edges[:, 1], edges[:, 0]) % (np.pi / 2))
    c, s = np.cos(yaws)[:, None], np.sin(yaws)[:, None]
    along, across = corners @ np.stack([c, s], 1)[..., 0].T, corners @ np.stack([-s, c], 1)[..., 0].T
    areas = np.ptp(along, axis=0) * np.ptp(across, axis=0)
    return OrientedBox.around(points, float(yaws[np.argmin(areas)]))
