"""Questions of a set as rows: the benchmark's fields, the published training format, a table. Writes them in order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from training.qa.files import partial_file, write_lines
from vlm3r_core.scene.formatting import benchmark_item, item_to_json, training_item
from vlm3r_core.scene.questions import question_type
from vlm3r_core.scene.tasks import QaItem

_TABLE_ROWS = 50_000
_TEXTS = ("dataset", "scene_name", "question_type", "question", "ground_truth", "mc_answer", "video", "uid", "task")
_LISTS = {"options": "string", "frame_indices": "string", "frame_numbers": "int32", "instance_ids": "int64"}


def question_row(number: int, item: QaItem) -> dict:
    """An item as questions.jsonl holds it: benchmark fields and names of types, then what else is known.

    Args:
        number: its id in the set.
        item: the question.
    """
    row = benchmark_item(item)
    row.pop("video_path", None)
    row["id"], row["uid"] = number, item.id
    row["question_type"] = question_type(item.task, wording="vsibench")
    row["mc_answer"] = item.mc_answer if item.is_choice else None
    known = item_to_json(item)
    row |= {"video": item.video_path, "task": item.task, "value": item.value}
    for name in ("frame_indices", "frame_numbers", "num_frames", "instance_ids", "names"):
        row[name] = known[name]
    return row


def write_questions(path: Path, items: Iterable[QaItem]) -> None:
    """Writes questions.jsonl."""
    write_lines(path, (_json(question_row(number, item)) for number, item in enumerate(items)))


def write_training(path: Path, items: Iterable[QaItem], *, as_published: bool) -> None:
    """Writes train.json, a list in the published training format."""
    rows = (_json(training_item(item, as_published=as_published)) for item in items)
    write_lines(path, rows, first="[\n", between=",\n", last="\n]\n")


def write_table(path: Path, items: Sequence[QaItem]) -> None:
    """Writes the rows of questions.jsonl as a Parquet file; frame_indices are texts, as some scans name frames.

    Raises:
        ValueError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise ValueError("Parquet needs the package pyarrow; pip install 'vlm3r[train]'") from None
    fields = [("id", pyarrow.int64()), *((name, pyarrow.string()) for name in _TEXTS)]
    fields += [(name, pyarrow.list_(getattr(pyarrow, kind)())) for name, kind in _LISTS.items()]
    schema = pyarrow.schema([*fields, ("num_frames", pyarrow.int32()), ("value", pyarrow.float64())])
    with partial_file(path) as partial, ParquetWriter(partial, schema) as writer:
        for rows in _batches(items):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def _batches(items: Sequence[QaItem]) -> Iterator[list[dict]]:
    for start in range(0, len(items), _TABLE_ROWS):
        rows = [question_row(start + place, item) for place, item in enumerate(items[start : start + _TABLE_ROWS])]
        for row in rows:
            row["frame_indices"] = list(map(str, row["frame_indices"]))
            row.pop("names")
        yield rows


def _json(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False)
