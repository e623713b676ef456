"""Writes one HTML page about a run of episodes, with plans, film strips and plots. It runs and scores nothing.

    python -m sim.report RUN_DIR [OTHER_RUN_DIR ...]

The page carries everything with it: it opens without a network, without a script and without the run's folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tqdm import tqdm

from sim.command import run_command
from sim.env import FloorMap
from sim.loop.files import MAPS
from sim.reporting.floorplan import episode_plan, plan_image
from sim.reporting.pictures import film_strip
from sim.reporting.plots import make_plots
from sim.reporting.run_data import RunData, read_floor_map, read_run
from sim.reporting.tables import NOTHING, number, outcome, question_rows, reason, run_row, table_columns
from vlm3r_core.files import write_text

REPORT = "report.html"
_TEMPLATES = Path(__file__).parent / "reporting"
# What film strips may take, bytes of JPEG; written as text they grow by a third.
_STRIP_BYTES, _ALL_STRIPS_BYTES = 120_000, 10_000_000
# The filters over the episodes: class of a card, title.
_FILTERS = (("ok", "success"), ("near", "within 3 m"), ("miss", "failure"), ("early", "answered before seen"))

_log = logging.getLogger(__name__)


def write_report(run_dir: Path, *others: Path, progress: bool = False) -> Path:
    """Writes report.html into a run's folder; the same files give the same bytes.

    Args:
        run_dir: what `python -m sim.run --out` wrote; the episodes shown are its.
        others: folders of runs to compare it with.
        progress: whether a bar is shown.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: a run has no results.json.
        ValueError: a file is malformed.
    """
    runs = read_runs([run_dir, *others])
    plans, notes = _floor_maps(runs[0])
    known = list(plans)
    each_bytes = min(_STRIP_BYTES, _ALL_STRIPS_BYTES // max(len(runs[0].episodes), 1))
    theirs = [{entry["id"]: entry for entry in run.episodes} for run in runs[1:]]
    cards, unreadable = [], 0
    for place, episode in enumerate(tqdm(runs[0].episodes, "report", unit="episode", disable=not progress)):
        film, bad = film_strip(runs[0].pictures(episode["id"]), each_bytes)
        unreadable += bad
        same = [entries.get(episode["id"]) for entries in theirs]
        card = _card(runs[0], episode, same, plans.get(episode["scene"]))
        background = known.index(episode["scene"]) if episode["scene"] in plans else None
        cards.append(card | {"anchor": f"episode-{place}", "film": film, "background": background})
    if unreadable:
        notes.append(f"{unreadable} pictures could not be read and were left out")
    page = _page(runs, cards, [plan_image(plan) for plan in plans.values()], notes)
    path = Path(run_dir) / REPORT
    write_text(path, page)
    return path


def read_runs(folders: Sequence[Path]) -> list[RunData]:
    """Reads runs; those of one agent are told apart by their folders' names.

    Raises:
        FileNotFoundError: a run has no results.json.
        ValueError: a file is malformed.
    """
    runs = [read_run(folder) for folder in folders]
    uses = Counter(run.label for run in runs)
    labels = [run.label if uses[run.label] == 1 else f"{run.label} ({run.folder.resolve().name})" for run in runs]
    return [read_run(folder, label) for folder, label in zip(folders, labels, strict=True)]


def _floor_maps(run: RunData) -> tuple[dict[str, FloorMap], list[str]]:
    """Maps of a run's scenes by name, and what to say of those that are missing."""
    plans, notes = {}, []
    for scene in sorted({entry["scene"] for entry in run.episodes}):
        try:
            plans[scene] = read_floor_map(run.folder / MAPS / f"{scene}.npz")
        except (FileNotFoundError, ValueError) as error:
            notes.append(f"scene {scene}: {error}; its plans show paths only")
    return plans, notes


