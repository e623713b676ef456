"""Reads VSI-Bench, its debiased part and the part that was pruned from it. Downloads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from training.benchmarks.question import BenchmarkQuestion
from training.benchmarks.rows import field, find_tables, number_rows, require_tables
from vlm3r_core.scene.scoring import is_choice

SOURCE = "the data set nyu-visionx/VSI-Bench with its videos unpacked to {dataset}/{scene_name}.mp4"


def read_vsi(root: Path) -> Iterator[BenchmarkQuestion]:
    """Every question: of `test`, or of the two parts `test_debiased` and `test_pruned` together, in order of their ids.

    Args:
        root: the data set's folder; videos lie at {dataset}/{scene_name}.mp4.

    Raises:
        FileNotFoundError: the tables are not there.
        ValueError: a row lacks a field or has an unknown question type.
    """
    parts = [] if find_tables(root, "test") else [find_tables(root, f"test_{name}") for name in ("debiased", "pruned")]
    if parts and all(parts):
        rows = [row for part in parts for row in _rows(part)]
        # ids count through the whole test set
        rows.sort(key=lambda row: int(row["id"]))
        yield from (vsi_question(row, root, parts[0][0]) for row in rows)
        return
    tables = require_tables(root, "test", source=SOURCE)
    yield from (vsi_question(row, root, tables[0]) for row in _rows(tables))


def read_vsi_debiased(root: Path) -> Iterator[BenchmarkQuestion]:
    """The questions that are left after those were pruned which priors alone answer.

    They are those of `test_debiased`, or of `test` where its field `pruned` is false.

    Raises:
        FileNotFoundError, ValueError: as read_vsi; no row says whether it was pruned.
    """
    yield from _part(root, "test_debiased", pruned=False)


def read_vsi_pruned(root: Path) -> Iterator[BenchmarkQuestion]:
    """The other part: what the debiased one leaves out."""
    yield from _part(root, "test_pruned", pruned=True)


def vsi_question(row: dict, root: Path, path: Path) -> BenchmarkQuestion:
    """A row with VSI-Bench's fields as a question.

    Args:
        row: id, dataset, scene_name, question_type, question, options, ground_truth.
        root: where videos lie.
        path: the row's file, for messages.
    """
    kind = field(row, "question_type", path)
    dataset, scene = field(row, "dataset", path), field(row, "scene_name", path)
    return BenchmarkQuestion(
        id=str(field(row, "id", path)),
        benchmark="vsi",
        question_type=kind,
        question=field(row, "question", path),
        options=tuple(row.get("options") or ()) if is_choice("vsi", kind) else (),
        truth=str(field(row, "ground_truth", path)),
        scene=f"{dataset}/{scene}",
        video=root / str(dataset) / f"{scene}.mp4",
    )


def _part(root: Path, stem: str, *, pruned: bool) -> Iterator[BenchmarkQuestion]:
    tables = find_tables(root, stem)
    whole = [] if tables else require_tables(root, "test", source=SOURCE)
    for row in _rows(tables or whole):
        if tables or bool(field(row, "pruned", whole[0])) == pruned:
            yield vsi_question(row, root, (tables or whole)[0])


def _rows(tables: Sequence[Path]) -> list[dict]:
    """Rows of a table in parts; those without an id are counted."""
    return [row | {"id": row.get("id", place)} for place, (*_, row) in enumerate(number_rows(tables))]
