"""Reads MindCube. Its pictures are the frames; every question is a choice whose options stand in its text."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from training.benchmarks.options import letter_of, lettered, split_options
from training.benchmarks.question import BenchmarkQuestion
from training.benchmarks.rows import field, read_rows

SOURCE = "the data set MLL-Lab/MindCube with its images unpacked to other_all_image"
_FOLDERS, _NAMES = ("", "raw", "data/raw"), {"mindcube": "MindCube.jsonl", "tiny": "MindCube_tinybench.jsonl"}
# What the id of a question says about the camera's way; the first found counts.
_SETTINGS = ("around", "rotation", "translation", "among")

_log = logging.getLogger(__name__)


def read_mindcube(root: Path) -> Iterator[BenchmarkQuestion]:
    """Every question; a question whose options cannot be told apart is logged and left out.

    Args:
        root: the data set's folder, or its folder `data`.

    Raises:
        FileNotFoundError: the table is not there.
        ValueError: a row lacks a field.

    Source: readers in public evaluation code (fields id, question, images, gt_answer; the setting is in the id).
    """
    yield from _read(root, _NAMES["mindcube"])


def read_mindcube_tiny(root: Path) -> Iterator[BenchmarkQuestion]:
    """The questions of MindCube-Tiny, otherwise like read_mindcube."""
    yield from _read(root, _NAMES["tiny"])


def _read(root: Path, name: str) -> Iterator[BenchmarkQuestion]:
    path = next((root / folder / name for folder in _FOLDERS if (root / folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{root} has no {name}, nor has raw or data/raw in it; --root must name {SOURCE}")
    images = root / "data" if (root / "data/other_all_image").is_dir() else root
    for row in read_rows(path):
        identity = str(field(row, "id", path))
        question, options = split_options(str(field(row, "question", path)))
        truth = letter_of(field(row, "gt_answer", path))
        if not options or truth not in [option[0] for option in lettered(options)]:
            _log.warning("%s: question %s has no options A, B, ... with its answer, left out", path, identity)
            continue
        pictures = tuple(images / str(name) for name in field(row, "images", path))
        yield BenchmarkQuestion(
            id=identity,
            benchmark="mindcube",
            question_type=next((setting for setting in _SETTINGS if setting in identity.lower()), "other"),
            question=question,
            options=lettered(options),
            truth=truth,
            scene=str(pictures[0].parent) if pictures else identity,
            video=None,
            pictures=pictures,
        )
