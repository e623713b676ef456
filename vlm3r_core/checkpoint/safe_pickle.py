"""Reads files written by torch.save without running anything they name. It writes none and knows no model."""

from __future__ import annotations

import struct
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

# Names in a file that become stand-ins: settings that training code stored beside its weights.
_SETTINGS_MODULES = ("omegaconf", "typing", "argparse", "pathlib", "numpy")
_SETTINGS_NAMES = ("builtins.dict", "builtins.list", "builtins.str", "builtins.int", "builtins.float", "builtins.bool")
# What the reader raises on bytes that are no pickle, or end early.
_DAMAGE = (
    UnpicklingError,
    struct.error,
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
)


class Inert:
    """Stands in for an object of a class that is never imported: keeps what the file says of it and does nothing."""

    def __new__(cls, *args: Any) -> Inert:
        """Any arguments will do; they are dropped."""
        return super().__new__(cls)

    def __init__(self, *args: Any):
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _plain_dict(*args: Any) -> dict:
    """Stands in for collections.defaultdict."""
    return {}


def read_torch_file(path: Path) -> Any:
    """What a file written by torch.save holds; tensors are mapped from the file, not copied.

    Torch's own restricted unpickler does the reading. Beyond tensors and plain containers it gets stand-ins for the
    classes that settings are made of, so their modules need not be installed; any other name is refused.

    Args:
        path: a file in torch.save's zip format.

    Raises:
        FileNotFoundError: no such file.
        OSError: the file may not be read.
        ValueError: damaged, not of that format, or asking for something that is neither tensor nor setting.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; expected one written by torch.save")
    # what the system refuses is told as it is
    path.open("rb").close()
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        refused = sorted(name for name in names if not _is_setting(name))
        if not refused:
            with torch.serialization.safe_globals([(_stand_in(name), name) for name in names]):
                return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} cannot be read as a file of tensors ({reason}); it is damaged, cut off, or not written by "
            "torch.save: fetch it again"
        ) from error
    raise ValueError(
        f"{path} was refused: besides tensors it asks for {', '.join(refused)}, which could run code; nothing of it "
        "was run. If you trust its origin, save its weights alone as a dictionary of tensors"
    )


def _is_setting(name: str) -> bool:
    return name in _SETTINGS_NAMES or name == "collections.defaultdict" or name.split(".")[0] in _SETTINGS_MODULES


def _stand_in(name: str) -> Any:
    return _plain_dict if name == "collections.defaultdict" else Inert
