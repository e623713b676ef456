"""Videos of scans: what a file says, and writing one from pictures. Labels nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from tqdm import tqdm

from vlm3r_core.clip import open_clip
from vlm3r_core.types import Frame

# H.264 where the installed PyAV can encode it; every reader knows MPEG-4 part 2, the published videos' codec
CODECS = ("auto", "h264", "mpeg4")
# x264's macroblock tree and weighted prediction give other bytes from run to run, whatever its threads
_X264 = {"crf": "18", "preset": "veryfast", "bf": "0", "x264-params": "mbtree=0:weightp=0"}
_BITS_PER_PIXEL = 0.25  # of encoders without a constant quality


@dataclass(frozen=True)
class VideoFacts:
    """What a video is.

    Args:
        frames: how many, counted packet by packet.
        fps: frames a second.
        size: (width, height) in pixels as stored; shown likewise after the turn a player makes.
        turns: by how many counter-clockwise quarter turns a player turns it.
    """

    frames: int
    fps: float
    size: tuple[int, int]
    turns: int

    @property
    def shown(self) -> tuple[int, int]:
        """(width, height) after the turn a player makes."""
        return self.size[::-1] if self.turns % 2 else self.size


def video_facts(path: Path) -> VideoFacts:
    """Looks at a video file; decodes one picture.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no readable video, or has no frame.
    """
    frames = open_clip(path).counter()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            picture = next(container.decode(stream), None)
    except av.FFmpegError as error:
        raise ValueError(f"{path.name} cannot be read as a video ({error})") from None
    if picture is None or not fps:
        raise ValueError(f"{path.name} has no readable frame")
    return VideoFacts(frames, fps, (picture.width, picture.height), round(picture.rotation / 90) % 4)


def all_pictures(path: Path, frames: int) -> Iterator[np.ndarray]:
    """Every picture of a video, uint8 [H, W, 3], turned as a player would.

    Raises:
        ValueError: fewer or more than the frames there should be; the numbers of frames would be wrong.
    """
    count = 0
    for count, frame in enumerate(open_clip(path), 1):  # noqa: B007 - counted after the last
        yield frame.rgb
    if count != frames:
        raise ValueError(f"{path.name} is damaged: {count} of its {frames} frames can be decoded")


def sampled_frames(path: Path, count: int) -> list[Frame]:
    """At most count frames of a video, spread evenly, stamps from its first frame.

    Raises:
        ValueError: one cannot be decoded.
    """
    clip = open_clip(path).sampled(count)
    frames = list(clip)
    if len(frames) != len(clip):
        raise ValueError(f"{path.name} is damaged: {len(frames)} of {len(clip)} sampled frames can be decoded")
    return frames


def resized(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture [H, W, 3] at another size (width, height)."""
    if rgb.shape[1::-1] == tuple(size):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))


def write_video(
    path: Path, pictures: Iterable[np.ndarray], fps: float, *, codec: str = "auto", total: int | None = None
) -> int:
    """Writes an MP4 file, every picture one frame.

    Args:
        path: ends in .mp4.
        pictures: uint8 [H, W, 3] of one size, width and height even.
        fps: frames a second.
        codec: `auto` (H.264 where PyAV encodes it, else MPEG-4), `h264` or `mpeg4`.
        total: how many pictures there will be, for the progress bar.

    Returns:
        How many frames were written.

    Raises:
        ValueError: no picture, odd or changing sizes, or no encoder.
    """
    rate = Fraction(fps).limit_denominator(1001)
    count, size, stream = 0, None, None
    with av.open(str(path), "w", format="mp4") as container:
        for rgb in tqdm(pictures, path.stem, total, unit="frame", leave=False, disable=None, delay=2):
            if stream is None:
                size = rgb.shape[:2]
                stream = _stream(container, size, rate, codec)
            if rgb.shape[:2] != size:
                raise ValueError(
                    f"picture {count} is {rgb.shape[1]} x {rgb.shape[0]}, the first was {size[1]} x {size[0]}"
                )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")))
            count += 1
        if stream is None:
            raise ValueError("a video needs at least one picture, got none")
        container.mux(stream.encode())
    return count


def _stream(container, size: tuple[int, int], rate: Fraction, codec: str):
    height, width = size
    if width % 2 or height % 2:
        raise ValueError(f"an MP4 needs an even width and height, got {width} x {height}")
    wanted = {"auto": ("libx264", "mpeg4"), "h264": ("libx264",), "mpeg4": ("mpeg4",)}[codec]
    known = [name for name in wanted if name in av.codecs_available]
    if not known:
        raise ValueError(f"PyAV {av.__version__} has no encoder {' or '.join(wanted)}")
    options = _X264 if known[0] == "libx264" else {}
    stream = container.add_stream(known[0], rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    # one thread: the same bytes on every machine
    stream.thread_count = 1
    if not options:
        stream.bit_rate = int(_BITS_PER_PIXEL * width * height * rate)
    return stream
