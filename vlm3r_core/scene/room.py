"""Floor area of a scanned room from its points. Knows no objects."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, QhullError

ALPHA = 5.0
_DRAWN = 10_000


def room_area(points_W: np.ndarray, *, alpha: float = ALPHA, drawn: int = _DRAWN, seed: int = 0) -> float:
    """Area in square metres of the alpha shape of the points seen from above, holes filled.

    Args:
        points_W: [N, 3] or [N, 2], the scan.
        alpha: triangles with a circumradius below 1 / alpha metres belong to the room.
        drawn: how many points are drawn with replacement.
        seed: of the draw.

    Raises:
        ValueError: fewer than three points, not finite, or all on one line.

    Source: the published metadata code; Differs: the draw is seeded.
    """
    points = np.asarray(points_W, np.float64)
    if points.ndim != 2 or points.shape[1] not in (2, 3) or len(points) < 3:
        raise ValueError(f"room_area needs at least three points [N, 3], got shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("room_area needs finite points, got NaN or infinity; drop them first")
    draw = np.random.default_rng(seed).integers(0, len(points), drawn)
    flat = np.unique(points[draw, :2], axis=0)
    try:
        mesh = Delaunay(flat - flat.mean(axis=0))
    except (QhullError, ValueError):
        raise ValueError("room_area needs points that are not all on one line") from None
    return _shape_area(mesh, alpha)


def _shape_area(mesh: Delaunay, alpha: float) -> float:
    """Area of everything that cannot be reached from outside without crossing a kept triangle."""
    corners = mesh.points[mesh.simplices]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = sides.prod(axis=1) / (4 * areas) < 1 / alpha
    # removed triangles hang together across shared sides; the last node is the outside, neighbour -1
    count = len(areas)
    here, side = np.nonzero(~kept[:, None] & np.ones(3, bool))
    there = mesh.neighbors[here, side]
    open_ = (there < 0) | ~kept[there]
    rows, columns = here[open_], np.where(there < 0, count, there)[open_]
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(count + 1, count + 1))
    labels = connected_components(graph, directed=False)[1]
    return float(areas[labels[:count] != labels[count]].sum())
