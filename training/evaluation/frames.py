"""The frames a question is asked about, sampled from its video or read from its pictures. Runs no model."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from training.benchmarks.pictures import read_picture
from training.benchmarks.question import BenchmarkQuestion
from vlm3r_core.clip import open_clip, sample_uniform

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """Frames of one video.

    Args:
        images: uint8 [H, W, 3] each, in the order of time; empty for a question asked blind.
        times_s: seconds from the video's start, one a frame.
        duration_s: of the video, None where unknown.
    """

    images: tuple[np.ndarray, ...] = ()
    times_s: tuple[float, ...] = ()
    duration_s: float | None = None


def read_view(question: BenchmarkQuestion, count: int) -> View:
    """Frames of a question's video or pictures.

    Args:
        question: whose.
        count: frames at most; `sample_uniform` says which.

    Raises:
        FileNotFoundError: the video or a picture is not there.
        ValueError: nothing of it can be decoded.
        OSError: it cannot be read.
    """
    if question.pictures:
        chosen = sample_uniform(len(question.pictures), count)
        images = tuple(read_picture(question.pictures[index]) for index in chosen)
        return View(images, tuple(float(index) for index in chosen))
    if question.video is None:
        raise FileNotFoundError(f"question {question.id} has neither a video nor pictures; ask it blind, or add them")
    import av

    try:
        clip = open_clip(question.video)
        sampled = clip.sampled(count)
        frames = list(sampled)
    except av.FFmpegError as error:
        raise ValueError(f"{question.video} cannot be decoded ({error}); download it again") from error
    if len(frames) < len(sampled):
        _log.warning("%s: %d of %d frames could be decoded", question.video, len(frames), len(sampled))
    return View(tuple(frame.rgb for frame in frames), tuple(frame.stamp_ns / 1e9 for frame in frames), clip.duration_s)
