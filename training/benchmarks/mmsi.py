"""Reads MMSI-Bench. Its pictures are the frames; every question is a choice whose options stand in its text."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.benchmarks.options import letter_of, lettered, split_options
from training.benchmarks.pictures import StoredPicture
from training.benchmarks.question import BenchmarkQuestion
from training.benchmarks.rows import field, number_rows, require_tables

SOURCE = "the data set RunsenXu/MMSI-Bench, MMSI_Bench.parquet"

_log = logging.getLogger(__name__)


def read_mmsi(root: Path) -> Iterator[BenchmarkQuestion]:
    """Every question; one whose options cannot be told apart is logged and left out.

    Args:
        root: the folder with MMSI_Bench.parquet, which holds the pictures too.

    Raises:
        FileNotFoundError: the table is not there.
        ValueError: a row lacks a field.

    Source: the benchmark's task in lmms-eval and readers in public code (fields id, images, question_type, question,
    answer).
    """
    tables = require_tables(root, "MMSI_Bench", source=SOURCE)
    counts = [count for path in tables for count in _picture_counts(path)]
    for (path, number, row), count in zip(number_rows(tables), counts, strict=True):
        identity = str(field(row, "id", path))
        question, options = split_options(str(field(row, "question", path)))
        truth = letter_of(field(row, "answer", path))
        if not options or truth not in [option[0] for option in lettered(options)]:
            _log.warning("%s: question %s has no options A, B, ... with its answer, left out", path, identity)
            continue
        yield BenchmarkQuestion(
            id=identity,
            benchmark="mmsi",
            question_type=str(field(row, "question_type", path)),
            question=question,
            options=lettered(options),
            truth=truth,
            scene=identity,
            video=None,
            pictures=tuple(StoredPicture(path, "images", number, index) for index in range(count)),
        )


def _picture_counts(path: Path) -> Sequence[int]:
    """How many pictures each row has, without keeping them."""
    from pyarrow.compute import list_value_length
    from pyarrow.parquet import ParquetFile

    counts: list[int] = []
    with ParquetFile(path) as file:
        if "images" not in file.schema_arrow.names:
            raise ValueError(f"{path} needs the column 'images', it has {', '.join(file.schema_arrow.names)}")
        for batch in file.iter_batches(batch_size=64, columns=["images"]):
            counts += [count or 0 for count in list_value_length(batch.column(0)).to_pylist()]
    return counts
