"""The model that comes with the package: where it lies, and its record. Loads no weights; torch is not imported."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

BUNDLED = "tiny"
# its twin that was trained on such questions without frames: for baselines, no model to use
BLIND = "tiny-blind"
# what a folder must hold to be a model (checkpoint.saved), and what tells how it was made
DESCRIPTION, RECORD = "vlm3r.json", "record.json"
# presets that are the start of the bundled model, and so speak with its tokenizer
_SAME_TOKENIZER = ("tiny-start",)


def bundled_folder(name: str = BUNDLED) -> Path:
    """Where the bundled model, or its blind twin, lies or would."""
    return _assets() / name


def has_bundled(name: str = BUNDLED) -> bool:
    """Whether the package has the weights of its model, or of its blind twin."""
    return (bundled_folder(name) / DESCRIPTION).is_file()


def default_model() -> str:
    """The bundled model, or seeded random weights where there is none yet."""
    return BUNDLED if has_bundled() else "tiny-random"


def check_bundled(name: str = BUNDLED) -> Path:
    """The folder of the bundled model, or of its blind twin.

    Raises:
        FileNotFoundError: it holds no weights; says what to do.
    """
    if not has_bundled(name):
        raise FileNotFoundError(
            f"the model {name!r} is not here: {bundled_folder(name)} has no {DESCRIPTION}; run `make train-tiny "
            "ARGS=--install` to train it, or take `tiny-random`, whose answers mean nothing"
        )
    return bundled_folder(name)


def preset_tokenizer(spec: str) -> Path:
    """The tokenizer of a preset: the bundled model's for what it starts from, else that of random weights."""
    own = bundled_folder() / "tokenizer.json"
    return own if spec in _SAME_TOKENIZER and own.is_file() else _assets() / own.name


def model_record(spec: str) -> dict:
    """How a model of ours was trained and what it scores, {} where nothing is known.

    Args:
        spec: a model spec; only `tiny` and folders have records.

    Raises:
        ValueError: the record is no JSON.
    """
    path = _folder(spec) / RECORD
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); write it again with `python -m training.ship`") from error


def trained_frames(spec: str) -> int:
    """Frames of the videos that a model of ours was trained with, 0 where that is unknown; no weights are read.

    Args:
        spec: a model spec; only `tiny` and folders tell.
    """
    path = _folder(spec) / DESCRIPTION
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["config"].get("trained_frames", 0))
    except (OSError, ValueError, KeyError, TypeError):
        # whoever loads the model will say what is wrong with it
        return 0


def _folder(spec: str) -> Path:
    return bundled_folder(spec) if spec in (BUNDLED, BLIND) else Path(spec).expanduser()


def _assets() -> Path:
    return Path(str(files("vlm3r_core"))) / "assets"
