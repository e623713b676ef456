"""Evens out answers and letters over a whole question set. Depends on the questions' order and the seed alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from training.scans.scan import ROUTE_TASK
from vlm3r_core.scene.tasks import QaItem, balance_answers, balance_letters
from vlm3r_core.scene.tasks.draws import seeded
from vlm3r_core.scene.tasks.options import LETTERS, place_answer, with_letters

# tasks whose answers are a few fixed words; the others answer with names
FIXED_ANSWERS = tuple(
    f"{stem}_{version}"
    for stem, versions in (
        ("object_rel_direction", ("v1", "v2", "v3")),
        ("obj_obj_relative_pos", ("nf", "lr", "ud")),
        ("camera_movement_direction", ("v1", "v2", "v3")),
    )
    for version in versions
)
DROPPED = "answer_too_frequent_in_the_set"


def balance(items: Sequence[QaItem], seed: int) -> tuple[list[QaItem], Counter[str]]:
    """Balances a set.

    Args:
        items: all questions in their standing order.
        seed: of what is dropped and where right options stand.

    Returns:
        The questions that stay, in the same order, with new letters, and how many were dropped of each task.
    """
    kept = balance_answers(items, seed, fixed=(*FIXED_ANSWERS, ROUTE_TASK))
    dropped = Counter(item.task for item in items)
    dropped.subtract(item.task for item in kept)
    routes = iter(_relettered([item for item in kept if item.task == ROUTE_TASK], seed))
    others = iter(balance_letters([item for item in kept if item.task != ROUTE_TASK], seed))
    return [next(routes if item.task == ROUTE_TASK else others) for item in kept], +dropped


def _relettered(routes: Sequence[QaItem], seed: int) -> list[QaItem]:
    """Routes with their letters dealt evenly, for each answer too; their text does not list the options."""
    rng, dealt = seeded(seed, "letters", ROUTE_TASK), list(routes)
    groups: dict[int, list[int]] = {}
    for index, item in enumerate(routes):
        groups.setdefault(len(item.choices), []).append(index)
    for count, members in groups.items():
        members.sort(key=lambda index: str(routes[index].ground_truth))
        letters = [int(letter) for _ in range(-(-len(members) // count)) for letter in rng.permutation(count)]
        for index, letter in zip(members, letters, strict=False):
            item = routes[index]
            choices = place_answer(item.choices, item.ground_truth, letter, rng)
            dealt[index] = replace(item, choices=choices, options=with_letters(choices), mc_answer=LETTERS[letter])
    return dealt
