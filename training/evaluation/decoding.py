"""Greedy decoding of several questions at once behind one cached prefix, each as if it were asked alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vlm3r_core.model.language import KvCache, LanguageModel
from vlm3r_core.stream.decoding import NumberChoice, greedy_step


@dataclass
class Decoded:
    """What was decoded behind one question.

    Args:
        first_logits: [V] of the first token, float32 on the CPU.
        ids: tokens, the one that ended the text included.
        probabilities: the model's own, of each token.
    """

    first_logits: Tensor
    ids: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)


@torch.inference_mode()
def decode_together(
    language: LanguageModel,
    cache: KvCache,
    questions: Sequence[Sequence[int]],
    *,
    vocab_size: int,
    stop_ids: Collection[int],
    max_new_tokens: int,
    repetition_penalty: float = 1.0,
    numbers: NumberChoice | None = None,
) -> list[Decoded]:
    """Decodes an answer to each question.

    Every pass holds the tokens of all questions that are not answered yet; a token sees the prefix and its own
    question only and stands where it would stand alone, so the answers are those of the questions one by one.

    Args:
        language: the language model.
        cache: holds the prefix; as long afterwards as before. It has room for the questions and their answers.
        questions: token ids behind the prefix, at least one each.
        vocab_size: ids from here on are never chosen.
        stop_ids: tokens that end an answer.
        max_new_tokens: of each answer.
        repetition_penalty: on tokens the answer holds already; 1 for none.
        numbers: what is said where a first token is a number.

    Raises:
        ValueError: the cache has no room.
    """
    prefix = cache.length
    device = language.qwen.lm_head.weight.device
    batch = _Batch(prefix, device)
    try:
        answers: list[Decoded] = []
        asked = range(len(questions))
        for logits in _forward(language, cache, batch, asked, questions):
            answers.append(Decoded(logits.float().cpu()))
            _extend(answers[-1], logits, vocab_size, repetition_penalty, numbers)
        for _ in range(max_new_tokens - 1):
            asked = [number for number, answer in enumerate(answers) if answer.ids[-1] not in stop_ids]
            if not asked:
                break
            last = [[answers[number].ids[-1]] for number in asked]
            for number, logits in zip(asked, _forward(language, cache, batch, asked, last), strict=True):
                _extend(answers[number], logits, vocab_size, repetition_penalty, numbers)
        return answers
    finally:
        cache.crop(prefix)


class _Batch:
    """Whose each token behind the prefix is, and where it stands in its own question."""

    def __init__(self, prefix: int, device: torch.device):
        self.prefix = prefix
        self.owners = torch.zeros(0, dtype=torch.long, device=device)
        self._lengths: dict[int, int] = {}

    def add(self, numbers: Sequence[int], tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Appends tokens of some questions.

        Returns:
            Positions [T], counted from the beginning of the context, and may_see [T, everything behind the prefix].
        """
        device, before = self.owners.device, len(self.owners)
        positions, owners = [], []
        for number, ids in zip(numbers, tokens, strict=True):
            start = self._lengths.get(number, 0)
            self._lengths[number] = start + len(ids)
            positions += range(self.prefix + start, self.prefix + start + len(ids))
            owners += [number] * len(ids)
        new = torch.tensor(owners, device=device)
        self.owners = torch.cat([self.owners, new])
        places = torch.arange(len(self.owners), device=device)
        may_see = (new[:, None] == self.owners[None]) & (places[before:, None] >= places[None])
        return torch.tensor(positions, device=device), may_see


def _forward(
    language: LanguageModel, cache: KvCache, batch: _Batch, numbers: Sequence[int], tokens: Sequence[Sequence[int]]
) -> Tensor:
    """Runs tokens of some questions into the cache; logits [questions, V] after the last token of each."""
    flat = [token for ids in tokens for token in ids]
    if cache.length + len(flat) > cache.capacity:
        raise ValueError(
            f"the context would be {cache.length + len(flat)} tokens but the cache holds {cache.capacity}; "
            "ask fewer questions at once"
        )
    positions, may_see = batch.add(numbers, tokens)
    embeddings = language.embed(torch.tensor(flat, device=positions.device))
    hidden = language.run_behind(embeddings, positions, may_see, cache)
    ends = torch.tensor([len(ids) for ids in tokens], device=positions.device).cumsum(0) - 1
    return language.qwen.lm_head(hidden[ends])


def _extend(
    answer: Decoded, logits: Tensor, vocab_size: int, repetition_penalty: float, numbers: NumberChoice | None
) -> None:
    token, probability = greedy_step(logits, vocab_size, answer.ids, repetition_penalty, numbers)
    answer.ids.append(token)
    answer.probabilities.append(probability)
