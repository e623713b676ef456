"""A run's checkpoints: written whole or not at all, rotated, found again. Weights of a finished run: running/export.py.

A checkpoint is a folder of safetensors and JSON: nothing in it can run code.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlm3r_core.checkpoint.published import read_json

WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
_NAME = re.compile(r"checkpoint-(\d{8})")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on.

    Args:
        step: steps that were taken.
        weights: what learns, by the model's names.
        optimizer: AdamW's memory.
        facts: JSON values: settings, data, counts.
    """

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    facts: dict[str, Any]


def write_checkpoint(run: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Adds a checkpoint to a run's folder and removes the oldest ones beyond `keep`.

    Raises:
        OSError: the disk is full, or files may not be written; what is there already stays as it is.
    """
    path = run / f"checkpoint-{checkpoint.step:08d}"
    with whole_folder(path) as partial:
        save_file(checkpoint.weights, partial / WEIGHTS)
        save_file(checkpoint.optimizer, partial / OPTIMIZER)
        text = json.dumps({"step": checkpoint.step, **checkpoint.facts}, indent=2) + "\n"
        (partial / STATE).write_text(text, encoding="utf-8")
    for old in checkpoints(run)[:-keep]:
        # its name goes first: a checkpoint that is half removed is none
        doomed = old.with_name(f".{old.name}.removed-{os.getpid()}")
        old.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    return path


def checkpoints(run: Path) -> list[Path]:
    """Whole checkpoints of a run, the oldest first."""
    if not run.is_dir():
        return []
    return sorted(path for path in run.iterdir() if _NAME.fullmatch(path.name) and (path / STATE).is_file())


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged.
    """
    facts = read_json(path / STATE)
    try:
        weights, optimizer = load_file(path / WEIGHTS), load_file(path / OPTIMIZER)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it, the run then goes on from the one before") from error
    return Checkpoint(facts.pop("step"), weights, optimizer, facts)


def clear_leftovers(run: Path) -> None:
    """Removes what a process that was killed left half written."""
    for path in run.glob(".checkpoint-*"):
        _log.info("removing %s, which was never finished", path)
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write to that gets its name, and takes the place of one that has it, when all is on the disk.

    Raises:
        OSError: writing failed; nothing changed.
    """
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in [*partial.iterdir(), partial]:
            _flush(file)
        replace_folder(partial, path)
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(
            f"{path} could not be written ({error}); what was there before is untouched. Free some room and start the "
            "run again: it goes on from its newest checkpoint"
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def replace_folder(new: Path, path: Path) -> None:
    """Gives a whole folder its name, in place of one that has it."""
    if not path.exists():
        new.rename(path)
        return
    old = path.with_name(f".{path.name}.replaced-{os.getpid()}")
    path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    """Waits until a file or folder is on the disk, so that a power cut finds it whole."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
