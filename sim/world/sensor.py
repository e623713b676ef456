"""Flaws of a real camera: noise and motion blur on clean pictures. Off unless asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sim.world.render import Picture
from vlm3r_core.config import check_settings, setting


@dataclass(frozen=True)
class SensorSettings:
    """How bad the camera is; all zero is a perfect one."""

    read_noise: float = setting(0.0, "standard deviation of every pixel, 8-bit levels", span=(0.0, 100.0))
    shot_noise: float = setting(0.0, "variance a level of signal adds, 8-bit levels", span=(0.0, 100.0))
    depth_noise_per_m: float = setting(0.0, "depth's standard deviation at 1 m; grows with its square", span=(0.0, 1.0))
    exposure_s: float = setting(0.0, "time the shutter is open, seconds; blurs motion", span=(0.0, 1.0))
    blur_samples: int = setting(5, "pictures averaged while the shutter is open", span=(2, 64))

    def __post_init__(self):
        check_settings(self)


def blurred(render: Callable[[np.ndarray], Picture], poses: Sequence[np.ndarray]) -> Picture:
    """The mean picture over the poses [4, 4] of an exposure; depth and ids are those of the last, when it ends."""
    last = render(poses[-1])
    if len(poses) == 1:
        return last
    total = last.rgb.astype(np.float32)
    for pose in poses[:-1]:
        total += render(pose).rgb
    return Picture((total / len(poses) + 0.5).astype(np.uint8), last.depth_m, last.ids)


def noisy(picture: Picture, settings: SensorSettings, rng: np.random.Generator) -> Picture:
    """The picture with noise on its colours and on depths where something was hit."""
    rgb, depth = picture.rgb, picture.depth_m
    if settings.read_noise or settings.shot_noise:
        signal = rgb.astype(np.float32)
        deviation = np.sqrt(settings.read_noise**2 + settings.shot_noise * signal)
        signal += deviation * rng.standard_normal(signal.shape, np.float32)
        rgb = np.clip(signal + 0.5, 0, 255).astype(np.uint8)
    if settings.depth_noise_per_m:
        deviation = settings.depth_noise_per_m * depth**2
        noise = deviation * rng.standard_normal(depth.shape, np.float32)
        depth = np.where(depth > 0, np.maximum(depth + noise, 1e-3), 0).astype(np.float32)
    return Picture(rgb, depth, picture.ids)
