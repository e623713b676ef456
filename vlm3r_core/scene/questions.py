"""Wording of spatial questions, exactly as the benchmarks word them. Knows no model and no answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vlm3r_core.types import RouteStepKind

MAX_ROUTE_TURNS = 4
TURN_TEXTS = {
    RouteStepKind.TURN_BACK: "Turn Back",
    RouteStepKind.TURN_LEFT: "Turn Left",
    RouteStepKind.TURN_RIGHT: "Turn Right",
}
_BLANK = "[please fill in]"


@dataclass(frozen=True)
class RouteQuestion:
    """A route with blanks where the turns belong.

    Args:
        text: the question.
        legs: one entry a numbered action: the landmark to walk to, or None for a turn to fill in.
    """

    text: str
    legs: tuple[str | None, ...]

    @property
    def turns(self) -> int:
        """Number of turns to fill in."""
        return self.legs.count(None)


def route_question(start: str, facing: str, goal: str, via: Sequence[str] = ()) -> RouteQuestion:
    """Words the route-planning question.

    With via[0] equal to facing the route begins by walking there (the paper's template 1); with no via the robot
    turns at once (template 2); with another via[0] it turns, then walks there. A turn follows every via.

    Args:
        start: where the robot stands; "" is the camera's current place.
        facing: what it faces; "" is the current viewing direction, only together with an empty start.
        goal: where it wants to go.
        via: landmarks on the way, in order.

    Raises:
        ValueError: no goal, an empty via, facing missing for a named start, or more than four turns.

    Source: VLM-3R appendix B, templates 1 and 2; Differs: the current view as start, more than one via.
    """
    start, facing, goal, via = _noun(start), _noun(facing), _noun(goal), tuple(map(_noun, via))
    _check_route(start, facing, goal, via)
    legs: list[str | None] = [] if via and via[0].lower() == facing.lower() else [None]
    for landmark in via:
        legs += [landmark, None]
    legs.append(goal)
    if legs.count(None) > MAX_ROUTE_TURNS:
        raise ValueError(
            f"a route may have at most {MAX_ROUTE_TURNS} turns, this one has {legs.count(None)}; "
            "ask for it in parts, with fewer via landmarks"
        )
    where = f"beginning at the {start}" if start else "beginning at the current position of the camera"
    view = f"facing the {facing}" if facing else "facing the direction of the current view"
    actions = " ".join(
        f"{number}. {_BLANK if leg is None else f'Go forward until the {leg}.'}" for number, leg in enumerate(legs, 1)
    )
    text = (
        f"You are a robot {where} {view}. You want to navigate to the {goal}. "
        f"You will perform the following actions (Note: for each {_BLANK}, choose either "
        f"'turn back,' 'turn left,' or 'turn right.'): {actions} You have reached the final destination."
    )
    return RouteQuestion(text, tuple(legs))


def _noun(landmark: str) -> str:
    """A landmark without the article that the wording adds itself."""
    return re.sub(r"^(?:the|an?)\s+", "", landmark.strip(), flags=re.IGNORECASE)


def _check_route(start: str, facing: str, goal: str, via: tuple[str, ...]) -> None:
    if not goal:
        raise ValueError("a route needs a goal, got an empty one; name an object, such as 'sofa'")
    if "" in via:
        raise ValueError(f"via landmarks must not be empty, got {list(via)}")
    if start and not facing:
        raise ValueError(
            f"a route that starts at a named place ({start!r}) needs what the robot faces there, got an empty facing; "
            "give facing too, or leave both empty for the current view"
        )
