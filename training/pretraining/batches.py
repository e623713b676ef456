"""From clips to the tensors of a step: which clips, which way round, in which colours. Seed and step decide it all."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from training.pretraining.clips import ClipSet
from training.pretraining.settings import PretrainConfig
from training.scans.simulated_clips import Clip, sampled_pixels
from vlm3r_core.preprocess import to_pixels

_ORDER, _CHANGES = 11, 12


@dataclass(frozen=True)
class Batch:
    """B clips of F frames; the world is each clip's first camera.

    Args:
        pixels: float32 [B, F, 3, H, W] in [-1, 1].
        depth_m: float32 [B, F, h, w], planar, 0 where there is none.
        classes: uint8 [B, F, h, w].
        T_WC: float32 [B, F, 4, 4], metres.
        rays: float32 [B, h, w, 3], directions of the truth's pixels, of length 1 along z.
    """

    pixels: Tensor
    depth_m: Tensor
    classes: Tensor
    T_WC: Tensor
    rays: Tensor

    def to(self, device: torch.device) -> Batch:
        """On another device."""
        return Batch(*(getattr(self, item.name).to(device, non_blocking=True) for item in fields(self)))


class TrainBatches(Dataset):
    """The batch of every step, by the step's number; this process's share of it.

    Args:
        clips: to learn from.
        config: of the run.
        rank: of this process; count: how many there are.

    Raises:
        ValueError: the clips of a step do not share evenly.
    """

    def __init__(self, clips: ClipSet, config: PretrainConfig, rank: int = 0, count: int = 1):
        if config.batch_clips % count:
            raise ValueError(f"batch_clips {config.batch_clips} must be a multiple of the {count} processes")
        self._clips, self._config, self._rank, self._count = clips, config, rank, count

    def __len__(self) -> int:
        return self._config.steps

    def __getitem__(self, step: int) -> Batch:
        config, share = self._config, self._config.batch_clips // self._count
        first = step * config.batch_clips + self._rank * share
        return join([self._changed(place) for place in range(first, first + share)])

    def _changed(self, place: int) -> Batch:
        """The clip at a place in the endless order of epochs."""
        config, (epoch, index) = self._config, divmod(place, len(self._clips))
        number = int(np.random.default_rng((config.seed, _ORDER, epoch)).permutation(len(self._clips))[index])
        rng = np.random.default_rng((config.seed, _CHANGES, place))
        frames = np.arange(config.clip_frames)
        if config.objective == "vision":
            frames = np.sort(rng.permutation(frames)[: config.frames_per_clip])
        elif 0 < config.train_frames < len(frames):
            frames = frames[rng.integers(len(frames) - config.train_frames + 1) :][: config.train_frames]
        if config.reverse and rng.random() < 0.5:
            frames = frames[::-1]
        clip = self._clips.read(number, frames.tolist())
        batch = as_batch(clip, self._clips.cache.settings.size_px)
        if config.mirror and rng.random() < 0.5:
            batch = mirrored(batch)
        return recoloured(batch, rng, config.colour)


def as_batch(clip: Clip, size_px: int) -> Batch:
    """One clip as a batch of one, nothing changed."""
    pixels = torch.stack([to_pixels(rgb, size_px) for rgb in clip.rgb])
    first = np.linalg.inv(clip.T_WC[0])
    height, width = clip.depth_m.shape[1:]
    v, u = (sampled_pixels(edge, count) + 0.5 for edge, count in zip(clip.rgb.shape[1:3], (height, width), strict=True))
    rays = np.ones((height, width, 3))
    rays[..., 0] = (u - clip.K[0, 2]) / clip.K[0, 0]
    rays[..., 1] = (v[:, None] - clip.K[1, 2]) / clip.K[1, 1]
    return Batch(
        pixels[None],
        torch.from_numpy(clip.depth_m)[None],
        torch.from_numpy(np.ascontiguousarray(clip.classes))[None],
        torch.from_numpy(first @ clip.T_WC).float()[None],
        torch.from_numpy(rays).float()[None],
    )


def mirrored(batch: Batch) -> Batch:
    """The clips as a mirror shows them: left is right, in pictures, rays and poses."""
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    rays = batch.rays.flip(2) * torch.tensor([-1.0, 1.0, 1.0])
    return Batch(batch.pixels.flip(-1), batch.depth_m.flip(-1), batch.classes.flip(-1), flip @ batch.T_WC @ flip, rays)


def recoloured(batch: Batch, rng: np.random.Generator, most: float) -> Batch:
    """Other brightness, contrast and tint, the same for all frames of a clip."""
    if not most:
        return batch
    gain = np.exp(rng.uniform(-most, most)) * np.exp(rng.uniform(-most / 3, most / 3, 3))
    shift = rng.uniform(-most, most) / 2
    factor = torch.from_numpy(gain).float()[:, None, None]
    pixels = ((batch.pixels + shift) * factor).clamp(-1, 1)
    return Batch(pixels, batch.depth_m, batch.classes, batch.T_WC, batch.rays)


def join(batches: list[Batch]) -> Batch:
    """Batches as one."""
    return Batch(*(torch.cat([getattr(batch, item.name) for batch in batches]) for item in fields(Batch)))
