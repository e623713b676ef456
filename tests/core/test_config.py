"""Settings refuse what they cannot mean, and presets are what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vlm3r_core.config import (
    INFERENCE_PRESETS,
    MODEL_PRESETS,
    USUAL_FRAMES,
    VLM3R_7B,
    Cut3rConfig,
    StreamConfig,
    token_selection,
)
from vlm3r_core.types import Frame


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"memory_policy": "unifrm"}, "did you mean 'uniform'"),
        ({"max_frames": -1}, r"in 0\.\.1024, got -1"),
        ({"max_pool_frames": 8}, "max_frames 32 or more, got 8"),
        ({"backward_reset_s": -1.0}, r"in 0\.\.3600"),
    ],
)
def test_stream_config_refuses(settings, says):
    with pytest.raises(ValueError, match=says):
        StreamConfig(**settings)


def test_the_model_decides_the_frames_where_nothing_is_said():
    trained = replace(MODEL_PRESETS["tiny-random"], trained_frames=16)
    assert StreamConfig().for_model(trained).max_frames == 16
    assert StreamConfig(max_frames=8).for_model(trained).max_frames == 8
    assert StreamConfig().for_model(VLM3R_7B).max_frames == USUAL_FRAMES


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("all", "all"),
        ("all_tokens", "all"),
        ("camera_tokens,patch_tokens", "all"),
        ("patch_tokens, camera_tokens", "all"),
        ("camera_tokens", "camera_tokens"),
        ("patch_tokens", "patch_tokens"),
        ("none", "none"),
    ],
)
def test_token_selection(given, meant):
    assert token_selection(given) == meant


def test_unknown_token_selection():
    with pytest.raises(ValueError, match="did you mean 'patch_tokens'"):
        token_selection("patch_token")


def test_published_token_counts():
    assert VLM3R_7B.tokens_per_frame == 210
    assert replace(VLM3R_7B, pool="average").tokens_per_frame == 182
    assert 32 * VLM3R_7B.tokens_per_frame == 6720
    assert replace(VLM3R_7B, pool="none").tokens_per_frame == 756


def test_grids_must_agree():
    with pytest.raises(ValueError, match="one CUT3R token for each SigLIP token"):
        replace(VLM3R_7B, cut3r=replace(VLM3R_7B.cut3r, image_size=512))


def test_head_width_must_be_divisible_by_four():
    with pytest.raises(ValueError, match="divisible by 4"):
        Cut3rConfig(dec_num_heads=7)


def test_from_published_refuses_another_network():
    with pytest.raises(ValueError, match="head_type must be 'dpt'"):
        Cut3rConfig.from_published({"model": {"head_type": "linear"}})


def test_inference_presets():
    """Source: the published evaluation, training and demo code, described in words."""
    asked = {
        name: (preset.pool, preset.time_instruction, preset.max_new_tokens)
        for name, preset in INFERENCE_PRESETS.items()
    }
    assert asked == {
        "paper-eval": ("bilinear", "none", 16),
        "train": ("bilinear", "paragraph", 16),
        "demo": ("average", "line", 1024),
    }
    assert StreamConfig().asking == INFERENCE_PRESETS["paper-eval"]


def test_what_is_set_wins_over_the_preset():
    asking = StreamConfig(preset="demo", max_new_tokens=7, time_instruction="none").asking
    assert (asking.time_instruction, asking.max_new_tokens, asking.pool) == ("none", 7, "average")
    with pytest.raises(ValueError, match="did you mean 'paper-eval'"):
        StreamConfig(preset="paper_eval")


def test_random_presets_say_so():
    assert all(not preset.trained for preset in MODEL_PRESETS.values())


@pytest.mark.parametrize(
    "rgb", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_frame_refuses(rgb):
    with pytest.raises(ValueError, match="uint8 array"):
        Frame(rgb, 0)
