"""Reads the .pt files of the published feature extraction, CUT3R's tokens beside the videos. Writes none."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from training.samples.sample import Sample
from vlm3r_core.checkpoint.safe_pickle import read_torch_file


def published_path(sample: Sample) -> Path:
    """Where the features of a sample's video lie: another suffix, and another name for every `videos` in its path.

    Source: VLM-3R's training code, described in words.
    """
    return sample.root / sample.video.replace(".mp4", ".pt").replace("videos", "spatial_features")


def read_published(path: Path, frames: int) -> tuple[Tensor, Tensor]:
    """CUT3R's tokens of a video.

    Args:
        path: a dictionary of camera_tokens [F, 1, S] and patch_tokens [F, P, S], written by torch.save.
        frames: how many were sampled now; the published reader does not compare.

    Returns:
        Camera tokens [F, 1, S] and patch tokens [F, P, S], mapped from the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is refused, holds something else, or was made of another number of frames.
    """
    content = read_torch_file(path)
    names = ("camera_tokens", "patch_tokens")
    tensors = [content.get(name) if isinstance(content, dict) else None for name in names]
    if not all(isinstance(tensor, Tensor) and tensor.ndim == 3 for tensor in tensors):
        raise ValueError(f"{path} must hold camera_tokens [F, 1, S] and patch_tokens [F, P, S]; extract it again")
    if {len(tensor) for tensor in tensors} != {frames}:
        raise ValueError(
            f"{path} was made of {len(tensors[0])} frames, {frames} are sampled now; extract it again with --frames "
            f"{frames} (the published extraction takes 10 unless told)"
        )
    return tensors[0], tensors[1]
