"""Rows of the tables benchmarks come in: JSON lines, JSON lists, Parquet, tab-separated text. Knows no benchmark."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

SUFFIXES = (".jsonl", ".json", ".parquet", ".tsv")
# Columns whose cells are pictures are read one by one, when they are looked at.
_PICTURE_COLUMNS = ("image", "images")


def find_tables(root: Path, *stems: str) -> list[Path]:
    """Files of a table, whole or in numbered parts, in the root or its folder `data`.

    Args:
        root: the benchmark's folder.
        stems: names without suffix, the first one found wins.

    Returns:
        The parts in order; empty where there is no such table.
    """
    for folder in (root, root / "data"):
        for stem in stems:
            for suffix in SUFFIXES:
                if (folder / f"{stem}{suffix}").is_file():
                    return [folder / f"{stem}{suffix}"]
                if parts := sorted(folder.glob(f"{stem}-[0-9]*{suffix}")):
                    return parts
    return []


def require_tables(root: Path, *stems: str, source: str) -> list[Path]:
    """Like find_tables.

    Args:
        source: where the benchmark is published, for the message.

    Raises:
        FileNotFoundError: no such table; names what was looked for.
    """
    if found := find_tables(root, *stems):
        return found
    names = " or ".join(f"{stem}({'|'.join(SUFFIXES)})" for stem in stems)
    raise FileNotFoundError(f"{root} has no {names}; --root must name a copy of {source}")


def read_rows(path: Path) -> Iterator[dict]:
    """Rows of a table, picture columns left out.

    Raises:
        ValueError: the file is not what its suffix says; names the place.
    """
    readers = {".jsonl": _json_lines, ".json": _json_list, ".parquet": _parquet, ".tsv": _tab_separated}
    yield from readers[path.suffix](path)


def number_rows(paths: Sequence[Path]) -> Iterator[tuple[Path, int, dict]]:
    """(file, number of the row in it, row) of every part of a table."""
    for path in paths:
        for number, row in enumerate(read_rows(path)):
            yield path, number, row


def field(row: Mapping, name: str, path: Path):
    """A row's field.

    Raises:
        ValueError: there is none; names those there are.
    """
    if name not in row:
        raise ValueError(f"{path}: a row needs the field {name!r}, this one has {', '.join(map(str, row)) or 'none'}")
    return row[name]


def _json_lines(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _as_row(_parse(line, f"{path}:{number}"), f"{path}:{number}")


def _json_list(path: Path) -> Iterator[dict]:
    rows = _parse(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(rows, list):
        raise ValueError(f"{path} must hold a JSON list of questions, got {type(rows).__name__}")
    for number, row in enumerate(rows):
        yield _as_row(row, f"{path}[{number}]")


def _parse(text: str, place: str):
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is no JSON ({error}); download the file again") from error


def _as_row(value: object, place: str) -> dict:
    if not isinstance(value, dict):
        raise ValueError(f"{place} must be a JSON object with a question's fields, got {type(value).__name__}")
    return value


def _parquet(path: Path) -> Iterator[dict]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ValueError(f"{path} needs pyarrow; run .venv/bin/pip install -c constraints.txt -e '.[train]'") from error
    try:
        with ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name not in _PICTURE_COLUMNS]
            for batch in file.iter_batches(columns=columns):
                yield from batch.to_pylist()
    except ArrowException as error:
        raise ValueError(f"{path} cannot be read as Parquet ({error}); download the file again") from error


def _tab_separated(path: Path) -> Iterator[dict]:
    # cells may be whole pictures in text form
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t")
