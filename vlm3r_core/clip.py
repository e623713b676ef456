"""Reads a video, a folder of images or a bag as Frames, and samples frames. No model, no clock, no ROS."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path

import numpy as np

from vlm3r_core.image_encoding import decode_compressed
from vlm3r_core.types import Frame

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
BAG_SUFFIXES = (".mcap", ".db3")
DEFAULT_FOLDER_FPS = 2.0

Reader = Callable[[Collection[int] | None], Iterator[Frame]]


def sample_uniform(total: int, count: int, *, repeat: bool = False) -> list[int]:
    """Picks frames spread evenly over a clip, first and last included.

    Args:
        total: frames of the clip, at least 1.
        count: frames wanted, at least 1.
        repeat: where total < count, repeat indices so that count come back (as decord readers do); the default
            gives every frame once (as the paper's evaluation does).

    Returns:
        Ascending indices in 0..total-1: linspace(0, total - 1, n) truncated, n = count or min(total, count).

    Raises:
        ValueError: total or count below 1.

    Source: VLM-3R's frame rule; truncation, not rounding.
    """
    if total < 1 or count < 1:
        raise ValueError(f"sampling needs at least one frame and a count of at least 1, got {count} of {total} frames")
    wanted = count if repeat else min(total, count)
    return np.linspace(0, total - 1, wanted).astype(int).tolist()


@dataclass(frozen=True)
class Clip:
    """Frames of a recording, decoded while iterating; each iteration starts at the beginning.

    Args:
        path: the file or folder.
        kind: "video", "folder" or "bag".
        reader: yields the frames whose index is in the given collection (None: all), skipping unreadable ones.
        counter: counts the frames exactly; may read through the file.
        frame_count: frames as the recording states them, None where it does not.
        duration_s: seconds, None where unknown.
    """

    path: Path
    kind: str
    reader: Reader
    counter: Callable[[], int]
    frame_count: int | None = None
    duration_s: float | None = None
    keep: frozenset[int] | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Yields Frames in order of time; unreadable ones are logged and left out.

        Raises:
            ValueError: no frame could be read.
        """
        frame = None
        for frame in self.reader(self.keep):
            yield frame
        if frame is None:
            raise ValueError(f"{self.path} has no readable frame; check that the recording is complete")

    def __len__(self) -> int:
        """Frames as the recording states them.

        Raises:
            TypeError: the recording does not state a length.
        """
        if self.frame_count is None:
            raise TypeError(f"{self.path} does not state its number of frames; iterate, or call sampled()")
        return self.frame_count

    def sampled(self, count: int) -> Clip:
        """The same recording with at most count frames, spread by `sample_uniform`; stamps stay those of the clip."""
        keep = frozenset(sample_uniform(self.counter(), count))
        return replace(self, keep=keep, frame_count=len(keep))


def open_clip(path: str | Path, *, fps: float = DEFAULT_FOLDER_FPS, topic: str = "") -> Clip:
    """Opens a recording without decoding it.

    Args:
        path: video file, image file, folder of images (natural order: 2 before 10), rosbag2 folder, .mcap or .db3.
        fps: images a second of a folder, which has no stamps of its own; videos and bags ignore it.
        topic: image topic of a bag; "" takes the only one.

    Returns:
        The Clip. Stamps: seconds since the first frame for a video, index / fps for a folder, header stamps for a
        bag (the time of recording where a header has none). EXIF and container rotation are applied.

    Raises:
        FileNotFoundError: nothing at path.
        ValueError: nothing readable as a clip there, an unknown or ambiguous topic, or fps not positive.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"clip {path} does not exist; give a video file, a folder of images or a bag")
    if not (isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a positive number of images a second, got {fps}")
    if path.suffix.lower() in BAG_SUFFIXES or (path / "metadata.yaml").is_file():
        return _open_bag(path, topic)
    if path.is_dir():
        return _open_folder(path, _images_in(path), fps)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _open_folder(path, [path], fps)
    return _open_video(path)


def _open_folder(path: Path, images: list[Path], fps: float) -> Clip:
    return Clip(
        path,
        "folder",
        reader=partial(_read_images, images, fps),
        counter=lambda: len(images),
        frame_count=len(images),
        duration_s=len(images) / fps,
    )


def _images_in(folder: Path) -> list[Path]:
    """Image files of a folder in natural order, hidden ones left out."""
    files = [item for item in folder.iterdir() if item.is_file() and not item.name.startswith(".")]
    images = [item for item in files if item.suffix.lower() in IMAGE_SUFFIXES]
    if images:
        return sorted(images, key=lambda item: _natural_key(item.name))
    if any(item.suffix.lower() in BAG_SUFFIXES for item in files):
        raise ValueError(f"bag folder {folder} has no metadata.yaml; give the .mcap or .db3 file itself")
    found = f"{len(files)} other files" if files else "an empty folder"
    raise ValueError(f"folder {folder} must hold images ({', '.join(IMAGE_SUFFIXES)}), got {found}")


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts runs of digits as numbers and everything else as text."""
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _read_images(images: list[Path], fps: float, keep: Collection[int] | None) -> Iterator[Frame]:
    for index, image in enumerate(images):
        if keep is not None and index not in keep:
            continue
        try:
            rgb = decode_compressed(image.read_bytes())
        except (OSError, ValueError) as error:
            log.warning("skipped %s: %s", image, error)
            continue
        yield Frame(rgb, round(index * 1e9 / fps))


def _open_video(path: Path) -> Clip:
    with _video_container(path) as container:
        stream = container.streams.video[0]
        if stream.duration and stream.time_base:
            duration_s = float(stream.duration * stream.time_base)
        else:
            duration_s = container.duration / 1e6 if container.duration else None
        frame_count = stream.frames or None
    return Clip(
        path,
        "video",
        reader=partial(_read_video, path),
        counter=partial(_count_video_frames, path),
        frame_count=frame_count,
        duration_s=duration_s,
    )


def _video_container(path: Path):
    """Opens a container and makes sure that it has pictures.

    Raises:
        ValueError: not a video, or no video stream in it.
    """
    import av

    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise ValueError(
            f"{path} cannot be read as a video ({error}); give a video, a folder of images or a bag"
        ) from error
    # FFmpeg renders plain text files as a terminal picture
    if not container.streams.video or container.format.name == "tty":
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no streams"
        container.close()
        raise ValueError(f"{path} has no video stream (found: {kinds}); give a video, a folder of images or a bag")
    return container


def _count_video_frames(path: Path) -> int:
    """Frames by reading every packet, since headers may be wrong; nothing is decoded."""
    with _video_container(path) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size and not packet.is_discard)


