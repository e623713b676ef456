"""Reads VSTI-Bench with its labels as first published or as corrected. Corrects nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.benchmarks.question import BenchmarkQuestion
from training.benchmarks.rows import field, find_tables, number_rows, require_tables
from vlm3r_core.scene.scoring import is_choice

SOURCE = "the data set Journey9ni/vstibench with its videos unpacked to their video_path"
# Questions of the test set by version of its labels.
LABEL_VERSIONS = {6042: "published", 5736: "corrected"}


def read_vsti(root: Path) -> Iterator[BenchmarkQuestion]:
    """The questions of `test`, whichever labels they have.

    Args:
        root: the data set's folder; videos lie at their video_path.

    Raises:
        FileNotFoundError: the table is not there.
        ValueError: a row lacks a field or has an unknown question type.
    """
    yield from _read(root, root, "test")


def read_vsti_published(root: Path) -> Iterator[BenchmarkQuestion]:
    """The labels before the erratum: `test_published`, or `test` in the folder `published`. Videos are the same."""
    yield from _read(root, root / "published", "test_published")


def read_vsti_corrected(root: Path) -> Iterator[BenchmarkQuestion]:
    """The labels after the erratum: `test_corrected`, or `test` in the folder `corrected`. Videos are the same."""
    yield from _read(root, root / "corrected", "test_corrected")


def label_version(count: int) -> str:
    """Which labels a whole test set of so many questions has: `published`, `corrected`, or `unknown`."""
    return LABEL_VERSIONS.get(count, "unknown")


def vsti_question(row: dict, video: Path | None, path: Path) -> BenchmarkQuestion:
    """A row with VSTI-Bench's fields as a question.

    Args:
        row: id, question_type, question, options, ground_truth, mc_answer.
        video: what it is about, None where the row's scene has none.
        path: the row's file, for messages.
    """
    kind = field(row, "question_type", path)
    choice = is_choice("vsti", kind)
    return BenchmarkQuestion(
        id=str(field(row, "id", path)),
        benchmark="vsti",
        question_type=kind,
        question=field(row, "question", path),
        options=tuple(row.get("options") or ()) if choice else (),
        truth=str(field(row, "mc_answer" if choice else "ground_truth", path)),
        scene=str(row.get("scene_name") or (video.stem if video else field(row, "scene_name", path))),
        video=video,
    )


def _read(root: Path, folder: Path, stem: str) -> Iterator[BenchmarkQuestion]:
    found = find_tables(folder, "test") or require_tables(root, stem, source=SOURCE)
    for place, (path, _, row) in enumerate(number_rows(found)):
        video = root / str(field(row, "video_path", path))
        yield vsti_question(row | {"id": row.get("id", place)}, video, path)
