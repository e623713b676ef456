"""Cameras whose pictures are resized or turned, and poses that may be lost. Knows no files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vlm3r_core.scene.graph import PinholeCamera

_ORTHONORMAL = 1e-2


def camera_of(
    K: np.ndarray, size: tuple[int, int], target: tuple[int, int], *, corner_px: float = 0.0
) -> PinholeCamera:
    """The camera of pictures resized from one size to another.

    Args:
        K: [3, 3] pixels of the pictures as taken.
        size: (width, height) as taken.
        target: (width, height) they are resized to.
        corner_px: where K has the picture's upper left corner, added to the principal point: 0.5 where its whole
            numbers are pixel centres, 0 where they are pixel corners as everywhere here.

    Raises:
        ValueError: K is no matrix of intrinsics.
    """
    K = np.asarray(K, np.float64)
    if K.shape != (3, 3) or not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0:
        raise ValueError(f"intrinsics must be a finite matrix [3, 3] with positive focal lengths, got {K.tolist()}")
    sx, sy = target[0] / size[0], target[1] / size[1]
    cx, cy = (K[0, 2] + corner_px) * sx, (K[1, 2] + corner_px) * sy
    return PinholeCamera(float(K[0, 0] * sx), float(K[1, 1] * sy), float(cx), float(cy), *target)


def known_pose(T_WC: object) -> np.ndarray | None:
    """A pose [4, 4] float64, or None where it is no rigid motion: lost tracking is written as -inf, NaN or zeros."""
    try:
        T = np.array(T_WC, np.float64)
    except (TypeError, ValueError):
        return None
    if T.shape != (4, 4) or not np.isfinite(T).all():
        return None
    R = T[:3, :3]
    rigid = np.abs(R.T @ R - np.eye(3)).max() < _ORTHONORMAL and np.linalg.det(R) > 0
    return T if rigid and np.allclose(T[3], (0, 0, 0, 1)) else None


def turned_camera(camera: PinholeCamera, turns: int) -> PinholeCamera:
    """The camera of pictures turned counter-clockwise by quarter turns, as np.rot90 does."""
    for _ in range(turns % 4):
        c = camera
        camera = PinholeCamera(c.fy, c.fx, c.cy, c.width_px - c.cx, c.height_px, c.width_px)
    return camera


def turned_pose(T_WC: np.ndarray, turns: int) -> np.ndarray:
    """The pose [4, 4] of a camera whose pictures are turned counter-clockwise by quarter turns."""
    # a point to the right (x) is above (-y) after one turn
    R_turned = np.linalg.matrix_power(np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), turns % 4)
    T = np.array(T_WC, np.float64)
    T[:3, :3] = T[:3, :3] @ R_turned.T
    return T


def upright_turns(poses: Iterable[np.ndarray]) -> int:
    """By how many counter-clockwise quarter turns pictures stand upright most of the time.

    Args:
        poses: [4, 4] world from camera, the world's Z up.
    """
    ups = [T_WC[2, :2] for T_WC in poses]
    if not ups:
        return 0
    x, y = np.sum(ups, axis=0)
    # up of the scene in the picture: (0, -1) stands, (1, 0) needs one turn
    return int(np.argmax([-y, x, y, -x]))


def typical_intrinsics(matrices: Sequence[object]) -> np.ndarray:
    """Median of intrinsics [3, 3] that change from frame to frame.

    Raises:
        ValueError: none is a finite matrix.
    """
    found = []
    for value in matrices:
        try:
            K = np.array(value, np.float64)
        except (TypeError, ValueError):
            continue
        if K.shape == (3, 3) and np.isfinite(K).all():
            found.append(K)
    if not found:
        raise ValueError(f"none of {len(matrices)} frames has intrinsics")
    return np.median(found, axis=0)
