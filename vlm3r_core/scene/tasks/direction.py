"""Questions about the direction to one object while standing by a second and facing a third."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, islice

import numpy as np

from vlm3r_core.scene.items import Candidate
from vlm3r_core.scene.relations import (
    QUADRANT_EDGES_DEG,
    QUADRANTS,
    SIDE_EDGES_DEG,
    SIDES,
    margin_deg,
    planar_angles_deg,
    sector,
)
from vlm3r_core.scene.tasks.distance import NO_BOX
from vlm3r_core.scene.tasks.draws import draw_combinations
from vlm3r_core.scene.tasks.room import instance_ids
from vlm3r_core.scene.tasks.truth import SceneTruth

_NEAR_M, _FAR_M = 0.30, 5.0
_MARGIN_DEG = 10.0
_CORNERS = 2  # so many may lie in another sector than the centre
# (stand, face, query) out of a triple
_TURNS = ((0, 1, 2), (0, 2, 1), (1, 0, 2))
CHOICES = {
    "v1": ("front-left", "front-right", "back-left", "back-right"),
    "v2": ("left", "right", "back"),
    "v3": ("left", "right"),
}
_BATCH = 16


def direction_candidates(
    truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None
) -> Iterator[Candidate]:
    """Triples of categories with one object each in random order, each asked in three ways."""
    if len(truth.unique) < 3:
        yield Candidate(task, {}, "fewer_than_3_categories")
    drawn = draw_combinations(len(truth.unique), 3, limit, rng)
    while batch := list(islice(drawn, _BATCH)):
        triples = [tuple(truth.unique[place] for place in row) for row in batch]
        truth.measure(pair for triple in triples for pair in combinations(triple, 2))
        for triple in triples:
            yield from judge_triple(truth, task, triple)


def judge_triple(truth: SceneTruth, task: str, triple: Sequence[str]) -> Iterator[Candidate]:
    """The three questions of a triple, or one rejected candidate where two of its objects are too near or too far."""
    distances = [truth.distance(*pair) for pair in combinations(triple, 2)]
    reason = _pair_reason(distances)
    if reason:
        yield Candidate(task, dict(zip("abc", triple, strict=True)), reason)
        return
    for turn in _TURNS:
        yield judge_direction(truth, task, *(triple[place] for place in turn))


def judge_direction(truth: SceneTruth, task: str, stand: str, face: str, query: str) -> Candidate:
    """Where an object is, seen from a second while facing a third; clear only if its corners agree."""
    items = [truth.objects[category][0] for category in (stand, face, query)]
    box = items[2].box
    points = np.vstack([box.center_m, box.corners()])
    angles = planar_angles_deg(items[0].box.center_m, items[1].box.center_m, points)
    edges, words = (QUADRANT_EDGES_DEG, QUADRANTS) if task.endswith("v1") else (SIDE_EDGES_DEG, SIDES)
    sectors = sector(angles, edges)
    others = int((sectors[1:] != sectors[0]).sum())
    answer, angle = words[sectors[0]], float(angles[0])
    return Candidate(
        task,
        {"stand": stand, "face": face, "query": query},
        _direction_reason(truth, task, angle, others, answer),
        angle,
        answer,
        CHOICES[task[-2:]],
        instance_ids(*items),
        details={"corners_in_other_sector": others},
    )


def _pair_reason(distances: Sequence[float]) -> str | None:
    if any(np.isnan(distances)):
        return NO_BOX
    if min(distances) < _NEAR_M:
        return "pair_distance_below_0.30"
    return "pair_distance_above_5.0" if max(distances) > _FAR_M else None


def _direction_reason(truth: SceneTruth, task: str, angle_deg: float, others: int, answer: str) -> str | None:
    if np.isnan(angle_deg):
        return "one_above_the_other"
    if others > _CORNERS:
        return "corners_in_other_bin_above_2"
    if not task.endswith("v1"):
        if margin_deg(angle_deg, SIDE_EDGES_DEG) < _MARGIN_DEG:
            return "within_10deg_of_bin_edge"
        return "query_is_back" if answer == "back" and task.endswith("v3") else None
    past = angle_deg % 90.0
    if past > 90.0 - _MARGIN_DEG:
        return "within_10deg_below_quadrant_edge"
    # the published filter looks at one side of an edge only
    return "within_10deg_above_quadrant_edge" if past < _MARGIN_DEG and not truth.settings.as_published else None
