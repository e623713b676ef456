"""Wording of spatial questions, exactly as the benchmarks word them. Knows no model and no answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlm3r_core.types import RouteStepKind

MAX_ROUTE_TURNS = 4
TURN_TEXTS = {
    RouteStepKind.TURN_BACK: "Turn Back",
    RouteStepKind.TURN_LEFT: "Turn Left",
    RouteStepKind.TURN_RIGHT: "Turn Right",
}
_BLANK = "[please fill in]"

WORDINGS = ("vlm3r", "vsibench")
_CLOSEST = "Measuring from the closest point of each object, "
_STANDING = "If I am standing by the {stand} and facing the {face}, is the {query} "
_MOVED = (
    "During the sequence between {start} and {end}, what was the primary consistent direction of the camera's movement "
    "relative to its orientation at the start? The options are {choices}."
)
_REL_DISTANCE = (
    _CLOSEST + "which of these objects ({choices}) is the closest to the {primary}?\n"
    "If there are multiple instances of an object category, measure to the closest."
)
_CAMERA_REL_DISTANCE = _CLOSEST + "which of these objects ({choices}) is the closest to the camera in {frame}?"
# a blank stands before the line break in the room's size
_TEMPLATES = {
    "object_counting": "How many {category}(s) are in this room?",
    "object_size_estimation": (
        "What is the length of the longest dimension (length, width, or height) of the {category}, "
        "measured in centimeters?"
    ),
    "room_size_estimation": (
        "What is the size of this room (in square meters)? \n"
        "If multiple rooms are shown, estimate the size of the combined space."
    ),
    "object_abs_distance": (
        _CLOSEST + "what is the direct distance between the {object1} and the {object2} (in meters)?"
    ),
    "object_rel_distance": _REL_DISTANCE,
    "object_rel_direction_v1": (
        _STANDING + "to my front-left, front-right, back-left, or back-right?\nThe directions refer to the quadrants "
        "of a Cartesian plane (if I am standing at the origin and facing along the positive y-axis)."
    ),
    "object_rel_direction_v2": (
        _STANDING + "to my left, right, or back?\n"
        "An object is to my back if I would have to turn at least 135 degrees in order to face it."
    ),
    "object_rel_direction_v3": _STANDING + "to the left or the right of the {face}?",
    "obj_appearance_order": (
        "What will be the first-time appearance order of the following categories in the video: {mentioned}?"
    ),
    "camera_obj_abs_dist": (
        "What is the approximate distance (in meters) between the camera (or the person filming) and the nearest point "
        "of the {object} in {frame}?"
    ),
    "camera_obj_rel_dist": _CAMERA_REL_DISTANCE,
    "camera_displacement": "Approximately how far (in meters) did the camera move between {start} and {end}?",
    "camera_movement_direction": _MOVED,
    "obj_obj_relative_pos_nf": "In {frame}, relative to the camera, is {A} [Near/Far] compared to {B}?",
    "obj_obj_relative_pos_lr": "In {frame}, relative to {B}, is {A} to the [Left/Right]?",
    "obj_obj_relative_pos_ud": "In {frame}, relative to {B}, is {A} to the [Up/Down]?",
}
# what VSI-Bench's own items say instead
_VSIBENCH_TEMPLATES = {
    "object_abs_distance": _TEMPLATES["object_abs_distance"].replace("direct distance", "distance"),
    "object_rel_distance": _REL_DISTANCE.partition("\n")[0],
}
_VSIBENCH_TYPES = {
    "object_rel_direction_v1": "object_rel_direction_hard",
    "object_rel_direction_v2": "object_rel_direction_medium",
    "object_rel_direction_v3": "object_rel_direction_easy",
    "object_rel_distance_v1": "object_rel_distance",
    "object_rel_distance_v2": "object_rel_distance",
    "object_rel_distance_v3": "object_rel_distance",
}
# tasks whose versions differ in the number of options only
_VERSIONED = ("object_rel_distance", "camera_obj_rel_dist", "camera_movement_direction")


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


def question_text(task: str, names: Mapping[str, str], choices: Sequence[str] = (), *, wording: str = "vlm3r") -> str:
    """Words a question of a task.

    Args:
        task: a task's name, such as `object_rel_distance_v2`.
        names: what fills the template's places, by place; frames come as `frame 3 of 32`.
        choices: option texts in the order of the letters, where the question mentions them.
        wording: one of WORDINGS, `vlm3r` as the training data, `vsibench` as that benchmark's items.

    Raises:
        KeyError: no such task, or a place without a name.
    """
    stem = re.sub(r"_v\d$", "", task)
    key = stem if stem in _VERSIONED else task
    template = _VSIBENCH_TEMPLATES.get(key) if wording == "vsibench" else None
    if template is None:
        template = _TEMPLATES[key]
    listed = _in_words(choices) if key == "camera_movement_direction" else ", ".join(map(str, choices))
    return template.format_map({**names, "choices": listed})


def view_direction_text(thing: str) -> str:
    """Asks on which side of the current view a thing is; the options are QUADRANTS.

    Source: VSI-Bench's hard relative direction. Differs: one stands at the camera and faces along its view, in the
    words route questions have for that, instead of at an object and towards one.
    """
    places = {"stand": "current position of the camera", "face": "direction of the current view", "query": thing}
    return question_text("object_rel_direction_v1", places)


def view_distance_text(thing: str) -> str:
    """Asks how far a thing is from the camera now, in metres.

    Source: VSTI-Bench's camera-object distance. Differs: "the current frame" instead of a frame's number.
    """
    return question_text("camera_obj_abs_dist", {"object": thing, "frame": "the current frame"})


def question_type(task: str, *, wording: str = "vlm3r") -> str:
    """The type an item of a task carries in the published files."""
    if wording == "vsibench":
        task = _VSIBENCH_TYPES.get(task, task)
    return "camera_movement_direction" if task.startswith("camera_movement_direction") else task


def _in_words(choices: Sequence[str]) -> str:
    """Several things in a sentence: `a and b`, `a, b, and c`."""
    comma = "," if len(choices) > 2 else ""
    return f"{', '.join(choices[:-1])}{comma} and {choices[-1]}" if len(choices) > 1 else "".join(choices)


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
