"""Leaves out questions whose answer their texts give away, over a whole set. Depends on their order and the seed alone.

Numbers: sizes and distances are made about equally frequent from small to large, sizes within each category and none of
categories that are all of a size; and of no category is one count more frequent than all others. Names as answers: what
readers without eyes know best is dropped until they know no more than chance.

Source: the idea of VSI-Bench-Debiased, which prunes what a model of answer priors finds easy.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from vlm3r_core.scene.baselines import Priors, TextQuestion
from vlm3r_core.scene.tasks import QaItem
from vlm3r_core.scene.tasks.draws import seeded
from vlm3r_core.scene.tasks.options import LETTERS

GIVEN_AWAY = "answer_given_away_by_the_text"
# tasks whose answers are names
_NAMED = ("object_rel_distance", "camera_obj_rel_dist")
_SIZE, _COUNT = "object_size_estimation", "object_counting"
_DISTANCES = ("object_abs_distance", "camera_obj_abs_dist")
_LEAST_SPREAD = 0.15  # of the logarithm of a category's sizes
_FEW = 8  # so few sizes tell nothing about their category
_BINS = 7
_TAIL = 0.05
_FOLDS, _ROUNDS, _SHARE = 5, 30, 0.04
_ABOVE_CHANCE = 0.005


def blind_proof(items: Sequence[QaItem], seed: int) -> tuple[list[QaItem], Counter[str]]:
    """Leaves out what is given away.

    Args:
        items: all questions in their standing order.
        seed: of what is dropped.

    Returns:
        The questions that stay, in the same order, and how many were dropped of each task.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[item.task].append(place)
    dropped: set[int] = set()
    for task, members in places.items():
        rng, asked = seeded(seed, "blind", task), [items[place] for place in members]
        if task == _COUNT:
            gone = _frequent_counts(asked, rng)
        elif task == _SIZE:
            gone = _usual_sizes(asked, rng)
        elif task in _DISTANCES:
            gone = _crowded([item.value for item in asked], rng)
        elif task.startswith(_NAMED):
            gone = _guessed(asked, rng)
        else:
            continue
        dropped.update(members[index] for index in gone)
    counts = Counter(items[place].task for place in dropped)
    return [item for place, item in enumerate(items) if place not in dropped], counts


def _frequent_counts(asked: Sequence[QaItem], rng: np.random.Generator) -> set[int]:
    """For each category the most frequent count comes as often as all others together; never where it is the only."""
    gone: set[int] = set()
    for members in _by_category(asked).values():
        groups: dict[object, list[int]] = defaultdict(list)
        for place in members:
            groups[asked[place].ground_truth].append(place)
        most = max(groups.values(), key=len)
        gone.update(_random(most, len(members) - len(most), rng))
    return gone


def _usual_sizes(asked: Sequence[QaItem], rng: np.random.Generator) -> set[int]:
    gone: set[int] = set()
    for members in _by_category(asked).values():
        sizes = [asked[place].value for place in members]
        if len(sizes) < _FEW:
            continue
        if np.std(np.log(sizes)) < _LEAST_SPREAD:
            gone.update(members)
        else:
            gone.update(members[place] for place in _crowded(sizes, rng))
    return gone


def _by_category(asked: Sequence[QaItem]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(asked):
        found[item.names["category"]].append(place)
    return found


def _crowded(values: Sequence[float], rng: np.random.Generator) -> set[int]:
    """Which of the values to drop so that they come about equally often from small to large, on a logarithmic scale."""
    logs = np.log(values)
    low, high = np.quantile(logs, [_TAIL, 1 - _TAIL])
    # those beyond either end are few and stay
    bins = np.floor((logs - low) / max(high - low, 1e-9) * _BINS).astype(int)
    groups = [np.flatnonzero(bins == number).tolist() for number in range(_BINS)]
    most = int(np.ceil(np.quantile([len(group) for group in groups], 0.25)))
    return {place for group in groups for place in _random(group, most, rng)}


def _random(members: Sequence[int], kept: int, rng: np.random.Generator) -> set[int]:
    """All but so many of some places."""
    return {members[place] for place in rng.permutation(len(members))[kept:].tolist()}


def _guessed(asked: Sequence[QaItem], rng: np.random.Generator) -> set[int]:
    """What priors learned on other scenes find likeliest, some at a time, until they guess no better than chance."""
    questions = [TextQuestion(item.task, item.question, item.options, item.mc_answer, item.scene) for item in asked]
    scenes = sorted({item.scene for item in asked})
    folds = dict(zip(scenes, (rng.permutation(len(scenes)) % _FOLDS).tolist(), strict=True))
    left = list(range(len(asked)))
    for _ in range(_ROUNDS):
        if not left:
            break
        likely, hits = _likely([questions[place] for place in left], folds)
        chance = np.mean([1 / len(questions[place].options) for place in left])
        if np.mean(hits) <= chance + _ABOVE_CHANCE:
            break
        order = np.argsort(-likely, kind="stable")
        easiest = set(order[: max(1, round(_SHARE * len(left)))].tolist())
        left = [place for index, place in enumerate(left) if index not in easiest]
    return set(range(len(asked))) - set(left)


def _likely(questions: Sequence[TextQuestion], folds: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """How likely the right option of each question [N] seems to who knows the other folds, and whether they take it."""
    likely, hits = np.zeros(len(questions)), np.zeros(len(questions))
    for fold in range(_FOLDS):
        priors = Priors(question for question in questions if folds[question.scene] != fold)
        for place, question in enumerate(questions):
            if folds[question.scene] == fold:
                shares, right = priors.shares(question), LETTERS.index(question.truth)
                likely[place], hits[place] = shares[right], shares[right] == shares.max()
    return likely, hits
