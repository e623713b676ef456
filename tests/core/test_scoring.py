"""Scores and averages against the published evaluator's, and what replaces its exceptions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from vlm3r_core.scene.scoring import (
    CHOICE_TYPES,
    NUMBER_TYPES,
    average,
    fuzzy_matching,
    is_choice,
    mean_relative_accuracy,
    robust_letter,
    robust_number,
    score_answer,
    to_float,
)

BENCHMARKS = ("vsi", "vsti")
METRICS = ("accuracy", "MRA:.5:.95:.05")


@pytest.fixture(scope="module")
def metrics(shared_dir):
    folder = shared_dir / "golden/qa/metrics"
    if not folder.is_dir():
        pytest.skip(f"golden data not found: {folder}")
    return lambda name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def truth_of(case: dict, benchmark: str):
    choice = case["question_type"] in CHOICE_TYPES[benchmark]
    return case.get("mc_answer") if choice and benchmark == "vsti" else case["ground_truth"]


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_published_scores(metrics, benchmark):
    cases = [case for case in metrics(f"{benchmark}_cases")["cases"] if "score" in case]
    assert len(cases) > 900
    for case in cases:
        score = score_answer(benchmark, case["question_type"], case["prediction"], truth_of(case, benchmark))
        assert score.value == case["score"], case
        assert score.metric == case["metric"], case
        expected = case.get("parsed_number") if score.metric != "accuracy" else case["parsed"]
        if isinstance(expected, str) and score.metric != "accuracy":
            expected = float(expected)
        assert score.parsed == expected or (expected != expected and math.isnan(score.parsed)), case


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_what_raises_there_is_a_clear_error_or_zero_here(metrics, benchmark):
    cases = [case for case in metrics(f"{benchmark}_cases")["cases"] if "raises" in case]
    seen = set()
    for case in cases:
        kind, truth = case["question_type"], truth_of(case, benchmark)
        if kind not in (*CHOICE_TYPES[benchmark], *NUMBER_TYPES[benchmark]):
            with pytest.raises(ValueError, match=f"question type of {benchmark} must be one of"):
                score_answer(benchmark, kind, case["prediction"], truth)
        elif kind in CHOICE_TYPES[benchmark] and truth is None:
            with pytest.raises(ValueError, match="needs the right letter in"):
                score_answer(benchmark, kind, case["prediction"], truth)
        else:
            assert score_answer(benchmark, kind, case["prediction"], truth).value == 0.0
        seen.add(case["raises"])
    assert {"AttributeError", "ValueError", "ZeroDivisionError"} <= seen


def test_published_parsing(metrics):
    rows = metrics("parsing_and_mra_tables")["parsing"]["rows"]
    assert len(rows) > 250
    for text, first_word, number in rows:
        assert fuzzy_matching(text) == first_word, text
        ours = to_float(first_word)
        expected = None if number is None else float(number)
        assert ours == expected or (expected != expected and ours != ours), text


def test_published_relative_accuracy(metrics):
    rows = metrics("parsing_and_mra_tables")["mra"]["rows"]
    assert len(rows) > 800
    for answer, truth, score, _ in rows:
        assert mean_relative_accuracy(answer, truth) == score, (answer, truth)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_published_averages(metrics, benchmark):
    cases = metrics(f"{benchmark}_cases")["cases"]
    scored = [(case["question_type"], case["score"]) for case in cases if "score" in case]
    compared = 0
    for entry in metrics(f"{benchmark}_aggregate")["aggregates"]:
        docs = entry.get("docs")
        pairs = scored if docs is None else [(doc["question_type"], score_in(doc)) for doc in docs]
        if "raises" in entry["official"]:
            with pytest.raises(ValueError, match=r"no scores to average|question type of"):
                average(benchmark, pairs)
            continue
        ours = average(benchmark, pairs)
        theirs = dict(entry["official"]["components"])
        assert ours.overall == pytest.approx(theirs.pop("overall"), abs=1e-9), entry["name"]
        assert 100 * ours.overall == pytest.approx(entry["official"]["returned"], abs=1e-7)
        assert ours.by_type == pytest.approx({without_metric(name): value for name, value in theirs.items()}, abs=1e-9)
        compared += 1
    assert compared >= 4


def score_in(doc: dict) -> float:
    return next((doc[name] for name in METRICS if name in doc), 0.0)


def without_metric(name: str) -> str:
    return next(name.removesuffix(f"_{metric}") for metric in METRICS if name.endswith(metric))


def test_vsti_groups():
    """The paper's table has five columns, its average nine."""
    scores = [(kind, 1.0) for kind in CHOICE_TYPES["vsti"]] + [(kind, 0.0) for kind in NUMBER_TYPES["vsti"][:2]]
    result = average("vsti", scores)
    assert result.overall == pytest.approx(7 / 9)
    assert result.overall_grouped == pytest.approx(3 / 5)
    assert len(result.by_group) == 5


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A", "A"),
        (" b.\n", "B"),
        ("(C)", "C"),
        ("**D**", "D"),
        ("A) chair", "A"),
        ("B. sofa", "B"),
        ("A\nbecause it is near", "A"),
        ("The answer is C.", "C"),
        ("Answer: D", "D"),
        ("Option B", "B"),
        ("the correct answer is: (B)", "B"),
        ("sofa", "B"),
        ("It is the door.", "D"),
        ("A chair stands there", "A"),
        ("a tv or a sofa", None),
        ("I do not know", None),
        ("", None),
        ("Because", None),
    ],
)
def test_robust_letter(answer, letter):
    assert robust_letter(answer, ("A. chair", "B. sofa", "C. tv", "D. door")) == letter


@pytest.mark.parametrize(
    ("answer", "number"),
    [("two", 2.0), ("1.2m", 1.2), ("1,200", 1200.0), ("about 3.5 meters", 3.5), ("none", None), ("**4**", 4.0)],
)
def test_robust_number(answer, number):
    assert robust_number(answer) == number


def test_robust_scores():
    assert score_answer("vsi", "object_abs_distance", "about 2.0 m", "2.0", parser="robust").value == 1.0
    assert score_answer("vsi", "object_abs_distance", "about 2.0 m", "2.0").value == 0.0
    options = ("A. left", "B. right")
    assert score_answer("vsi", "object_rel_direction_easy", "right", "B", options=options, parser="robust").value == 1.0
    with pytest.raises(ValueError, match="parser must be one of published, robust"):
        score_answer("vsi", "object_counting", "1", "1", parser="magic")
    with pytest.raises(ValueError, match="benchmark must be one of vsi, vsti"):
        is_choice("cv", "object_counting")


def test_scores_are_plain_floats():
    """JSON takes them."""
    score = score_answer("vsi", "object_counting", "3", "3")
    assert json.loads(json.dumps([score.value, np.float64(score.value)])) == [1.0, 1.0]
