"""The parts between CUT3R and the answer: against transformers, formulas, and themselves without a cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from nano import NANO, build_nano
from transformers import SiglipVisionConfig, SiglipVisionModel

from vlm3r_core.model.fusion import CrossAttentionFusion, select_tokens
from vlm3r_core.model.projector import add_newlines, pool_grid
from vlm3r_core.model.siglip import SiglipTower
from vlm3r_core.stream.decoding import greedy_tokens


@torch.inference_mode()
def test_siglip_is_the_layer_before_the_last_of_the_full_model():
    config = NANO.siglip
    full = SiglipVisionModel(
        SiglipVisionConfig(
            image_size=config.image_size,
            patch_size=config.patch_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers + 1,
            num_attention_heads=config.num_heads,
        )
    ).eval()
    tower = SiglipTower(config).eval()
    kept = {k: v for k, v in full.state_dict().items() if k in tower.vision.state_dict()}
    tower.vision.load_state_dict(kept)
    pixels = torch.randn(2, 3, config.image_size, config.image_size)
    theirs = full(pixels, output_hidden_states=True).hidden_states[-2]
    # the same operations on the same weights
    torch.testing.assert_close(tower(pixels), theirs, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_fusion_formula():
    torch.manual_seed(0)
    fusion = CrossAttentionFusion(36, 16, 18).eval()
    for parameter in fusion.parameters():
        parameter.normal_(0, 0.3)
    image, spatial = torch.randn(2, 5, 36), torch.randn(2, 4, 16)

    def norm(x, layer):
        mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * layer.weight + layer.bias

    z = norm(spatial, fusion.spatial_norm)
    parts = (fusion.query(norm(image, fusion.image_norm)), fusion.key(z), fusion.value(z))
    weights = fusion.attention.in_proj_weight.chunk(3), fusion.attention.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, w, b).unflatten(-1, (18, 2)).transpose(1, 2) for x, w, b in zip(parts, *weights, strict=True)
    )
    mixed = ((q @ k.transpose(-1, -2)) / 2**0.5).softmax(-1) @ v
    attended = fusion.attention.out_proj(mixed.transpose(1, 2).flatten(2))
    expected = norm(fusion.out_proj(attended), fusion.out_norm) + image
    torch.testing.assert_close(fusion(image, spatial), expected, rtol=1e-5, atol=1e-5)


def test_select_tokens():
    camera, patch = torch.zeros(1, 1, 2), torch.ones(1, 3, 2)
    assert select_tokens(camera, patch, "all")[0, :, 0].tolist() == [0, 1, 1, 1]
    assert select_tokens(camera, patch, "camera_tokens") is camera
    assert select_tokens(camera, patch, "patch_tokens") is patch
    assert select_tokens(camera, patch, "none") is None


@torch.inference_mode()
def test_selection_none_skips_the_fusion_and_others_differ():
    outputs = {}
    pixels = torch.randn(1, 3, NANO.siglip.image_size, NANO.siglip.image_size)
    for selection in ("all", "camera_tokens", "patch_tokens", "none"):
        model = build_nano(replace(NANO, token_selection=selection))
        outputs[selection] = model.encode(pixels)
    torch.testing.assert_close(outputs["none"].fused, outputs["none"].siglip, rtol=0, atol=0)
    for selection in ("camera_tokens", "patch_tokens", "none"):
        assert (outputs["all"].fused - outputs[selection].fused).abs().max() > 1e-3


@pytest.mark.parametrize(("mode", "side"), [("bilinear", 3), ("average", 2), ("max", 2), ("none", 5)])
def test_pool_sizes(mode, side):
    assert pool_grid(torch.randn(2, 25, 7), mode).shape == (2, side * side, 7)


def test_average_pool_values():
    tokens = torch.arange(16.0).reshape(1, 16, 1)
    assert pool_grid(tokens, "average")[0, :, 0].tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pool_grid(tokens, "max")[0, :, 0].tolist() == [5, 7, 13, 15]


def test_newline_places():
    tokens, newline = torch.arange(4.0).reshape(1, 4, 1), torch.tensor([9.0])
    assert add_newlines(tokens, newline, "grid")[0, :, 0].tolist() == [0, 1, 9, 2, 3, 9]
    assert add_newlines(tokens, newline, "frame")[0, :, 0].tolist() == [0, 1, 2, 3, 9]
    assert add_newlines(tokens, newline, "no_token")[0, :, 0].tolist() == [0, 1, 2, 3]


@torch.inference_mode()
def test_greedy_equals_transformers_generate(nano_model):
    language = nano_model.language
    embeddings = torch.randn(1, 9, language.config.hidden_size)
    theirs = language.qwen.generate(
        inputs_embeds=embeddings, max_new_tokens=10, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0].tolist()
    cache = language.new_cache(64)
    logits = language.next_logits(embeddings[0], cache)
    vocab = language.config.vocab_size
    ours = [t for t, _ in greedy_tokens(language, cache, logits, vocab_size=vocab, stop_ids=(), max_new_tokens=10)]
    assert ours == theirs


@torch.inference_mode()
def test_cache_in_pieces_equals_no_cache(nano_model):
    language = nano_model.language
    embeddings = torch.randn(40, language.config.hidden_size)
    whole = language.logits(embeddings)
    cache = language.new_cache(50)
    language.append(embeddings[:7], cache)
    language.append(embeddings[7:30], cache)
    language.append(torch.randn(12, language.config.hidden_size), cache)
    cache.crop(30)
    # float32 sums in another order
    torch.testing.assert_close(language.next_logits(embeddings[30:], cache), whole[-1], rtol=1e-4, atol=1e-4)
    assert cache.length == 40


def test_a_full_cache_refuses(nano_model):
    cache = nano_model.language.new_cache(4)
    with pytest.raises(ValueError, match="would be 5 tokens but the cache holds 4"):
        nano_model.language.append(torch.zeros(5, nano_model.language.config.hidden_size), cache)
    assert cache.length == 0


@torch.inference_mode()
def test_stills_take_one_place_each(nano_model):
    side = NANO.siglip.image_size
    frames = torch.randn(3, 3, side, side)
    logits = nano_model(frames, [1, -200, 2, -200, 3, -200, 4])
    assert logits.shape == (4 + 3 * NANO.tokens_per_frame, NANO.language.vocab_size)
    with pytest.raises(ValueError, match="2 places for images but 3 were given"):
        nano_model(frames, [1, -200, 2, -200])
