"""Spatial questions made a second on one core, and how that grows with scenes: python -m benchmarks.bench_qa.

Times the generators alone, one process, one thread; no files, no balance, no frames. Asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

TARGET_PER_S = 2_000
TRUTHS = ("exact", "benchmark")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark, prints its tables and writes them as JSON."""
    args = _parser().parse_args(argv)
    # before numpy is imported: a core is a core
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    from benchmarks.bench_stream import write_json

    result = run(args.scans, args.scenes, args.repeats)
    write_json(args.out, result)
    print(markdown(result))
    print(f"\nwritten to {args.out}")
    return 0


def run(root: str, scenes: Sequence[int], repeats: int) -> dict:
    """Measures.

    Args:
        root: scans of any reader; those without frames serve as well.
        scenes: how many of them, evenly spread, in each row; more than there are stand for all.
        repeats: runs for each median.

    Returns:
        rows of truth, scenes, questions, seconds of CPU, questions a second; tasks of each form of distance.

    Raises:
        ValueError: no reader knows the root.
    """
    from benchmarks.machine import load_average
    from training.qa.readers import reader_of, scans_of

    scans = [scan for scan in scans_of(reader_of(root), root) if not scan.skipped]
    graphs = [scan.load(Path(os.devnull)).graph for scan in scans]
    rows, tasks = [], {}
    for truth in TRUTHS:
        for count in dict.fromkeys(min(count, len(graphs)) for count in scenes):
            chosen = [graphs[place * len(graphs) // count] for place in range(count)]
            runs = [_measure(chosen, truth) for _ in range(repeats)]
            seconds = median(sum(cost for cost, _ in run.values()) for run in runs)
            questions = sum(made for _, made in runs[0].values())
            row = {"truth": truth, "scenes": count, "questions": questions, "seconds": seconds}
            rows.append(row | {"per_s": questions / seconds, "ms_a_scene": 1e3 * seconds / count})
            tasks[truth] = {task: {"seconds": cost, "questions": made} for task, (cost, made) in runs[-1].items()}
    return {"scans": root, "target_per_s": TARGET_PER_S, "load_average": load_average(), "rows": rows, "tasks": tasks}


def markdown(result: dict) -> str:
    """The tables as text."""
    from benchmarks.tables import markdown_table

    table = markdown_table(
        ["distances", "scenes", "questions", "CPU s", "questions/s a core", "ms a scene"],
        [
            [row["truth"], str(row["scenes"]), str(row["questions"]), row["seconds"], row["per_s"], row["ms_a_scene"]]
            for row in result["rows"]
        ],
    )
    tasks = markdown_table(
        ["task, all scenes", *(f"{truth}, questions/s" for truth in result["tasks"])],
        [
            [task, *(each[task]["questions"] / max(each[task]["seconds"], 1e-9) for each in result["tasks"].values())]
            for task in next(iter(result["tasks"].values()))
        ],
    )
    last = {row["truth"]: row for row in result["rows"]}
    verdict = "reached" if last["exact"]["per_s"] >= result["target_per_s"] else "MISSED"
    target = f"target {result['target_per_s']:,} questions/s with exact distances: {verdict}"
    return f"{table}\n\n{tasks}\n\n{target}; load of the machine {result['load_average']:.1f}"


def _measure(graphs: Sequence, truth: str) -> dict[str, tuple[float, int]]:
    """(seconds of CPU, kept questions) by task; measuring a scene counts for the task that needs it first."""
    from vlm3r_core.scene.tasks import GeneratorSettings, SceneTruth, expand_tasks, generate

    settings = GeneratorSettings(truth=truth)
    tasks = expand_tasks(["no_frames"])
    found = dict.fromkeys(tasks, (0.0, 0))
    for graph in graphs:
        began = time.process_time()
        measured = SceneTruth(graph, settings)
        for task in tasks:
            items = generate(measured, task).items
            now = time.process_time()
            cost, made = found[task]
            found[task], began = (cost + now - began, made + len(items)), now
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_qa", description=__doc__.partition(":")[0])
    add = parser.add_argument
    add("--scans", required=True, help="folder of scans, such as VSI-Bench's metadata files")
    add("--scenes", type=int, nargs="+", default=[10, 100, 270], help="scenes of each row (default: 10 100 270)")
    add("--repeats", type=int, default=3, help="runs for each median (default: %(default)s)")
    add("--out", type=Path, default=Path("out/bench_qa.json"), help="JSON file to write")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
