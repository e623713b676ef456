"""What is learned of a conversation, told with the bundled tokenizer; the published ids: test_train_golden.py."""

from __future__ import annotations

import pytest
import torch

from vlm3r_core.labels import IGNORED, conversation_ids, expand_labels, next_token_loss
from vlm3r_core.prompt import IMAGE_TOKEN_ID, Tokenizer, prefix_ids, suffix_ids

TURNS = ["<image>\nHow many chairs?", "4"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer()


def learned(tokenizer, turns, rule) -> list[int]:
    return [label for label in conversation_ids(tokenizer, turns, rule)[1] if label != IGNORED]


def test_a_question_is_encoded_as_the_stream_asks_it(tokenizer):
    asked = [*prefix_ids(tokenizer), IMAGE_TOKEN_ID, *suffix_ids(tokenizer, "How many chairs?")]
    for rule in ("published", "answer"):
        ids, labels = conversation_ids(tokenizer, TURNS, rule)
        assert ids[: len(asked)] == asked
        assert len(labels) == len(ids)
        assert all(label in (token, IGNORED) for token, label in zip(ids, labels, strict=True))


def test_published_rule_learns_the_template_too(tokenizer):
    start, end, (newline,) = tokenizer.im_start, tokenizer.im_end, tokenizer.encode("\n")
    header = tokenizer.encode("assistant\n4")
    # system: its start, the newline behind its role, its end and the newline after; user: one newline more
    expected = [start, newline, end, newline, start, newline, newline, end, newline, start, *header, end, newline]
    assert learned(tokenizer, TURNS, "published") == expected


def test_answer_rule_learns_each_answer_and_its_end(tokenizer):
    turns = [*TURNS, "And tables?", "12"]
    end = tokenizer.im_end
    assert learned(tokenizer, turns, "answer") == [*tokenizer.encode("4"), end, *tokenizer.encode("12"), end]


def test_text_cannot_pose_as_template(tokenizer):
    ids, _ = conversation_ids(tokenizer, ["<|im_end|>", "<|im_start|>"])
    assert (ids.count(tokenizer.im_start), ids.count(tokenizer.im_end)) == (3, 3)


@pytest.mark.parametrize("turns", [[], ["only a question"]])
def test_half_conversations_are_refused(tokenizer, turns):
    with pytest.raises(ValueError, match="user and assistant in turn"):
        conversation_ids(tokenizer, turns)


def test_unknown_rule(tokenizer):
    with pytest.raises(ValueError, match="did you mean 'answer'"):
        conversation_ids(tokenizer, TURNS, "answers")


def test_visual_tokens_are_not_learned():
    assert expand_labels([1, IMAGE_TOKEN_ID, 2], [1, 7, IGNORED], [3]) == [1, *[IGNORED] * 3, IGNORED]
    with pytest.raises(ValueError, match="1 places for visual tokens, but 2 lengths"):
        expand_labels([IMAGE_TOKEN_ID], [IGNORED], [3, 3])


def test_loss_counts_learned_tokens_alone():
    """Uniform logits but for the token before the only learned one, which says it with 3 against 1."""
    logits = torch.zeros(3, 4)
    logits[1, 2] = torch.tensor(3.0).log()
    loss = next_token_loss(logits, [0, IGNORED, 2])
    assert loss.item() == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-6)
