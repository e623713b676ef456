"""Heads of text that hide the visual tokens: the stream, the whole sequence and what they are meant to change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from nano import NANO, build_nano

from vlm3r_core.config import LanguageConfig
from vlm3r_core.model.vlm3r import visual_places
from vlm3r_core.prompt import IMAGE_TOKEN_ID

BEFORE, VISUAL, AFTER = [1, 2, 3], 12, [4, 5, 6, 7]
PROMPT = [*BEFORE, IMAGE_TOKEN_ID, *AFTER]


@pytest.fixture(scope="module")
def model():
    return build_nano(replace(NANO, language=replace(NANO.language, text_only_heads=2)))


def visual_tokens(model, seed: int = 0) -> torch.Tensor:
    return torch.randn(VISUAL, model.config.language.hidden_size, generator=torch.Generator().manual_seed(seed))


def whole(model, visual: torch.Tensor) -> torch.Tensor:
    return model.language.logits(model.embed_prompt(PROMPT, [visual]), visual_places(PROMPT, [visual]))


def test_a_cached_prefix_equals_the_whole_sequence(model):
    visual, language = visual_tokens(model), model.language
    cache = language.new_cache(32)
    language.append(language.embed(torch.tensor(BEFORE)), cache)
    for part in visual.split(5):
        language.append(part, cache, visual=True)
    together = language.next_logits(language.embed(torch.tensor(AFTER)), cache)
    expected = whole(model, visual)[-1]
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-4)
    cache.crop(len(BEFORE) + VISUAL)
    for token in AFTER:
        alone = language.next_logits(language.embed(torch.tensor([token])), cache)
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-4)
    cache.crop(len(BEFORE) + VISUAL)
    embeddings, places = language.embed(torch.tensor(AFTER)), torch.arange(len(AFTER))
    branch = language.branch_logits(embeddings, places, torch.ones(4, 4, dtype=torch.bool).tril(), cache)
    torch.testing.assert_close(branch[-1], expected, rtol=1e-4, atol=1e-4)


def test_without_visual_tokens_nothing_is_hidden(model):
    plain = build_nano()
    ids = torch.tensor(BEFORE + AFTER)
    expected = plain.language.logits(plain.language.embed(ids))
    torch.testing.assert_close(model.language.logits(model.language.embed(ids)), expected, rtol=0, atol=0)
    nothing = torch.zeros(0, model.config.language.hidden_size)
    torch.testing.assert_close(whole(model, nothing), expected, rtol=0, atol=0)


def test_it_changes_text_and_not_visual_tokens(model):
    visual, plain = visual_tokens(model), build_nano()
    with_heads, without = whole(model, visual), whole(plain, visual)
    end = len(BEFORE) + VISUAL
    torch.testing.assert_close(with_heads[:end], without[:end], rtol=1e-5, atol=1e-5)
    assert (with_heads[end:] - without[end:]).abs().max() > 1e-3


def test_all_heads_hide_the_video_from_the_text():
    blind = build_nano(replace(NANO, language=replace(NANO.language, text_only_heads=NANO.language.num_heads)))
    one, other = (whole(blind, visual_tokens(blind, seed))[-1] for seed in (0, 1))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"text_only_heads must be in 0\.\.28"):
        LanguageConfig(text_only_heads=29)
    with pytest.raises(ValueError, match="one_token"):
        replace(NANO, newline="one_token", language=replace(NANO.language, text_only_heads=1))
