"""A model small enough to build and run in milliseconds."""

from __future__ import annotations

import torch

from vlm3r_core.config import Cut3rConfig, DptConfig, LanguageConfig, ModelConfig, SiglipConfig
from vlm3r_core.loading import build, randomize
from vlm3r_core.model.vlm3r import VLM3R

NANO = ModelConfig(
    name="nano",
    siglip=SiglipConfig(image_size=70, patch_size=14, hidden_size=72, intermediate_size=96, num_layers=2, num_heads=4),
    cut3r=Cut3rConfig(
        image_size=80,
        enc_embed_dim=64,
        enc_depth=2,
        enc_num_heads=4,
        dec_embed_dim=48,
        dec_depth=4,
        dec_num_heads=4,
        state_dec_num_heads=6,
        state_size=16,
        local_mem_size=8,
        dpt=DptConfig((4, 4, 8, 8), 8, 4),
    ),
    language=LanguageConfig(
        hidden_size=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        intermediate_size=96,
        vocab_size=1088,
        max_position=8192,
    ),
    random_seed=0,
)


def build_nano(config: ModelConfig = NANO) -> VLM3R:
    """The nano model with seeded random weights, on the CPU in float32."""
    model = build(config, torch.device("cpu"), torch.float32)
    randomize(model, 0)
    return model