def _card(run: RunData, episode: dict, same: list[dict | None], plan: FloorMap | None) -> dict:
    """What is shown of one episode, beside the same episode of other runs."""
    timing = run.timings.get(episode["id"], {"latency_ms": [], "seconds": None})
    questions = question_rows(episode, timing["latency_ms"])
    scores = [item.get("score") for item in episode["questions"]]
    scores = [score for score in scores if isinstance(score, (int, float))]
    goal = episode["goal"] or {}
    paths = [entry["path"] if entry else episode["path"][:0] for entry in same]
    text = {
        "spl": number(episode["spl"]),
        "ne": number(episode["ne_m"]),
        "path": number(episode["path_m"]),
        "steps": number(episode["steps"], 0),
        "collisions": number(episode["collisions"], 0),
        "score": number(sum(scores) / len(scores)) if scores else NOTHING,
    }
    figures = [
        ("SPL", text["spl"]),
        ("NE", number(episode["ne_m"], 2, "m")),
        ("nDTW", number(episode["ndtw"])),
        ("path", number(episode["path_m"], 2, "m")),
        ("shortest", number(episode["shortest_m"], 2, "m")),
        ("steps", text["steps"]),
        ("collisions", text["collisions"]),
        ("simulated", number(episode["sim_seconds"], 1, "s")),
        ("took", number(timing["seconds"], 1, "s")),
    ]
    return text | {
        "id": episode["id"],
        "scene": episode["scene"],
        "goal": str(goal.get("category") or NOTHING),
        "outcome": outcome(episode),
        "reason": reason(episode, run.limits.get(episode["id"])),
        "early": any(item["early"] for item in questions),
        "questions": questions,
        "figures": figures,
        "others": [outcome(entry) | {"spl": number(entry["spl"])} if entry else None for entry in same],
        "plan": episode_plan(episode, plan, paths, to_point=run.results["task"] == "route"),
    }


def _page(runs: list[RunData], cards: list[dict], backgrounds: list[dict], notes: list[str]) -> str:
    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    rows = [run_row(run) for run in runs]
    kinds = Counter(card["outcome"]["kind"] for card in cards) + Counter(early=sum(card["early"] for card in cards))
    filters = [{"kind": "all", "title": "all", "count": len(cards)}]
    filters += [{"kind": kind, "title": title, "count": kinds[kind]} for kind, title in _FILTERS if kinds[kind]]
    return templates.get_template("report.html.j2").render(
        nothing=NOTHING,
        labels=[run.label for run in runs],
        rows=rows,
        columns=table_columns(),
        spans=any(cell["small"] for row in rows for cell in row["cells"]),
        notes=[*_run_notes(runs), *notes],
        plots=make_plots(runs),
        cards=cards,
        backgrounds=backgrounds,
        filters=filters,
        confidences=any(item["confidence"] != NOTHING for card in cards for item in card["questions"]),
        settings_texts=[json.dumps(run.results.get("settings", {}), indent=2, sort_keys=True) for run in runs],
    )


def _run_notes(runs: list[RunData]) -> list[str]:
    """What is missing in the runs, and what makes them hard to compare."""
    notes = [f"{run.label}: {note}" if len(runs) > 1 else note for run in runs for note in run.notes]
    first = {entry["id"] for entry in runs[0].episodes}
    for run in runs[1:]:
        if run.results["task"] != runs[0].results["task"]:
            notes.append(f"{run.label} did another task: its figures do not compare with those of {runs[0].label}")
        elif {entry["id"] for entry in run.episodes} != first:
            shared = len(first & {entry["id"] for entry in run.episodes})
            notes.append(f"{run.label} shares {shared} episodes with {runs[0].label}: means are over different ones")
        elif run.results.get("seed") != runs[0].results.get("seed"):
            notes.append(f"{run.label} has another seed than {runs[0].label}: its episodes may differ")
    return notes


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the page's path; returns 0, 2 (bad input: one line says what) or 130 (interrupted)."""
    parser = argparse.ArgumentParser(prog="python -m sim.report", description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder of a run; report.html is written there")
    parser.add_argument("others", type=Path, metavar="OTHER_RUN_DIR", nargs="*", help="runs to compare it with")
    args = parser.parse_args(arguments)
    return run_command("sim.report", lambda: _report(args), "no page was written")


def _report(args: argparse.Namespace) -> None:
    print(write_report(args.run_dir, *args.others, progress=True))


if __name__ == "__main__":
    sys.exit(main())
