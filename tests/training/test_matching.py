"""Heads that start by matching: alike tokens find each other over a video's length, other heads are left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from training.matching import start_matching
from vlm3r_core.config import TINY
from vlm3r_core.model.language import LanguageModel

DISTANCE = 700


def test_a_word_finds_its_like():
    torch.manual_seed(0)
    language = LanguageModel(TINY.language)
    first = language.qwen.model.layers[0].self_attn
    before = first.q_proj.weight.clone()
    assert start_matching(language, 1.9, DISTANCE, seed=0) > 0
    size, free = TINY.language.hidden_size // TINY.language.num_heads, TINY.language.text_only_heads
    assert torch.equal(first.q_proj.weight[: free * size], before[: free * size])
    tokens = torch.nn.functional.normalize(torch.randn(DISTANCE, TINY.language.hidden_size), dim=-1)
    tokens = tokens * TINY.language.hidden_size**0.5
    rotary = language.qwen.model.rotary_emb
    cos, sin = rotary(tokens[None], torch.arange(DISTANCE + 1)[None])

    def turned(projection, x, at):
        heads = projection(x).view(len(x), -1, size)
        half = torch.cat([-heads[..., size // 2 :], heads[..., : size // 2]], dim=-1)
        return heads * cos[0, at, None] + half * sin[0, at, None]

    with torch.no_grad():
        keys = turned(first.k_proj, tokens, slice(0, DISTANCE))
        for place in (3, 350, 690):
            query = turned(first.q_proj, tokens[place : place + 1], slice(DISTANCE, DISTANCE + 1))
            scores = (query * keys).sum(-1).mul(size**-0.5)[:, free:].mean(-1)
            assert int(scores.argmax()) == place


def test_what_it_refuses():
    shared = LanguageModel(replace(TINY.language, num_kv_heads=3, num_layers=1))
    with pytest.raises(ValueError, match="as many key-value heads"):
        start_matching(shared, 1.9, DISTANCE, seed=0)
    with pytest.raises(ValueError, match="turn every pair"):
        start_matching(LanguageModel(replace(TINY.language, num_layers=1)), 1.9, 10**9, seed=0)
