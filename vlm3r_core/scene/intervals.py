"""How far a mean score may be off: bootstrap intervals that draw whole scenes. Scores nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; n is how many values it rests on."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(
    values: Sequence[float], groups: Sequence[Hashable] | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Mean of values with its 95 % percentile bootstrap interval.

    Args:
        values: the scores.
        groups: what each belongs to, its scene: questions of one scene hang together, so whole groups are drawn. None
            draws single values.
        seed: of the drawing.
        resamples: how often it is drawn.

    Raises:
        ValueError: no values, or not one group for each.

    Source: Efron and Tibshirani 1993, chapter 13; cluster bootstrap.
    """
    numbers = np.asarray(values, np.float64)
    if not len(numbers) or (groups is not None and len(groups) != len(numbers)):
        raise ValueError(f"an interval needs values, and one group for each, got {len(numbers)} values")
    index = _group_index(range(len(numbers)) if groups is None else groups)
    count = int(index.max()) + 1
    sums, sizes = np.bincount(index, numbers, count), np.bincount(index, minlength=count)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    means = (drawn @ sums) / np.maximum(1, drawn @ sizes)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(numbers.mean()), float(low), float(high), len(numbers))


def statistic_interval(
    statistic: Callable[[np.ndarray], float],
    groups: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Any statistic of a set with its 95 % percentile bootstrap interval, whole groups drawn.

    Args:
        statistic: from indices of the set, with repetition, to a number, such as an average over task means; NaN draws
            are left out.
        groups: the scene of each member.
        seed: of the drawing.
        resamples: how often it is drawn.

    Raises:
        ValueError: an empty set.
    """
    if not len(groups):
        raise ValueError("an interval needs a set with members, got an empty one")
    index = _group_index(groups)
    order = np.argsort(index, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(index[order])) + 1)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(members), size=len(members)) for _ in range(resamples))
    values = [statistic(np.concatenate([members[i] for i in draw])) for draw in draws]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Interval(float(statistic(np.arange(len(groups)))), float(low), float(high), len(groups))


def _group_index(groups: Sequence[Hashable]) -> np.ndarray:
    """A number for each member's group, in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups])
