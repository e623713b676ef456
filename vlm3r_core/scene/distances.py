"""Exact distances from boxes and points to boxes, many pairs at once. Samples nothing; the published form does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from vlm3r_core.scene.box import OrientedBox

_SIGNS = np.array(list(product((-1.0, 1.0), repeat=3)))
_EDGE_SIGNS = np.array(list(product((-1.0, 1.0), repeat=2)))
# 1 - cos^2 of the angle below which two edges count as parallel: the vertices are then at most 1e-6 of a length off
_PARALLEL = 1e-12
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Boxes:
    """Many oriented boxes as arrays.

    Args:
        center_m: [N, 3].
        half_m: [N, 3], half the lengths.
        R_WB: [N, 3, 3], axes in columns.
    """

    center_m: np.ndarray
    half_m: np.ndarray
    R_WB: np.ndarray

    @classmethod
    def of(cls, boxes: Sequence[OrientedBox]) -> Boxes:
        """Stacks boxes; none gives empty arrays."""
        return cls(
            np.array([box.center_m for box in boxes]).reshape(-1, 3),
            np.array([box.lengths_m for box in boxes]).reshape(-1, 3) / 2,
            np.array([box.R_WB for box in boxes]).reshape(-1, 3, 3),
        )

    def __len__(self) -> int:
        return len(self.center_m)

    def __getitem__(self, index) -> Boxes:
        return Boxes(self.center_m[index], self.half_m[index], self.R_WB[index])


def point_distance(points_W: np.ndarray, box: OrientedBox) -> np.ndarray:
    """Distance [...] in metres from points [..., 3] to the solid box; 0 inside."""
    offsets_B = (np.asarray(points_W, np.float64) - box.center_m) @ box.R_WB
    return np.linalg.norm(np.maximum(np.abs(offsets_B) - box.lengths_m / 2, 0.0), axis=-1)


def box_distance(a: OrientedBox, b: OrientedBox) -> float:
    """Distance in metres between two solid boxes; 0 where they touch or overlap."""
    return float(box_distances(Boxes.of([a]), Boxes.of([b]))[0])


def box_distances(a: Boxes, b: Boxes) -> np.ndarray:
    """Distances [N] in metres between a[i] and b[i]; 0 where they touch or overlap.

    Two disjoint boxes are nearest at a corner of one and a point of the other, or at the inside of an edge of each;
    every candidate is a distance between two real points, so the smallest is the distance.

    Raises:
        ValueError: not the same number of boxes.
    """
    if len(a) != len(b):
        raise ValueError(f"box_distances needs as many boxes on both sides, got {len(a)} and {len(b)}")
    parts = [slice(start, start + _CHUNK) for start in range(0, len(a), _CHUNK)]
    return np.concatenate([_distances(a[part], b[part]) for part in parts] or [np.zeros(0)])


def _distances(a: Boxes, b: Boxes) -> np.ndarray:
    R = np.einsum("nki,nkj->nij", a.R_WB, b.R_WB)
    gap_W = b.center_m - a.center_m
    t_A = np.einsum("nki,nk->ni", a.R_WB, gap_W)
    t_B = np.einsum("nkj,nk->nj", b.R_WB, gap_W)
    squared = np.minimum(
        _corners_squared(t_A, R, b.half_m, a.half_m),
        _corners_squared(-t_B, R.transpose(0, 2, 1), a.half_m, b.half_m),
    )
    edges_squared, apart = _edges(R, t_A, t_B, a.half_m, b.half_m)
    size = np.abs(R)
    apart |= (np.abs(t_A) > a.half_m + np.einsum("nij,nj->ni", size, b.half_m)).any(axis=1)
    apart |= (np.abs(t_B) > b.half_m + np.einsum("nij,ni->nj", size, a.half_m)).any(axis=1)
    return np.where(apart, np.sqrt(np.minimum(squared, edges_squared)), 0.0)


def _corners_squared(t: np.ndarray, R: np.ndarray, half_m: np.ndarray, other_half_m: np.ndarray) -> np.ndarray:
    """Smallest squared distance [N] from the corners of boxes at t, turned by R, to boxes at the origin."""
    corners = t[:, None] + np.einsum("nij,ncj->nci", R, _SIGNS * half_m[:, None])
    outside = np.maximum(np.abs(corners) - other_half_m[:, None], 0.0)
    return np.einsum("nci,nci->nc", outside, outside).min(axis=1)


def _edges(
    R: np.ndarray, t_A: np.ndarray, t_B: np.ndarray, half_a: np.ndarray, half_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest squared distance [N] between the insides of edges, and whether [N] an edge-edge axis separates."""
    best, apart = np.full(len(R), np.inf), np.zeros(len(R), bool)
    for i, j in product(range(3), repeat=2):
        cosine = R[:, i, j]
        sine_squared = 1.0 - cosine**2
        crossing = sine_squared > _PARALLEL
        k, m = (i + 1) % 3, (i + 2) % 3
        # the normal of both edges, e_i x R_j, has no part along e_i
        normal_k, normal_m = -R[:, m, j], R[:, k, j]
        along_t = normal_k * t_A[:, k] + normal_m * t_A[:, m]
        p, q = (j + 1) % 3, (j + 2) % 3
        of_p = (normal_k * R[:, k, p] + normal_m * R[:, m, p]) * half_b[:, p]
        of_q = (normal_k * R[:, k, q] + normal_m * R[:, m, q]) * half_b[:, q]
        of_k, of_m = normal_k * half_a[:, k], normal_m * half_a[:, m]
        reach = np.abs(of_p) + np.abs(of_q) + np.abs(of_k) + np.abs(of_m)
        apart |= crossing & (np.abs(along_t) > reach + 1e-12)
        signs_a, signs_b = _EDGE_SIGNS[:, None], _EDGE_SIGNS[None]
        gap = along_t[:, None, None] + _mix(of_p, of_q, signs_b) - _mix(of_k, of_m, signs_a)
        # places along both edges of the points nearest to each other, from the two right angles there
        on_a = t_A[:, i, None, None] + _mix(R[:, i, p] * half_b[:, p], R[:, i, q] * half_b[:, q], signs_b)
        on_b = t_B[:, j, None, None] - _mix(R[:, k, j] * half_a[:, k], R[:, m, j] * half_a[:, m], signs_a)
        scale = np.where(crossing, sine_squared, 1.0)[:, None, None]
        cosine = cosine[:, None, None]
        inside = np.abs(on_a - cosine * on_b) <= half_a[:, i, None, None] * scale
        inside &= np.abs(cosine * on_a - on_b) <= half_b[:, j, None, None] * scale
        inside &= crossing[:, None, None]
        best = np.minimum(best, np.where(inside, gap**2 / scale, np.inf).min(axis=(1, 2)))
    return best, apart


def _mix(first: np.ndarray, second: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """First and second [N] added with every pair of signs."""
    return first[:, None, None] * signs[..., 0] + second[:, None, None] * signs[..., 1]
