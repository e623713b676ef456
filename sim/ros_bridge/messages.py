"""What the simulator knows as ROS messages, and back: pure functions, no node, no clock, no pictures taken."""

from __future__ import annotations

import array
import io

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, PoseStamped, Quaternion, TransformStamped, Vector3
from PIL import Image as Picture
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vlm3r_interfaces.msg import SpatialState

from sim.camera import CameraSettings, yaw_of

MAP_FRAME, BASE_FRAME, CAMERA_FRAME = "map", "base_link", "camera_optical_frame"
JPEG_QUALITY = 90
NS_PER_S = 1_000_000_000


def to_stamp(ns: int) -> Time:
    """Nanoseconds as a message."""
    return Time(sec=ns // NS_PER_S, nanosec=ns % NS_PER_S)


def to_ns(stamp: Time) -> int:
    """The message's time in nanoseconds."""
    return stamp.sec * NS_PER_S + stamp.nanosec


def progress(state: SpatialState | None) -> tuple:
    """Changes with every picture that the node dealt with."""
    return (state.session_id, state.frames_seen, state.frames_dropped) if state else ()


def base_under(T_WC: np.ndarray, height_m: float) -> np.ndarray:
    """Pose [4, 4] of the feet of a robot under its camera: x forward, y left, z up (REP-103)."""
    yaw = yaw_of(T_WC)
    c, s = np.cos(yaw), np.sin(yaw)
    T_WB = np.array([[c, -s, 0.0, 0.0], [s, c, 0.0, 0.0], [0.0, 0.0, 1.0, -height_m], [0.0, 0.0, 0.0, 1.0]])
    T_WB[:3, 3] += T_WC[:3, 3]
    return T_WB


def pose_message(T: np.ndarray, stamp: Time) -> PoseStamped:
    """A pose [4, 4] in the map."""
    message = PoseStamped()
    message.header.stamp, message.header.frame_id = stamp, MAP_FRAME
    message.pose.position, message.pose.orientation = Point(**_xyz(T)), _quaternion(T)
    return message


def transform_message(parent: str, child: str, T: np.ndarray, stamp: Time) -> TransformStamped:
    """Where a frame is in its parent: T [4, 4] is parent from child."""
    message = TransformStamped(child_frame_id=child)
    message.header.stamp, message.header.frame_id = stamp, parent
    message.transform.translation, message.transform.rotation = Vector3(**_xyz(T)), _quaternion(T)
    return message


def raw_message(pixels: np.ndarray, encoding: str, stamp: Time) -> Image:
    """Pixels [H, W] or [H, W, C] of an encoding's type as they are, row by row."""
    pixels = np.ascontiguousarray(pixels)
    # an array of bytes is taken over whole; other sequences are checked element by element
    data = array.array("B")
    data.frombytes(memoryview(pixels).cast("B"))
    height, width = pixels.shape[:2]
    return _by_camera(Image(height=height, width=width, encoding=encoding, step=len(data) // height, data=data), stamp)


def depth_message(depth_m: np.ndarray, stamp: Time) -> Image:
    """Planar depth float32 [H, W], metres; where there is none (0) the message holds NaN, as REP-118 asks."""
    return raw_message(np.where(depth_m > 0, depth_m, np.float32(np.nan)), "32FC1", stamp)


def jpeg_message(rgb: np.ndarray, stamp: Time) -> CompressedImage:
    """A picture uint8 [H, W, 3] as JPEG."""
    out = io.BytesIO()
    Picture.fromarray(rgb).save(out, "JPEG", quality=JPEG_QUALITY)
    return _by_camera(CompressedImage(format="jpeg", data=array.array("B", out.getvalue())), stamp)


def camera_info_message(camera: CameraSettings, stamp: Time) -> CameraInfo:
    """The lens; the principal point moves, for ROS has the middle of a pixel at (u, v), we at (u + 0.5, v + 0.5)."""
    K = camera.pinhole.K
    K[:2, 2] -= 0.5
    message = CameraInfo(height=camera.height_px, width=camera.width_px, distortion_model="plumb_bob", d=[0.0] * 5)
    message.k, message.r, message.p = K.ravel(), np.eye(3).ravel(), np.c_[K, np.zeros(3)].ravel()
    return _by_camera(message, stamp)


def _by_camera(message, stamp: Time):
    message.header.stamp, message.header.frame_id = stamp, CAMERA_FRAME
    return message


def _xyz(T: np.ndarray) -> dict[str, float]:
    return dict(zip("xyz", map(float, T[:3, 3]), strict=True))


def _quaternion(T: np.ndarray) -> Quaternion:
    return Quaternion(**dict(zip("xyzw", map(float, Rotation.from_matrix(T[:3, :3]).as_quat()), strict=True)))
