"""The files of a run: their names, JSON whole or not at all, one process in a folder. Not what is in them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vlm3r_core.files import write_text

EPISODES, RESULTS, TIMINGS = "episodes.json", "results.json", "timings.json"
PICTURES, MAPS = "pictures", "maps"


def read_json(path: Path) -> dict:
    """A JSON file that holds an object.

    Raises:
        ValueError: it does not.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}; is it whole?") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object, got {type(value).__name__}")
    return value


def write_json(path: Path, value: Mapping) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(value, allow_nan=False) + "\n")


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask the same out of a folder; a process that dies keeps nobody out.

    Raises:
        ValueError: another process works in it.
    """
    # the folder itself is locked, so that nothing is left in it
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run works in {folder}; wait until it ends, or give another folder") from None
        yield
    finally:
        os.close(handle)
