"""The robot's camera: its lens, where it sits, and poses of the house's axes. Takes no pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlm3r_core.config import check_settings, setting
from vlm3r_core.scene.graph import PinholeCamera


@dataclass(frozen=True)
class CameraSettings:
    """A pinhole camera on a robot; its principal point is the middle of the picture."""

    width_px: int = setting(224, "picture width, pixels", span=(1, 8192))
    height_px: int = setting(224, "picture height, pixels", span=(1, 8192))
    hfov_deg: float = setting(90.0, "horizontal field of view, degrees", span=(1.0, 170.0))
    height_m: float = setting(1.5, "height above the feet, metres; a person's by default", span=(-10.0, 10.0))
    pitch_deg: float = setting(0.0, "tilt, degrees, up is positive", span=(-90.0, 90.0))

    def __post_init__(self):
        check_settings(self)

    @property
    def pinhole(self) -> PinholeCamera:
        """Intrinsics and size."""
        focal = self.width_px / 2 / np.tan(np.radians(self.hfov_deg) / 2)
        return PinholeCamera(
            float(focal), float(focal), self.width_px / 2, self.height_px / 2, self.width_px, self.height_px
        )


def camera_pose(feet_m: np.ndarray, yaw_rad: float, camera: CameraSettings) -> np.ndarray:
    """Pose of the camera of a robot that stands upright.

    Args:
        feet_m: [3], where it stands.
        yaw_rad: heading about +Z, 0 along +X, left (counter-clockwise from above) positive.
        camera: height and tilt.

    Returns:
        T_WC [4, 4] float64, camera axes x right, y down, z forward.
    """
    pitch = np.radians(camera.pitch_deg)
    c, s, cp, sp = np.cos(yaw_rad), np.sin(yaw_rad), np.cos(pitch), np.sin(pitch)
    T_WC = np.eye(4)
    T_WC[:3, 0] = s, -c, 0.0
    T_WC[:3, 1] = c * sp, s * sp, -cp
    T_WC[:3, 2] = c * cp, s * cp, sp
    T_WC[:3, 3] = feet_m
    T_WC[2, 3] += camera.height_m
    return T_WC


def yaw_of(T_WC: np.ndarray) -> float:
    """Heading of a camera pose in radians: of its viewing direction, or of its picture where it looks up or down."""
    forward, down = T_WC[:2, 2], T_WC[:2, 1]
    if np.hypot(*forward) < 1e-6:
        forward = down * np.sign(T_WC[2, 2])
    return float(np.arctan2(forward[1], forward[0]))


def wrapped(angle_rad: float) -> float:
    """The same angle in -pi..pi."""
    return float((angle_rad + np.pi) % (2 * np.pi) - np.pi)
