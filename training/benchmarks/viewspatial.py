"""Reads ViewSpatial-Bench. Its pictures are the frames; every question is a choice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.benchmarks.options import letter_of, lettered
from training.benchmarks.question import BenchmarkQuestion
from training.benchmarks.rows import field, number_rows, require_tables

SOURCE = "ViewSpatial-Bench: ViewSpatial-Bench.json with its images unpacked beside it"


def read_viewspatial(root: Path) -> Iterator[BenchmarkQuestion]:
    """Every question, in the file's order.

    Args:
        root: with ViewSpatial-Bench.json, in it or in its folder `eval`; image paths are relative to it, their first
            folder's name may be missing.

    Raises:
        FileNotFoundError: the table is not there.
        ValueError: a row lacks a field.

    Source: the benchmark's repository (fields question_type, image_path, question, answer, choices).
    """
    folder = root / "eval" if (root / "eval").is_dir() else root
    for path, number, row in number_rows(require_tables(folder, "ViewSpatial-Bench", source=SOURCE)):
        pictures = tuple(_place(root, str(name)) for name in field(row, "image_path", path))
        yield BenchmarkQuestion(
            id=str(number),
            benchmark="viewspatial",
            question_type=str(field(row, "question_type", path)),
            question=str(field(row, "question", path)),
            options=lettered([line for line in str(field(row, "choices", path)).splitlines() if line.strip()]),
            truth=letter_of(field(row, "answer", path)),
            scene=str(pictures[0].parent) if pictures else str(number),
            video=None,
            pictures=pictures,
        )


def _place(root: Path, name: str) -> Path:
    """Paths begin with the data set's own folder, which the root may be."""
    inside = Path(*Path(name).parts[1:])
    return root / inside if (root / inside).exists() else root / name
