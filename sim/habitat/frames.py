"""Points, poses and boxes between our world and Habitat's. Knows no scene.

Ours: metres, Z up, camera x right, y down, z forward. Habitat's: metres, Y up, camera x right, y up, looking along -z;
quaternions w, x, y, z.

Source: checked by running habitat_sim 0.3.3.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from sim.world.mesh import R_Z_UP_FROM_Y_UP
from vlm3r_core.scene.box import OrientedBox

# World from Habitat's world: (x, y, z) -> (x, -z, y), the same as for glTF files.
R_WH = R_Z_UP_FROM_Y_UP
# Our camera's axes from an OpenGL camera's, and back.
R_CG = np.diag([1.0, -1.0, -1.0])


def points_from_habitat(points_H: np.ndarray) -> np.ndarray:
    """Points [..., 3] of Habitat's world in ours."""
    return np.asarray(points_H, np.float64) @ R_WH.T


def points_to_habitat(points_W: np.ndarray) -> np.ndarray:
    """Points [..., 3] of our world in Habitat's."""
    return np.asarray(points_W, np.float64) @ R_WH


def camera_to_habitat(T_WC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A camera pose as Habitat wants it.

    Args:
        T_WC: [4, 4], ours.

    Returns:
        (position [3], unit quaternion w, x, y, z [4]) in Habitat's world, of a camera that looks along its -z.

    Raises:
        ValueError: the pose's upper left is no rotation.
    """
    T_WC = np.asarray(T_WC, np.float64)
    R_WC = T_WC[:3, :3]
    # 1e-4: poses that went through text or float32 still are rotations
    if np.abs(R_WC @ R_WC.T - np.eye(3)).max() > 1e-4 or np.linalg.det(R_WC) < 0:
        raise ValueError(f"a camera pose must be a rotation and a place, its rotation is {R_WC.round(4).tolist()}")
    x, y, z, w = Rotation.from_matrix(R_WH.T @ R_WC @ R_CG).as_quat()
    return points_to_habitat(T_WC[:3, 3]), np.array([w, x, y, z])


def camera_from_habitat(position_H: np.ndarray, rotation_wxyz: np.ndarray) -> np.ndarray:
    """Our pose T_WC [4, 4] of a camera at a place [3] of Habitat's world with a unit quaternion w, x, y, z."""
    w, x, y, z = np.asarray(rotation_wxyz, np.float64)
    T_WC = np.eye(4)
    T_WC[:3, :3] = R_WH @ Rotation.from_quat([x, y, z, w]).as_matrix() @ R_CG
    T_WC[:3, 3] = points_from_habitat(position_H)
    return T_WC


def box_from_habitat(center_H: np.ndarray, half_extents_m: np.ndarray, rotation_wxyz: np.ndarray) -> OrientedBox:
    """A box of Habitat's world, given as in its semantic scene, in ours; the third axis of an upright one is up."""
    w, x, y, z = np.asarray(rotation_wxyz, np.float64)
    R_WB = R_WH @ Rotation.from_quat([x, y, z, w]).as_matrix() @ R_WH.T
    return OrientedBox(points_from_habitat(center_H), 2 * np.abs(points_from_habitat(half_extents_m)), R_WB)
