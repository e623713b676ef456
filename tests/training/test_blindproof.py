"""Questions whose answer their texts give away: they go, the others stay, in their order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from training.qa.blindproof import blind_proof
from vlm3r_core.scene.baselines import TextQuestion, blind_scores
from vlm3r_core.scene.items import QaItem

RNG = np.random.default_rng(3)


def item(task: str, number: int, truth, **changes) -> QaItem:
    plain = QaItem(
        id=f"{task}/{number}",
        dataset="d",
        scene=f"s{number % 100}",
        video_path=None,
        task=task,
        question_type=task,
        wording="vlm3r",
        names={"category": "chair"},
        question="?",
        choices=(),
        options=None,
        ground_truth=truth,
        mc_answer=None,
        value=float(truth) if not isinstance(truth, str) else None,
    )
    return replace(plain, **changes)


def test_counts_of_a_category_are_even_and_a_sole_count_goes():
    chairs = [item("object_counting", number, 2 if number % 4 else 3) for number in range(80)]
    beds = [item("object_counting", 100 + number, 2, names={"category": "bed"}) for number in range(10)]
    kept, dropped = blind_proof([*chairs, *beds], 0)
    assert Counter(one.ground_truth for one in kept) == {2: 20, 3: 20}
    assert dropped == {"object_counting": 50}
    assert [one for one in chairs if one in kept] == kept


def test_sizes_are_spread_evenly_and_those_always_alike_go():
    sizes = np.exp(RNG.normal(5.0, 0.3, 400))
    tables = [item("object_size_estimation", number, round(size)) for number, size in enumerate(sizes)]
    names = {"category": "door"}
    doors = [item("object_size_estimation", 500 + n, 200 + n % 5, names=names) for n in range(50)]
    kept, _ = blind_proof([*tables, *doors], 0)
    assert {one.names["category"] for one in kept} == {"chair"}
    assert len(kept) > 150
    low, high = np.log(np.quantile(sizes, [0.05, 0.95]))
    edges = np.exp(np.linspace(low, high, 6))
    before, after = (np.histogram(values, edges)[0] for values in (sizes, [one.value for one in kept]))
    assert after.max() / after.min() < 0.8 * before.max() / before.min()


def choice(number: int, *, given_away: bool) -> QaItem:
    options = tuple(str(name) for name in RNG.permutation(["bed", "tv", "sofa", "lamp"]))
    right = options.index("bed") if given_away else int(RNG.integers(4))
    texts = tuple(f"{letter}. {name}" for letter, name in zip("ABCD", options, strict=True))
    changes = {"choices": options, "options": texts, "mc_answer": "ABCD"[right], "value": None}
    return item("object_rel_distance_v1", number, options[right], **changes)


def blind(items: list[QaItem]) -> float:
    asked = [TextQuestion(i.task, i.question, i.options, i.mc_answer, i.scene) for i in items]
    return float(np.mean(blind_scores(asked)))


def test_what_is_guessed_from_names_goes_until_guessing_is_chance():
    items = [choice(number, given_away=number % 3 == 0) for number in range(900)]
    assert blind(items) > 0.4
    kept, dropped = blind_proof(items, 0)
    assert blind(kept) < 0.32
    assert len(kept) > 450
    assert dropped["object_rel_distance_v1"] == 900 - len(kept)
    assert blind_proof(items, 0)[0] == kept


def test_what_gives_nothing_away_stays():
    items = [choice(number, given_away=False) for number in range(400)]
    assert len(blind_proof(items, 0)[0]) > 350


@pytest.mark.parametrize("task", ["room_size_estimation", "route_planning", "object_rel_direction_v1"])
def test_other_tasks_stay(task):
    items = [item(task, number, 5.0) for number in range(20)]
    assert blind_proof(items, 0) == (items, Counter())
