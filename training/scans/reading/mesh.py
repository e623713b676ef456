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
_FLAT_M = 1e-6


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
        kind: `minimal`, the smallest box that has a face of the points' convex hull in one of its faces, tilted as it
            comes; `upright`, the smallest with a vertical axis.

    Raises:
        ValueError: there is no point.

    Source: VSI-Bench's ScanNet boxes are Open3D's minimal ones. Differs: those also try faces of the hull, but one turn
        for each triangle only; trimesh turns the box in each face's plane until its area is smallest. So a box here is
        never meaningfully larger, and may have other axes.
    """
    points = np.asarray(points_W, np.float64)
    if not len(points):
        raise ValueError("a box needs at least one point, got none")
    if kind == "minimal" and np.linalg.matrix_rank(points - points.mean(axis=0), tol=_FLAT_M * len(points) ** 0.5) == 3:
        try:
            to_box, lengths = trimesh.bounds.oriented_bounds(points)
        except (QhullError, ValueError):  # flat but for rounding
            return _upright_box(points)
        R_BW = to_box[:3, :3]
        return OrientedBox(-R_BW.T @ to_box[:3, 3], lengths, R_BW.T)
    return _upright_box(points)


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
