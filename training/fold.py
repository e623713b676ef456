"""Attention of questions that share a prefix, without a square of all places.

The scores of the prefix, of a question with text, and of a question with what is visual are made apart and put
together by the logarithms of their sums, forwards and backwards: the numbers are those of attention over all at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_aten = torch.ops.aten
# cells of a row at least
_ROW = 32


@dataclass(frozen=True, eq=False)
class Fold:
    """Which place of a pack belongs to which question.

    Args:
        prefix: places at the beginning that all questions see.
        visual: first visual place and the one after the last, both in the prefix.
        owners: int64 [R], number of the question of each place behind the prefix, in rising order.
        text_only_heads: the first so many heads of a question see no visual place.
    """

    prefix: int
    visual: tuple[int, int]
    owners: Tensor
    text_only_heads: int = 0

    @cached_property
    def places(self) -> Tensor:
        """Which place behind the prefix lies in each cell of the rows: int64 [B, T]; -1 where none does.

        Questions stand in a row one after the other while there is room: few larger products cost less than many small.
        """
        rows: list[list[int]] = []
        lengths = torch.bincount(self.owners).tolist()
        columns, start = max(_ROW, *lengths), 0
        for length in lengths:
            if not rows or len(rows[-1]) + length > columns:
                rows.append([])
            rows[-1] += range(start, start + length)
            start += length
        columns = max(map(len, rows))
        padded = [row + [-1] * (columns - len(row)) for row in rows]
        return torch.tensor(padded, device=self.owners.device)

    @cached_property
    def cells(self) -> Tensor:
        """In which cell, counted row by row, each place lies: int64 [R]."""
        return (self.places.flatten() >= 0).nonzero()[:, 0]

    @cached_property
    def hidden(self) -> Tensor:
        """What a row's token does not see of the prefix's text and of its own row: bool [B, T, S + T]."""
        start, end = self.visual
        empty, columns = self.places < 0, self.places.shape[1]
        owners = self.owners[self.places].masked_fill(empty, -1)
        later = torch.ones(columns, columns, dtype=torch.bool, device=owners.device).triu(1)
        others = (owners[:, :, None] != owners[:, None]) | later
        text = empty[..., None].expand(-1, -1, self.prefix - (end - start))
        return torch.cat([text, others], dim=2)

    @cached_property
    def hidden_from_tail(self) -> Tensor:
        """What the prefix's text behind the video does not see of all its text: bool [prefix - end, S]."""
        start, end = self.visual
        text = self.prefix - (end - start)
        return torch.ones(self.prefix - end, text, dtype=torch.bool, device=self.owners.device).triu(start + 1)

    @cached_property
    def _filled(self) -> Tensor:
        return self.places.flatten().clamp(min=0)

    def grid(self, flat: Tensor) -> Tensor:
        """Places [N, R, ...] as rows [N, B, T, ...]; a cell without a place holds anything and is seen by no other."""
        return flat.index_select(1, self._filled).unflatten(1, self.places.shape)

    def flat(self, grid: Tensor) -> Tensor:
        """Rows [N, B, T, ...] as places [N, R, ...]."""
        return grid.flatten(1, 2).index_select(1, self.cells)

    def text(self, places: Tensor) -> Tensor:
        """The prefix's places [N, S, ...] that are not visual."""
        start, end = self.visual
        return torch.cat([places[:, :start], places[:, end : self.prefix]], dim=1)

    def add_text(self, places: Tensor, part: Tensor) -> None:
        """Adds [N, S, ...] to the prefix's places that are not visual."""
        start, end = self.visual
        places[:, :start] += part[:, :start]
        places[:, end : self.prefix] += part[:, start:]


def fold_attention(query: Tensor, key: Tensor, value: Tensor, fold: Fold, scale: float) -> Tensor:
    """Attention of a pack.

    Args:
        query: [N, L, d], float32 or float64, the prefix first, then the questions one after the other.
        key: [N, L, d].
        value: [N, L, d].
        fold: whose places are whose.
        scale: of the scores.

    Returns:
        [N, L, d].
    """
    return _FoldAttention.apply(query, key, value, fold, scale)


