"""Results of one or several runs as the paper's tables in Markdown. Computes no score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.evaluation.published import PUBLISHED

BENCHMARK_TITLES = {
    "vsi": "VSI-Bench",
    "vsti": "VSTI-Bench",
    "cv-bench": "CV-Bench",
    "mindcube": "MindCube",
    "mmsi": "MMSI-Bench",
    "viewspatial": "ViewSpatial-Bench",
    "site": "SITE-Bench",
    "dsr": "DSR-Bench",
}
BASELINE_TITLES = {
    "random": "Chance (random)",
    "frequent": "Chance (most frequent answer)",
    "blind": "Blind (priors of the texts)",
}
VARIANT_TITLES = {
    "patch_tokens": "without camera tokens",
    "camera_tokens": "without geometry tokens",
    "none": "without camera and geometry tokens",
}
VIEW_TITLES = {"other": "with frames of another scene", "none": "without frames"}
NOTHING, _REASONS = "-", 5


def run_title(settings: dict) -> str:
    """What a run's row is called."""
    notes = [VARIANT_TITLES.get(settings["token_selection"]), VIEW_TITLES.get(settings["view"])]
    return ", ".join([settings["model"] or "no model", *(note for note in notes if note)])


def shown_benchmarks(runs: Sequence[dict]) -> list[str]:
    """Benchmarks that any run has, in the order they come."""
    return list(dict.fromkeys(name for run in runs for name in run["benchmarks"]))


def main_columns(runs: Sequence[dict], benchmark: str) -> dict[str, str]:
    """Name and heading of the columns of the paper's table."""
    every = [run["benchmarks"][benchmark]["columns"] for run in runs if benchmark in run["benchmarks"]]
    return {name: entry["title"] for columns in every for name, entry in columns.items() if entry["main"]}


def method_rows(runs: Sequence[dict], benchmark: str) -> list[tuple[str, dict[str, float | None]]]:
    """Rows of the paper's table: baselines, what was published, and each run; scores in 0..100 by column."""
    with_it = [run for run in runs if benchmark in run["benchmarks"]]
    columns = with_it[0]["benchmarks"][benchmark]["columns"]
    rows = [(title, {name: entry[key] for name, entry in columns.items()}) for key, title in BASELINE_TITLES.items()]
    rows += PUBLISHED.get(with_it[0]["settings"]["benchmark"], {}).items()
    for run in with_it:
        own = run["benchmarks"][benchmark]["columns"]
        if any(entry["score"] is not None for entry in own.values()):
            rows.append((run_title(run["settings"]), {name: entry["score"] for name, entry in own.items()}))
    return rows


def markdown(runs: Sequence[dict]) -> str:
    """The tables of results, one section a benchmark.

    Args:
        runs: contents of results.json, all of the same questions.
    """
    return "\n\n".join(_section(runs, name) for name in shown_benchmarks(runs)) + "\n"


def _section(runs: Sequence[dict], benchmark: str) -> str:
    with_it = [run for run in runs if benchmark in run["benchmarks"]]
    first = with_it[0]["benchmarks"][benchmark]
    columns = main_columns(runs, benchmark)
    rows = [[title, *(show(scores.get(name)) for name in columns)] for title, scores in method_rows(runs, benchmark)]
    parts = [
        f"## {BENCHMARK_TITLES.get(benchmark, benchmark)}",
        f"{first['questions']:,} questions about {first['scenes']:,} scenes. Accuracy of choices, mean relative "
        "accuracy of numbers, each times 100.",
        plain_table(["method", *columns.values()], rows),
    ]
    for run in with_it:
        own = run["benchmarks"][benchmark]
        if own["reliability"] is not None:
            parts += [f"### {run_title(run['settings'])}", _detail(own), *_notes(run, own)]
    return "\n\n".join(parts)


def _detail(summary: dict) -> str:
    header = ["task", "questions", "score", "95 % interval", "random", "most frequent", "blind", "balanced"]
    rows = [
        [
            entry["title"] if entry["main"] else f"- {entry['title']}",
            f"{entry['n']:,}",
            show(entry["score"]),
            f"{show(entry['low'])} to {show(entry['high'])}",
            *(show(entry[name]) for name in BASELINE_TITLES),
            show((entry.get("balanced") or {}).get("score")),
        ]
        for entry in summary["columns"].values()
    ]
    return plain_table(header, rows)


def _notes(run: dict, summary: dict) -> list[str]:
    notes = ["Balanced: accuracy with every right answer of a task counting the same."]
    notes += [
        f"Stated confidence of {kind} against their score: calibration error {100 * part['ece']:.1f} points over "
        f"{part['n']:,} answers."
        for kind, part in summary["reliability"].items()
    ]
    if summary["failed"]:
        reasons = "; ".join(reason_lines(summary["reasons"]))
        notes.append(f"{summary['failed']:,} questions were not answered and score 0: {reasons}.")
    if run["settings"]["token_selection"]:
        notes.append("Tokens were taken away when asking; the model was not trained again without them.")
    if run.get("labels"):
        notes.append(f"Labels: {run['labels']}.")
    return notes


def reason_lines(reasons: Mapping[str, int]) -> list[str]:
    """Why questions were not answered, the most frequent first; of many only some."""
    often = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"{reason} ({count})" for reason, count in often[:_REASONS]]
    return lines + ([f"{len(often) - _REASONS} other reasons"] if len(often) > _REASONS else [])


def show(value: float | None) -> str:
    """A score with one decimal, a dash where there is none."""
    return NOTHING if value is None or value != value else f"{value:.1f}"


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column text, the others numbers."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [header, *rows]]
    rule = [":---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]])
