"""From decoded text or logits to an answer: numbers with units, choices, turns. Runs no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from math import pi

from vlm3r_core.scene.questions import TURN_TEXTS, RouteQuestion
from vlm3r_core.types import RouteAlternative, RouteStep, RouteStepKind

CHOICE_CONFIDENCE = "probability of this option among the given ones, from the likelihood of the option letters"
DECODED_CONFIDENCE = "geometric mean of the probabilities of the decoded tokens"
ROUTE_CONFIDENCE = "probability of this combination of turns among all combinations, from their likelihood"
TURN_ANGLES_RAD = {RouteStepKind.TURN_BACK: pi, RouteStepKind.TURN_LEFT: pi / 2, RouteStepKind.TURN_RIGHT: -pi / 2}

_NOT_SEEN = re.compile(r"\bnot (?:been )?(?:seen|visible)\b|\b(?:have|has) not seen\b|\bnot in view\b", re.IGNORECASE)


def says_not_seen(text: str) -> bool:
    """True where the answer is that the thing was not seen."""
    return _NOT_SEEN.search(text) is not None


def turn_combinations(question: RouteQuestion) -> list[tuple[RouteStepKind, ...]]:
    """Every way to fill a route's blanks, 3^k of them, in a fixed order."""
    return list(product(TURN_TEXTS, repeat=question.turns))


def turns_text(turns: Sequence[RouteStepKind]) -> str:
    """A combination of turns as VSI-Bench writes an option: `Turn Left, Turn Right`."""
    return ", ".join(TURN_TEXTS[turn] for turn in turns)


def route_alternatives(
    combinations: Sequence[tuple[RouteStepKind, ...]], probabilities: Sequence[float]
) -> tuple[RouteAlternative, ...]:
    """Every combination with its probability, likeliest first."""
    pairs = sorted(zip(probabilities, combinations, strict=True), key=lambda pair: -pair[0])
    return tuple(RouteAlternative(turns_text(turns), probability) for probability, turns in pairs)


def route_steps(
    question: RouteQuestion,
    combinations: Sequence[tuple[RouteStepKind, ...]],
    probabilities: Sequence[float],
) -> tuple[RouteStep, ...]:
    """The steps of the likeliest combination of turns.

    Args:
        question: the route with its blanks.
        combinations: every way to fill them.
        probabilities: of each combination, summing to 1.

    Returns:
        Steps in order, the last one STOP. A turn's confidence is its probability given the turns before it.
    """
    best = max(zip(probabilities, combinations, strict=True), key=lambda pair: pair[0])[1]
    weights = [
        sum(p for p, turns in zip(probabilities, combinations, strict=True) if turns[:length] == best[:length])
        for length in range(len(best) + 1)
    ]
    steps, turn = [], 0
    for leg in question.legs:
        if leg is not None:
            steps.append(RouteStep(RouteStepKind.FORWARD, landmark=leg, confidence=weights[turn]))
            continue
        kind = best[turn]
        given = weights[turn + 1] / weights[turn] if weights[turn] else 0.0
        steps.append(RouteStep(kind, angle_rad=TURN_ANGLES_RAD[kind], confidence=given))
        turn += 1
    steps.append(RouteStep(RouteStepKind.STOP, confidence=weights[-1]))
    return tuple(steps)


def route_text(steps: Sequence[RouteStep]) -> str:
    """A route in words, one sentence a step."""
    words = {RouteStepKind.STOP: "Stop.", **{kind: f"{text.capitalize()}." for kind, text in TURN_TEXTS.items()}}
    return " ".join(
        f"Go forward until the {step.landmark}." if step.kind is RouteStepKind.FORWARD else words[step.kind]
        for step in steps
    )
