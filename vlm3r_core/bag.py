"""Reads the image topic of a rosbag2 or MCAP recording as Frames. Needs no ROS; other topics are left alone."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.rosbag2 import ReaderError
from rosbags.typesys import Stores, get_typestore

from vlm3r_core.image_encoding import decode_compressed, to_rgb
from vlm3r_core.types import Frame

log = logging.getLogger(__name__)

RAW_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"


@dataclass(frozen=True)
class ImageTopic:
    """A topic of camera images in a bag."""

    name: str
    frame_count: int
    duration_s: float  # of the whole recording


def image_topic(path: Path, name: str = "") -> ImageTopic:
    """Finds the image topic of a bag.

    Args:
        path: rosbag2 folder, .mcap or .db3 file.
        name: topic to use; "" takes the only one.

    Raises:
        ValueError: unreadable bag, no image topic, an unknown name, or several topics and no name.
    """
    with _open(path) as reader:
        counts: dict[str, int] = {}
        for connection in _image_connections(reader):
            counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
        chosen = _choose(path, counts, name, others=sorted(reader.topics))
        return ImageTopic(chosen, counts[chosen], max(0, reader.duration) / 1e9)


def read_bag(path: Path, name: str, keep: Collection[int] | None = None) -> Iterator[Frame]:
    """Yields the Frames of one image topic in the order they were recorded.

    Args:
        path: rosbag2 folder, .mcap or .db3 file.
        name: an image topic of it.
        keep: indices of the frames to decode, None for all.

    Raises:
        ValueError: unreadable bag. An image that cannot be read is logged and left out.
    """
    with _open(path) as reader:
        wanted = [connection for connection in _image_connections(reader) if connection.topic == name]
        for index, (connection, received_ns, data) in enumerate(reader.messages(connections=wanted)):
            if keep is not None and index not in keep:
                continue
            try:
                yield _frame(reader.deserialize(data, connection.msgtype), received_ns)
            except (ValueError, AnyReaderError) as error:
                log.warning("skipped image %d of %s in %s: %s", index, name, path, error)


@contextmanager
def _open(path: Path):
    # older recordings carry no message definitions; those of images never changed
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.LATEST)) as reader:
            yield reader
    except (AnyReaderError, ReaderError, FileNotFoundError) as error:
        raise ValueError(
            f"{path} cannot be read as a bag ({error}); "
            "if the recording was cut off, repair it with `mcap recover` or `ros2 bag reindex`"
        ) from error


def _image_connections(reader: AnyReader) -> list:
    return [connection for connection in reader.connections if connection.msgtype in (RAW_TYPE, COMPRESSED_TYPE)]


def _choose(path: Path, counts: dict[str, int], name: str, *, others: list[str]) -> str:
    listed = ", ".join(f"{topic} ({count} images)" for topic, count in sorted(counts.items()))
    if not counts:
        raise ValueError(
            f"bag {path} must hold a topic of {RAW_TYPE} or {COMPRESSED_TYPE}, got {', '.join(others) or 'none'}"
        )
    if name and name not in counts:
        raise ValueError(f"bag {path} has no image topic {name!r}; its image topics: {listed}")
    if not name and len(counts) > 1:
        raise ValueError(f"bag {path} has several image topics, say which one: {listed}")
    return name or next(iter(counts))


def _frame(message, received_ns: int) -> Frame:
    if message.__msgtype__ == COMPRESSED_TYPE:
        rgb = decode_compressed(message.data)
    else:
        rgb = to_rgb(
            message.encoding, message.height, message.width, message.step, message.data, bool(message.is_bigendian)
        )
    stamp = message.header.stamp
    stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
    return Frame(rgb, stamp_ns or received_ns, message.header.frame_id)
