"""Questions about a room and single categories: how many, how long, how large. No distances."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vlm3r_core.scene.graph import SceneObject
from vlm3r_core.scene.items import Candidate
from vlm3r_core.scene.relations import longest_side_m
from vlm3r_core.scene.tasks.truth import SceneTruth


def instance_ids(*items: SceneObject) -> tuple[int, ...]:
    """The numbers of objects, as far as the scan numbers them."""
    return tuple(int(item.instance_id) for item in items if item.instance_id is not None)


def counting_candidates(
    truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None
) -> Iterator[Candidate]:
    """Every category; a question where there are at least two of it."""
    for category, count in truth.graph.counts.items():
        ids = instance_ids(*truth.objects[category])
        reason = "count_below_2" if count < 2 else None
        yield Candidate(task, {"category": category}, reason, float(count), count, instance_ids=ids)


def size_candidates(truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None) -> Iterator[Candidate]:
    """Every category; a question where there is one object of it."""
    for category in truth.graph.counts:
        items = truth.objects[category]
        if not items:
            yield Candidate(task, {"category": category}, "no_box")
            continue
        size_cm = 100 * longest_side_m(items[0].box)
        answer = round(size_cm)
        reason = "category_not_unique" if category not in truth.unique else "size_below_1cm" if answer < 1 else None
        yield Candidate(task, {"category": category}, reason, size_cm, answer, instance_ids=instance_ids(items[0]))


def room_candidates(truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None) -> Iterator[Candidate]:
    """The room; no question where its size was not measured, which the published generator calls 0."""
    size_m2 = float(truth.graph.room_size_m2)
    answer = round(size_m2, 1)
    reason = "room_size_unknown" if answer <= 0 and not truth.settings.as_published else None
    yield Candidate(task, {}, reason, size_m2, answer)
