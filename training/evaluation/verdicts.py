"""Whether a model is better than its baselines, task by task: intervals, and a word for each. Asks nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from training.evaluation.columns import Column, columns_of
from training.evaluation.records import Record
from training.evaluation.summary import BASELINES, column_statistic, only_choices
from training.evaluation.tables import plain_table, show
from vlm3r_core.scene.baselines import TextQuestion
from vlm3r_core.scene.intervals import Interval, statistic_interval

ABOVE, LEVEL, CHANCE, BELOW = "above", "level", "chance", "below"
# what says nothing about a video at all; the blind baseline may
_CHANCE = ("random", "frequent")


@dataclass(frozen=True)
class Verdict:
    """A task's score against those of who sees nothing.

    Args:
        task: name of the column; title: its heading.
        average: whether it sums up the others.
        n: questions it rests on.
        balanced: whether every right answer of the task counts the same, as for choices.
        score: of the model; low, high its 95 % interval, whole scenes drawn.
        baselines: score, low and high of each baseline.
        word: `above` all baselines or `below` the best of them, the intervals apart; else `level` where it is above
            chance (random and most frequent answers), `chance` where it is not.
    """

    task: str
    title: str
    average: bool
    n: int
    balanced: bool
    score: float
    low: float
    high: float
    baselines: Mapping[str, Mapping[str, float]]
    word: str

    def to_json(self) -> dict:
        """As plain names and numbers."""
        return asdict(self)


def verdicts(records: Sequence[Record], blind: Sequence[Record] | None = None) -> dict[str, list[Verdict]]:
    """Verdicts on each task of the paper's tables, by benchmark, averages first.

    Args:
        records: of the model's run.
        blind: of a run of a model that was trained without frames, which then is the blind baseline; default the
            priors of the texts.

    Raises:
        ValueError: the blind model was asked something else.
    """
    others = {record.key: record.score for record in blind or ()}
    if blind is not None and {record.key for record in records} - others.keys():
        raise ValueError("the run of the blind model asked other questions; ask it the same, with --view none")
    found = {}
    for name in dict.fromkeys(record.benchmark for record in records):
        own = [record for record in records if record.benchmark == name]
        scores = _scores(own, others if blind is not None else None)
        main = [column for column in columns_of(name, [record.question_type for record in own]) if column.main]
        found[name] = [_verdict(column, own, scores) for column in main if column.groups]
    return found


def verdict_table(judged: Sequence[Verdict]) -> str:
    """Verdicts as a Markdown table."""
    header = ["task", "questions", "score [95 % interval]", *BASELINES, "verdict"]
    rows = [
        [
            f"{one.title} (balanced)" if one.balanced else one.title,
            f"{one.n:,}",
            _told(one.score, one.low, one.high),
            *(_told(**one.baselines[name]) for name in BASELINES),
            one.word,
        ]
        for one in judged
    ]
    return plain_table(header, rows)


def at_chance(judged: Sequence[Verdict]) -> list[str]:
    """Tasks of which nothing was learned that a guess would not say."""
    return [one.task for one in judged if one.word in (CHANCE, BELOW) and not one.average]


def _scores(records: Sequence[Record], blind: Mapping[tuple, float] | None) -> dict[str, np.ndarray]:
    asked = [TextQuestion(r.question_type, r.question, r.options, r.truth, r.scene) for r in records]
    found = {"model": np.array([record.score for record in records])}
    for name, make in BASELINES.items():
        told = name == "blind" and blind is not None
        found[name] = np.array([blind[record.key] for record in records] if told else make(asked))
    return found


def _verdict(column: Column, records: Sequence[Record], scores: Mapping[str, np.ndarray]) -> Verdict:
    cells = {cell for group in column.groups for cell in group}
    places = [place for place, record in enumerate(records) if record.question_type in cells]
    own = [records[place] for place in places]
    balanced = not column.average and only_choices(column, own)
    statistic, count = column_statistic(column, own, balanced=balanced)
    scenes = [record.scene for record in own]
    # the same scenes are drawn for all of them
    found = {
        name: statistic_interval(lambda index, values=values[places]: statistic(values, index), scenes)
        for name, values in scores.items()
    }
    model = found.pop("model")
    return Verdict(
        task=column.name,
        title=column.title,
        average=column.average,
        n=count,
        balanced=balanced,
        **_percent(model),
        baselines={name: _percent(interval) for name, interval in found.items()},
        word=_word(model, found),
    )


def _word(model: Interval, baselines: Mapping[str, Interval]) -> str:
    best = max(baselines.values(), key=lambda interval: interval.mean)
    if model.high < best.low:
        return BELOW
    if all(model.low > interval.high for interval in baselines.values()):
        return ABOVE
    return LEVEL if all(model.low > baselines[name].high for name in _CHANCE) else CHANCE


def _percent(interval: Interval) -> dict[str, float]:
    return {"score": 100 * interval.mean, "low": 100 * interval.low, "high": 100 * interval.high}


def _told(score: float, low: float, high: float) -> str:
    return f"{show(score)} [{show(low)}, {show(high)}]"
