"""One scene and one task in, questions and the reasons of the rejected out. Reads and writes no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from vlm3r_core.scene.graph import SceneGraph
from vlm3r_core.scene.items import Candidate, QaItem, TaskResult
from vlm3r_core.scene.questions import question_text, question_type
from vlm3r_core.scene.tasks import camera, direction, distance, order, pairs, room
from vlm3r_core.scene.tasks.draws import seeded
from vlm3r_core.scene.tasks.options import LETTERS, number_options, place_answer, with_letters
from vlm3r_core.scene.tasks.settings import GeneratorSettings
from vlm3r_core.scene.tasks.truth import SceneTruth

_LOST = "option_generation_failed"
_BY_STEM = {
    "object_counting": room.counting_candidates,
    "object_size_estimation": room.size_candidates,
    "room_size_estimation": room.room_candidates,
    "object_abs_distance": distance.abs_distance_candidates,
    "object_rel_distance": distance.rel_distance_candidates,
    "object_rel_direction": direction.direction_candidates,
    "obj_appearance_order": order.order_candidates,
    "camera_obj_abs_dist": camera.abs_candidates,
    "camera_obj_rel_dist": camera.rel_candidates,
    "camera_displacement": camera.displacement_candidates,
    "camera_movement_direction": camera.movement_candidates,
    "obj_obj_relative_pos": pairs.pair_candidates,
}
# the answers that a scene should give equally often; tasks with names as answers have none
_ANSWERS = {
    "object_rel_direction": direction.CHOICES,
    "camera_movement_direction": dict.fromkeys(("v1", "v2", "v3"), camera.DIRECTIONS),
    "obj_obj_relative_pos": {"nf": ("Near", "Far"), "lr": ("Left", "Right"), "ud": ("Up", "Down")},
}
# the published generator draws as many as it wants before it filters
_DRAWN_FIRST = ("object_rel_distance", "object_rel_direction")


def generate(
    graph: SceneGraph | SceneTruth, task: str, settings: GeneratorSettings | None = None, seed: int = 0
) -> TaskResult:
    """Makes a task's questions about a scene.

    Args:
        graph: the scene; a SceneTruth keeps what was measured for its other tasks.
        task: one of TASKS.
        settings: default GeneratorSettings(); with a SceneTruth, its own.
        seed: the questions depend on it, the scene's id and the task, on nothing else.

    Returns:
        Questions in a stable order, and how many candidates were rejected for which reason. Candidates beyond the
        number wanted are not rejected, they are left over.

    Raises:
        ValueError: no such task, or the scene lacks what the task cannot do without; the message names the field.
    """
    truth = graph if isinstance(graph, SceneTruth) else SceneTruth(graph, settings or GeneratorSettings())
    if settings is not None and truth.settings != settings:
        raise ValueError("generate got settings that differ from those the scene was measured with; give the same")
    rng = seeded(seed, truth.graph.dataset or "", truth.graph.scene_id, task)
    rejected: Counter[str] = Counter()
    pick = _pick_as_published if truth.settings.as_published else _pick
    items, letters = [], Counter()
    for candidate in pick(truth, task, rng, rejected):
        item = _item(truth, candidate, letters, rng)
        if item is None:
            rejected[_LOST] += 1
        else:
            items.append(item)
    cap = truth.settings.cap(task)
    if cap is not None and len(items) > cap:
        items = [items[place] for place in rng.permutation(len(items))[:cap].tolist()]
    prefix = "/".join(filter(None, (truth.graph.dataset, truth.graph.scene_id, task)))
    numbered = tuple(replace(item, id=f"{prefix}/{number:04d}") for number, item in enumerate(items))
    return TaskResult(numbered, dict(sorted(rejected.items())))


def candidates(truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None = None) -> Iterator[Candidate]:
    """Judged candidates of a task, kept and rejected, in the order in which they are drawn.

    Args:
        truth: the scene.
        task: one of TASKS.
        rng: the draws.
        limit: how many to draw at most where there may be many (pairs, triples, combinations), None for all.

    Raises:
        ValueError: no such task.
    """
    truth.settings.cap(task)
    return _BY_STEM[_stem(task)](truth, task, rng, limit)


def _stem(task: str) -> str:
    return task if task in _BY_STEM else task.rpartition("_")[0]


def _pick(truth: SceneTruth, task: str, rng: np.random.Generator, rejected: Counter[str]) -> list[Candidate]:
    """Kept candidates, at most as many as wanted; counts the reasons of the others on the way.

    The wanted answer is fixed first: every answer gets its share, so that frequent ones cannot crowd out the others.
    """
    settings, cap = truth.settings, truth.settings.cap(task)
    if cap is None:
        return list(_kept(candidates(truth, task, rng), rejected))
    classes = _classes(task) if settings.balance_answers else ()
    share = -(-cap // len(classes)) if classes else cap
    found: dict[object, list[Candidate]] = {answer: [] for answer in classes} or {None: []}
    for candidate in _kept(candidates(truth, task, rng, cap * settings.tries), rejected):
        group = found[candidate.answer if classes else None]
        if len(group) < share:
            group.append(candidate)
        if all(len(group) >= share for group in found.values()):
            break
    groups = [list(found.values())[place] for place in rng.permutation(len(found))]
    most = max(map(len, groups))
    return [group[turn] for turn in range(most) for group in groups if turn < len(group)][:cap]


def _pick_as_published(
    truth: SceneTruth, task: str, rng: np.random.Generator, rejected: Counter[str]
) -> Iterator[Candidate]:
    """Kept candidates as the published generator draws them: some tasks draw before they filter, others after."""
    cap = truth.settings.cap(task)
    if _stem(task) in _DRAWN_FIRST:
        return _kept(candidates(truth, task, rng, cap), rejected)
    if task == "camera_displacement":
        return islice(_kept(candidates(truth, task, rng, max(cap, min(20 * cap, 200))), rejected), cap)
    return _kept(candidates(truth, task, rng), rejected)


def _kept(drawn: Iterator[Candidate], rejected: Counter[str]) -> Iterator[Candidate]:
    for candidate in drawn:
        if candidate.reason is None:
            yield candidate
        else:
            rejected[candidate.reason] += 1


def _classes(task: str) -> tuple[str, ...]:
    stem, _, version = task.rpartition("_")
    return _ANSWERS.get(stem, {}).get(version, ())


def _item(truth: SceneTruth, candidate: Candidate, letters: Counter[int], rng: np.random.Generator) -> QaItem | None:
    """A candidate as a question with options, without its id; None where the published option making loses it."""
    graph, settings, task = truth.graph, truth.settings, candidate.task
    choices: tuple = candidate.choices
    if not choices and (settings.numeric_options or settings.as_published):
        choices = tuple(number_options(task, candidate.answer, rng, as_published=settings.as_published) or ())
        if not choices and settings.as_published:
            return None
    letter = None
    if choices:
        fewest = min(letters[place] for place in range(len(choices)))
        free = [place for place in range(len(choices)) if letters[place] == fewest]
        letter = free[int(rng.integers(len(free)))]
        letters[letter] += 1
        choices = place_answer(choices, candidate.answer, letter, rng)
    bare = task.startswith("camera_") and isinstance(candidate.answer, float)
    return QaItem(
        id="",
        dataset=graph.dataset,
        scene=graph.scene_id,
        video_path=graph.video_path,
        task=task,
        question_type=question_type(task, wording=settings.wording),
        wording=settings.wording,
        names=candidate.names,
        question=question_text(task, candidate.names, choices, wording=settings.wording),
        choices=tuple(map(str, choices)),
        options=(choices if bare else with_letters(choices)) if choices else None,
        ground_truth=candidate.answer,
        mc_answer=None if letter is None else LETTERS[letter],
        value=candidate.value,
        instance_ids=candidate.instance_ids,
        frame_ids=candidate.frame_ids,
        frame_numbers=candidate.frame_numbers,
        num_frames=candidate.num_frames,
    )
