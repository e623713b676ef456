"""Reads DSR-Bench in the table of the EASI leaderboard; the suite's own benchmark.parquet is not read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.benchmarks.options import letter_of, lettered, option_list
from training.benchmarks.question import BenchmarkQuestion
from training.benchmarks.rows import field, number_rows, require_tables

SOURCE = "DSRBench.tsv with the videos of raw_data/dsr-bench.zip unpacked beside it (lmms-lab-si/EASI-Leaderboard-Data)"
_VIDEO_FOLDERS = ("", "dsr-bench", "raw_data/dsr-bench")


def read_dsr(root: Path) -> Iterator[BenchmarkQuestion]:
    """Every question, in the table's order.

    Args:
        root: the folder with DSRBench.tsv; videos lie in it, in dsr-bench or in raw_data/dsr-bench.

    Raises:
        FileNotFoundError: the table is not there.
        ValueError: a row lacks a field or its options are no list.

    Source: the reader of this table in VLMEvalKit (fields index, video, question, options, answer, task_type).
    """
    for path, number, row in number_rows(require_tables(root, "DSRBench", source=SOURCE)):
        name = str(field(row, "video", path))
        places = [root / folder / name for folder in _VIDEO_FOLDERS]
        yield BenchmarkQuestion(
            id=str(row.get("index", number)),
            benchmark="dsr",
            question_type=str(field(row, "task_type", path)),
            question=str(field(row, "question", path)),
            options=lettered(option_list(field(row, "options", path))),
            truth=letter_of(field(row, "answer", path)),
            scene=name,
            video=next((place for place in places if place.exists()), places[0]),
        )
