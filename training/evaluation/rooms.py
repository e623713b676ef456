"""Question sets of simulated flats, and the JSON that sums up how a model does on them. Renders nothing itself."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from training.evaluation.files import write_json
from training.evaluation.summary import BASELINES

_MAKER = "training.scans.simulated"


def make_rooms(folder: Path, *, seed: int, rooms: int) -> Path:
    """A question set of so many flats, from the first seed on; a set that is whole already stays.

    Args:
        folder: of the set.
        seed: of the first flat.
        rooms: how many flats.

    Raises:
        ValueError: this checkout has no maker of simulated question sets.
    """
    try:
        maker = importlib.import_module("training.scans.simulated")
    except ModuleNotFoundError as error:
        if not _MAKER.startswith(error.name or ""):
            raise
        raise ValueError(
            f"--benchmark rooms makes its questions with {_MAKER}, which is not in this checkout; "
            "give the folder of a question set instead"
        ) from error
    return maker.write_question_set(folder, seed=seed, rooms=rooms)


def write_summary(path: Path, results: Mapping, others: Mapping[str, Mapping] | None = None) -> None:
    """Writes what a script wants to know of a run.

    Keys: tasks.{name}.{score,n,low,high}, baselines.{random,frequent,blind}.{name}, average.{model,random,frequent,
    blind}, all over the VSI tasks with the directions merged; the same for the VSTI tasks under vsti_tasks; ablations,
    by variant. Scores are in 0..100.

    Args:
        path: of the JSON file.
        results: contents of results.json of the full model.
        others: the same of each ablation, by name.
    """
    summary = _tables(results, "vsi") | {"vsti_tasks": _tables(results, "vsti"), "settings": results["settings"]}
    if others:
        summary["ablations"] = {
            name: _tables(other, "vsi") | {"vsti_tasks": _tables(other, "vsti")} for name, other in others.items()
        }
    write_json(path, summary)


def _tables(results: Mapping, benchmark: str) -> dict:
    if benchmark not in results["benchmarks"]:
        return {}
    columns = results["benchmarks"][benchmark]["columns"]
    tasks = {name: entry for name, entry in columns.items() if entry["main"] and not entry["average"]}
    overall = columns["overall"]
    return {
        "tasks": {name: {key: entry[key] for key in ("score", "n", "low", "high")} for name, entry in tasks.items()},
        "baselines": {name: {task: entry[name] for task, entry in tasks.items()} for name in BASELINES},
        "average": {"model": overall["score"], "low": overall["low"], "high": overall["high"]}
        | {name: overall[name] for name in BASELINES},
    }
