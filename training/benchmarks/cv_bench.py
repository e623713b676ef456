"""Reads CV-Bench. Its pictures are the frames; every question is a choice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.benchmarks.options import letter_of, lettered, option_list
from training.benchmarks.pictures import StoredPicture
from training.benchmarks.question import BenchmarkQuestion
from training.benchmarks.rows import field, number_rows, require_tables

SOURCE = "the data set nyu-visionx/CV-Bench: test_2d and test_3d as Parquet, or as JSON lines with the folder img"


def read_cv_bench(root: Path) -> Iterator[BenchmarkQuestion]:
    """Questions of the 2D and the 3D part; the tables hold the pictures, JSON lines name files in `img`.

    Args:
        root: the data set's folder.

    Raises:
        FileNotFoundError: a part is not there.
        ValueError: a row lacks a field or its answer is none of the choices.

    Source: the data set's card (fields idx, task, question, choices, answer, filename, source).
    """
    for stem in ("test_2d", "test_3d"):
        for path, number, row in number_rows(require_tables(root, stem, source=SOURCE)):
            name = str(field(row, "filename", path))
            stored = path.suffix == ".parquet"
            yield BenchmarkQuestion(
                id=str(field(row, "idx", path)),
                benchmark="cv-bench",
                question_type=str(field(row, "task", path)),
                question=str(field(row, "question", path)),
                options=lettered(option_list(field(row, "choices", path))),
                truth=letter_of(field(row, "answer", path)),
                scene=name,
                video=None,
                pictures=(StoredPicture(path, "image", number) if stored else root / "img" / name,),
                subset=str(field(row, "source", path)),
            )
