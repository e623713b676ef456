"""Whether a model is better than who sees nothing: the words, from records whose scores are known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from training.evaluation.records import Record
from training.evaluation.verdicts import ABOVE, BELOW, CHANCE, LEVEL, at_chance, verdict_table, verdicts
from vlm3r_core.scene.scoring import ACCURACY

SIDES = ("A. left", "B. right")


def record(scene: int, place: int, score: float, truth: str = "A", kind: str = "object_rel_direction_easy") -> Record:
    return Record(
        index=10 * scene + place,
        id=f"{scene}-{place}-{kind}",
        benchmark="vsi",
        question_type=kind,
        subset="",
        scene=f"room-{scene}",
        question=f"Which side, number {place}?",
        options=SIDES,
        truth=truth,
        prediction=truth,
        parsed=truth,
        score=score,
        metric=ACCURACY,
        confidence=None,
        letters=(),
        tokens=1,
        latency_ms=1.0,
        error="",
    )


def answered(right: float, *, scenes: int = 60, each: int = 4) -> list[Record]:
    """Records of which a share is right, in every scene as often, both letters alike."""
    count = round(right * scenes * each)
    records = [record(s, p, 0.0, "AB"[p % 2]) for s in range(scenes) for p in range(each)]
    # a stride without common divisor spreads them over scenes and letters
    chosen = {number * 7 % len(records) for number in range(count)}
    return [replace(one, score=float(number in chosen)) for number, one in enumerate(records)]


def word(model: list[Record], blind: list[Record] | None = None) -> str:
    judged = {one.task: one for one in verdicts(model, blind)["vsi"]}
    return judged["object_rel_direction"].word


def test_words_by_how_the_intervals_lie():
    assert word(answered(0.8), answered(0.5)) == ABOVE
    # better than a guess, but no better than who knows the texts
    assert word(answered(0.72), answered(0.7)) == LEVEL
    assert word(answered(0.52), answered(0.5)) == CHANCE
    assert word(answered(0.5), answered(0.8)) == BELOW


def test_who_says_what_is_frequent_is_at_chance():
    """Nine of ten are A, and A is always said: balanced, that is a guess."""
    records = [
        record(s, p, float((s + p) % 10 > 0), "B" if (s + p) % 10 == 0 else "A") for s in range(60) for p in (0, 1)
    ]
    judged = verdicts(records)["vsi"]
    direction = next(one for one in judged if one.task == "object_rel_direction")
    assert direction.balanced
    assert direction.score == pytest.approx(50.0)
    assert direction.word == CHANCE
    assert at_chance(judged) == ["object_rel_direction"]


def test_the_table_names_everyone():
    judged = verdicts(answered(0.8), answered(0.6))["vsi"]
    assert [one.task for one in judged] == ["overall", "object_rel_direction"]
    lines = verdict_table(judged).splitlines()
    assert lines[0].split(" | ")[1:] == [
        "questions",
        "score [95 % interval]",
        "random",
        "frequent",
        "blind",
        "verdict |",
    ]
    assert "(balanced)" in lines[-1]
    assert lines[-1].endswith("| above |")
    assert judged[1].baselines["blind"]["score"] == pytest.approx(60.0)
    assert judged[1].baselines["random"]["score"] == pytest.approx(50.0)


def test_the_blind_model_must_be_asked_the_same():
    with pytest.raises(ValueError, match="asked other questions"):
        verdicts(answered(0.8), answered(0.8)[1:])
