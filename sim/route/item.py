"""One route-plan question with its truth, as data. Finds no routes and words no questions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from vlm3r_core.answer import turns_text
from vlm3r_core.config import check_choice, check_range
from vlm3r_core.files import write_text
from vlm3r_core.scene.box import frozen_array
from vlm3r_core.types import RouteStepKind

LETTERS = "ABCD"
TEMPLATES = ("1", "2")
TURN_KINDS = (RouteStepKind.TURN_BACK, RouteStepKind.TURN_LEFT, RouteStepKind.TURN_RIGHT)
QUESTION_TYPE = "route_planning"


@dataclass(frozen=True, eq=False)
class RouteItem:
    """A route with blanks, its options, and everything one needs to drive it.

    `engine.plan_route(item.start, item.facing, item.goal, item.via)` asks the same question.

    Args:
        id: unique within a set of routes.
        scene: name of the scene; seed: of the set.
        template: 1 walks to what it faces, then turns; 2 turns at once.
        question: the text; options: "A. Turn Left", ...; answer: the letter of the true one.
        turns: what fills the blanks, in order.
        start: name of the landmark one starts at; facing: of what one faces there; goal: of where one goes;
            via: of what one turns at on the way, in order. start_id, facing_id, goal_id, via_ids: their instance ids.
        T_WC_start: [4, 4] camera pose at the start, aimed level at the centre of what is faced.
        stops: [2 + len(via), 3] feet at the start, at every via and at the goal, metres.
        waypoints: [N, 3] feet along the walkable way from start to goal, metres.
        turns_rad: the angles of the turns, left positive: from what is faced, or from the part of the way behind, to
            the straight line to the next stop.
        geodesic_m: length of the way, which is made of shortest ones but may be longer than the shortest to the goal.
    """

    id: str
    scene: str
    seed: int
    template: int
    question: str
    options: tuple[str, ...]
    answer: str
    turns: tuple[RouteStepKind, ...]
    start: str
    facing: str
    goal: str
    via: tuple[str, ...]
    start_id: int
    facing_id: int
    goal_id: int
    via_ids: tuple[int, ...]
    T_WC_start: np.ndarray
    stops: np.ndarray
    waypoints: np.ndarray
    turns_rad: tuple[float, ...]
    geodesic_m: float

    def __post_init__(self):
        where = f"route {self.id!r}"
        check_choice(f"{where}: template", str(self.template), TEMPLATES)
        check_range(f"{where}: geodesic_m", self.geodesic_m, 0)
        for name in ("options", "via", "via_ids"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for kind in self.turns:
            check_choice(f"{where}: turns", str(kind), tuple(map(str, TURN_KINDS)))
        object.__setattr__(self, "turns", tuple(map(RouteStepKind, self.turns)))
        object.__setattr__(self, "turns_rad", tuple(map(float, self.turns_rad)))
        for name, shape in (
            ("T_WC_start", (4, 4)),
            ("stops", (2 + len(self.via), 3)),
            ("waypoints", (len(self.waypoints), 3)),
        ):
            object.__setattr__(self, name, frozen_array(f"{where}: {name}", getattr(self, name), shape))
        if len(self.turns_rad) != len(self.turns) or len(self.via_ids) != len(self.via):
            raise ValueError(f"{where}: turns and turns_rad, and via and via_ids, must be as many")
        true_option = f"{self.answer}. {turns_text(self.turns)}"
        if true_option not in self.options:
            raise ValueError(f"{where}: the answer {true_option!r} must be one of the options, got {self.options}")

    @property
    def answer_text(self) -> str:
        """The true option without its letter."""
        return turns_text(self.turns)

    def to_vsi_item(self, dataset: str = "sim") -> dict:
        """The question with the fields of a VSI-Bench item."""
        return {
            "id": self.id,
            "dataset": dataset,
            "scene_name": self.scene,
            "question_type": QUESTION_TYPE,
            "question": self.question,
            "options": list(self.options),
            "ground_truth": self.answer,
        }


def route_to_json(item: RouteItem) -> dict:
    """The route as plain lists, names and numbers."""
    return {field.name: _plain(getattr(item, field.name)) for field in fields(item)}


def route_from_json(entry: Mapping) -> RouteItem:
    """Reads what route_to_json made.

    Raises:
        ValueError: a field is missing, unknown or malformed.
    """
    names = {field.name for field in fields(RouteItem)}
    for what, wrong in (("lacks", names - set(entry)), ("must not have", set(entry) - names)):
        if wrong:
            raise ValueError(f"a route has the fields {', '.join(sorted(names))}; this one {what} {sorted(wrong)}")
    return RouteItem(**entry)


def write_routes(items: Iterable[RouteItem], path: Path | str) -> None:
    """Writes routes as JSON lines, the file whole or not at all."""
    write_text(path, "".join(json.dumps(route_to_json(item)) + "\n" for item in items))


def read_routes(path: Path | str) -> list[RouteItem]:
    """Reads what write_routes wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no text, or a line is no route; the message names it.
    """
    items = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text; give a file that `python -m sim.routes` wrote") from None
    for number, line in enumerate(lines, 1):
        try:
            items.append(route_from_json(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: line {number}: {error}") from None
    return items


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, RouteStepKind) else value
