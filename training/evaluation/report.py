"""Writes what a finished run is read by: results.json, table.md, report.html, plots. Asks nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from training.benchmarks.vsti import label_version
from training.evaluation.files import read_json, write_json, write_text
from training.evaluation.page import html_page
from training.evaluation.plots import reliability_svg
from training.evaluation.records import Record
from training.evaluation.settings import EvalSettings
from training.evaluation.summary import summarize
from training.evaluation.tables import markdown

RESULTS, TABLE, PAGE = "results.json", "table.md", "report.html"


def write_results(folder: Path, settings: EvalSettings, records: Sequence[Record], *, scored: bool = True) -> dict:
    """Scores a whole run and writes all its files; the same records give the same bytes.

    Args:
        folder: of the run.
        settings: of the run.
        records: of every question, in the benchmark's order.
        scored: False where there are only baselines.

    Returns:
        What results.json holds.
    """
    benchmarks = summarize(records, scored=scored)
    result = {"settings": asdict(settings), "labels": _labels(benchmarks), "benchmarks": benchmarks}
    write_json(folder / RESULTS, result)
    for name, summary in benchmarks.items():
        for kind, part in (summary["reliability"] or {}).items():
            write_text(folder / f"reliability-{name}-{kind}.svg", reliability_svg(part, kind) + "\n")
    write_tables(folder, [result])
    return result


def write_tables(folder: Path, runs: Sequence[Mapping]) -> str:
    """Writes the table and the page of one or several runs.

    Returns:
        The table in Markdown.
    """
    table = markdown(runs)
    write_text(folder / TABLE, table)
    write_text(folder / PAGE, html_page(runs))
    return table


def read_results(folder: Path) -> dict:
    """A run's results.

    Raises:
        FileNotFoundError, ValueError: the folder has none; says what to do.
    """
    return read_json(folder / RESULTS, "finish the run first, or merge its shards")


def _labels(benchmarks: Mapping[str, Mapping]) -> str:
    """Which labels a whole VSTI-Bench has, "" elsewhere."""
    return label_version(benchmarks["vsti"]["questions"]) if list(benchmarks) == ["vsti"] else ""
