"""Camera poses of the robot in the house's axes."""

from __future__ import annotations

import numpy as np
import pytest

from sim.camera import CameraSettings, camera_pose, yaw_of

FEET = np.array([1.0, 2.0, 0.5])


def test_axes_of_a_level_camera():
    T_WC = camera_pose(FEET, 0.0, CameraSettings(height_m=1.2))
    np.testing.assert_allclose(T_WC[:3, 3], [1, 2, 1.7])
    np.testing.assert_allclose(T_WC[:3, 2], [1, 0, 0], atol=1e-15)  # forward
    np.testing.assert_allclose(T_WC[:3, 0], [0, -1, 0], atol=1e-15)  # right
    np.testing.assert_allclose(T_WC[:3, 1], [0, 0, -1], atol=1e-15)  # down
    left = camera_pose(FEET, np.pi / 2, CameraSettings())
    np.testing.assert_allclose(left[:3, 2], [0, 1, 0], atol=1e-15)


@pytest.mark.parametrize("pitch_deg", [-90.0, -30.0, 0.0, 45.0, 90.0])
@pytest.mark.parametrize("yaw_rad", [-3.0, -1.0, 0.0, 0.5, 2.0])
def test_poses_are_rotations_and_keep_their_heading(pitch_deg, yaw_rad):
    T_WC = camera_pose(FEET, yaw_rad, CameraSettings(pitch_deg=pitch_deg))
    np.testing.assert_allclose(T_WC[:3, :3] @ T_WC[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(T_WC[:3, :3]) == pytest.approx(1)
    assert T_WC[2, 2] == pytest.approx(np.sin(np.radians(pitch_deg)))
    assert yaw_of(T_WC) == pytest.approx(yaw_rad)


def test_intrinsics():
    camera = CameraSettings(width_px=320, height_px=240, hfov_deg=79.0).pinhole
    # Habitat's camera of the same size and field of view
    assert camera.fx == pytest.approx(194.09552065486926)
    assert (camera.fy, camera.cx, camera.cy) == (camera.fx, 160.0, 120.0)


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"CameraSettings\.hfov_deg must be in 1\.0\.\.170\.0, got 180"):
        CameraSettings(hfov_deg=180)
