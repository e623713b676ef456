"""Questions about distances between categories: how far, and which is closest. Wording and options come later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from math import isnan

import numpy as np

from vlm3r_core.scene.items import Candidate
from vlm3r_core.scene.tasks.draws import draw_combinations, draw_with_first
from vlm3r_core.scene.tasks.room import instance_ids
from vlm3r_core.scene.tasks.truth import SceneTruth

NO_BOX = "box_without_extent"
_NEAREST_M = 0.2
_CLOSEST_M = 0.15
_APART_M, _APART_LARGE_M = 0.15, 0.30
_LARGE_ROOM_M2 = 40.0
OPTIONS = {"v1": 4, "v2": 3, "v3": 2}
_BATCH = 256


def abs_distance_candidates(
    truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None
) -> Iterator[Candidate]:
    """Pairs of categories with one object each, in random order."""
    if len(truth.unique) < 2:
        yield Candidate(task, {}, "fewer_than_2_categories")
    drawn = draw_combinations(len(truth.unique), 2, limit, rng)
    while batch := list(islice(drawn, _BATCH)):
        pairs = [(truth.unique[later], truth.unique[first]) for first, later in batch]
        truth.measure(pairs)
        for pair in pairs:
            yield _judge_distance(truth, task, *pair)


def _judge_distance(truth: SceneTruth, task: str, first: str, second: str) -> Candidate:
    value = truth.distance(first, second)
    # numpy's rounding, not Python's: the published truths differ at x.x5
    answer = float(np.round(value, 1))
    reason = NO_BOX if np.isnan(value) else "distance_below_0.2" if answer < _NEAREST_M else None
    ids = instance_ids(truth.objects[first][0], truth.objects[second][0])
    return Candidate(task, {"object1": first, "object2": second}, reason, value, answer, instance_ids=ids)


def rel_distance_candidates(
    truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None
) -> Iterator[Candidate]:
    """A category with one object and as many others as there are options, in random order."""
    size, categories = OPTIONS[task[-2:]], truth.categories
    if not truth.unique or len(categories) <= size:
        yield Candidate(task, {}, f"fewer_than_{size + 1}_categories")
        return
    drawn = draw_with_first(len(truth.unique), len(categories) - 1, size, limit, rng)
    while batch := list(islice(drawn, _BATCH)):
        named = []
        for primary, *others in batch:
            skipped = categories.index(truth.unique[primary])
            named.append((truth.unique[primary], [categories[place + (place >= skipped)] for place in others]))
        truth.measure((primary, other) for primary, others in named for other in others)
        for primary, others in named:
            yield judge_closest(truth, task, primary, others)


def judge_closest(truth: SceneTruth, task: str, primary: str, others: Sequence[str]) -> Candidate:
    """Whether one of the other categories is clearly the closest to a category.

    Args:
        truth: the scene.
        task: its version tells which defect applies: the first one as published ignores the size of the room.
        primary: category to measure from; others the options.
    """
    values = [truth.distance(primary, other) for other in others]
    closest = min(range(len(others)), key=values.__getitem__)
    ids = instance_ids(truth.objects[primary][0])
    details = dict(zip(others, values, strict=True))
    reason = _closest_reason(truth, task, values)
    names, answer = {"primary": primary}, others[closest]
    return Candidate(task, names, reason, values[closest], answer, tuple(others), ids, details=details)


def _closest_reason(truth: SceneTruth, task: str, values: Sequence[float]) -> str | None:
    ordered = sorted(values)
    if any(map(isnan, values)):
        return NO_BOX
    if ordered[0] < _CLOSEST_M:
        return "closest_below_0.15"
    large = truth.graph.room_size_m2 > _LARGE_ROOM_M2 and not (truth.settings.as_published and task.endswith("v1"))
    apart_m = _APART_LARGE_M if large else _APART_M
    if any(after - before <= apart_m for before, after in pairwise(ordered)):
        return f"two_options_within_{apart_m:.2f}"
    return None
