"""Specs, devices, dtypes, and random weights that are the same every time."""

from __future__ import annotations

import pytest
import torch
from nano import NANO, build_nano

import vlm3r_core
from vlm3r_core.loading import load, model_config, resolve_dtype
from vlm3r_core.model.vlm3r import VLM3R


def test_public_names():
    assert vlm3r_core.load is load
    assert vlm3r_core.VLM3R is VLM3R
    with pytest.raises(AttributeError, match="public names: load"):
        vlm3r_core.nothing  # noqa: B018


def test_unknown_spec_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'tiny-random'"):
        model_config("tiny-radom")


def test_unknown_device_and_dtype():
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        load("tiny-random", device="gpu")
    with pytest.raises(ValueError, match="unknown dtype 'half'"):
        load("tiny-random", device="cpu", dtype="half")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="0 CUDA devices"):
            load("tiny-random", device="cuda:0")


def test_auto_dtype_on_the_cpu_is_float32():
    assert resolve_dtype("auto", torch.device("cpu")) is torch.float32


def test_random_weights_are_seeded_and_frozen(nano_model):
    again = build_nano()
    for (name, ours), theirs in zip(nano_model.state_dict().items(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=name)
    assert not any(parameter.requires_grad for parameter in nano_model.parameters())
    assert not nano_model.training


def test_tiny_random_runs_in_bfloat16_too():
    model = load("tiny-random", device="cpu", dtype="bfloat16")
    side = model.config.siglip.image_size
    visual = model.encode(torch.zeros(1, 3, side, side, dtype=torch.bfloat16)).visual_tokens
    assert visual.shape == (1, model.config.tokens_per_frame, model.config.language.hidden_size)
    assert visual.isfinite().all()


def test_the_7b_preset_has_the_published_sizes():
    with torch.device("meta"):
        model = VLM3R(model_config("vlm3r-7b-random"))
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert count["fusion"] == 9_747_456
    assert count["projector"] == 16_980_992
    assert count["cut3r"] == 793_307_858
    # Qwen2-7B with its head, from the published tensors' list
    assert count["language"] == 7_615_616_512
    assert model.image_newline.shape == (3584,)


def test_nano_really_is_small():
    assert NANO.tokens_per_frame == 12
