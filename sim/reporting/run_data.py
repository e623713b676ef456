"""Reads the files of a closed-loop run and says what is missing. Computes no metric and draws nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from sim.env import FloorMap
from sim.loop.files import EPISODES, PICTURES, RESULTS, TIMINGS, read_json
from vlm3r_core.scene.box import OrientedBox

_NUMBERS = ("spl", "ne_m", "ndtw", "path_m", "shortest_m", "collisions", "steps", "start_yaw_rad", "sim_seconds")
_FLAGS = ("success_1m", "success_3m", "oracle_success", "stopped")


@dataclass(frozen=True, eq=False)
class RunData:
    """One run as its files tell it.

    Args:
        folder: where it lies.
        label: how tables and plots call it.
        results: what results.json holds, its episodes with every field of the report (None where absent).
        timings: of each episode by id, `latency_ms` (list) and `seconds` (None unknown).
        limits: of each planned episode by id, its `max_steps`.
        notes: what was missing or unreadable.
    """

    folder: Path
    label: str
    results: dict
    timings: dict[str, dict]
    limits: dict[str, int]
    notes: tuple[str, ...]

    @property
    def episodes(self) -> list[dict]:
        """Results of the episodes, in the order of the file."""
        return self.results["episodes"]

    def pictures(self, episode_id: str) -> list[Path]:
        """The pictures of an episode in order, [] where there are none."""
        root = (self.folder / PICTURES).resolve()
        folder = (root / episode_id).resolve()
        inside = folder.is_relative_to(root) and folder != root and folder.is_dir()
        return sorted(folder.glob("*.jpg")) if inside else []


def read_run(folder: Path, label: str = "") -> RunData:
    """Reads a run; only results.json must be there.

    Args:
        folder: what `python -m sim.run --out` wrote.
        label: how to call it, the agent's name by default.

    Raises:
        FileNotFoundError: there is no results.json.
        ValueError: a file is malformed.
    """
    folder = Path(folder)
    path = folder / RESULTS
    if not path.is_file():
        raise FileNotFoundError(f"no {RESULTS} in {folder}; give a folder that `python -m sim.run --out` wrote")
    results = read_json(path)
    missing = [key for key in ("agent", "task", "episodes") if key not in results]
    if missing:
        raise ValueError(f"{path} must have agent, task and episodes, {', '.join(missing)} is missing")
    if not isinstance(results["episodes"], list):
        raise ValueError(f"{path}: episodes must be a list, got {type(results['episodes']).__name__}")
    episodes = [_episode(entry, f"{path}: episode {i}") for i, entry in enumerate(results["episodes"])]
    notes: list[str] = []
    done = {entry["id"] for entry in episodes}
    timings = {name: timing for name, timing in _timings(folder, notes).items() if name in done}
    limits = _limits(folder, notes)
    undone = len(set(limits) - done)
    if undone:
        notes.append(f"unfinished: {undone} of {len(limits)} episodes have no result yet; run the same command again")
    errors = sum(bool(entry.get("error")) for entry in episodes)
    if errors:
        notes.append(f"{errors} episodes ended in an error and count as failures")
    if not episodes:
        notes.append("no episode has a result yet")
    if episodes and not (folder / PICTURES).is_dir():
        notes.append(f"no {PICTURES} folder, so no film strips")
    read = results | {"episodes": episodes, "summary": _mapping(results.get("summary"))}
    return RunData(folder, label or str(results["agent"]), read, timings, limits, tuple(notes))


def read_floor_map(path: Path) -> FloorMap:
    """Reads the map of a scene.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is malformed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no map {path.name}")
    try:
        with np.load(path, allow_pickle=False) as file:
            free, origin, cell = file["free"], file["origin_m"], file["cell_m"]
            plan = FloorMap(free.astype(bool), origin.astype(np.float64).reshape(2), float(cell))
    except (BadZipFile, KeyError, ValueError, TypeError, OSError, EOFError) as error:
        raise ValueError(f"map {path.name} must hold free [X, Y], origin_m [2] and cell_m: {error}") from None
    if plan.free.ndim != 2 or not plan.free.any() or not plan.cell_m > 0 or not np.isfinite(plan.origin_m).all():
        raise ValueError(f"map {path.name} must have free cells of a size above 0, got shape {plan.free.shape}")
    return plan


