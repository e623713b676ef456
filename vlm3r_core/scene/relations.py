"""How objects and cameras stand to each other: directions, order of appearance, movement, what a camera sees.

Distances live in distances.py (exact) and sampling.py (as published); nothing here knows a question.
World: metres, Z up. Camera: x right, y down, z forward.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import CameraFrame, PinholeCamera

QUADRANTS = ("front-left", "back-left", "back-right", "front-right")
SIDES = ("left", "back", "right")
QUADRANT_EDGES_DEG = (0.0, 90.0, 180.0, 270.0, 360.0)
SIDE_EDGES_DEG = (0.0, 135.0, 225.0, 360.0)
AXES = ("x", "y", "z")
# the answer for an object whose interval along a camera axis lies before, and after, the other's
AXIS_WORDS = {"x": ("Left", "Right"), "y": ("Up", "Down"), "z": ("Near", "Far")}


def longest_side_m(box: OrientedBox) -> float:
    """The longest of the box's three lengths, metres."""
    return float(box.lengths_m.max())


def planar_angles_deg(stand_W: np.ndarray, face_W: np.ndarray, points_W: np.ndarray) -> np.ndarray:
    """Angles [N] in degrees, 0..360, from the facing direction to points [N, 3], counter-clockwise seen from above.

    Args:
        stand_W: [3], where one stands; face_W [3], what one faces.
        points_W: [N, 3]; heights do not matter.

    Returns:
        NaN where a point, or the faced place, lies exactly above or below where one stands.
    """
    facing = np.asarray(face_W, np.float64)[:2] - stand_W[:2]
    toward = np.asarray(points_W, np.float64)[:, :2] - stand_W[:2]
    lengths = np.linalg.norm(facing) * np.linalg.norm(toward, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        angles = np.degrees(np.arccos(np.clip(toward @ facing / lengths, -1.0, 1.0)))
    return np.where(facing[0] * toward[:, 1] - facing[1] * toward[:, 0] < 0, 360.0 - angles, angles)


def sector(angles_deg: np.ndarray, edges_deg: Sequence[float]) -> np.ndarray:
    """Which sector [N] between edges each angle of 0..360 lies in; an edge belongs to the sector after it."""
    return np.clip(np.searchsorted(edges_deg, angles_deg, side="right") - 1, 0, len(edges_deg) - 2)


def margin_deg(angle_deg: float, edges_deg: Sequence[float]) -> float:
    """How far an angle is from the nearest edge, degrees; edges include 0 and 360."""
    return float(np.abs(np.asarray(edges_deg) - angle_deg).min())


def first_seen(frames: Iterable[CameraFrame], id_groups: dict[str, set[int]]) -> dict[str, CameraFrame]:
    """The first frame that has a 2-D box of any object of each group.

    Args:
        frames: in the order of time.
        id_groups: instance ids by name; a group without ids is never seen.

    Returns:
        Frames by name, only of groups that are seen, in the order of id_groups.
    """
    found: dict[str, CameraFrame] = {}
    for frame in frames:
        ids = {item.instance_id for item in frame.visible}
        for name, group in id_groups.items():
            if name not in found and not ids.isdisjoint(group):
                found[name] = frame
    return {name: found[name] for name in id_groups if name in found}


def camera_position(T_WC: np.ndarray, *, as_published: bool = False) -> np.ndarray:
    """Where the camera is, [3] metres in the world.

    Args:
        T_WC: [4, 4] world from camera.
        as_published: the world's origin in the camera instead, which the first release took for the position.
    """
    T_WC = np.asarray(T_WC, np.float64)
    if as_published:
        return -T_WC[:3, :3].T @ T_WC[:3, 3]
    return T_WC[:3, 3].copy()


def camera_movement(T_WC_start: np.ndarray, T_WC_end: np.ndarray) -> np.ndarray:
    """How far the camera moved, [3] metres along its own axes at the start: right, down, forward."""
    start, end = np.asarray(T_WC_start, np.float64), np.asarray(T_WC_end, np.float64)
    return start[:3, :3].T @ (end[:3, 3] - start[:3, 3])


def movement_direction(moved_m: np.ndarray, threshold_m: float) -> str | None:
    """Forward, Backward, Right or Left, along the longer of the two level axes; None where none exceeds a threshold.

    Args:
        moved_m: [3], camera_movement; its height does not matter.
        threshold_m: how much movement along an axis counts.
    """
    right, forward = float(moved_m[0]), float(moved_m[2])
    if max(abs(right), abs(forward)) <= threshold_m or not np.isfinite(right + forward):
        return None
    if abs(forward) >= abs(right):
        return "Forward" if forward > 0 else "Backward"
    return "Right" if right > 0 else "Left"


def camera_extent(box: OrientedBox, T_WC: np.ndarray) -> np.ndarray:
    """Lowest and highest x, y and z [2, 3] of the box's corners in the camera, metres."""
    T_WC = np.asarray(T_WC, np.float64)
    corners = (box.corners() - T_WC[:3, 3]) @ T_WC[:3, :3]
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def relative_position(
    extent_a: np.ndarray, extent_b: np.ndarray, axis: str, margin_m: float
) -> tuple[str | None, float]:
    """Whether a lies before or after b along a camera axis.

    Args:
        extent_a: [2, 3], camera_extent; extent_b likewise.
        axis: one of AXES.
        margin_m: the gap between them must exceed it.

    Returns:
        (a's word of AXIS_WORDS or None where the gap is too small, the gap in metres; negative where they overlap).
    """
    index = AXES.index(axis)
    before, after = extent_b[0, index] - extent_a[1, index], extent_a[0, index] - extent_b[1, index]
    gap = float(max(before, after))
    if gap <= margin_m:
        return None, gap
    return AXIS_WORDS[axis][0 if before >= after else 1], gap


def visible_points(
    points_W: np.ndarray,
    T_WC: np.ndarray,
    camera: PinholeCamera,
    depth_m: np.ndarray | None = None,
    *,
    tolerance_m: float = 0.1,
) -> np.ndarray:
    """Which points [N, 3] the camera sees: bool [N].

    Args:
        points_W: points on an object.
        T_WC: [4, 4] world from camera.
        camera: its intrinsics; pixel (u, v) covers [u, u+1) x [v, v+1).
        depth_m: [H, W] metres along the camera's z, 0 or NaN where unknown, of any size with the image's field of
            view; None tests nothing but the field of view.
        tolerance_m: how far behind the measured depth a point may lie and still be seen.
    """
    T_WC = np.asarray(T_WC, np.float64)
    x, y, z = ((np.asarray(points_W, np.float64) - T_WC[:3, 3]) @ T_WC[:3, :3]).T
    front = z > 1e-6
    depth = np.where(front, z, 1.0)
    u, v = camera.fx * x / depth + camera.cx, camera.fy * y / depth + camera.cy
    seen = front & (u >= 0) & (u < camera.width_px) & (v >= 0) & (v < camera.height_px)
    if depth_m is None or not seen.any():
        return seen
    rows, columns = depth_m.shape
    row = (v[seen] * rows / camera.height_px).astype(int)
    column = (u[seen] * columns / camera.width_px).astype(int)
    measured = depth_m[row, column]
    seen[seen] = (measured > 0) & (z[seen] <= measured + tolerance_m)
    return seen
