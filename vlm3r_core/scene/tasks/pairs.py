"""Questions about two objects in one frame: which is nearer, farther left, higher, seen by the camera."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from vlm3r_core.scene.graph import SceneObject
from vlm3r_core.scene.items import Candidate
from vlm3r_core.scene.relations import AXIS_WORDS, relative_position
from vlm3r_core.scene.tasks.camera import NO_POSE, frame_text, no_objects_seen
from vlm3r_core.scene.tasks.room import instance_ids
from vlm3r_core.scene.tasks.truth import SceneTruth

AXIS_OF = {"nf": "z", "lr": "x", "ud": "y"}
_GAP_M = 0.15


def pair_candidates(truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None) -> Iterator[Candidate]:
    """Pairs of objects alone of their category in a frame, in random order and named in random order."""
    if reason := no_objects_seen(truth):
        yield Candidate(task, {}, reason)
        return
    pairs = []
    for place in counted_frames(truth):
        if not truth.frames[place].has_pose:
            yield Candidate(task, {}, NO_POSE)
            continue
        pairs += [(place, *pair) for pair in combinations(truth.seen_alone(place), 2)]
    swapped = rng.random(len(pairs)) < (0.0 if truth.settings.as_published else 0.5)
    for index in rng.permutation(len(pairs))[:limit].tolist():
        place, a, b = pairs[index]
        yield judge_pair(truth, task, place, *((b, a) if swapped[index] else (a, b)))


def counted_frames(truth: SceneTruth) -> list[int]:
    """Places of the frames these questions look at: a pose entry and at least one 2-D box."""
    return [place for place in truth.tracked if truth.frames[place].visible]


def judge_pair(truth: SceneTruth, task: str, place: int, a: SceneObject, b: SceneObject) -> Candidate:
    """How one object lies to another along the task's camera axis."""
    axis = AXIS_OF[task[-2:]]
    extents = truth.extent(place, a), truth.extent(place, b)
    answer, gap = relative_position(*extents, axis, _GAP_M)
    number, total = truth.shown_numbers(counted_frames(truth))[place], len(truth.frames)
    reason = "gap_not_above_0.15" if answer is None else None
    if answer is not None and truth.settings.clear_in_image and not _holds_in_image(truth, place, a, b, axis, answer):
        reason = "not_so_in_image"
    return Candidate(
        task,
        {"A": a.category, "B": b.category, "frame": frame_text(number, total)},
        reason,
        gap,
        answer,
        AXIS_WORDS[axis],
        instance_ids(a, b),
        (truth.frames[place].frame_id,),
        (number,),
        total,
        {"behind_camera": bool(min(extents[0][0, 2], extents[1][0, 2]) < 0)},
    )


def _holds_in_image(truth: SceneTruth, place: int, a: SceneObject, b: SceneObject, axis: str, answer: str) -> bool:
    """Whether the centres of the 2-D boxes say the same; depth has no such check."""
    if axis == "z":
        return True
    low, high = (0, 2) if axis == "x" else (1, 3)
    centers = {item.instance_id: item.bbox_px[low] + item.bbox_px[high] for item in truth.frames[place].visible}
    before = centers[a.instance_id] < centers[b.instance_id]
    return before == (answer == AXIS_WORDS[axis][0])
