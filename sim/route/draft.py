"""A walk that may become a route question, and what is wrong with it. Draws no walks and words no questions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sim.route.geometry import turn_between, turn_kind
from sim.route.landmarks import Landmark, Sight, distances
from sim.route.settings import RouteSettings
from vlm3r_core.types import RouteStepKind


@dataclass(frozen=True, eq=False)
class Stop:
    """A place on a walk and the landmark that names it: feet [3]."""

    feet: np.ndarray
    landmark: Landmark


@dataclass(frozen=True, eq=False)
class Draft:
    """A walk between landmarks.

    Args:
        template: 1 or 2.
        stops: start, every via, goal.
        faced: what one faces at the start: the landmark of stops[1] in template 1, another one in template 2.
    """

    template: int
    stops: tuple[Stop, ...]
    faced: Landmark

    @property
    def looks(self) -> list[tuple[Stop, Stop]]:
        """(where one stands, where one looks), one after the other; a turn to fill in lies between any two."""
        walked = list(pairwise(self.stops))
        return walked if self.template == 1 else [(self.stops[0], Stop(self.faced.center, self.faced)), *walked]

    def turns_of_way(self) -> list[float]:
        """The turns of one who faces the faced landmark's centre and walks straight from stop to stop, radians."""
        return _turns([there.feet - here.feet for here, there in self.looks])

    def turns_of_walker(self) -> list[float]:
        """The turns of one who stands at the stops and looks at the landmarks' centres, radians."""
        return _turns([there.landmark.center - here.feet for here, there in self.looks])

    def turns_of_landmarks(self) -> list[float]:
        """The turns from landmark centre to landmark centre, all that a map of objects tells, radians."""
        return _turns([there.landmark.center - here.landmark.center for here, there in self.looks])

    def turns_of_driver(self) -> list[float]:
        """The turns of one who goes straight for each landmark's centre until its box is reached, radians."""
        here, headings = self.stops[0].feet, []
        for _, there in self.looks:
            headings.append(there.landmark.center - here)
            if there.landmark is not self.faced or self.template == 1:
                here = there.landmark.box.nearest_point(here)
        return _turns(headings)

    def kinds(self, settings: RouteSettings) -> tuple[RouteStepKind | None, ...]:
        """What the turns of the way are called, None where that is ambiguous.

        Turning back at the start needs a way on which start, goal and what is faced make no turn.
        """
        angles = self.turns_of_way()
        kinds = [turn_kind(angle, settings) for angle in angles]
        if self.template == 2 and kinds[0] is RouteStepKind.TURN_BACK:
            straight = turn_kind(np.pi - abs(angles[0]), settings) is RouteStepKind.FORWARD
            kinds[0] = RouteStepKind.TURN_BACK if straight else None
        return tuple(kinds)


def turn_flaw(kinds: tuple[RouteStepKind | None, ...]) -> str:
    """What is wrong with turns of these kinds; "" where nothing is."""
    if None in kinds:
        return "ambiguous turn"
    return "no turn" if RouteStepKind.FORWARD in kinds else ""


def shape_flaw(draft: Draft, settings: RouteSettings) -> str:
    """What is wrong with the walk and its landmarks as a map shows them; "" where nothing is."""
    kinds = draft.kinds(settings)
    flaw = turn_flaw(kinds)
    if flaw:
        return flaw
    ids = [stop.landmark.object_id for stop in draft.stops]
    ids += [draft.faced.object_id] if draft.template == 2 else []
    if len(set(ids)) < len(ids):
        return "the same landmark twice"
    if not _each_nearest_to_its_own(draft, settings):
        return "a landmark near two stops"
    if any(aside(here.feet, there) > np.radians(settings.aim_deg) for here, there in draft.looks):
        return "a landmark ahead lies aside"
    for told in (draft.turns_of_walker(), draft.turns_of_landmarks(), draft.turns_of_driver()):
        if tuple(turn_kind(angle, settings) for angle in told) != kinds:
            return "the landmarks tell another turn"
    if _stray_corners(draft, settings) > settings.stray_corners:
        return "a goal in several directions"
    return ""


def aside(feet: np.ndarray, there: Stop) -> float:
    """How far off the straight line from feet [3] to a stop its landmark's centre is, radians."""
    return abs(turn_between(there.feet - feet, there.landmark.center - feet))


def sight_flaw(draft: Draft, sight: Sight) -> str:
    """What one who walks does not see; "" where every stop shows what its name mentions, the start what it faces."""
    if not all(_shows(stop.feet, stop.landmark, sight) for stop in draft.stops):
        return "a landmark not seen from its stop"
    return "" if _shows(draft.stops[0].feet, draft.faced, sight) else "the faced landmark not seen"


def _shows(feet: np.ndarray, landmark: Landmark, sight: Sight) -> bool:
    return sight.sees(feet, landmark) and (landmark.neighbour is None or sight.sees(feet, landmark.neighbour))


def _turns(headings: list[np.ndarray]) -> list[float]:
    return [turn_between(before, after) for before, after in pairwise(headings)]


def _each_nearest_to_its_own(draft: Draft, settings: RouteSettings) -> bool:
    """Whether no landmark, the faced one included, is about as near to another stop as to its own."""
    feet = np.stack([stop.feet for stop in draft.stops])
    for index, stop in enumerate(draft.stops):
        away = distances(feet, stop.landmark)
        if np.delete(away, index).min() < away[index] + settings.nearer_m:
            return False
    return draft.template == 1 or distances(feet, draft.faced).min() >= settings.nearer_m


def _stray_corners(draft: Draft, settings: RouteSettings) -> int:
    """Of the corners of what is turned to, the most that lie in another direction than the centre."""
    worst, looks = 0, draft.looks
    for (stood, looked), (here, there) in pairwise(looks):
        heading = looked.landmark.center - stood.feet
        told = turn_kind(turn_between(heading, there.landmark.center - here.feet), settings, sure=False)
        corners = there.landmark.box.corners() - here.feet
        kinds = [turn_kind(turn_between(heading, corner), settings, sure=False) for corner in corners]
        worst = max(worst, sum(kind is not told for kind in kinds))
    return worst
