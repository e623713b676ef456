"""Numbers as a small model says them, a token each: which token to learn, and which others are nearly as good."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlm3r_core.prompt import Tokenizer

# Of an exact 0 the neighbours are taken as of this.
_LEAST = 0.1


class NumberWords:
    """The numbers of a tokenizer, in the two ways answers give them.

    Args:
        tokenizer: with numbers.

    Raises:
        ValueError: it has none.
    """

    def __init__(self, tokenizer: Tokenizer):
        if not tokenizer.numbers:
            raise ValueError(
                "the tokenizer spells numbers digit by digit; a model that learns them as words needs one that "
                "`python -m training.make_tokenizer --kind superwords` makes"
            )
        texts = {token: tokenizer.decode([token]) for token in tokenizer.numbers}
        values = tokenizer.numbers
        decimals = [token for token, text in texts.items() if "." in text]
        self.whole = sorted((token for token in texts if token not in set(decimals)), key=values.__getitem__)
        most = max((values[token] for token in decimals), default=-1.0)
        above = [token for token in self.whole if values[token] > most]
        self.measured = sorted(decimals, key=values.__getitem__) + above
        self.values, self._texts, self._decimals = values, texts, frozenset(decimals)

    def nearest(self, text: str) -> str:
        """A number as it can be said in one token; what is none, or far beyond them, stays as it is."""
        try:
            value = float(text)
        except ValueError:
            return text
        if text in self._texts.values() or not 0 <= value <= 1.05 * self.values[self.measured[-1]]:
            return text
        return self._texts[min(self.measured, key=lambda token: abs(self.values[token] - value))]

    def grid(self, token: int) -> list[int]:
        """The tokens that answer the same kind of question: measured numbers, or whole ones."""
        return self.measured if token in self._decimals else self.whole

    def soft_targets(self, vocab_size: int, spread: float) -> tuple[Tensor, Tensor]:
        """What is learned instead of one number: a bell over those of its kind.

        Args:
            vocab_size: of the model.
            spread: the bell's standard deviation, as a share of the number.

        Returns:
            Row of each token, int64 [vocab_size], -1 for no number; float32 [numbers, vocab_size], rows that sum to 1.
        """
        rows = torch.full((vocab_size,), -1)
        table = torch.zeros(len(self.values), vocab_size)
        for row, token in enumerate(self.values):
            rows[token] = row
            grid = self.grid(token)
            values = torch.tensor([self.values[other] for other in grid])
            width = spread * max(self.values[token], _LEAST)
            table[row, grid] = (-0.5 * ((values - self.values[token]) / width) ** 2).softmax(0)
        return rows, table


def said_in_words(turns: Sequence[str], words: NumberWords | None) -> tuple[str, ...]:
    """The turns of a conversation, answers that are numbers as the tokenizer has them."""
    if words is None:
        return tuple(turns)
    return tuple(words.nearest(turn) if place % 2 else turn for place, turn in enumerate(turns))
