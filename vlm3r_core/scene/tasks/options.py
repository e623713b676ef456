"""Options and letters: wrong numbers beside a right one, where the right option stands, balance over a whole set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from vlm3r_core.scene.items import QaItem
from vlm3r_core.scene.questions import question_text
from vlm3r_core.scene.tasks.draws import seeded

LETTERS = "ABCD"
_WRONG = 3
_ROUNDS = 31
_SPREAD, _SIZE_SPREAD = (0.25, 1.75), (0.4, 1.8)


def number_options(
    task: str, answer: float | int, rng: np.random.Generator, *, as_published: bool
) -> list[float | int] | None:
    """The right number and three wrong ones, the right one first.

    Args:
        task: decides how options are spread.
        answer: the right number.
        rng: draws the wrong ones.
        as_published: give up after 31 rounds, which some numbers (0.1, 0.2, 0.3, 0.6 m, 1 cm) never survive.

    Returns:
        None where no options were found; only as published, or for an answer of 0.
    """
    if task == "object_counting":
        return _counts(int(answer), rng)
    decimals = 0 if task == "object_size_estimation" else 1
    spread = _SIZE_SPREAD if task == "object_size_estimation" else _SPREAD
    step = ceil(0.2 * answer * 10**decimals) / 10**decimals
    if as_published:
        return _drawn(answer, spread, step, decimals, rng)
    steps = [k for k in range(-3, 6) if k and round(answer + k * step, decimals) > 0]
    if answer <= 0:
        return None
    wrong = [_rounded(answer + steps[index] * step, decimals) for index in rng.permutation(len(steps))[:_WRONG]]
    return [answer, *wrong]


def _drawn(
    answer: float, spread: tuple[float, float], step: float, decimals: int, rng: np.random.Generator
) -> list | None:
    """Draws all wrong numbers, then again in turn each that is too close to another number, for some rounds."""
    values = [answer, *(_wrong(answer, spread, decimals, rng) for _ in range(_WRONG))]
    for _ in range(_ROUNDS + 1):
        redrawn = False
        for place in range(1, _WRONG + 1):
            others = values[:place] + values[place + 1 :]
            if any(abs(values[place] - other) < step for other in others):
                values[place], redrawn = _wrong(answer, spread, decimals, rng), True
        if not redrawn:
            return values
    return None


def _wrong(answer: float, spread: tuple[float, float], decimals: int, rng: np.random.Generator) -> float | int:
    return _rounded(rng.uniform(spread[0] * answer, spread[1] * answer), decimals)


def _rounded(value: float, decimals: int) -> float | int:
    return round(float(value), decimals) if decimals else round(float(value))


def _counts(answer: int, rng: np.random.Generator) -> list[int]:
    near = [answer + offset for offset in (-3, -2, -1, 1, 2, 3) if answer + offset >= 1]
    return [answer, *(near[index] for index in rng.permutation(len(near))[:_WRONG])]


def place_answer(choices: Sequence, answer: object, letter: int, rng: np.random.Generator) -> tuple[object, ...]:
    """The choices in random order but for the right one, which stands at the letter's place.

    Raises:
        ValueError: the right answer is not among the choices.
    """
    if answer not in choices:
        raise ValueError(f"the right answer {answer!r} must be among the options, got {list(choices)}")
    right = list(choices).index(answer)
    wrong = [choice for place, choice in enumerate(choices) if place != right]
    order = [wrong[index] for index in rng.permutation(len(wrong))]
    return (*order[:letter], answer, *order[letter:])


def with_letters(choices: Iterable[object]) -> tuple[str, ...]:
    """Options as the published items hold them: `A. chair`."""
    return tuple(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def balance_letters(items: Sequence[QaItem], seed: int) -> list[QaItem]:
    """Deals the letters of the right answers evenly over a whole set, and for each answer.

    Questions that list their options follow.

    Args:
        items: questions in their standing order; those for a number stay as they are.
        seed: of the dealing; the result depends on it and on the items' order alone.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for index, item in enumerate(items):
        if item.is_choice:
            groups.setdefault((item.task, len(item.choices)), []).append(index)
    balanced = list(items)
    for (task, count), members in groups.items():
        rng = seeded(seed, "letters", task, str(count))
        # every letter once in each run of neighbours, sorted by answer: even over the set and for each answer
        members = sorted(members, key=lambda index: items[index].ground_truth)
        letters = np.concatenate([rng.permutation(count) for _ in range(-(-len(members) // count))])
        for index, letter in zip(members, letters.tolist(), strict=False):
            balanced[index] = _relettered(items[index], letter, rng)
    return balanced


def balance_answers(items: Sequence[QaItem], seed: int, *, fixed: Sequence[str]) -> list[QaItem]:
    """Drops questions with a too frequent answer, until all answers of a task are equally frequent over the set.

    Args:
        items: questions in their standing order.
        seed: of the choice which to drop.
        fixed: tasks whose answers are few fixed words; other tasks stay whole.
    """
    groups: dict[str, dict[str, list[int]]] = {}
    for index, item in enumerate(items):
        if item.task in fixed:
            groups.setdefault(item.task, {}).setdefault(str(item.ground_truth), []).append(index)
    dropped: set[int] = set()
    for task, answers in groups.items():
        fewest = min(map(len, answers.values()))
        rng = seeded(seed, "answers", task)
        for members in answers.values():
            dropped.update(members[place] for place in rng.permutation(len(members))[fewest:].tolist())
    return [item for index, item in enumerate(items) if index not in dropped]


def _relettered(item: QaItem, letter: int, rng: np.random.Generator) -> QaItem:
    choices = place_answer(item.choices, item.ground_truth, letter, rng)
    return replace(
        item,
        choices=choices,
        options=with_letters(choices),
        mc_answer=LETTERS[letter],
        question=question_text(item.task, item.names, choices, wording=item.wording),
    )
