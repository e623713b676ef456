"""Packed conversations against the same ones alone: loss, gradients, and what a pack refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import vlm3r_core
from training.packing import ATTENTIONS, REDUCTIONS, pack, packed_hidden, packed_loss
from vlm3r_core.labels import LABEL_RULES, conversation_ids, expand_labels, next_token_loss
from vlm3r_core.model.vlm3r import visual_places

VIDEO = "<image>\nThese are frames of a video.\n"
QUESTIONS = (
    ("How many chairs are in this room?", "4"),
    ("How many chairs are in this room, and how many tables?", "4 chairs and 2 tables"),
    ("Which is closer?\nOptions:\nA. sofa\nB. table", "B"),
    ("What is the size of this room (in square meters)?", "23.5"),
    ("What is the size of this room (in square meters)?", "24.0"),
)
VISUAL_LENGTH = 40
# Only the order of sums differs.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@pytest.fixture(scope="module")
def models():
    model = vlm3r_core.load("tiny-random", "cpu", "float32")
    return {torch.float32: model, torch.float64: widened(vlm3r_core.load("tiny-random", "cpu", "float32"))}


def widened(model):
    """In float64 throughout: transformers' own norms go through float32, whatever the weights."""
    for name, norm in [*model.language.named_modules()]:
        if type(norm).__name__ == "Qwen2RMSNorm":
            wide = torch.nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon)
            wide.weight = norm.weight
            parent, _, attribute = name.rpartition(".")
            setattr(model.language.get_submodule(parent), attribute, wide)
    return model.double()


def conversations(model, rule: str, count: int = len(QUESTIONS)):
    pairs = QUESTIONS[:count]
    return [conversation_ids(model.tokenizer, [VIDEO + question, answer], rule) for question, answer in pairs]