def _mapping(value: object) -> dict:
    return dict(value) if isinstance(value, Mapping) else {}


def _episode(entry: object, where: str) -> dict:
    """One episode with every field the report shows, checked."""
    if not isinstance(entry, Mapping) or "id" not in entry:
        raise ValueError(f"{where} must be an object with an id, got {str(entry)[:80]}")
    where = f"{where} ({entry['id']})"
    read = dict(entry) | {"id": str(entry["id"]), "scene": str(entry.get("scene", "")), "goal": None}
    for name in _NUMBERS:
        value = entry.get(name)
        if value is not None and not isinstance(value, (int, float)):
            raise ValueError(f"{where}: {name} must be a number, got {value!r}")
        read[name] = None if value is None else float(value)
    for name in _FLAGS:
        value = entry.get(name)
        read[name] = None if value is None else bool(value)
    for name in ("path", "reference"):
        read[name] = _points(entry.get(name), f"{where}: {name}")
    questions = entry.get("questions") or []
    if not isinstance(questions, list) or not all(isinstance(item, Mapping) for item in questions):
        raise ValueError(f"{where}: questions must be a list of objects, got {str(questions)[:80]}")
    read["questions"] = [dict(item) for item in questions]
    goal = _mapping(entry.get("goal"))
    if goal:
        read["goal"] = goal | {"box": _box(goal.get("box"), where)}
    return read


def _points(value: object, where: str) -> np.ndarray:
    """Points on the floor [N, 2], metres; heights are left out."""
    try:
        points = np.array(value or [], np.float64)
    except (TypeError, ValueError):
        points = np.zeros(1)
    if not points.size:
        return np.zeros((0, 2))
    if points.ndim != 2 or points.shape[1] not in (2, 3) or not np.isfinite(points).all():
        raise ValueError(f"{where} must be finite points [N, 3], got {str(value)[:80]}")
    return points[:, :2]


def _box(value: object, where: str) -> OrientedBox | None:
    if value is None:
        return None
    try:
        return OrientedBox(value["center_m"], value["lengths_m"], value["R_WB"])
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{where}: a goal's box has center_m, lengths_m and R_WB, got {value!r}: {error}") from None


def _timings(folder: Path, notes: list[str]) -> dict[str, dict]:
    if not (folder / TIMINGS).is_file():
        notes.append(f"no {TIMINGS}, so no latencies")
        return {}
    return {
        str(entry["id"]): {"latency_ms": _latencies(entry.get("latency_ms")), "seconds": entry.get("seconds")}
        for entry in _entries(folder / TIMINGS)
    }


def _limits(folder: Path, notes: list[str]) -> dict[str, int]:
    if not (folder / EPISODES).is_file():
        notes.append(f"no {EPISODES}, so it is unknown how many episodes were planned")
        return {}
    return {str(entry["id"]): entry.get("max_steps") for entry in _entries(folder / EPISODES)}


def _entries(path: Path) -> list[Mapping]:
    """The episodes a file tells of, as a list or by id."""
    entries = read_json(path).get("episodes", [])
    if isinstance(entries, Mapping):
        entries = [{"id": name} | _mapping(entry) for name, entry in entries.items()]
    if not isinstance(entries, list) or not all(isinstance(item, Mapping) and "id" in item for item in entries):
        raise ValueError(f"{path}: episodes must be a list of objects with an id, got {str(entries)[:80]}")
    return entries


def _latencies(value: object) -> list[float | None]:
    values = value if isinstance(value, list) else []
    return [float(item) if isinstance(item, (int, float)) else None for item in values]
