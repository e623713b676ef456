"""Scores, averages, intervals, baselines and calibration as tables; averages against the published evaluator's."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from training.benchmarks.question import BenchmarkQuestion
from training.evaluation.columns import columns_of
from training.evaluation.page import html_page
from training.evaluation.plots import reliability_svg
from training.evaluation.records import Record, score_record
from training.evaluation.reliability import reliability
from training.evaluation.report import write_results
from training.evaluation.said import Said
from training.evaluation.settings import EvalSettings
from training.evaluation.summary import summarize
from training.evaluation.tables import markdown
from vlm3r_core.scene.baselines import TextQuestion, blind_scores, frequent_scores, random_scores
from vlm3r_core.scene.intervals import mean_interval
from vlm3r_core.scene.scoring import BENCHMARKS, CHOICE_TYPES, average, is_choice

LETTERS = tuple(f"{letter}. option {letter}" for letter in "ABCDEFGH")
METRICS = ("accuracy", "MRA:.5:.95:.05")


@pytest.fixture(scope="module")
def metrics(shared_dir):
    folder = shared_dir / "golden/qa/metrics"
    if not folder.is_dir():
        pytest.skip(f"golden data not found: {folder}")
    return lambda name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def record(kind="object_counting", score=1.0, scene="s0", benchmark="vsi", **changes) -> Record:
    """A record with a score as given, whatever was said."""
    choice = benchmark not in BENCHMARKS or is_choice(benchmark, kind)
    defaults = {
        "index": 0,
        "id": "0",
        "subset": "",
        "question": "?",
        "options": LETTERS[:4] if choice else (),
        "truth": "A" if choice else "2",
        "prediction": "A",
        "parsed": "A",
        "metric": METRICS[0] if choice else METRICS[1],
        "confidence": 0.5,
        "letters": (),
        "tokens": 1,
        "latency_ms": 1.0,
        "error": "",
    }
    return Record(benchmark=benchmark, question_type=kind, score=score, scene=scene, **defaults | changes)


def case_question(benchmark: str, place: int, case: dict) -> BenchmarkQuestion:
    kind = case["question_type"]
    choice = is_choice(benchmark, kind)
    truth = case["mc_answer"] if benchmark == "vsti" and choice else case["ground_truth"]
    made = BenchmarkQuestion(
        id=str(place),
        benchmark=benchmark,
        question_type=kind,
        question="?",
        options=LETTERS if choice else (),
        truth="A" if choice else str(truth),
        scene=f"s{place % 7}",
        video=None,
    )
    # whatever truth the case has, odd ones too
    object.__setattr__(made, "truth", truth)
    return made


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_golden_predictions_give_golden_aggregates(metrics, benchmark, tmp_path):
    """Every published case as a prediction, through scoring and tables."""
    cases = [case for case in metrics(f"{benchmark}_cases")["cases"] if "score" in case]
    records = []
    for place, case in enumerate(cases):
        question = case_question(benchmark, place, case)
        made = score_record(place, question, Said(case["prediction"]), "published")
        assert made.score == pytest.approx(case["score"], abs=1e-12), case
        records.append(replace(made, truth="A" if is_choice(benchmark, made.question_type) else "2"))
    entry = next(e for e in metrics(f"{benchmark}_aggregate")["aggregates"] if e["name"] == "all")
    result = write_results(tmp_path, EvalSettings(benchmark=benchmark, model="m"), records)
    check_columns(result["benchmarks"][benchmark]["columns"], benchmark, entry["official"])
    table = (tmp_path / "table.md").read_text()
    assert f"| m | {entry['official']['returned']:.1f} |" in table


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_simulated_runs_give_golden_aggregates(metrics, benchmark):
    compared = 0
    for entry in metrics(f"{benchmark}_aggregate")["aggregates"]:
        if "docs" not in entry or "raises" in entry["official"]:
            continue
        records = [
            record(doc["question_type"], next(doc[name] for name in METRICS if name in doc), f"s{place % 5}", benchmark)
            for place, doc in enumerate(entry["docs"])
        ]
        columns = summarize(records)[benchmark]["columns"]
        check_columns(columns, benchmark, entry["official"])
        compared += 1
    assert compared >= 3


def check_columns(columns: dict, benchmark: str, official: dict) -> None:
    assert columns["overall"]["score"] == pytest.approx(official["returned"], abs=1e-7)
    for name, value in official["components"].items():
        name = next((name.removesuffix(f"_{metric}") for metric in METRICS if name.endswith(f"_{metric}")), name)
        assert columns[name]["score"] == pytest.approx(100 * value, abs=1e-7), name


def test_both_averages_of_vsti():
    kinds = [*CHOICE_TYPES["vsti"], "camera_obj_abs_dist", "camera_displacement"]
    records = [record(kind, float(is_choice("vsti", kind)), f"s{place}", "vsti") for place, kind in enumerate(kinds)]
    columns = summarize(records)["vsti"]["columns"]
    official = average("vsti", [(made.question_type, made.score) for made in records])
    assert columns["overall"]["score"] == pytest.approx(100 * official.overall)
    assert columns["overall_grouped"]["score"] == pytest.approx(100 * official.overall_grouped)
    assert columns["overall"]["score"] == pytest.approx(100 * 7 / 9)
    assert columns["overall_grouped"]["score"] == pytest.approx(60)
    assert [name for name, entry in columns.items() if not entry["main"]][:1] == ["obj_obj_relative_pos_nf"]


def test_intervals_draw_scenes():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 2, 60).astype(float)
    records = [record(score=score, scene=f"s{place // 6}", id=str(place)) for place, score in enumerate(scores)]
    entry = summarize(records)["vsi"]["columns"]["object_counting"]
    reference = mean_interval(scores, [made.scene for made in records], resamples=4000)
    assert entry["score"] == pytest.approx(100 * scores.mean())
    assert (entry["low"], entry["high"]) == pytest.approx((100 * reference.low, 100 * reference.high), abs=2.5)
    # questions of one scene hang together: as one scene they say nothing of others
    one_scene = [replace(made, scene="s") for made in records]
    alone = summarize(one_scene)["vsi"]["columns"]["object_counting"]
    assert alone["low"] == alone["high"] == alone["score"]


def test_baselines_stand_in_the_table():
    records = [
        record("object_rel_distance", 0.0, f"s{place}", truth="AB"[place % 3 == 0], id=str(place))
        for place in range(12)
    ] + [record("object_counting", 0.0, f"s{place}", truth=str(2 + place % 2), id=f"n{place}") for place in range(12)]
    columns = summarize(records)["vsi"]["columns"]
    asked = [TextQuestion(r.question_type, r.question, r.options, r.truth, r.scene) for r in records]
    for name, score in {"random": random_scores, "frequent": frequent_scores, "blind": blind_scores}.items():
        expected = average("vsi", [(q.question_type, v) for q, v in zip(asked, score(asked), strict=True)])
        assert columns["overall"][name] == pytest.approx(100 * expected.overall)
        assert columns["object_counting"][name] == pytest.approx(100 * expected.by_type["object_counting"])
    assert columns["object_rel_distance"]["random"] == pytest.approx(25)
    assert columns["object_rel_distance"]["frequent"] == pytest.approx(100 * 8 / 12)


def test_balanced_accuracy_counts_every_right_answer_the_same():
    """Three of four doors are left, and who always says left is right in half of the cases only."""
    options = ("A. left", "B. right")
    flipped = ("A. right", "B. left")
    records = []
    for place in range(40):
        right, turned = place % 4 == 0, place % 3 == 0
        truth = "AB"[right != turned]
        shown = flipped if turned else options
        said = "left"
        score = float(shown["AB".index(truth)].endswith(said))
        kind = "object_rel_direction_easy"
        records.append(record(kind, score, f"s{place // 2}", truth=truth, options=shown))
    entry = summarize(records)["vsi"]["columns"]["object_rel_direction"]
    assert entry["score"] == 75
    assert entry["balanced"]["score"] == pytest.approx(50)
    assert entry["balanced"]["random"] == pytest.approx(50)
    assert entry["balanced"]["low"] == entry["balanced"]["high"] == 50
    assert "balanced" not in summarize([record()])["vsi"]["columns"]["object_counting"]
    # many texts: the letter is the class
    kind, named = "object_rel_distance", [f"A. {place}" for place in range(9)]
    records = [record(kind, 1.0, f"s{n}", options=(text, "B. x")) for n, text in enumerate(named)]
    records.append(record(kind, 0.0, "s9", options=("A. y", "B. x"), truth="B"))
    assert summarize(records)["vsi"]["columns"][kind]["balanced"]["score"] == pytest.approx(50)


def test_cv_bench_averages_its_sources():
    made = [("ADE20K", 1.0), ("ADE20K", 0.0), ("COCO", 1.0), ("Omni3D", 0.0), ("Omni3D", 0.0), ("Omni3D", 1.0)]
    records = [record("Count", score, "s", "cv-bench", subset=subset) for subset, score in made]
    overall = summarize(records)["cv-bench"]["columns"]["overall"]
    assert overall["score"] == pytest.approx(100 * ((0.5 + 1) / 2 + 1 / 3) / 2)


def test_mindcube_leaves_translation_out():
    records = [record(kind, score, "s", "mindcube") for kind, score in (("around", 1.0), ("translation", 0.0))]
    overall = summarize(records)["mindcube"]["columns"]["overall"]
    assert (overall["score"], overall["n"]) == (100, 1)


def test_other_benchmarks_average_questions():
    records = [record(kind, score, "s", "mmsi") for kind, score in (("a", 1.0), ("a", 1.0), ("a", 1.0), ("b", 0.0))]
    columns = summarize(records)["mmsi"]["columns"]
    assert columns["overall"]["score"] == 75
    assert (columns["a"]["score"], columns["b"]["score"]) == (100, 0)


def test_columns_of_the_paper():
    kinds = ["route_planning", "object_rel_direction_hard", "object_counting", "object_rel_direction_easy"]
    names = [column.name for column in columns_of("vsi", kinds)]
    assert names[:4] == ["overall", "object_counting", "object_rel_direction", "route_planning"]
    assert names[4:] == ["object_rel_direction_easy", "object_rel_direction_hard"]


def test_unanswered_questions_are_counted():
    broken = record(score=0.0, prediction=None, parsed=None, confidence=None, error="video x.mp4 does not exist")
    records = [record(scene="s0"), broken, replace(broken, scene="s1")]
    result = {"settings": settings_dict(), "labels": "", "benchmarks": summarize(records)}
    assert result["benchmarks"]["vsi"]["failed"] == 2
    assert result["benchmarks"]["vsi"]["columns"]["overall"]["score"] == pytest.approx(100 / 3)
    line = "2 questions were not answered and score 0: video x.mp4 does not exist (2)."
    assert line in markdown([result])
    assert "video x.mp4 does not exist (2)" in html_page([result])


def settings_dict(**changes) -> dict:
    return asdict(EvalSettings(model="m", **changes))


def test_calibration():
    sure = [record("object_rel_distance", float(place < 6), confidence=0.95) for place in range(10)]
    unsure = [record("object_rel_distance", float(place < 5), confidence=0.25) for place in range(10)]
    part = reliability([*sure, *unsure, record(confidence=None)])["choices"]
    assert [entry["n"] for entry in part["bins"]] == [10, 10]
    assert part["ece"] == pytest.approx(0.5 * 0.35 + 0.5 * 0.25)
    # a certain answer belongs to the last bin
    assert reliability([record("object_rel_distance", 1.0, confidence=1.0)])["choices"]["bins"][0]["high"] == 1.0
    drawing = reliability_svg(part, "choices")
    assert drawing.count("<circle") == 2
    assert "10 answers, confidence 0.95, accuracy 0.60" in drawing


def test_confidence_is_that_of_the_letter_said():
    said = Said("B.", letters=(0.7, 0.2, 0.1), fluency=0.4)
    assert said.confidence("B") == 0.2
    assert said.confidence("b") == 0.2
    assert said.confidence("It") == 0.4
    assert said.confidence(None) == 0.4
    assert Said("2", fluency=0.3).confidence(2.0) == 0.3


def test_robust_parser_is_a_choice():
    question = BenchmarkQuestion("0", "mmsi", "MSR", "?", ("A. left", "B. right"), "B", "s", None)
    scores = {parser: score_record(0, question, Said("(B)"), parser).score for parser in ("published", "robust")}
    assert scores == {"published": 0.0, "robust": 1.0}


def test_infinite_answers_are_kept_as_none():
    question = BenchmarkQuestion("0", "vsi", "object_counting", "?", (), "2", "s", None)
    made = score_record(0, question, Said("inf"), "published")
    assert (made.parsed, made.score) == (None, 0.0)
    assert "Infinity" not in made.line


def test_a_choice_needs_its_letter():
    with pytest.raises(ValueError, match="the letter of the right one, got 2 options and the truth 'C'"):
        BenchmarkQuestion("0", "mmsi", "MSR", "?", ("A. left", "B. right"), "C", "s", None)
    with pytest.raises(ValueError, match="needs options"):
        BenchmarkQuestion("0", "vsi", "route_planning", "?", (), "A", "s", None)


def test_page_carries_everything_and_escapes():
    result = {
        "settings": settings_dict() | {"model": "<b>m</b>"},
        "labels": "",
        "benchmarks": summarize([record(), record("object_rel_distance", 0.0, "s1")]),
    }
    page = html_page([result])
    assert "<b>m</b>" not in page
    assert "&lt;b&gt;m&lt;/b&gt;" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count("<svg") == 2
    assert page == html_page([result])
