"""Writes observations as a video, a folder of images or a ROS 2 bag. Renders nothing; whole files are record's care."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from sim.env import Observation

# H.264 where the installed PyAV can encode it; every reader knows MPEG-4 part 2 too.
_CODECS = ("libx264", "libopenh264", "mpeg4")
# x264's macroblock tree and weighted prediction give other bytes from run to run, whatever its threads
_X264 = {"crf": "18", "preset": "veryfast", "bf": "0", "x264-params": "mbtree=0:weightp=0"}
_BITS_PER_PIXEL = 0.5  # of encoders without a constant quality
_WORLD_FRAME = "map"
_TOPIC = "/camera"


class FrameWriter(Protocol):
    """Takes the pictures of one recording."""

    def add(self, seen: Observation) -> None:
        """Takes the next picture."""

    def close(self) -> None:
        """Finishes the files; without it they are not whole."""


class VideoWriter:
    """An MP4 file.

    Args:
        path: the file.
        fps: pictures a second.

    Raises:
        ValueError: add() got a picture of odd width or height, or PyAV has no encoder.
    """

    def __init__(self, path: Path, fps: float):
        import av

        self._av, self._container = av, av.open(str(path), "w", format="mp4")
        self._rate, self._stream = Fraction(fps).limit_denominator(1001), None

    def add(self, seen: Observation) -> None:
        """Takes the next picture."""
        rgb = seen.frame.rgb
        if self._stream is None:
            self._stream = self._opened(rgb.shape[1], rgb.shape[0])
        self._container.mux(self._stream.encode(self._av.VideoFrame.from_ndarray(rgb, "rgb24")))

    def close(self) -> None:
        """Finishes the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def _opened(self, width: int, height: int):
        if width % 2 or height % 2:
            raise ValueError(f"an MP4 needs an even width and height, got {width} x {height}; change the camera's size")
        known = [name for name in _CODECS if name in self._av.codecs_available and self._can_encode(name)]
        if not known:
            raise ValueError(f"PyAV {self._av.__version__} has none of {', '.join(_CODECS)}; record a folder or bag")
        options = _X264 if known[0] == "libx264" else {}
        stream = self._container.add_stream(known[0], rate=self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1  # the same bytes on every machine
        if not options:
            stream.bit_rate = int(_BITS_PER_PIXEL * width * height * self._rate)
        return stream

    def _can_encode(self, name: str) -> bool:
        try:
            return self._av.codec.Codec(name, "w").type == "video"
        except ValueError:  # it only decodes
            return False


class FolderWriter:
    """A folder of images with the camera's poses in poses.json; depth and instance ids in folders of their own.

    Args:
        path: the folder, made here.
        image_format: "jpg" or "png".
        depth: whether to write depth/NNNNNN.png, 16 bit, millimetres, 0 where nothing was hit or beyond 65.535 m.
        ids: whether to write ids/NNNNNN.npy, int32 [H, W].
    """

    def __init__(self, path: Path, image_format: str = "jpg", *, depth: bool = False, ids: bool = False):
        self._path, self._format, self._depth, self._ids = path, image_format, depth, ids
        for name, wanted in (("", True), ("depth", depth), ("ids", ids)):
            if wanted:
                (path / name).mkdir()
        self._frames, self._camera = [], {}

    @property
    def pattern(self) -> str:
        """Names of the images by number."""
        return "{:06d}." + self._format

    def add(self, seen: Observation) -> None:
        """Takes the next picture."""
        index = len(self._frames)
        name = self.pattern.format(index)
        (self._path / name).write_bytes(encoded(seen.frame.rgb, self._format))
        if self._depth:
            millimetres = np.round(seen.depth_m * 1000.0)
            millimetres[millimetres > np.iinfo(np.uint16).max] = 0
            Image.fromarray(millimetres.astype(np.uint16)).save(self._path / "depth" / f"{index:06d}.png")
        if self._ids:
            np.save(self._path / "ids" / f"{index:06d}.npy", seen.semantic_ids)
        height, width = seen.frame.rgb.shape[:2]
        self._camera = {"width_px": width, "height_px": height, "K": seen.K.tolist()}
        self._frames.append({"file": name, "stamp_ns": seen.frame.stamp_ns, "T_WC": seen.T_WC.tolist()})

    def close(self) -> None:
        """Writes the poses."""
        text = json.dumps(self._camera | {"frames": self._frames}, indent=1)
        (self._path / "poses.json").write_text(text, encoding="utf-8")


class BagWriter:
    """A ROS 2 bag in MCAP: images as JPEG or raw, the camera's intrinsics, and its pose in the frame `map` on /tf.

    Args:
        path: the folder of the bag, made here; the bag file in it is called like it.
        raw: whether images are raw instead of JPEG.
    """

    def __init__(self, path: Path, *, raw: bool = False):
        self._raw, self._types = raw, get_typestore(Stores.ROS2_JAZZY)
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        image = (f"{_TOPIC}/image_raw", "Image") if raw else (f"{_TOPIC}/image_raw/compressed", "CompressedImage")
        self._image, self._info, self._tf = (
            self._writer.add_connection(topic, kind, typestore=self._types)
            for topic, kind in (
                (image[0], f"sensor_msgs/msg/{image[1]}"),
                (f"{_TOPIC}/camera_info", "sensor_msgs/msg/CameraInfo"),
                ("/tf", "tf2_msgs/msg/TFMessage"),
            )
        )

    def add(self, seen: Observation) -> None:
        """Takes the next picture."""
        stamp = self._new("builtin_interfaces/msg/Time", *divmod(seen.frame.stamp_ns, 1_000_000_000))
        header = self._new("std_msgs/msg/Header", stamp, seen.frame.frame_id)
        at_ns = seen.frame.stamp_ns
        self._write(self._tf, at_ns, self._transform(stamp, seen))
        self._write(self._info, at_ns, self._camera_info(header, seen))
        self._write(self._image, at_ns, self._picture(header, seen.frame.rgb))

    def close(self) -> None:
        """Finishes the bag."""
        self._writer.close()

    def _new(self, kind: str, *fields):
        return self._types.types[kind](*fields)

    def _write(self, connection, at_ns: int, message) -> None:
        self._writer.write(connection, at_ns, self._types.serialize_cdr(message, connection.msgtype))

    def _picture(self, header, rgb: np.ndarray):
        if not self._raw:
            data = np.frombuffer(encoded(rgb, "jpg"), np.uint8)
            return self._new("sensor_msgs/msg/CompressedImage", header, "jpeg", data)
        height, width = rgb.shape[:2]
        return self._new("sensor_msgs/msg/Image", header, height, width, "rgb8", 0, 3 * width, rgb.reshape(-1))

    def _camera_info(self, header, seen: Observation):
        height, width = seen.frame.rgb.shape[:2]
        K = np.asarray(seen.K, np.float64)
        P = np.column_stack([K, np.zeros(3)])
        roi = self._new("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        R = np.eye(3).reshape(-1)
        lens = ("plumb_bob", np.zeros(5), K.reshape(-1), R, P.reshape(-1))
        return self._new("sensor_msgs/msg/CameraInfo", header, height, width, *lens, 0, 0, roi)

    def _transform(self, stamp, seen: Observation):
        header = self._new("std_msgs/msg/Header", stamp, _WORLD_FRAME)
        place = self._new("geometry_msgs/msg/Vector3", *seen.T_WC[:3, 3].tolist())
        turn = self._new("geometry_msgs/msg/Quaternion", *Rotation.from_matrix(seen.T_WC[:3, :3]).as_quat().tolist())
        transform = self._new("geometry_msgs/msg/Transform", place, turn)
        named = self._new("geometry_msgs/msg/TransformStamped", header, seen.frame.frame_id, transform)
        return self._new("tf2_msgs/msg/TFMessage", [named])


def encoded(rgb: np.ndarray, image_format: str) -> bytes:
    """An image file's bytes: JPEG of quality 95, or PNG."""
    file = io.BytesIO()
    if image_format == "png":
        Image.fromarray(rgb).save(file, "PNG", compress_level=1)
    else:
        Image.fromarray(rgb).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()
