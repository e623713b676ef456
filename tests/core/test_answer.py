"""Parsing of numbers, units, choices and routes."""

from __future__ import annotations

import math

import pytest

from vlm3r_core.answer import (
    route_alternatives,
    route_steps,
    route_text,
    says_not_seen,
    turn_combinations,
    turns_text,
)
from vlm3r_core.quantity import asked_unit, infer_answer_type, parse_number
from vlm3r_core.scene.questions import route_question
from vlm3r_core.types import RouteStepKind


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("2.3 meters", 2.3, "m"),
        ("about 1,200 cm", 1200.0, "cm"),
        ("Two chairs", 2.0, ""),
        ("1.5m", 1.5, "m"),
        ("-3.2 degrees", -3.2, "deg"),
        ("12 square meters.", 12.0, "m^2"),
        ("12.5 m² in all", 12.5, "m^2"),
        (".5 metres", 0.5, "m"),
        ("10 seconds", 10.0, "s"),
        ("3 minutes", 3.0, ""),
        ("The door is 4 m away, the sofa 5 m", 4.0, "m"),
    ],
)
def test_parse_number(text, value, unit):
    assert parse_number(text) == (value, unit)


@pytest.mark.parametrize("text", ["", "no idea", "A3", "someone", "weight"])
def test_no_number(text):
    value, unit = parse_number(text)
    assert math.isnan(value)
    assert unit == ""


@pytest.mark.parametrize(
    ("question", "kind", "unit"),
    [
        ("How far is the door?", "number", ""),
        ("What is the size of this room (in square meters)?", "number", "m^2"),
        ("How many chair(s) are in this room?", "number", "count"),
        ("What is the longest dimension of the table, measured in centimeters?", "number", "cm"),
        ("What is the direct distance between the lamp and the sofa (in meters)?", "number", "m"),
        ("Which of these objects is the closest?", "text", ""),
        ("What is behind me?", "text", ""),
    ],
)
def test_auto_kind_and_unit(question, kind, unit):
    assert infer_answer_type(question, ()) == kind
    assert infer_answer_type(question, ("a", "b")) == "choice"
    assert asked_unit(question) == unit


def test_not_seen():
    assert says_not_seen("It was not seen so far.")
    assert says_not_seen("I have not seen a piano")
    assert not says_not_seen("behind the sofa")


def test_route_question_is_the_papers_template_1():
    question = route_question("bed", "door", "sofa", ["door"])
    assert question.text == (
        "You are a robot beginning at the bed facing the door. You want to navigate to the sofa. You will perform the "
        "following actions (Note: for each [please fill in], choose either 'turn back,' 'turn left,' or 'turn "
        "right.'): 1. Go forward until the door. 2. [please fill in] 3. Go forward until the sofa. You have reached "
        "the final destination."
    )
    assert question.legs == ("door", None, "sofa")


def test_route_question_is_the_papers_template_2():
    question = route_question("door", "sofa", "bed")
    assert question.text == (
        "You are a robot beginning at the door facing the sofa. You want to navigate to the bed. You will perform the "
        "following actions (Note: for each [please fill in], choose either 'turn back,' 'turn left,' or 'turn "
        "right.'): 1. [please fill in] 2. Go forward until the bed. You have reached the final destination."
    )
    assert question.turns == 1


def test_a_via_that_is_not_faced_needs_a_turn_first():
    assert route_question("bed", "door", "sofa", ["lamp"]).legs == (None, "lamp", None, "sofa")
    assert route_question("bed", "Door", "sofa", ["door", "lamp"]).legs == ("door", None, "lamp", None, "sofa")


def test_articles_are_not_doubled():
    assert route_question("the bed", "A door", "an armchair", ["the door"]) == route_question(
        "bed", "door", "armchair", ["door"]
    )
    assert route_question("", "", "theatre").legs == (None, "theatre")


def test_route_steps_take_the_likeliest_and_condition_the_turns():
    question = route_question("bed", "door", "sofa", ["door", "lamp"])
    combinations = turn_combinations(question)
    left_right = (RouteStepKind.TURN_LEFT, RouteStepKind.TURN_RIGHT)
    probabilities = [0.4 if turns == left_right else 0.6 / 8 for turns in combinations]
    steps = route_steps(question, combinations, probabilities)
    assert [step.kind.name for step in steps] == ["FORWARD", "TURN_LEFT", "FORWARD", "TURN_RIGHT", "FORWARD", "STOP"]
    assert [step.landmark for step in steps] == ["door", "", "lamp", "", "sofa", ""]
    first_left = 0.4 + 2 * 0.6 / 8
    assert steps[1].confidence == pytest.approx(first_left)
    assert steps[3].confidence == pytest.approx(0.4 / first_left)
    assert steps[1].angle_rad == pytest.approx(math.pi / 2)
    assert steps[3].angle_rad == pytest.approx(-math.pi / 2)
    assert all(math.isnan(step.distance_m) for step in steps)
    assert route_text(steps) == (
        "Go forward until the door. Turn left. Go forward until the lamp. Turn right. Go forward until the sofa. Stop."
    )
    best = route_alternatives(combinations, probabilities)[0]
    assert (best.text, best.probability) == (turns_text(left_right), 0.4) == ("Turn Left, Turn Right", 0.4)


@pytest.mark.parametrize(("via", "count"), [((), 3), (("a",), 9), (("a", "b", "c"), 81)])
def test_all_combinations(via, count):
    combinations = turn_combinations(route_question("", "", "sofa", via))
    assert len(set(combinations)) == count
