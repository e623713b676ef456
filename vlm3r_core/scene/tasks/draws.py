"""Seeded draws: generators by scene and task, and combinations too many to list."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np

_LISTED = 20_000


def seeded(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on a seed and names alone, not on order, process or Python's hash."""
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).digest()
    words = np.frombuffer(digest[:16], "<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence([seed % 2**64, *words]))


def draw_combinations(count: int, size: int, limit: int | None, rng: np.random.Generator) -> Iterator[tuple[int, ...]]:
    """Different combinations of `size` of `count` places in random order, each with its places in ascending order.

    Args:
        count: how many places there are.
        size: how many belong to a combination.
        limit: how many combinations at most, None for all.
        rng: decides which and their order.
    """
    return (row[1:] for row in draw_with_first(1, count, size, limit, rng))


def draw_with_first(
    firsts: int, count: int, size: int, limit: int | None, rng: np.random.Generator
) -> Iterator[tuple[int, ...]]:
    """Different (one of `firsts`, combination of `size` of `count` places) in random order.

    Args:
        firsts: how many first things there are.
        count, size, limit, rng: as for draw_combinations.
    """
    total = firsts * comb(count, size)
    wanted = total if limit is None else min(limit, total)
    if total <= _LISTED or wanted == total:
        rows = list(combinations(range(count), size))
        for index in rng.permutation(total)[:wanted].tolist():
            yield index // len(rows), *rows[index % len(rows)]
        return
    seen: set[tuple[int, ...]] = set()
    while len(seen) < wanted:
        drawn = rng.integers(0, count, (2 * wanted, size))
        drawn.sort(axis=1)
        first = rng.integers(0, firsts, len(drawn))
        proper = (np.diff(drawn, axis=1) > 0).all(axis=1)
        for row in map(tuple, np.column_stack([first, drawn])[proper].tolist()):
            if row not in seen and len(seen) < wanted:
                seen.add(row)
                yield row
