"""JSON files, whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from vlm3r_core.files import write_text


def read_json(path: Path) -> dict:
    """A JSON file that holds an object.

    Raises:
        ValueError: it does not.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object, got {type(value).__name__}")
    return value


def write_json(path: Path, value: Mapping) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(value, allow_nan=False) + "\n")