class _FoldAttention(torch.autograd.Function):
    """The three parts and their gradients."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, fold: Fold, scale: float) -> Tensor:
        prefix, (start, end), heads = fold.prefix, fold.visual, fold.text_only_heads
        out = torch.empty_like(query)
        first = _Part(query[:, :prefix], key[:, :prefix], value[:, :prefix], scale, causal=True)
        out[:, :prefix], tail = first.out, None
        if heads and start < end < prefix:
            # text that all questions share behind the video
            text = (fold.text(part[:heads]) for part in (key, value))
            tail = _Part(query[:heads, end:prefix], *text, scale, hidden=fold.hidden_from_tail)
            out[:heads, end:prefix] = tail.out
        keys, values = _row_keys(key, value, fold)
        own = _Part(fold.grid(query[:, prefix:]), keys, values, scale, hidden=fold.hidden)
        rest, seen = fold.flat(own.out), None
        if end > start and heads < len(query):
            seen = _Part(query[heads:, prefix:], key[heads:, start:end], value[heads:, start:end], scale)
            text = fold.flat(own.sums[heads:])
            share = (text - seen.sums).sigmoid_()
            rest[heads:] = torch.lerp(seen.out, rest[heads:], share)
            both = torch.logaddexp(text, seen.sums)
            own.weigh(fold.grid(share), fold.grid(both), heads)
            seen.weigh(1 - share, both)
        out[:, prefix:] = rest
        ctx.fold, ctx.parts = fold, (first, tail, own, seen)
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out = ctx.saved_tensors
        fold, (first, tail, own, seen) = ctx.fold, ctx.parts
        prefix, (start, end), heads = fold.prefix, fold.visual, fold.text_only_heads
        to_query, to_key, to_value = (torch.empty_like(part) for part in (query, key, value))
        before = grad[:, :prefix]
        if tail is not None:
            before = before.clone()
            before[:heads, end:] = 0
        to_query[:, :prefix], to_key[:, :prefix], to_value[:, :prefix] = first.back(before, out[:, :prefix])
        if tail is not None:
            to_query[:heads, end:prefix], *to_text = tail.back(grad[:heads, end:prefix], out[:heads, end:prefix])
            fold.add_text(to_key[:heads], to_text[0])
            fold.add_text(to_value[:heads], to_text[1])
        rest, after = grad[:, prefix:], out[:, prefix:]
        rows, *to_rows = own.back(fold.grid(rest), fold.grid(after))
        to_query[:, prefix:] = fold.flat(rows)
        text = prefix - (end - start)
        for target, part in zip((to_key, to_value), to_rows, strict=True):
            target[:, prefix:] = fold.flat(part[:, :, text:])
            fold.add_text(target, part[:, :, :text].sum(1))
        if seen is not None:
            more = seen.back(rest[heads:], after[heads:])
            to_query[heads:, prefix:] += more[0]
            to_key[heads:, start:end] += more[1]
            to_value[heads:, start:end] += more[2]
        return to_query, to_key, to_value, None, None


class _Part:
    """Attention over some of the keys: what comes out, and the logarithms of the sums to weigh it by.

    On a CPU and where nothing but what comes later is hidden, torch's kernel that keeps no scores does the work.
    """

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, scale: float, *, causal=False, hidden=None):
        self._given, self._scale, self._causal, self._shares = (query, key, value), scale, causal, None
        self._kernel = hidden is None and query.device.type == "cpu"
        if self._kernel:
            parts = (part[None] for part in self._given)
            out, sums = _aten._scaled_dot_product_flash_attention_for_cpu(*parts, 0.0, causal, scale=scale)
            self.out, self.sums = out[0], sums[0][..., None]
            return
        scores = (query * scale) @ key.mT
        if causal:
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        if hidden is not None:
            scores.masked_fill_(hidden, -torch.inf)
        self._shares = scores.softmax(-1)
        highest, largest = scores.amax(-1, keepdim=True), self._shares.amax(-1, keepdim=True)
        self.sums = highest - largest.log()
        self.out = self._shares @ value

    def weigh(self, share: Tensor, sums: Tensor, heads: int = 0) -> None:
        """From the heads on these keys have but a share of all, whose sums have those logarithms."""
        if self._kernel:
            self.sums = sums
        else:
            self._shares[heads:] *= share

    def back(self, grad: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value; `out` is what came out over all keys."""
        query, key, value = self._given
        if self._kernel:
            parts = (part[None] for part in (grad, query, key, value, out, self.sums[..., 0]))
            back = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
                *parts, 0.0, self._causal, scale=self._scale
            )
            return back[0][0], back[1][0], back[2][0]
        drift = (grad * out).sum(-1, keepdim=True)
        to_scores = (grad @ value.mT).sub_(drift).mul_(self._shares)
        return to_scores @ key * self._scale, to_scores.mT @ query * self._scale, self._shares.mT @ grad


def _row_keys(key: Tensor, value: Tensor, fold: Fold) -> tuple[Tensor, Tensor]:
    """Keys and values [N, B, S + T, d] that each row sees besides what is visual."""
    made = []
    for part in (key, value):
        text = fold.text(part)[:, None].expand(-1, len(fold.places), -1, -1)
        made.append(torch.cat([text, fold.grid(part[:, fold.prefix :])], dim=2))
    return made[0], made[1]
