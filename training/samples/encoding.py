"""What the frozen encoders make of a video, before fusion; the part of the model that training can keep on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from vlm3r_core.model.vlm3r import VLM3R

# How clip.sample_uniform and preprocess.to_pixels work; to be raised when they change, so that no old cache is read.
PREPROCESSING = 1
_ENCODERS = ("siglip.", "cut3r.")
# CUT3R's heads make maps, not tokens.
_NOT_USED = "cut3r.downstream_head."


@dataclass(frozen=True)
class Features:
    """Of F frames.

    Args:
        siglip: [F, P, C].
        camera: [F, 1, S]; [F, 0, 0] without CUT3R.
        patch: [F, P, S]; [F, 0, 0] without CUT3R.
    """

    siglip: Tensor
    camera: Tensor
    patch: Tensor

    def to(self, device: torch.device) -> Features:
        """On another device."""
        return Features(*(t.to(device, non_blocking=True) for t in (self.siglip, self.camera, self.patch)))


def encoder_dtype(model: VLM3R) -> torch.dtype:
    """Of the frozen part; what is trained may be wider."""
    return next(model.siglip.parameters()).dtype


@torch.no_grad()
def encode_siglip(model: VLM3R, pixels: Tensor, batch: int = 16) -> Tensor:
    """SigLIP's features [F, P, C] of frames [F, 3, H, W] in [-1, 1]."""
    kind = encoder_dtype(model)
    return torch.cat([model.siglip(part.to(model.device, kind)) for part in pixels.split(batch)])


@torch.no_grad()
def encode_video(model: VLM3R, pixels: Tensor, batch: int = 16) -> Features:
    """All that the frozen encoders say of a video.

    Args:
        model: any; only its encoders run.
        pixels: [F, 3, H, W] in [-1, 1], in the order of time.
        batch: frames the image encoders take at once; only CUT3R's decoder needs them one by one.
    """
    siglip = encode_siglip(model, pixels, batch)
    if model.cut3r is None:
        nothing = siglip.new_zeros(len(siglip), 0, 0)
        return Features(siglip, nothing, nothing)
    state, camera, patch, kind = model.init_state(), [], [], encoder_dtype(model)
    for part, seen in zip(pixels.split(batch), siglip.split(batch), strict=True):
        for view in model.encode_view(part.to(model.device, kind), seen).each():
            state, tokens = model.cut3r.advance(state, view)
            camera.append(tokens.camera)
            patch.append(tokens.patch)
    return Features(siglip, torch.cat(camera), torch.cat(patch))


@torch.no_grad()
def encode_videos(model: VLM3R, videos: Sequence[Tensor], batch: int = 16) -> list[Features]:
    """What the frozen encoders say of several videos that have as many frames each, side by side.

    Small networks are several times quicker so: their recurrent part then takes a frame of every video at once.

    Args:
        model: any; only its encoders run.
        videos: [F, 3, H, W] each.
        batch: frames SigLIP takes at once.
    """
    if len(videos) == 1 or model.cut3r is None:
        return [encode_video(model, pixels, batch) for pixels in videos]
    kind, state, camera, patch = encoder_dtype(model), model.init_state(len(videos)), [], []
    siglip = [encode_siglip(model, pixels, batch) for pixels in videos]
    for moment in range(len(videos[0])):
        pixels = torch.stack([video[moment] for video in videos]).to(model.device, kind)
        seen = torch.stack([tokens[moment] for tokens in siglip])
        state, tokens = model.cut3r.advance(state, model.encode_view(pixels, seen))
        camera.append(tokens.camera)
        patch.append(tokens.patch)
    cameras, patches = torch.stack(camera, dim=1), torch.stack(patch, dim=1)
    return [Features(*parts) for parts in zip(siglip, cameras, patches, strict=True)]


def visual_sequence(model: VLM3R, features: Features) -> Tensor:
    """Visual tokens [T, D] of a video; fusion and projector learn through it."""
    return visual_tokens(model, features)[1]


def visual_tokens(model: VLM3R, features: Features) -> tuple[Tensor, Tensor]:
    """What the projector makes of a video, [F, P, D], and its visual tokens [T, D]."""
    fused = model.fuse(features.siglip, features.camera, features.patch)
    projected, _, visual = model.project(fused)
    return projected, model.visual_sequence(visual)


def visual_length(model_config, frames: int) -> int:
    """How many visual tokens a video of so many frames has."""
    return frames * model_config.tokens_per_frame + (model_config.newline == "one_token")


def describe_encoders(model: VLM3R, frames: int) -> dict[str, str | int]:
    """What features depend on: weights, preprocessing and sampling. Equal descriptions, equal features."""
    config = model.config
    return {
        "weights": _weights_hash(model),
        "sizes": str({"siglip": asdict(config.siglip), "cut3r": asdict(config.cut3r) if config.spatial else None}),
        "dtype": str(encoder_dtype(model)).removeprefix("torch."),
        "preprocessing": PREPROCESSING,
        "frames": frames,
    }


@torch.no_grad()
def _weights_hash(model: VLM3R) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(model.named_parameters()):
        if name.startswith(_ENCODERS) and not name.startswith(_NOT_USED):
            digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
            digest.update(memoryview(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()
