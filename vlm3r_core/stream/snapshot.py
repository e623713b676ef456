"""A stream's state in one safetensors file. Holds no weights and runs no code from the file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlm3r_core.files import whole_file

_FORMAT = "vlm3r-stream-1"


def save_snapshot(path: str | os.PathLike, tensors: dict[str, Tensor], facts: dict) -> None:
    """Writes a snapshot whole or not at all.

    Args:
        path: file to write; replaced if it exists.
        tensors: what to keep.
        facts: JSON-able facts about them.

    Raises:
        FileNotFoundError: the folder does not exist.
        OSError: it cannot be written there.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save to {path}: the folder {path.parent} does not exist; create it first")
    with whole_file(path) as partial:
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, partial, metadata={"format": _FORMAT, "facts": json.dumps(facts)})


def load_snapshot(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """Reads what save_snapshot wrote.

    Returns:
        (tensors on the CPU, facts).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a snapshot, or a damaged one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no snapshot at {path}; expected a file written by save")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable snapshot ({error}); save it again") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(
            f"{path} is not a stream snapshot: expected format {_FORMAT!r}, got {metadata.get('format')!r}"
        )
    return tensors, json.loads(metadata["facts"])
