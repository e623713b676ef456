"""Distances between boxes the way the published benchmark labels them: over a 5 cm grid of points. Not exact.

The published labels carry this form's bias (some centimetres too far), so data meant to be like them must carry it too.

Source: the published generator samples with Open3D; its crop throws away the grid points that rounding puts outside.
Differs: no Open3D; the same float operations in the same order give the same points. That holds for BLAS kernels with
fused multiply-add, which every x86 processor of the last decade has.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.distances import point_distance

SPACING_M = 0.05
_FINEST_M = 1e-3
_FEW_PAIRS = 1 << 17


def sample_box(box: OrientedBox, spacing_m: float = SPACING_M) -> np.ndarray:
    """Points [N, 3] of the box's grid, hollow inside, cropped to the box.

    Raises:
        ValueError: a length of the box is 0, or the grid stays empty however fine it is.
    """
    if (box.lengths_m <= 0).any():
        raise ValueError(
            f"a sampled box needs positive lengths, got {box.lengths_m.tolist()}; exact distances take flat boxes too"
        )
    while spacing_m >= _FINEST_M:
        points = _cropped_grid(box, spacing_m)
        if len(points):
            return points
        spacing_m /= 2
    raise ValueError(f"no grid point of the box with lengths {box.lengths_m.tolist()} survives the crop")


def sampled_distance(points_a: np.ndarray, box_a: OrientedBox, points_b: np.ndarray, box_b: OrientedBox) -> float:
    """The smallest distance in metres between two boxes' points.

    Args:
        points_a: [N, 3] sample_box of box_a; points_b [M, 3] of box_b.
        box_a: bounds which points can be the nearest; box_b likewise.
    """
    # A point's distance to the other box is a lower bound of its distance to that box's points: the pair at the best
    # bounds gives a limit, and only the few points whose bound is below it can win.
    bound_a, bound_b = point_distance(points_a, box_b), point_distance(points_b, box_a)
    limit = min(
        _nearest(points_a[bound_a.argmin()], points_b),
        _nearest(points_b[bound_b.argmin()], points_a),
    )
    limit += 1e-9
    near_a, near_b = points_a[bound_a <= limit], points_b[bound_b <= limit]
    if len(near_a) * len(near_b) <= _FEW_PAIRS:
        return _nearest(near_a[:, None], near_b)
    # boxes that overlap: every point inside the other box stays in question
    _, nearest = cKDTree(near_b).query(near_a, distance_upper_bound=limit)
    found = nearest < len(near_b)
    return _nearest(near_a[found], near_b[nearest[found]])


def sampled_point_distances(points_W: np.ndarray, box_points: np.ndarray) -> np.ndarray:
    """Smallest distance [K] in metres from points [K, 3] to a box's points [N, 3]; not 0 inside a box."""
    return np.array([_nearest(point, box_points) for point in np.asarray(points_W, np.float64)])


def _nearest(points: np.ndarray, others: np.ndarray) -> float:
    delta = points - others
    squared = delta[..., 0] ** 2 + delta[..., 1] ** 2 + delta[..., 2] ** 2
    return float(np.sqrt(squared.min()))


def _cropped_grid(box: OrientedBox, spacing_m: float) -> np.ndarray:
    half = box.lengths_m / 2
    axes = [np.linspace(-h, h, int(np.ceil(length / spacing_m))) for h, length in zip(half, box.lengths_m, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[~(np.abs(grid) <= half / 2).all(axis=1)]
    points = np.dot(grid, box.R_WB.T) + box.center_m
    delta, kept = points - box.center_m, np.ones(len(points), bool)
    for axis, reach in zip(box.R_WB.T, half, strict=True):
        # the sum's order decides which points rounding puts outside
        kept &= np.abs(delta[:, 0] * axis[0] + delta[:, 1] * axis[1] + delta[:, 2] * axis[2]) <= reach
    return points[kept]
