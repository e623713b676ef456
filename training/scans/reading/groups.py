"""Segmented meshes: which vertices belong to which annotated object. Reads ScanNet's and ScanNet++'s JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Group:
    """An annotated object.

    Args:
        object_id: its number in the scan.
        label: what it was called.
        segments: numbers of the mesh segments it is made of.
        entry: everything the file says about it.
    """

    object_id: int
    label: str
    segments: tuple[int, ...]
    entry: Mapping[str, object]


def read_json(path: Path) -> dict:
    """A JSON object.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not JSON, or no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path.name}") from None
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} must hold an object, got {type(value).__name__}")
    return value


def read_groups(path: Path) -> list[Group]:
    """The annotated objects of an aggregation file, in its order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a field is missing or malformed, a number is given twice, or nothing is annotated.
    """
    entries = read_json(path).get("segGroups")
    if not isinstance(entries, list):
        raise ValueError(f"{path.name} has no list segGroups")
    if not entries:
        raise ValueError(f"{path.name} is empty: no object is annotated")
    groups = [_group(entry, f"{path.name}: segGroups[{index}]") for index, entry in enumerate(entries)]
    numbers = [group.object_id for group in groups]
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    if twice:
        raise ValueError(f"{path.name} gives objectId {twice[0]} to more than one object")
    return groups


def _group(entry: object, where: str) -> Group:
    fields = entry if isinstance(entry, dict) else {}
    number, label, segments = fields.get("objectId"), fields.get("label"), fields.get("segments")
    if not _is_int(number) or not isinstance(label, str) or not isinstance(segments, list):
        raise ValueError(f"{where} needs objectId (a number), label (a text) and segments (a list)")
    if not all(map(_is_int, segments)):
        raise ValueError(f"{where}: segments must be whole numbers")
    return Group(number, label.strip(), tuple(segments), fields)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def read_segments(path: Path, vertices: int) -> np.ndarray:
    """The segment of each vertex, int64 [N].

    Args:
        path: a file with segIndices.
        vertices: how many the mesh has.

    Raises:
        FileNotFoundError: no such file.
        ValueError: malformed, or it is of another mesh.
    """
    try:
        segments = np.asarray(read_json(path).get("segIndices"))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if segments.ndim != 1 or not np.issubdtype(segments.dtype, np.integer):
        raise ValueError(f"{path.name} has no list segIndices of whole numbers")
    if len(segments) != vertices:
        raise ValueError(
            f"{path.name} numbers {len(segments)} vertices, the mesh has {vertices}; they do not belong together"
        )
    return segments.astype(np.int64)


def vertices_of(groups: Sequence[Group], segments: np.ndarray) -> list[np.ndarray]:
    """The vertices of each group, ascending; empty where its segments are not in the mesh.

    Args:
        groups: objects.
        segments: the segment of each vertex [N].
    """
    order = np.argsort(segments, kind="stable")
    names, starts = np.unique(segments[order], return_index=True)
    pieces = dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True)) if len(names) else {}
    none = np.empty(0, np.int64)
    return [np.sort(np.concatenate([none, *(pieces.get(s, none) for s in set(group.segments))])) for group in groups]
