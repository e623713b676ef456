"""Scores of answers as VSI-Bench and VSTI-Bench define them, and their averages. Runs no model, draws nothing.

Source: the published evaluator. Differs: where that one raises, an answer that is no text and a number whose truth is 0
score 0, and a question without a truth is a ValueError that names it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vlm3r_core.config import check_choice
from vlm3r_core.quantity import parse_number

ACCURACY, MRA = "accuracy", "MRA:.5:.95:.05"
CHOICE_TYPES = {
    "vsi": (
        "object_rel_direction_easy object_rel_direction_medium object_rel_direction_hard object_rel_distance "
        "route_planning obj_appearance_order"
    ).split(),
    "vsti": (
        "obj_obj_relative_pos_nf obj_obj_relative_pos_ud obj_obj_relative_pos_lr camera_obj_rel_dist_v1 "
        "camera_obj_rel_dist_v2 camera_obj_rel_dist_v3 camera_movement_direction"
    ).split(),
}
NUMBER_TYPES = {
    "vsi": "object_abs_distance object_counting object_size_estimation room_size_estimation".split(),
    "vsti": "camera_obj_abs_dist camera_displacement camera_obj_dist_change".split(),
}
BENCHMARKS = tuple(CHOICE_TYPES)
PARSERS = ("published", "robust")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Several question types that a benchmark reports as one: merged before averaging in VSI-Bench, beside it in VSTI-Bench.
MERGED = {
    "vsi": {"object_rel_direction": "object_rel_direction_easy object_rel_direction_medium object_rel_direction_hard"},
    "vsti": {
        "obj_obj_relative_pos": "obj_obj_relative_pos_nf obj_obj_relative_pos_ud obj_obj_relative_pos_lr",
        "camera_obj_rel_dist": "camera_obj_rel_dist_v1 camera_obj_rel_dist_v2 camera_obj_rel_dist_v3",
    },
}
# As computed, not as written: the ninth is a hair below 0.9, and scores at the edge depend on it.
# relative errors that the confidences 0.5, 0.55, ... 0.95 allow
_LIMITS = tuple((1 - np.linspace(0.5, 0.95, 10)).tolist())
_LETTER = re.compile(
    r"^\W*(?:(?:the|my)\s+)?(?:(?:correct\s+)?(?:answer|option|choice)\s*(?:is)?\s*:?\s*)?\W*([A-Z])\b(?!')",
    re.IGNORECASE,
)
_PREFIX = re.compile(r"^\s*([A-Z])[.):]\s*")


@dataclass(frozen=True)
class Score:
    """What one answer is worth.

    Args:
        metric: ACCURACY or MRA.
        value: in 0..1.
        parsed: what was read from the answer, None where nothing could be.
    """

    metric: str
    value: float
    parsed: str | float | None


@dataclass(frozen=True)
class Averages:
    """A benchmark's result.

    Args:
        by_type: mean score in 0..1 of every question type, as the benchmark reports them.
        overall: plain mean over by_type, in 0..1.
        by_group: like by_type, question types that only differ in their number of options merged into one.
        overall_grouped: plain mean over by_group.
    """

    by_type: Mapping[str, float]
    overall: float
    by_group: Mapping[str, float] = field(default_factory=dict)
    overall_grouped: float = math.nan


def is_choice(benchmark: str, question_type: str) -> bool:
    """Whether a question type is answered by a letter; else it is by a number.

    Raises:
        ValueError: unknown benchmark or question type; lists the known ones.
    """
    check_choice("benchmark", benchmark, BENCHMARKS)
    check_choice(f"question type of {benchmark}", question_type, (*CHOICE_TYPES[benchmark], *NUMBER_TYPES[benchmark]))
    return question_type in CHOICE_TYPES[benchmark]


def score_answer(
    benchmark: str,
    question_type: str,
    answer: object,
    truth: object,
    *,
    options: Sequence[str] = (),
    parser: str = "published",
) -> Score:
    """Scores one answer.

    Args:
        benchmark: `vsi` or `vsti`.
        question_type: one of the benchmark's.
        answer: what the model said; anything but text scores 0.
        truth: the right letter (in VSI-Bench's ground_truth, in VSTI-Bench's mc_answer), or the right number.
        options: texts of the options, with which the robust parser understands an answer in words.
        parser: `published`, whose oddities are kept, or `robust`.

    Raises:
        ValueError: unknown names, or a choice without a right letter.
    """
    choice = is_choice(benchmark, question_type)
    check_choice("parser", parser, PARSERS)
    if choice and not isinstance(truth, str):
        field_name = "ground_truth" if benchmark == "vsi" else "mc_answer"
        raise ValueError(f"a {question_type} question needs the right letter in {field_name}, got {truth!r}")
    metric = ACCURACY if choice else MRA
    if not isinstance(answer, str):
        return Score(metric, 0.0, None)
    if choice:
        said = fuzzy_matching(answer) if parser == "published" else robust_letter(answer, options)
        return Score(metric, float(said is not None and said.lower() == truth.lower()), said)
    number = to_float(fuzzy_matching(answer)) if parser == "published" else robust_number(answer)
    return Score(metric, mean_relative_accuracy(number, to_float(truth)), number)


def fuzzy_matching(answer: str) -> str:
    """An answer's first word, as the published evaluator takes it: up to the first blank, without full stops."""
    return answer.split(" ")[0].rstrip(".").strip()


