"""Scores, intervals and baselines of a set of records, as plain data. Formats no table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from training.evaluation.columns import Column, columns_of
from training.evaluation.records import Record
from training.evaluation.reliability import reliability
from vlm3r_core.scene.baselines import TextQuestion, blind_scores, frequent_scores, random_scores
from vlm3r_core.scene.intervals import Interval, mean_interval, statistic_interval
from vlm3r_core.scene.scoring import BENCHMARKS, average

BASELINES = {"random": random_scores, "frequent": frequent_scores, "blind": blind_scores}


def summarize(records: Sequence[Record], *, scored: bool = True) -> dict[str, dict]:
    """What results.json says of each benchmark among the records.

    Args:
        records: in the benchmark's order.
        scored: False for baselines alone: the records hold no answers.

    Returns:
        By benchmark: questions, scenes, failed (questions without an answer), columns {name: {title, main, n, score,
        low, high, random, frequent, blind}}, reasons {why there is no answer: how often} and reliability. Scores are
        in 0..100, intervals those of 95 % with whole scenes drawn; score, low, high are None without answers.
    """
    names = list(dict.fromkeys(record.benchmark for record in records))
    return {name: _summary([r for r in records if r.benchmark == name], name, scored) for name in names}


def _summary(records: list[Record], benchmark: str, scored: bool) -> dict:
    asked = [TextQuestion(r.question_type, r.question, r.options, r.truth, r.scene) for r in records]
    baselines = dict(
        zip(BASELINES, (make(asked) for make in (random_scores, frequent_scores, blind_scores)), strict=True)
    )
    columns = columns_of(benchmark, [record.question_type for record in records])
    values = np.array([record.score for record in records])
    table = {}
    for column in columns:
        statistic, count = _statistic(column, records)
        entry = {"title": column.title, "main": column.main, "average": column.is_average, "n": count}
        interval = _interval(column, statistic, values, records) if scored else None
        entry |= {key: 100 * getattr(interval, name) if interval else None for key, name in _INTERVAL_KEYS.items()}
        every = np.arange(len(records))
        for name, scores in baselines.items():
            entry[name] = 100 * float(statistic(np.array(scores), every))
        table[column.name] = entry
    if scored:
        _check_against_published(benchmark, records, table)
    errors = [record.error for record in records if record.error]
    return {
        "questions": len(records),
        "scenes": len({record.scene for record in records}),
        "failed": len(errors),
        "reasons": {reason: errors.count(reason) for reason in sorted(set(errors))},
        "columns": table,
        "reliability": reliability(records) if scored else None,
    }


_INTERVAL_KEYS = {"score": "mean", "low": "low", "high": "high"}
Statistic = Callable[[np.ndarray, np.ndarray], float]


def _statistic(column: Column, records: Sequence[Record]) -> tuple[Statistic, int]:
    """(from values and indices, with repetition, to the column's number; how many questions it rests on)."""
    if not column.groups:
        counted = np.array([record.question_type not in column.without for record in records])

        def plain(values: np.ndarray, index: np.ndarray) -> float:
            chosen = values[index][counted[index]]
            return float(chosen.mean()) if len(chosen) else np.nan

        return plain, int(counted.sum())
    names = sorted({cell for group in column.groups for cell in group})
    number = {name: place for place, name in enumerate(names)}
    own = [record.subset if column.by_subset else record.question_type for record in records]
    cells = np.array([number.get(name, len(names)) for name in own])
    groups = [[number[cell] for cell in group] for group in column.groups]

    def averaged(values: np.ndarray, index: np.ndarray) -> float:
        drawn = cells[index]
        counts = np.bincount(drawn, minlength=len(names) + 1)
        sums = np.bincount(drawn, values[index], minlength=len(names) + 1)
        means = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
        return _mean([_mean(means[group]) for group in groups])

    return averaged, int((cells < len(names)).sum())


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of what is there, NaN where nothing is."""
    found = [value for value in values if value == value]
    return float(np.mean(found)) if found else float("nan")


def _interval(column: Column, statistic: Statistic, values: np.ndarray, records: Sequence[Record]) -> Interval:
    scenes = [record.scene for record in records]
    chosen = [place for place, record in enumerate(records) if _is_plain_member(column, record)]
    if chosen:
        return mean_interval(values[chosen], [scenes[place] for place in chosen])
    return statistic_interval(lambda index: statistic(values, index), scenes)


def _is_plain_member(column: Column, record: Record) -> bool:
    """Whether a column is a plain mean over questions, this record's among them."""
    if not column.groups:
        return record.question_type not in column.without
    cells = [cell for group in column.groups for cell in group]
    return len(cells) == 1 and cells[0] == (record.subset if column.by_subset else record.question_type)


def _check_against_published(benchmark: str, records: Sequence[Record], table: dict) -> None:
    """The table must say what the benchmark's own averaging says."""
    if benchmark not in BENCHMARKS:
        return
    official = average(benchmark, [(record.question_type, record.score) for record in records])
    assert abs(table["overall"]["score"] - 100 * official.overall) < 1e-9, "averages differ from the benchmark's"
