"""Conversations as token ids and labels, and the loss on them. Says what to learn; trains nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm3r_core.config import check_choice
from vlm3r_core.prompt import IMAGE_TOKEN_ID, SYSTEM_TEXT, Tokenizer

# The position is not learned from; torch's cross entropy calls it so.
IGNORED = -100
IMAGE_MARK = "<image>"
# published: answers with their headers, and the template's tokens everywhere; answer: the text and its end token alone
LABEL_RULES = ("published", "answer")


def conversation_ids(
    tokenizer: Tokenizer, turns: Sequence[str], rule: str = "published"
) -> tuple[list[int], list[int]]:
    """A whole conversation behind the system turn, with what is to be learned of it.

    Args:
        tokenizer: the model's.
        turns: what user and assistant say in turn, the user first. `<image>` stands for the visual tokens.
        rule: one of LABEL_RULES.

    Returns:
        Token ids with IMAGE_TOKEN_ID where the video belongs, and a label for each: the id itself or IGNORED.

    Raises:
        ValueError: unknown rule, or no whole turns.

    Source: VLM-3R's published training code, described in words. Its rule leaves all start, end and lone newline
    tokens to be learned, whoever speaks.
    Differs: text that looks like a control token is spelled letter by letter.
    """
    check_choice("label rule", rule, LABEL_RULES)
    if not turns or len(turns) % 2:
        raise ValueError(f"a conversation takes user and assistant in turn, so an even number; got {len(turns)} turns")
    ids, labels = [], []
    for place, text in enumerate((SYSTEM_TEXT, *turns)):
        role = "system" if place == 0 else "user" if place % 2 else "assistant"
        turn, learned = _turn(tokenizer, role, text, rule)
        ids += turn
        labels += learned
    if rule == "published":
        template = {tokenizer.im_start, tokenizer.im_end, *tokenizer.encode("\n")}
        labels = [token if token in template else label for token, label in zip(ids, labels, strict=True)]
    return ids, labels


def _turn(tokenizer: Tokenizer, role: str, text: str, rule: str) -> tuple[list[int], list[int]]:
    header, tail = [tokenizer.im_start], [tokenizer.im_end, *tokenizer.encode("\n")]
    if rule == "answer":
        # the header is encoded alone, as it is when the model is asked
        header += tokenizer.encode(f"{role}\n")
        content = _content(tokenizer, text)
    else:
        content = _content(tokenizer, f"{role}\n{text}")
    ids = [*header, *content, *tail]
    if role != "assistant":
        return ids, [IGNORED] * len(ids)
    if rule == "published":
        return ids, ids
    return ids, [*[IGNORED] * len(header), *content, tail[0], *[IGNORED] * (len(tail) - 1)]


def _content(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text in which marks stand for visual tokens."""
    first, *others = text.split(IMAGE_MARK)
    ids = tokenizer.encode(first)
    for piece in others:
        ids += [IMAGE_TOKEN_ID, *tokenizer.encode(piece)]
    return ids


def expand_labels(ids: Sequence[int], labels: Sequence[int], visual_lengths: Sequence[int]) -> list[int]:
    """Labels for the sequence that the language model sees; visual tokens are never learned.

    Args:
        ids: with IMAGE_TOKEN_ID where visual tokens belong.
        labels: one for each id.
        visual_lengths: how many visual tokens each of those places takes.

    Raises:
        ValueError: the numbers of places differ.
    """
    places = sum(token == IMAGE_TOKEN_ID for token in ids)
    if places != len(visual_lengths):
        raise ValueError(f"the ids have {places} places for visual tokens, but {len(visual_lengths)} lengths came")
    lengths, expanded = iter(visual_lengths), []
    for token, label in zip(ids, labels, strict=True):
        expanded += [IGNORED] * next(lengths) if token == IMAGE_TOKEN_ID else [label]
    return expanded


def next_token_loss(logits: Tensor, labels: Sequence[int]) -> Tensor:
    """Mean cross entropy of each learned token, given everything before it.

    Args:
        logits: [L, V].
        labels: L of them; IGNORED ones do not count.

    Returns:
        A scalar, float32.
    """
    targets = torch.tensor(list(labels[1:]), device=logits.device)
    return F.cross_entropy(logits[:-1].float(), targets, ignore_index=IGNORED)
