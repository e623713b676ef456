"""The oracle: answers the same questions from the scene graph and the shortest path. It moves nothing itself.

Its words are the truth about what was asked: the true turns, the quarter the object lies in, its distance. To these it
adds what words cannot carry: a route has a step for every bend of the way, with exact angles and distances; and where
the question is after a thing, the exact direction and distance to the next waypoint of the shortest way there.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from sim.camera import wrapped
from sim.loop.queries import Query, Reply, bearing_to, direction_of
from sim.loop.trial import Trial
from vlm3r_core.answer import (
    CHOICE_CONFIDENCE,
    DECODED_CONFIDENCE,
    ROUTE_CONFIDENCE,
    route_steps,
    turn_combinations,
    turns_text,
)
from vlm3r_core.scene.questions import route_question
from vlm3r_core.types import Answer, Frame, Route, RouteAlternative, RouteStep, RouteStepKind

# A waypoint this near is passed; sideways slips of a drive leave about as much.
_ARRIVED_M = 0.05
# Turns from here on are called turning back.
_BACK_RAD = np.radians(135.0)


class Oracle:
    """An Asker that knows the truth of a trial."""

    sees = False

    def __init__(self, trial: Trial):
        self._trial = trial

    def push(self, frame: Frame) -> None:
        """Takes no frame: it knows."""

    def answer(self, query: Query) -> Reply:
        """The true direction or distance, with the way there."""
        said, now, ahead = true_answer(self._trial, query), self._trial.now, self._waypoint()
        if query.kind == "direction":
            return Reply(said, bearing_rad=0.0 if ahead is None else bearing_to(now, ahead))
        return Reply(said, walk_m=0.0 if ahead is None else float(np.hypot(*(ahead - now.position_m)[:2])))

    def route(self, query: Query) -> Route:
        """The way of the episode's route, as steps from where the robot stands."""
        points = [self._trial.now.position_m, *self._trial.episode.reference_m[1:]]
        steps, yaw, goal = [], self._trial.now.yaw_rad, query.way[2]
        for before, after in pairwise(points):
            dx, dy = (after - before)[:2]
            angle = wrapped(np.arctan2(dy, dx) - yaw)
            yaw += angle
            steps.append(RouteStep(_turn_kind(angle), angle_rad=angle, confidence=1.0))
            steps.append(RouteStep(RouteStepKind.FORWARD, goal, distance_m=float(np.hypot(dx, dy)), confidence=1.0))
        steps.append(RouteStep(RouteStepKind.STOP, confidence=1.0))
        turns = self._trial.episode.turns
        only = (RouteAlternative(turns, 1.0),)
        return Route(tuple(steps), turns, 1.0, only, confidence_meaning=ROUTE_CONFIDENCE, trained=True)

    def _waypoint(self) -> np.ndarray | None:
        """The next waypoint [3] of the shortest way to the goal, None at its end."""
        here = self._trial.now.position_m
        points = self._trial.goal.way(here).points
        return next((point for point in points if np.linalg.norm((point - here)[:2]) > _ARRIVED_M), None)


class TruthInWords:
    """An Asker that says the truth as a model would: nothing but the words. What a perfect model could reach."""

    sees = False

    def __init__(self, trial: Trial):
        self._trial = trial

    def push(self, frame: Frame) -> None:
        """Takes no frame: it knows."""

    def answer(self, query: Query) -> Reply:
        """The true direction or distance."""
        return Reply(true_answer(self._trial, query))

    def route(self, query: Query) -> Route:
        """The true turns at their nominal angles, distances unknown."""
        start, facing, goal, *via = query.way
        question = route_question(start, facing, goal, via)
        combinations = turn_combinations(question)
        told = [float(turns_text(turns) == self._trial.episode.turns) for turns in combinations]
        steps = route_steps(question, combinations, told)
        return replace(Oracle(self._trial).route(query), steps=steps)


def true_answer(trial: Trial, query: Query) -> Answer:
    """The true words about a direction or distance."""
    target = trial.the(query.things[0])
    if query.kind == "direction":
        text = direction_of(trial.now, target.box)
        return Answer(text, "choice", query.options.index(text), **_sure(CHOICE_CONFIDENCE))
    value = trial.distance_to(target)
    return Answer(f"{value:.1f}", "number", value=value, unit="m", **_sure(DECODED_CONFIDENCE))


def _turn_kind(angle_rad: float) -> RouteStepKind:
    if abs(angle_rad) >= _BACK_RAD:
        return RouteStepKind.TURN_BACK
    return RouteStepKind.TURN_LEFT if angle_rad >= 0 else RouteStepKind.TURN_RIGHT


def _sure(meaning: str) -> dict:
    return {"confidence": 1.0, "confidence_meaning": meaning, "trained": True}
