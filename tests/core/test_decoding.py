"""Greedy decoding with a repetition penalty equals transformers' own; only what was decoded counts as said."""

from __future__ import annotations

import pytest
import torch

from vlm3r_core.stream.decoding import NumberChoice, greedy_step, greedy_tokens


@torch.inference_mode()
@pytest.mark.parametrize("penalty", [1.3, 2.0])
def test_penalty_equals_transformers_generate(nano_model, penalty):
    language = nano_model.language
    embeddings = torch.randn(9, language.config.hidden_size, generator=torch.Generator().manual_seed(1))
    theirs = language.qwen.generate(
        inputs_embeds=embeddings[None],
        max_new_tokens=30,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        repetition_penalty=penalty,
    )[0].tolist()

    def ours(**settings):
        cache = language.new_cache(64)
        logits = language.next_logits(embeddings, cache)
        steps = greedy_tokens(
            language,
            cache,
            logits,
            vocab_size=language.config.vocab_size,
            stop_ids=(),
            max_new_tokens=30,
            **settings,
        )
        return [token for token, _ in steps]

    assert ours(repetition_penalty=penalty) == theirs
    assert ours() != theirs


def test_penalty_divides_above_zero_and_multiplies_below():
    logits = torch.tensor([3.0, 2.0, -9.0])
    assert greedy_step(logits, 3)[0] == 0
    assert greedy_step(logits, 3, said=[0], repetition_penalty=1.4)[0] == 0
    assert greedy_step(logits, 3, said=[0, 0], repetition_penalty=1.6)[0] == 1
    assert greedy_step(torch.tensor([-1.0, -1.2]), 2, said=[0], repetition_penalty=1.5)[0] == 1


def test_probability_is_the_models_own():
    logits = torch.tensor([3.0, 2.0])
    token, probability = greedy_step(logits, 2, said=[0], repetition_penalty=4.0)
    assert token == 1
    assert probability == pytest.approx(logits.softmax(0)[1].item())
    assert logits.tolist() == [3.0, 2.0]


def test_numbers_are_decoded_by_their_median():
    numbers = NumberChoice({4: 1.0, 0: 2.0, 2: 3.0, 3: 3.5}, "median")
    # of the numbers' probability .45 lies at 1, .2 at 2: half of it is reached at 2, whatever the word in between has
    logits = torch.tensor([0.2, 0.1, 0.2, 0.15, 0.45]).log()
    assert numbers.choose(logits) == 0
    token, probability = greedy_step(logits, 5, numbers=numbers)
    assert token == 0
    assert probability == pytest.approx(0.2 / 1.1)
    assert greedy_step(logits, 5)[0] == 4
    assert greedy_step(logits, 5, said=[7], numbers=numbers)[0] == 4, "only the first token"
    word = logits.index_fill(0, torch.tensor([1]), 0.0)
    assert greedy_step(word, 5, numbers=numbers)[0] == 1, "the best token is a word"
    alone = torch.tensor([-torch.inf, -torch.inf, -torch.inf, 0.0, -torch.inf])
    assert numbers.choose(alone) == 3


def test_numbers_are_decoded_by_the_one_that_is_closest_on_average():
    values = {0: 1.0, 1: 2.0, 2: 4.0, 3: 2.5, 4: 5.0, 5: 0.0}
    closest = NumberChoice(values, "closest")
    # 1 is likeliest and the median; 4 and 5 are near to each other, as shares of either: .3 + .3 * .6 for 4 exceeds .4
    logits = torch.tensor([0.4, 1e-6, 0.3, 1e-6, 0.3, 1e-6]).log()
    assert closest.choose(logits) == 2
    assert greedy_step(logits, 6, numbers=closest)[0] == 2
    # 2.5 would be closest to both 2 and 4, but is no answer the model holds for possible
    between = torch.tensor([1e-6, 0.5, 0.5, 1e-6, 1e-6, 1e-6]).log()
    assert closest.choose(between) == 1
    # 0 is close to nothing but 0
    assert closest.choose(torch.tensor([0.3, 0.3, 1e-6, 1e-6, 1e-6, 0.4]).log()) == 5
