"""The loss of a pack, from its video on. Updates nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from training.aids import Aids
from training.config import RunConfig
from training.data import LoadedPack
from training.features import FeatureCache
from training.packing import answer_loss, packed_states
from training.samples.encoding import Features, encode_siglip, encode_video, encoder_dtype, visual_tokens
from training.samples.sample import Sample
from vlm3r_core.model.vlm3r import VLM3R


def pack_losses(
    model: VLM3R,
    loaded: LoadedPack,
    features: Features | None,
    config: RunConfig,
    dtype: torch.dtype,
    aids: Aids,
    sample: Sample,
) -> dict[str, Tensor]:
    """Mean loss of a pack's questions, `answers`, and those of the aids.

    Dropout is drawn from a generator of the pack's own, so that it is the same whichever process takes the pack and
    however often the run was interrupted.

    Args:
        model: what learns is in training mode.
        loaded: with a pack.
        features: of its video, on the model's device; None where no video is shown.
        config: seed and way to attend.
        dtype: of activations.
        aids: what is learned besides.
        sample: one of the pack's.
    """
    place = np.random.SeedSequence((config.seed, loaded.spec.step, loaded.spec.place))
    torch.manual_seed(int(place.generate_state(1, np.uint64)[0] >> 1))
    with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
        if features is None:
            hidden, _ = packed_states(model, loaded.pack, _nothing(model), config.attention)
            return {"answers": answer_loss(model, loaded.pack, hidden, soft=aids.soft_numbers)}
        projected, visual = visual_tokens(model, features)
        hidden, seen = packed_states(model, loaded.pack, visual, config.attention, aids.watched)
        losses = {"answers": answer_loss(model, loaded.pack, hidden, soft=aids.soft_numbers)}
        return losses | aids.losses(model, loaded.pack, sample, features, projected, seen)


def _nothing(model: VLM3R) -> Tensor:
    """The visual tokens of no video."""
    return model.image_newline.new_zeros(0, model.config.language.hidden_size)


def pack_features(model: VLM3R, loaded: LoadedPack, samples: Sequence[Sample], cache: FeatureCache | None) -> Features:
    """What the frozen encoders say of a pack's video: read, or computed now and kept where there is a cache."""
    if loaded.features:
        return loaded.features.to(model.device)
    if loaded.tokens:
        camera, patch = (tokens.to(model.device, encoder_dtype(model)) for tokens in loaded.tokens)
        return Features(encode_siglip(model, loaded.pixels), camera, patch)
    features = encode_video(model, loaded.pixels)
    if cache:
        cache.write(samples[loaded.spec.samples[0]], features, loaded.times)
    return features