def _read_video(path: Path, keep: Collection[int] | None) -> Iterator[Frame]:
    with _video_container(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        period_s = 1 / float(stream.average_rate or stream.guessed_rate or 30)
        first_s = None
        for index, picture in enumerate(_decode(path, container, stream)):
            time_s = index * period_s if picture.time is None else picture.time
            first_s = time_s if first_s is None else first_s
            if keep is None or index in keep:
                rgb = np.rot90(picture.to_ndarray(format="rgb24"), round(picture.rotation / 90))
                yield Frame(np.ascontiguousarray(rgb), round((time_s - first_s) * 1e9))


def _decode(path: Path, container, stream) -> Iterator:
    """Decoded pictures of a stream; a damaged packet is logged and left out, a damaged file ends early."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            log.warning("%s ends early: %s", path, error)
            return
        try:
            yield from packet.decode()
        except av.FFmpegError as error:
            log.warning("skipped a damaged part of %s: %s", path, error)


def _open_bag(path: Path, topic: str) -> Clip:
    from vlm3r_core.bag import image_topic, read_bag

    found = image_topic(path, topic)
    return Clip(
        path,
        "bag",
        reader=partial(read_bag, path, found.name),
        counter=lambda: found.frame_count,
        frame_count=found.frame_count,
        duration_s=found.duration_s,
    )