def to_float(value: object) -> float | None:
    """A number from a text or number, None where there is none; whatever Python reads as a number is one."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def mean_relative_accuracy(answer: float | None, truth: float | None) -> float:
    """Share of the confidences 0.5, 0.55, ... 0.95 at which the relative error is at most one minus the confidence.

    Args:
        answer: None or NaN scores 0.
        truth: None, NaN or 0, to which nothing is relative, scores 0.

    Source: published evaluator (the paper writes "less than"); a negative truth gives every answer 1 there and here.
    """
    if answer is None or truth is None or truth == 0:
        return 0.0
    # Python's floats: infinite answers and numbers of 300 digits neither warn nor raise
    error = abs(float(answer) - float(truth)) / float(truth)
    return sum(error <= limit for limit in _LIMITS) / len(_LIMITS)


def robust_letter(answer: str, options: Sequence[str] = ()) -> str | None:
    """The option an answer names: by letter in any dress, or by its text; None where none or several are named."""
    texts = {LETTERS[index]: _plain(option) for index, option in enumerate(options)}
    said = _plain(answer)
    exact = [letter for letter, text in texts.items() if text and said == text]
    if len(exact) == 1:
        return exact[0]
    found = _LETTER.match(answer)
    # "A chair" starts with an article, "A. chair" and "A" with a letter
    if found and not re.match(r"[ \t]+[a-z]", answer[found.end() :]) and found[1].upper() in (texts or LETTERS):
        return found[1].upper()
    named = [letter for letter, text in texts.items() if text and re.search(rf"\b{re.escape(text)}\b", said)]
    return named[0] if len(named) == 1 else None


def robust_number(answer: str) -> float | None:
    """The first number in an answer, with thousands commas, units and number words understood; None without one."""
    value, _ = parse_number(answer)
    return None if math.isnan(value) else value


def average(benchmark: str, scores: Iterable[tuple[str, float]]) -> Averages:
    """A benchmark's averages over (question type, score) pairs.

    Every type counts the same, however many questions it has. VSI-Bench's three direction types are first averaged
    into one; VSTI-Bench averages its raw types, and the grouped average treats each of its five tasks alike.

    Raises:
        ValueError: no scores, or an unknown type.

    Source: published aggregation; Differs: the grouped average is ours.
    """
    by_type: dict[str, list[float]] = {}
    for question_type, value in scores:
        is_choice(benchmark, question_type)
        by_type.setdefault(question_type, []).append(value)
    if not by_type:
        raise ValueError("there are no scores to average; score at least one question")
    raw = {name: float(np.mean(values)) for name, values in sorted(by_type.items())}
    grouped = _merged(raw, MERGED[benchmark])
    reported = grouped if benchmark == "vsi" else raw
    return Averages(reported, float(np.mean([*reported.values()])), grouped, float(np.mean([*grouped.values()])))


def _merged(raw: Mapping[str, float], groups: Mapping[str, str]) -> dict[str, float]:
    merged = dict(raw)
    for name, members in groups.items():
        present = [merged.pop(member) for member in members.split() if member in merged]
        if present:
            merged[name] = float(np.mean(present))
    return merged


def _plain(text: str) -> str:
    """Words of an option or answer, without its letter, case and punctuation."""
    return " ".join(re.findall(r"\w+", _PREFIX.sub("", text).lower()))
