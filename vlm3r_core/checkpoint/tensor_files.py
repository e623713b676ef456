"""Tensors in files, seen by key and shape before any is read. Knows formats, not models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vlm3r_core.checkpoint.safe_pickle import read_torch_file

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in a file and has not been read."""

    shape: tuple[int, ...]
    # torch's name of it, such as bfloat16
    dtype: str
    nbytes: int
    read: Callable[[], Tensor]


def open_tensors(path: Path, inside: str = "") -> dict[str, Stored]:
    """The tensors of a file by key; only their shapes are read.

    Args:
        path: safetensors by its suffix, otherwise what torch.save wrote.
        inside: key of the dictionary of tensors in the outermost dictionary, if it has that key.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, refused, or not a dictionary of tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; the download is incomplete, fetch it again")
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_torch_file(path, inside)


def _open_safetensors(path: Path) -> dict[str, Stored]:
    try:
        file = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut off ({error}); fetch it again") from error
    return {key: _stored(file, key) for key in file.keys()}  # noqa: SIM118 (no mapping, it only has keys)


def _stored(file: safe_open, key: str) -> Stored:
    view = file.get_slice(key)
    dtype = _DTYPES.get(view.get_dtype())
    if dtype is None:
        raise ValueError(f"{key} has the type {view.get_dtype()}, expected one of {', '.join(_DTYPES)}")
    shape = tuple(view.get_shape())
    return Stored(shape, _name(dtype), prod(shape) * dtype.itemsize, partial(file.get_tensor, key))


def _open_torch_file(path: Path, inside: str) -> dict[str, Stored]:
    content = read_torch_file(path)
    if isinstance(content, dict) and inside in content:
        content = content[inside]
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a dictionary of tensors, got {type(content).__name__}")
    if odd := [key for key, value in content.items() if not isinstance(key, str) or not isinstance(value, Tensor)]:
        raise ValueError(f"{path} must hold tensors by name, but {odd[0]!r} is {type(content[odd[0]]).__name__}")
    return {key: Stored(tuple(t.shape), _name(t.dtype), t.nbytes, partial(_given, t)) for key, t in content.items()}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _given(tensor: Tensor) -> Tensor:
    return tensor


def sha256(path: Path) -> str:
    """A file's SHA-256 as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
