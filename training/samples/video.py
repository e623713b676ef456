"""A video as the encoders take it: frames sampled and preprocessed as everywhere else. Runs no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vlm3r_core.clip import open_clip
from vlm3r_core.preprocess import to_pixels
from vlm3r_core.prompt import time_instruction

# What can be wrong with a video that is no fault of ours; it is reported and left out.
VIDEO_FAULTS = (OSError, ValueError)


@dataclass(frozen=True)
class Times:
    """When frames were taken.

    Args:
        seconds: from the video's start, one a frame.
        duration_s: of the video, None where unknown.
    """

    seconds: tuple[float, ...]
    duration_s: float | None = None

    @property
    def instruction(self) -> str:
        """As training words it."""
        return time_instruction(self.seconds, self.duration_s)


def read_pixels(path: Path, count: int, size: int) -> tuple[Tensor, Times]:
    """Frames of a video by the one sampler and the one preprocessing.

    Args:
        path: video file or folder of images.
        count: frames at most.
        size: side of SigLIP's input in pixels.

    Returns:
        float32 [F, 3, size, size] in [-1, 1], and when the frames were taken.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it cannot be decoded, or ends before its last sampled frame.
    """
    clip = open_clip(path)
    sampled = clip.sampled(count)
    pixels, seconds = [], []
    for frame in sampled:
        pixels.append(to_pixels(frame.rgb, size))
        seconds.append(frame.stamp_ns / 1e9)
    if len(pixels) < len(sampled):
        raise ValueError(f"{path}: {len(pixels)} of {len(sampled)} sampled frames can be decoded; make the video again")
    return torch.stack(pixels), Times(tuple(seconds), clip.duration_s)
