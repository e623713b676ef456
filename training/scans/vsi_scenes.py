"""Scenes of metadata files without frames, as VSI-Bench publishes them: boxes, counts, room size. Knows no video.

A root is such a JSON file, or a folder with some of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from training.scans.scan import Content, Scan
from vlm3r_core.scene.metadata import BOXES_KEYS, scene_from_json

_PEEKED_BYTES = 1 << 16


def recognizes(root: str) -> bool:
    """Whether there is a JSON file that begins with scenes and their boxes."""
    return any(_looks_like_scenes(path) for path in _files(root))


def read_scans(root: str) -> Iterator[Scan]:
    """The scenes of every file, files by name, scenes in the file's order.

    Args:
        root: a metadata file, or a folder with some.

    Raises:
        FileNotFoundError: there is no JSON file.
    """
    files = _files(root)
    if not files:
        raise FileNotFoundError(f"{root} has no metadata file; expected a .json file, or a folder with some")
    for path in files:
        try:
            scenes = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_pairs)
            if not isinstance(scenes, _Object):
                raise ValueError(f"expected an object by scene id, got {type(scenes).__name__}")
        except (ValueError, OSError) as error:
            yield Scan(path.stem, "*", skipped=f"{path.name}: {' '.join(str(error).split())}")
            continue
        for scene_id, entry in scenes.pairs:
            dataset = entry.get("dataset") if isinstance(entry, dict) else None
            dataset = dataset if isinstance(dataset, str) and dataset else path.stem
            yield Scan(dataset, scene_id, partial(_open, dataset, scene_id, entry))


class _Object(dict):
    """A JSON object that remembers what it named twice."""

    pairs: list[tuple[str, object]]


def _pairs(pairs: list[tuple[str, object]]) -> _Object:
    found = _Object(pairs)
    found.pairs = pairs
    return found


def _open(dataset: str, scene_id: str, entry: object, folder: Path) -> Content:
    if not isinstance(entry, dict):
        raise ValueError(f"scene {scene_id!r}: expected an object, got {type(entry).__name__}")
    return Content(scene_from_json(scene_id, dict(entry) | {"dataset": dataset}))


def _files(root: str) -> list[Path]:
    path = Path(root)
    if path.is_dir():
        return sorted(path.glob("*.json"))
    return [path] if path.is_file() and path.suffix == ".json" else []


def _looks_like_scenes(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(_PEEKED_BYTES)
    except OSError:
        return False
    return b"object_counts" in start or any(f'"{key}"'.encode() in start for key in BOXES_KEYS)
