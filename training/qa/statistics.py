"""Numbers about a question set: counts, answers, letters, what is answered without frames. Draws nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from training.scans.scan import ROUTE_TASK
from vlm3r_core.scene.baselines import TextQuestion, blind_scores, frequent_scores, random_scores
from vlm3r_core.scene.tasks import TASKS, QaItem

TRAIN_SCENES, TRAIN_VIDEOS, TEST_SCENES = 2_057, 1_201, 288
# (row of the paper's tables, tasks whose names begin with it, questions of the published training set and of VSI-Bench)
PUBLISHED = (
    ("Relative direction", "object_rel_direction", 86_441 / TRAIN_SCENES, 968 / TEST_SCENES),
    ("Absolute distance", "object_abs_distance", 50_757 / TRAIN_SCENES, 834 / TEST_SCENES),
    ("Relative distance", "object_rel_distance", 42_025 / TRAIN_SCENES, 710 / TEST_SCENES),
    ("Object size", "object_size_estimation", 12_917 / TRAIN_SCENES, 953 / TEST_SCENES),
    ("Object count", "object_counting", 9_357 / TRAIN_SCENES, 565 / TEST_SCENES),
    ("Route plan", "route_planning", 4_225 / TRAIN_SCENES, 194 / TEST_SCENES),
    ("Room size", "room_size_estimation", 2_057 / TRAIN_SCENES, 288 / TEST_SCENES),
    ("Appearance order", "obj_appearance_order", None, 618 / TEST_SCENES),
    ("Camera displacement", "camera_displacement", 32_292 / TRAIN_VIDEOS, None),
    ("Camera movement direction", "camera_movement_direction", 34_641 / TRAIN_VIDEOS, None),
    ("Camera-object absolute distance", "camera_obj_abs_dist", 38_407 / TRAIN_VIDEOS, None),
    ("Camera-object relative distance", "camera_obj_rel_dist", 12_155 / TRAIN_VIDEOS, None),
    ("Object-object relative position", "obj_obj_relative_pos", 15_073 / TRAIN_VIDEOS, None),
)
ALL_TASKS = (*TASKS, ROUTE_TASK)
_BINS = 20
_BLIND_MOST = 4_000


def published_rows(items: Sequence[QaItem], scenes: int) -> list[tuple[str, int, float, float | None, float | None]]:
    """(name, questions, a scene, a scene in the published training set, in VSI-Bench) for each row of the tables."""
    counts = Counter(item.task for item in items)
    rows = []
    for name, stem, *published in PUBLISHED:
        found = sum(count for task, count in counts.items() if task.startswith(stem))
        rows.append((name, found, found / scenes, *published))
    return rows


def per_scene(items: Sequence[QaItem], scenes: Sequence[str], task: str) -> tuple[float, int, int]:
    """Mean, fewest and most questions of a task a scene."""
    counts = Counter(item.scene for item in items if item.task == task)
    numbers = [counts[scene] for scene in scenes]
    return float(np.mean(numbers)), min(numbers), max(numbers)


def answer_counts(items: Sequence[QaItem]) -> list[tuple[str, int]]:
    """How often each answer is right: bins of numbers in ascending order, words by frequency."""
    if not items or items[0].is_choice:
        counts = Counter(str(item.ground_truth) for item in items)
        return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    values = np.array([float(item.ground_truth) for item in items])
    if (values == np.round(values)).all() and np.quantile(values, 0.95) - values.min() < _BINS:
        low = int(values.min())
        counts = np.bincount(np.minimum(values - low, _BINS).astype(int)).tolist()
        names = [f"{low + place}" + (" or more" if place == _BINS else "") for place in range(len(counts))]
        return list(zip(names, counts, strict=True))
    counts, edges = np.histogram(values, _BINS)
    return [(f"{low:.3g} to {high:.3g}", int(n)) for n, (low, high) in zip(counts, pairwise(edges), strict=True)]


def letter_counts(items: Sequence[QaItem]) -> Counter[str]:
    """How often each letter is right."""
    return Counter(item.mc_answer for item in items if item.is_choice and item.mc_answer)


def text_scores(items: Sequence[QaItem], seed: int) -> Mapping[str, tuple[float, float, float, int]]:
    """How far each task can be answered without frames, by what its texts give away.

    Args:
        items: the set; of a task with very many, evenly spread ones are tried.
        seed: of the folds.

    Returns:
        (random, most frequent answer, blind, questions tried) by task; scores in 0..1.
    """
    by_task: dict[str, list[TextQuestion]] = defaultdict(list)
    for item in items:
        truth = item.mc_answer if item.is_choice else str(item.ground_truth)
        options = tuple(map(str, item.options)) if item.is_choice and item.options else ()
        by_task[item.task].append(TextQuestion(item.task, item.question, options, truth, item.scene))
    found = {}
    for task, questions in sorted(by_task.items(), key=lambda entry: ALL_TASKS.index(entry[0])):
        tried = questions[:: max(1, -(-len(questions) // _BLIND_MOST))]
        scores = random_scores(tried), frequent_scores(tried), blind_scores(tried, seed=seed)
        found[task] = (*(float(np.mean(values)) for values in scores), len(tried))
    return found
