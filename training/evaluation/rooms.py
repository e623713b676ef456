"""Question sets of simulated flats, and the JSON that sums up how a model does on them. Renders nothing itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.evaluation.files import write_json
from training.evaluation.summary import BASELINES
from training.evaluation.verdicts import Verdict, at_chance

_TASK_KEYS = ("score", "n", "low", "high", "balanced")


def make_rooms(folder: Path, *, seed: int, rooms: int) -> Path:
    """A question set of so many flats; one that is whole already stays, one that was begun is gone on with.

    Args:
        folder: of the set.
        seed: of the first flat.
        rooms: how many flats.

    Returns:
        The folder.

    Raises:
        ValueError: the simulator is not installed, no flat is wanted, or the folder holds another set.
    """
    try:
        from training.qa.rooms import write_question_set
    except ImportError as error:
        raise ValueError(
            f"--benchmark rooms films simulated flats, and the simulator is not whole ({error}); run "
            ".venv/bin/pip install -c constraints.txt -e '.[sim,train]', or give the folder of a question set"
        ) from error
    return write_question_set(folder, seed=seed, rooms=rooms)


def write_summary(
    path: Path,
    results: Mapping,
    others: Mapping[str, Mapping] | None = None,
    *,
    blind: Mapping | None = None,
    judged: Mapping[str, Sequence[Verdict]] | None = None,
) -> None:
    """Writes what a script wants to know of a run.

    Keys: tasks.{name}.{score,n,low,high}, baselines.{random,frequent,blind}.{name}, average.{model,random,frequent,
    blind}, all over the VSI tasks with the directions merged; the same for the VSTI tasks under vsti_tasks; ablations,
    by variant; verdicts.{benchmark}, see verdicts.Verdict, and at_chance, tasks. Scores are in 0..100. A task that is a
    choice also has `balanced`, see summary.summarize.

    Args:
        path: of the JSON file.
        results: contents of results.json of the full model.
        others: the same of each ablation, by name.
        blind: the same of a model that was trained without frames, which then is the blind baseline; default the
            priors of the texts.
        judged: of verdicts.verdicts.

    Raises:
        ValueError: the blind model was asked something else.
    """
    if blind and blind["settings"]["questions"] != results["settings"]["questions"]:
        raise ValueError("the run of the blind model asked other questions; ask it the same, with --view none")
    summary = _both(results, blind) | {"settings": results["settings"]}
    if others:
        summary["ablations"] = {name: _both(other, blind) for name, other in others.items()}
    if judged:
        summary["verdicts"] = {name: [one.to_json() for one in found] for name, found in judged.items()}
        summary["at_chance"] = [task for found in judged.values() for task in at_chance(found)]
    write_json(path, summary)


def _both(results: Mapping, blind: Mapping | None) -> dict:
    return _tables(results, "vsi", blind) | {"vsti_tasks": _tables(results, "vsti", blind)}


def _tables(results: Mapping, benchmark: str, blind: Mapping | None) -> dict:
    if benchmark not in results["benchmarks"]:
        return {}
    columns = results["benchmarks"][benchmark]["columns"]
    baselines = {name: {task: entry[name] for task, entry in columns.items()} for name in BASELINES}
    if blind:
        baselines["blind"] = {task: entry["score"] for task, entry in blind["benchmarks"][benchmark]["columns"].items()}
    tasks = [name for name, entry in columns.items() if entry["main"] and not entry["average"]]
    overall = columns["overall"]
    return {
        "tasks": {name: {key: columns[name][key] for key in _TASK_KEYS if key in columns[name]} for name in tasks},
        "baselines": {name: {task: scores[task] for task in tasks} for name, scores in baselines.items()},
        "average": {"model": overall["score"], "low": overall["low"], "high": overall["high"]}
        | {name: scores["overall"] for name, scores in baselines.items()},
    }
