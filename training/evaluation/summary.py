"""Scores, intervals and baselines of a set of records, as plain data. Formats no table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from training.evaluation.columns import Column, columns_of
from training.evaluation.records import Record
from training.evaluation.reliability import reliability
from vlm3r_core.scene.baselines import TextQuestion, blind_scores, frequent_scores, random_scores
from vlm3r_core.scene.intervals import Interval, mean_interval, statistic_interval
from vlm3r_core.scene.scoring import ACCURACY, BENCHMARKS, LETTERS, average

BASELINES = {"random": random_scores, "frequent": frequent_scores, "blind": blind_scores}


def summarize(records: Sequence[Record], *, scored: bool = True) -> dict[str, dict]:
    """What results.json says of each benchmark among the records.

    Args:
        records: in the benchmark's order.
        scored: False for baselines alone: the records hold no answers.

    Returns:
        By benchmark: questions, scenes, failed (questions without an answer), columns {name: {title, main, average, n,
        score, low, high, random, frequent, blind}}, reasons {why there is no answer: how often} and reliability.
        Tasks that are choices have the same once more under `balanced`, every right answer counting the same. Scores
        are in 0..100, intervals those of 95 % with whole scenes drawn; score, low, high are None without answers.
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
        statistic, count = column_statistic(column, records)
        entry = {"title": column.title, "main": column.main, "average": column.average, "n": count}
        interval = _interval(column, statistic, values, records) if scored else None
        entry |= {key: 100 * getattr(interval, name) if interval else None for key, name in _INTERVAL_KEYS.items()}
        every = np.arange(len(records))
        for name, scores in baselines.items():
            entry[name] = 100 * float(statistic(np.array(scores), every))
        if scored and not column.average and only_choices(column, records):
            entry["balanced"] = _balanced(column, values, baselines, records)
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


_FEW_CLASSES = 8
_INTERVAL_KEYS = {"score": "mean", "low": "low", "high": "high"}
Statistic = Callable[[np.ndarray, np.ndarray], float]


def column_statistic(column: Column, records: Sequence[Record], *, balanced: bool = False) -> tuple[Statistic, int]:
    """(from values and indices, with repetition, to the column's number; how many questions it rests on).

    Balanced, every right answer of a type counts the same, however often it is right.
    """
    if not column.groups:
        counted = np.array([record.question_type not in column.without for record in records])

        def plain(values: np.ndarray, index: np.ndarray) -> float:
            chosen = values[index][counted[index]]
            return float(chosen.mean()) if len(chosen) else np.nan

        return plain, int(counted.sum())
    own = [_cell(column, record) for record in records]
    classes = _classes(own, records) if balanced else [""] * len(records)
    labels = sorted(set(zip(own, classes, strict=True)))
    number = {label: place for place, label in enumerate(labels)}
    places = np.array([number[label] for label in zip(own, classes, strict=True)])
    tree = [[[number[label] for label in labels if label[0] == cell] for cell in group] for group in column.groups]
    weights = np.zeros(len(labels))
    for group in tree:
        for cell in group:
            weights[cell] += 1 / (len(tree) * len(group) * max(1, len(cell)))

    def averaged(values: np.ndarray, index: np.ndarray) -> float:
        drawn = places[index]
        counts = np.bincount(drawn, minlength=len(labels))
        sums = np.bincount(drawn, values[index], minlength=len(labels))
        means = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
        if counts[weights > 0].all() and all(cell for group in tree for cell in group):
            return float(weights[weights > 0] @ means[weights > 0])
        return _mean([_mean([_mean(means[cell]) for cell in group]) for group in tree])

    return averaged, int((weights[places] > 0).sum())


def _cell(column: Column, record: Record) -> str:
    return record.subset if column.by_subset else record.question_type


def _classes(cells: Sequence[str], records: Sequence[Record]) -> list[str]:
    """The right answer's class: its text where a type has few of them, as directions do, else its letter."""
    texts = [_truth_text(record) for record in records]
    known: dict[str, set[str]] = {}
    for cell, text in zip(cells, texts, strict=True):
        known.setdefault(cell, set()).add(text)
    few = {cell for cell, found in known.items() if len(found) <= _FEW_CLASSES}
    return [text if cell in few else record.truth for cell, text, record in zip(cells, texts, records, strict=True)]


def _truth_text(record: Record) -> str:
    """Words of the right option, without its letter."""
    place = LETTERS.find(record.truth)
    option = record.options[place] if 0 <= place < len(record.options) else record.truth
    return option.partition(". ")[2] or option


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


def only_choices(column: Column, records: Sequence[Record]) -> bool:
    """Whether all questions of a column are choices."""
    cells = {cell for group in column.groups for cell in group}
    return all(record.metric == ACCURACY for record in records if _cell(column, record) in cells)


def _balanced(
    column: Column, values: np.ndarray, baselines: Mapping[str, Sequence[float]], records: Sequence[Record]
) -> dict:
    """Accuracy with every right answer counting the same, of the model with its interval and of the baselines."""
    statistic, _ = column_statistic(column, records, balanced=True)
    interval = statistic_interval(lambda index: statistic(values, index), [record.scene for record in records])
    every = np.arange(len(records))
    found = {key: 100 * getattr(interval, name) for key, name in _INTERVAL_KEYS.items()}
    return found | {name: 100 * statistic(np.array(scores), every) for name, scores in baselines.items()}


def _is_plain_member(column: Column, record: Record) -> bool:
    """Whether a column is a plain mean over questions, this record's among them."""
    if not column.groups:
        return record.question_type not in column.without
    cells = [cell for group in column.groups for cell in group]
    return len(cells) == 1 and cells[0] == _cell(column, record)


def _check_against_published(benchmark: str, records: Sequence[Record], table: dict) -> None:
    """The table must say what the benchmark's own averaging says."""
    if benchmark not in BENCHMARKS:
        return
    official = average(benchmark, [(record.question_type, record.score) for record in records])
    assert abs(table["overall"]["score"] - 100 * official.overall) < 1e-9, "averages differ from the benchmark's"
