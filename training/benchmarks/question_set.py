"""Reads a folder of questions that training.make_qa wrote. Makes no question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from training.benchmarks.question import BenchmarkQuestion
from training.benchmarks.rows import field, read_rows
from training.benchmarks.vsi import vsi_question
from training.benchmarks.vsti import vsti_question
from vlm3r_core.scene.scoring import CHOICE_TYPES, NUMBER_TYPES

QUESTIONS = "questions.jsonl"
_VSTI_TYPES = (*CHOICE_TYPES["vsti"], *NUMBER_TYPES["vsti"])


def read_question_set(root: Path) -> Iterator[BenchmarkQuestion]:
    """Questions of both kinds, each scored as the benchmark it belongs to scores it.

    Args:
        root: with questions.jsonl and, where its rows name them, videos relative to it.

    Raises:
        FileNotFoundError: there is no questions.jsonl.
        ValueError: a row lacks a field or has an unknown question type.
    """
    path = root / QUESTIONS
    if not path.is_file():
        raise FileNotFoundError(f"{root} has no {QUESTIONS}; give a folder that training.make_qa wrote")
    for row in read_rows(path):
        video = root / row["video"] if row.get("video") else None
        if field(row, "question_type", path) in _VSTI_TYPES:
            yield vsti_question(row, video, path)
        else:
            yield replace(vsi_question(row, root, path), video=video, scene=str(row["scene_name"]))
