"""The questions of a trial and what comes back; their wording is the benchmarks'. Knows no truth but directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Protocol

import numpy as np

from sim.camera import wrapped
from sim.env import TimeStep
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.questions import route_question, view_direction_text, view_distance_text
from vlm3r_core.scene.relations import QUADRANT_EDGES_DEG, QUADRANTS, sector
from vlm3r_core.types import Answer, Frame, Route

_IN_METRES = {"m": 1.0, "cm": 0.01, "": 1.0}


@dataclass(frozen=True)
class Query:
    """A question.

    Args:
        kind: "route", "direction" or "distance".
        text: the question as a model gets it.
        things: names of the objects it is about.
        options: to choose from.
        answer_type: as StreamEngine.ask takes it.
        way: of a route (start, facing, goal, via...).
    """

    kind: str
    text: str
    things: tuple[str, ...]
    options: tuple[str, ...] = ()
    answer_type: str = "auto"
    way: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """An answer, and what only the oracle can add to the words.

    Args:
        answer: what was said.
        bearing_rad: exact direction to walk in, left positive, of a direction question; NaN: unknown.
        walk_m: exact distance to walk that way, of a distance question, 0: arrived; NaN: unknown.
    """

    answer: Answer
    bearing_rad: float = nan
    walk_m: float = nan

    @property
    def metres(self) -> float:
        """The number that was said, in metres; NaN where none was."""
        value = self.answer.value * _IN_METRES.get(self.answer.unit, nan)
        return value if -inf < value < inf else nan


class Asker(Protocol):
    """Someone who watches frames and answers: a model, the node, the oracle."""

    @property
    def sees(self) -> bool:
        """Whether it wants frames."""

    def push(self, frame: Frame) -> None:
        """Takes the next frame."""

    def answer(self, query: Query) -> Reply:
        """Answers a direction or distance question."""

    def route(self, query: Query) -> Route:
        """Answers a route question."""


def route_query(start: str, facing: str, goal: str, via: Sequence[str]) -> Query:
    """Which turns to take on a way, worded by the core.

    Raises:
        ValueError: as route_question.
    """
    things = dict.fromkeys((start, facing, goal, *via))
    return Query("route", route_question(start, facing, goal, via).text, tuple(things), way=(start, facing, goal, *via))


def direction_query(thing: str, rng: np.random.Generator) -> Query:
    """On which side a thing is, the options in random order."""
    options = tuple(QUADRANTS[index] for index in rng.permutation(len(QUADRANTS)))
    return Query("direction", view_direction_text(thing), (thing,), options, "choice")


def distance_query(thing: str) -> Query:
    """How far a thing is from the camera."""
    return Query("distance", view_distance_text(thing), (thing,), (), "number")


def bearing_to(now: TimeStep, point_m: np.ndarray) -> float:
    """Angle from the heading to a point [2+], radians in -pi..pi, left positive."""
    dx, dy = np.asarray(point_m)[:2] - now.position_m[:2]
    return wrapped(np.arctan2(dy, dx) - now.yaw_rad)


def direction_of(now: TimeStep, box: OrientedBox) -> str:
    """The quarter in which the middle of a box lies."""
    angle_deg = np.degrees(bearing_to(now, box.center_m)) % 360.0
    return QUADRANTS[int(sector(np.array([angle_deg]), QUADRANT_EDGES_DEG)[0])]
