"""Baselines without frames on sets whose priors are known, and the intervals of means."""

from __future__ import annotations

import numpy as np
import pytest

from vlm3r_core.scene.baselines import (
    TextQuestion,
    blind_answers,
    blind_scores,
    frequent_scores,
    random_scores,
)
from vlm3r_core.scene.intervals import mean_interval, statistic_interval

FOUR = ("A. chair", "B. sofa", "C. tv", "D. door")


def choice(truth: str, scene: int, options=FOUR, text="Which of these objects is the closest to the table?"):
    return TextQuestion("object_rel_distance", text, options, truth, f"scene{scene}")


def number(truth: float, scene: int, text="How many chair(s) are in this room?"):
    return TextQuestion("object_counting", text, (), str(truth), f"scene{scene}")


def test_random():
    assert random_scores([choice("A", 0), choice("B", 1, FOUR[:2])]) == [0.25, 0.5]
    # half of the drawn numbers is right, half is off by more than a half
    assert random_scores([number(2, 0), number(8, 1)]) == [0.5, 0.5]
    assert random_scores([number(2, 0)], [number(2, 5)]) == [1.0]
    assert random_scores([number(2, 0)], [choice("A", 1)]) == [0.0]


def test_most_frequent():
    questions = [choice("A", 0), choice("A", 1), choice("B", 2), number(3, 0), number(3, 1), number(30, 2)]
    assert frequent_scores(questions) == [1, 1, 0, 1, 1, 0]
    assert frequent_scores(questions[:3], [choice("B", 9)]) == [0, 0, 1]


def test_blind_finds_what_the_text_gives_away():
    """The sofa is always right, wherever it stands; a table is always 120 cm long, a bed 200 cm."""
    rng, questions = np.random.default_rng(0), []
    for scene in range(40):
        names = rng.permutation(["chair", "sofa", "tv", "door"])
        options = tuple(f"{letter}. {name}" for letter, name in zip("ABCD", names, strict=True))
        right = next(option[0] for option in options if "sofa" in option)
        questions.append(choice(right, scene, options))
        name = ("table", "bed")[scene % 2]
        questions.append(number({"table": 120, "bed": 200}[name], scene, f"How long is the {name}?"))
    assert np.mean(blind_scores(questions)) == 1.0
    assert np.mean(frequent_scores(questions)) < 0.6


def test_blind_gains_nothing_where_nothing_is_given_away():
    rng = np.random.default_rng(1)
    questions = [choice("ABCD"[rng.integers(4)], scene) for scene in range(800)]
    assert 0.2 < np.mean(blind_scores(questions)) < 0.3


def test_blind_never_learns_from_the_scene_it_answers():
    """Each scene has its own answer, so that only a look at the answer itself could be right."""
    questions = [number(10.0**scene, scene, f"What is in scene {scene}?") for scene in range(8) for _ in range(3)]
    assert max(blind_scores(questions)) == 0.0
    assert blind_answers(questions, seed=3) == blind_answers(questions, seed=3)


def test_interval_of_a_mean():
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    interval = mean_interval(values)
    assert interval.low < interval.mean < interval.high
    # 1.96 standard errors each way
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.15)
    assert mean_interval(values) == interval


def test_interval_knows_that_a_scene_hangs_together():
    values = np.repeat(np.random.default_rng(0).integers(0, 2, 20), 50)
    scenes = np.repeat(np.arange(20), 50)
    together, apart = mean_interval(values, scenes.tolist()), mean_interval(values)
    assert together.high - together.low > 4 * (apart.high - apart.low)
    assert together.n == 1000


def test_interval_of_an_average():
    values, scenes = np.array([0.0, 1.0] * 50), np.repeat(np.arange(25), 4).tolist()
    interval = statistic_interval(lambda index: float(values[index].mean()), scenes)
    assert (interval.mean, interval.n) == (0.5, 100)
    assert interval.low == interval.high == 0.5
    with pytest.raises(ValueError, match="got an empty one"):
        statistic_interval(len, [])
    with pytest.raises(ValueError, match="one group for each"):
        mean_interval([1.0, 2.0], ["a"])
