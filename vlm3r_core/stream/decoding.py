"""Reading answers off the language model: greedy text, option letters, whole continuations. Parses nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vlm3r_core.model.language import KvCache, LanguageModel
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import Tokenizer

# an error of this share of the truth, and all beyond it, counts as nothing known; the benchmarks' least confidence
_FAR = 0.5
# part of the likeliest number's probability that one needs to be said
_PLAUSIBLE = 0.05


def letter_probabilities(logits: Tensor, letter_ids: Sequence[int]) -> list[float]:
    """Probability of each option letter among the given ones, from the logits [V] of the first answer token."""
    return logits[list(letter_ids)].float().softmax(0).tolist()


@dataclass(frozen=True, eq=False)
class NumberChoice:
    """Which of the tokens that are numbers is said, by all that is known of how likely each is.

    Args:
        values: of the tokens.
        decoding: `median`: the token below and above which lies half of the probability. `closest`: the one that is
            closest to the truth on average, an error of half the truth or more counting as none of it known; of those
            only that are not much less likely than the likeliest, so that no fraction stands between two counts.
    """

    values: Mapping[int, float]
    decoding: str

    def choose(self, logits: Tensor) -> int:
        """The token to say, from logits [V]."""
        shares = logits[self._tokens].double().softmax(0).cpu()
        if self.decoding == "median":
            return self._tokens[min(int((shares.cumsum(0) < 0.5).sum()), len(self._tokens) - 1)]
        expected = (self._closeness @ shares).masked_fill(shares < _PLAUSIBLE * shares.max(), -1.0)
        return self._tokens[int(expected.argmax())]

    @cached_property
    def _tokens(self) -> list[int]:
        return sorted(self.values, key=lambda token: (self.values[token], token))

    @cached_property
    def _closeness(self) -> Tensor:
        """How close saying one number (row) is when another (column) is true: 1 to 0."""
        numbers = torch.tensor([self.values[token] for token in self._tokens], dtype=torch.float64)
        apart = (numbers[:, None] - numbers[None]).abs()
        # of a truth of 0 there is no share: nothing but 0 is close to it
        return torch.where(apart == 0, 1.0, (1 - apart / (_FAR * numbers.abs())).clamp(min=0))


def number_choice(model: VLM3R, tokenizer: Tokenizer) -> NumberChoice | None:
    """How a model's numbers are chosen, None where the likeliest token is said."""
    if model.config.number_decoding == "greedy" or not tokenizer.numbers:
        return None
    return NumberChoice(tokenizer.numbers, model.config.number_decoding)


@torch.inference_mode()
def greedy_step(
    logits: Tensor,
    vocab_size: int,
    said: Sequence[int] = (),
    repetition_penalty: float = 1.0,
    numbers: NumberChoice | None = None,
) -> tuple[int, float]:
    """The best token id below vocab_size and its probability.

    Args:
        logits: [V].
        vocab_size: ids from here on are never chosen (rows without a token).
        said: ids that were decoded before; their logits are divided by the penalty, multiplied if negative. The
            probability is the model's own, without penalty.
        repetition_penalty: 1 or more.
        numbers: what is said where the best first token is a number.
    """
    logits = logits[:vocab_size].float()
    scores = logits
    if said and repetition_penalty != 1.0:
        ids = torch.tensor(sorted(set(said)), device=logits.device)
        chosen = logits[ids]
        penalized = torch.where(chosen > 0, chosen / repetition_penalty, chosen * repetition_penalty)
        scores = logits.index_copy(0, ids, penalized)
    token = int(scores.argmax())
    if numbers and not said and token in numbers.values:
        token = numbers.choose(logits)
    return token, float(logits.softmax(0)[token])


def greedy_tokens(
    language: LanguageModel,
    cache: KvCache,
    logits: Tensor,
    *,
    vocab_size: int,
    stop_ids: Sequence[int],
    max_new_tokens: int,
    repetition_penalty: float = 1.0,
    numbers: NumberChoice | None = None,
) -> Iterator[tuple[int, float]]:
    """Decodes greedily behind the cached text, one (token id, probability) at a time.

    Args:
        language: the language model.
        cache: what was said so far; grows by the decoded tokens.
        logits: [V] after the cached text.
        vocab_size: ids from here on are never chosen (rows without a token).
        stop_ids: end tokens; the one that ends the text is yielded last.
        max_new_tokens: yields at most this many.
        repetition_penalty: on tokens decoded here, not on the text before; 1 for none.
        numbers: as for greedy_step.
    """
    said: list[int] = []
    for count in range(1, max_new_tokens + 1):
        token, probability = greedy_step(logits, vocab_size, said, repetition_penalty, numbers)
        said.append(token)
        yield token, probability
        if token in stop_ids or count == max_new_tokens:
            return
        with torch.inference_mode():
            ids = torch.tensor([token], device=logits.device)
            logits = language.next_logits(language.embed(ids), cache)


@torch.inference_mode()
def continuation_log_probs(
    language: LanguageModel, cache: KvCache, first_logits: Tensor, continuations: Sequence[Sequence[int]]
) -> list[float]:
    """Log-likelihood of each continuation of the cached text, all in one pass.

    Args:
        language: the language model.
        cache: the text before; unchanged afterwards.
        first_logits: [V] after that text.
        continuations: token ids of each, at least one id.

    Returns:
        Sum over its tokens of log P(token | text and the tokens before), one number a continuation.
    """
    inputs = [ids[:-1] for ids in continuations]
    owner = torch.tensor([i for i, ids in enumerate(inputs) for _ in ids], device=first_logits.device)
    places = torch.tensor([p for ids in inputs for p in range(len(ids))], device=first_logits.device)
    targets = torch.tensor([t for ids in continuations for t in ids[1:]], device=first_logits.device)
    flat = torch.tensor([t for ids in inputs for t in ids], device=first_logits.device)
    firsts = torch.tensor([ids[0] for ids in continuations], device=first_logits.device)
    scores = first_logits.float().log_softmax(0)[firsts]
    if len(flat):
        may_see = (owner[:, None] == owner[None]) & (places[:, None] >= places[None])
        logits = language.branch_logits(language.embed(flat), places, may_see, cache)
        log_probs = logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
        scores = scores.index_add(0, owner, log_probs)
    return scores.tolist()
