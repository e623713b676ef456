"""Questions about the camera: how far objects are from it, how far and where it moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vlm3r_core.scene.graph import SceneObject
from vlm3r_core.scene.items import Candidate
from vlm3r_core.scene.relations import camera_movement, movement_direction
from vlm3r_core.scene.tasks.distance import NO_BOX, OPTIONS
from vlm3r_core.scene.tasks.draws import draw_combinations
from vlm3r_core.scene.tasks.room import instance_ids
from vlm3r_core.scene.tasks.truth import SceneTruth

NO_POSE = "no_pose"
_NEAREST_M, _FARTHEST_M = 0.2, 10.0
_CLOSEST_M = 0.5
_APART_M = 0.15
_RANKS = (5, 30)
_MOVED_M = {"v1": 1.0, "v2": 0.5, "v3": 0.5}
DIRECTIONS = ("Forward", "Backward", "Left", "Right")
_SHUFFLES = 20


def no_frames(truth: SceneTruth) -> str | None:
    """Why a scene has nothing to ask about its frames, None where it has."""
    if not truth.frames:
        return "no_frames"
    return None if truth.tracked else NO_POSE


def no_objects_seen(truth: SceneTruth) -> str | None:
    """Why a scene has nothing to ask about objects in its frames, None where it has."""
    return no_frames(truth) or (None if truth.by_id else "no_instance_id")


def frame_text(number: int, total: int | None = None) -> str:
    """How questions name a frame."""
    return f"frame {number}" if total is None else f"frame {number} of {total}"


def abs_candidates(truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None) -> Iterator[Candidate]:
    """Every object in view of every frame, in random order."""
    if reason := no_objects_seen(truth):
        yield Candidate(task, {}, reason)
        return
    places = [place for place in truth.tracked if truth.frames[place].has_pose]
    for _ in range(len(truth.tracked) - len(places)):
        yield Candidate(task, {}, NO_POSE)
    seen = [(place, item) for place in places for item in truth.seen(place)]
    alone = {place: set(map(id, truth.seen_alone(place))) for place in places}
    for index in rng.permutation(len(seen))[:limit].tolist():
        place, item = seen[index]
        yield _judge_abs(truth, task, place, item, id(item) in alone[place])


def _judge_abs(truth: SceneTruth, task: str, place: int, item: SceneObject, alone: bool) -> Candidate:
    about = {"instance_ids": instance_ids(item), **_about(truth, truth.tracked, place)}
    names = {"object": item.category, "frame": frame_text(about["frame_numbers"][0], len(truth.frames))}
    if not alone:
        return Candidate(task, names, "category_not_unique_in_frame", **about)
    value = float(truth.camera_distances(item)[place])
    reason = None
    if np.isnan(value):
        reason = NO_BOX
    elif not _NEAREST_M <= value <= _FARTHEST_M:
        reason = "distance_below_0.2" if value < _NEAREST_M else "distance_above_10"
    return Candidate(task, names, reason, value, float(np.round(value, 1)), **about)


def rel_candidates(truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None) -> Iterator[Candidate]:
    """Every frame, in random order: the closest object and others clearly farther."""
    if reason := no_objects_seen(truth):
        yield Candidate(task, {}, reason)
        return
    for index in rng.permutation(len(truth.tracked))[:limit].tolist():
        yield judge_closest_to_camera(truth, task, truth.tracked[index], rng)


def judge_closest_to_camera(truth: SceneTruth, task: str, place: int, rng: np.random.Generator) -> Candidate:
    """Whether a frame has enough objects clearly apart in distance; the rounding is the published one."""
    size, decimals = OPTIONS[task[-2:]], 2 if task.endswith("v1") else 1
    about = _about(truth, truth.tracked, place)
    names = {"frame": frame_text(about["frame_numbers"][0], len(truth.frames))}
    if not truth.frames[place].has_pose:
        return Candidate(task, names, NO_POSE, **about)
    items = truth.seen_alone(place)
    values = [float(truth.camera_distances(item)[place]) for item in items]
    known = [(item, value) for item, value in zip(items, values, strict=True) if value >= _CLOSEST_M]
    details = {item.category: value for item, value in known}
    if len(known) < size:
        return Candidate(task, names, f"fewer_than_{size}_objects_at_0.5m_or_more", details=details, **about)
    rounded = [float(np.round(value, decimals)) for _, value in known]
    closest = min(range(len(known)), key=rounded.__getitem__)
    picked = _apart(rounded, closest, size, rng, once=truth.settings.as_published)
    item, value = known[closest]
    reason = None if picked else "no_unambiguous_option_set"
    choices = tuple(known[index][0].category for index in picked)
    ids = instance_ids(*(known[index][0] for index in picked or [closest]))
    return Candidate(task, names, reason, value, item.category, choices, ids, details=details, **about)


def _apart(values: Sequence[float], closest: int, size: int, rng: np.random.Generator, *, once: bool) -> list[int]:
    """The closest and random others whose values are all clearly apart, none where there are too few.

    Args:
        values: rounded distances.
        closest: index of the smallest.
        size: how many are wanted.
        rng: the order in which others are tried.
        once: try one order only, as published, although another might succeed.
    """
    others = [index for index in range(len(values)) if index != closest]
    orders = [rng.permutation(others) for _ in range(1 if once else _SHUFFLES)]
    if not once:
        orders.append(sorted(others, key=values.__getitem__))  # from near to far fits the most
    for order in orders:
        picked = [closest]
        for index in map(int, order):
            if len(picked) < size and all(abs(values[index] - values[other]) >= _APART_M for other in picked):
                picked.append(index)
        if len(picked) == size:
            return picked
    return []


def displacement_candidates(
    truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None
) -> Iterator[Candidate]:
    """Pairs of frames in random order."""
    if reason := no_frames(truth):
        yield Candidate(task, {}, reason)
        return
    for first, later in draw_combinations(len(truth.tracked), 2, limit, rng):
        yield judge_displacement(truth, task, truth.tracked[first], truth.tracked[later])


def judge_displacement(truth: SceneTruth, task: str, start: int, end: int) -> Candidate:
    """How far the camera moved between two tracked frames, given by their places."""
    about, names = _between(truth, truth.tracked, start, end)
    positions = truth.camera_positions()
    value = float(np.linalg.norm(positions[end] - positions[start]))
    gap = truth.tracked.index(end) - truth.tracked.index(start)
    reason = None
    if not _RANKS[0] <= gap <= _RANKS[1]:
        reason = "rank_gap_outside_5_30"
    elif np.isnan(value):
        reason = NO_POSE
    elif not _NEAREST_M <= value <= _FARTHEST_M:
        reason = "displacement_outside_0.2_10"
    return Candidate(task, names, reason, value, float(np.round(value, 1)), **about)


def movement_candidates(
    truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None
) -> Iterator[Candidate]:
    """Pairs of frames with a pose in random order."""
    if reason := no_frames(truth):
        yield Candidate(task, {}, reason)
        return
    posed = [place for place in truth.tracked if truth.frames[place].has_pose]
    for _ in range(len(truth.frames) - len(posed)):
        yield Candidate(task, {}, NO_POSE)
    for first, later in draw_combinations(len(posed), 2, limit, rng):
        yield judge_movement(truth, task, posed[first], posed[later], rng)


def judge_movement(truth: SceneTruth, task: str, start: int, end: int, rng: np.random.Generator) -> Candidate:
    """Where the camera moved between two frames, in its own axes at the first; wrong options are random."""
    version = task[-2:]
    about, names = _between(truth, range(len(truth.frames)), start, end)
    moved = camera_movement(truth.frames[start].T_WC, truth.frames[end].T_WC)
    answer = movement_direction(moved, _MOVED_M[version])
    details = {"moved_m": moved.tolist()}
    if answer is None:
        return Candidate(task, names, "no_axis_above_threshold", details=details, **about)
    wrong = [direction for direction in DIRECTIONS if direction != answer]
    choices = (answer, *(wrong[index] for index in rng.permutation(3)[: OPTIONS[version] - 1]))
    value = float(moved[2] if answer in DIRECTIONS[:2] else moved[0])
    return Candidate(task, names, None, value, answer, choices, details=details, **about)


def _about(truth: SceneTruth, counted: Sequence[int], *places: int) -> dict:
    numbers = truth.shown_numbers(counted)
    return {
        "frame_ids": tuple(truth.frames[place].frame_id for place in places),
        "frame_numbers": tuple(numbers[place] for place in places),
        "num_frames": len(truth.frames),
    }


def _between(truth: SceneTruth, counted: Sequence[int], start: int, end: int) -> tuple[dict, dict[str, str]]:
    about = _about(truth, counted, start, end)
    first, last = about["frame_numbers"]
    return about, {"start": frame_text(first), "end": frame_text(last, len(truth.frames))}