def visual_tokens(model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = VISUAL_LENGTH, model.config.language.hidden_size
    return (0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(model.dtype).requires_grad_(True)


def alone(model, talks, visual, reduction: str) -> torch.Tensor:
    """The same loss, every conversation with a video of its own."""
    losses, learned = [], []
    for ids, labels in talks:
        logits = model.language.logits(model.embed_prompt(ids, [visual]))
        expanded = expand_labels(ids, labels, [len(visual)])
        targets = torch.tensor(expanded[1:])
        if model.dtype == torch.float64:
            losses.append(torch.nn.functional.cross_entropy(logits[:-1], targets))
        else:
            losses.append(next_token_loss(logits, expanded))
        learned.append(int((targets >= 0).sum()))
    if reduction == "conversation":
        return torch.stack(losses).mean()
    return sum(loss * n for loss, n in zip(losses, learned, strict=True)) / sum(learned)


def gradients(model, loss, visual) -> dict[str, torch.Tensor]:
    names = [name for name, _ in model.language.named_parameters()]
    grads = torch.autograd.grad(loss, [*model.language.parameters(), visual], allow_unused=True)
    return {name: grad for name, grad in zip([*names, "visual"], grads, strict=True) if grad is not None}


@pytest.fixture
def learning(models):
    for model in models.values():
        model.language.requires_grad_(True)
    yield models
    for model in models.values():
        model.language.requires_grad_(False)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("rule", LABEL_RULES)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_equals_the_conversations_alone(learning, dtype, rule, reduction, attention):
    model, limit = learning[dtype], TOLERANCE[dtype]
    talks = conversations(model, rule)
    visual, own = visual_tokens(model), visual_tokens(model)
    packed = packed_loss(model, pack(talks, VISUAL_LENGTH), visual, reduction=reduction, attention=attention)
    single = alone(model, talks, own, reduction)
    torch.testing.assert_close(packed, single, rtol=0, atol=limit)
    ours, theirs = gradients(model, packed, visual), gradients(model, single, own)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 60
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=limit, msg=lambda m, n=name: f"{n}: {m}")


def test_one_conversation_is_a_pack(models):
    model = models[torch.float64]
    talks = conversations(model, "answer", 1)
    loss = packed_loss(model, pack(talks, VISUAL_LENGTH), visual_tokens(model))
    torch.testing.assert_close(loss, alone(model, talks, visual_tokens(model), "token"), rtol=0, atol=1e-9)


def test_the_video_is_held_once(models):
    talks = conversations(models[torch.float32], "answer")
    packed = pack(talks, VISUAL_LENGTH)
    single = sum(len(ids) - 1 + VISUAL_LENGTH for ids, _ in talks)
    assert len(packed) < single - (len(talks) - 1) * VISUAL_LENGTH
    assert packed.count == len(talks)
    assert packed.may_see().sum() < len(packed) ** 2 / 2


def test_a_question_does_not_see_another(models):
    """Another question in its place changes nothing for the rest."""
    model = models[torch.float32]
    talks = conversations(model, "answer")
    other = conversation_ids(model.tokenizer, [VIDEO + "Is there a piano in this room, or an organ?", "no"], "answer")
    visual = visual_tokens(model)
    first, second = pack(talks, VISUAL_LENGTH), pack([talks[0], other, *talks[2:]], VISUAL_LENGTH)
    assert first.prefix == second.prefix
    keep = [per_token(model, p, visual)[p.conversation != 1] for p in (first, second)]
    torch.testing.assert_close(*keep, rtol=0, atol=1e-5)


def per_token(model, packed, visual) -> torch.Tensor:
    hidden = packed_hidden(model.language, model.embed_prompt(packed.ids, [visual]), packed)
    logits = model.language.qwen.lm_head(hidden[packed.sources])
    return torch.nn.functional.cross_entropy(logits, packed.targets, reduction="none").detach()


def test_what_it_refuses(models):
    model = models[torch.float32]
    talks = conversations(model, "answer")
    with pytest.raises(ValueError, match="at least one conversation"):
        pack([], VISUAL_LENGTH)
    with pytest.raises(ValueError, match="conversation 1 must hold the video once"):
        pack([talks[0], conversation_ids(model.tokenizer, ["Hello", "Hi"], "answer")], VISUAL_LENGTH)
    with pytest.raises(ValueError, match="differ before the video"):
        pack([talks[0], conversation_ids(model.tokenizer, ["Look: " + VIDEO, "yes"], "answer")], VISUAL_LENGTH)
    with pytest.raises(ValueError, match="made for 40 visual tokens, 39 came"):
        packed_loss(model, pack(talks, VISUAL_LENGTH), visual_tokens(model)[1:])
    mute = (talks[1][0], [-100] * len(talks[1][0]))
    with pytest.raises(ValueError, match="conversation 1 of the pack has no token to learn"):
        packed_loss(model, pack([talks[0], mute], VISUAL_LENGTH), visual_tokens(model))
    with pytest.raises(ValueError, match="attention must be one of mask, split, fold"):
        packed_loss(model, pack(talks, VISUAL_LENGTH), visual_tokens(model), attention="flash")


def test_heads_that_hide_the_video(learning, monkeypatch):
    """All ways to attend agree with the conversations alone, whose whole sequences hide it by a mask of their own."""
    model = learning[torch.float64]
    monkeypatch.setattr(model.language, "config", replace(model.language.config, text_only_heads=3))
    talks, single = conversations(model, "answer", 3), visual_tokens(model)
    losses = []
    for ids, labels in talks:
        logits = model.language.logits(model.embed_prompt(ids, [single]), visual_places(ids, [single]))
        targets = torch.tensor(expand_labels(ids, labels, [len(single)])[1:])
        losses.append(torch.nn.functional.cross_entropy(logits[:-1], targets))
    expected = torch.stack(losses).mean()
    theirs = gradients(model, expected, single)
    for attention in ATTENTIONS:
        visual = visual_tokens(model)
        loss = packed_loss(model, pack(talks, VISUAL_LENGTH), visual, attention=attention)
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-9)
        for name, value in gradients(model, loss, visual).items():
            torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_without_a_video(learning, attention):
    """A video of no visual tokens: what the model says to a question that nobody shows anything with."""
    model = learning[torch.float64]
    talks, nothing = conversations(model, "answer"), visual_tokens(model)[:0]
    loss = packed_loss(model, pack(talks, 0), nothing, attention=attention)
    torch.testing.assert_close(loss, alone(model, talks, nothing, "conversation"), rtol=0, atol=1e-9)
