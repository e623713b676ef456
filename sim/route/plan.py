"""Which questions a set should have: classes, templates and letters in balance. Looks at no world."""

from __future__ import annotations

from itertools import product

import numpy as np

from sim.route.item import LETTERS, TURN_KINDS
from sim.route.search import Slot
from sim.route.settings import RouteSettings
from vlm3r_core.answer import turns_text
from vlm3r_core.types import RouteStepKind

_SIDES = (RouteStepKind.TURN_LEFT, RouteStepKind.TURN_RIGHT)


def plan_slots(count: int, seed: int | tuple[int, ...], settings: RouteSettings | None = None) -> list[Slot]:
    """The classes of a set, fixed before any walk is looked for.

    Every answer is wanted equally often, give or take one, and so is every letter. With one turn the answers are left,
    right and back; template 1 has no back, template_1_share of the left and right ones are its. With more turns they
    are the combinations of left and right, four of them as options.

    Args:
        count: how many questions, at least 1.
        seed: one or several numbers; same seed, same plan.
        settings: turns and template_1_share.

    Raises:
        ValueError: count is below 1.
    """
    if count < 1:
        raise ValueError(f"a set of routes needs a count of at least 1, got {count}")
    settings = settings or RouteSettings()
    rng = np.random.default_rng((*(seed if isinstance(seed, tuple) else (seed,)), count))
    answers = [(kind,) for kind in TURN_KINDS] if settings.turns == 1 else list(product(_SIDES, repeat=settings.turns))
    shares = np.full(len(answers), count // len(answers))
    shares[rng.permutation(len(answers))[: count % len(answers)]] += 1
    cells = []
    for turns, share in zip(answers, shares.tolist(), strict=True):
        first = int(share * _template_1_share(turns, settings) + rng.random())
        cells += [(1, turns)] * first + [(2, turns)] * (share - first)
    places = len(TURN_KINDS) if settings.turns == 1 else len(LETTERS)
    shift, order = int(rng.integers(places)), rng.permutation(count)
    slots = []
    for number, index in enumerate(order.tolist()):
        template, turns = cells[index]
        slots.append(Slot(number, template, turns, _options(turns, answers, (index + shift) % places, places, rng)))
    return slots


def _template_1_share(turns: tuple[RouteStepKind, ...], settings: RouteSettings) -> float:
    if len(turns) > 1:
        return 1.0
    return 0.0 if turns == (RouteStepKind.TURN_BACK,) else settings.template_1_share


def _options(turns, answers, place: int, places: int, rng: np.random.Generator) -> tuple[str, ...]:
    """The true answer at a place among others at random."""
    others = [answer for answer in answers if answer != turns]
    chosen = [turns_text(others[index]) for index in rng.permutation(len(others))[: places - 1].tolist()]
    return (*chosen[:place], turns_text(turns), *chosen[place:])
