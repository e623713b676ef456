"""The files of a run: what was planned, what came out, how long it took. Runs nothing and computes one summary.

episodes.json and results.json are the same for the same seed and settings, byte for byte; what differs from run to run,
the wall clock, is in timings.json alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sim.env import FloorMap
from sim.loop.files import EPISODES, MAPS, PICTURES, RESULTS, TIMINGS, read_json, write_json
from sim.loop.plan import Plan
from sim.metrics import mean_with_interval, percentiles
from vlm3r_core.files import whole_file

_MEANS = "success_1m success_3m oracle_success spl ne_m ndtw path_m collisions steps sim_seconds".split()


class Mismatch(ValueError):
    """The folder holds a run with other settings."""


class RunFolder:
    """A folder with the files of one run; it goes on where it ended.

    Args:
        path: the folder, made where absent.
        head: agent, task, seed and settings of the run, as results.json begins.
        plan: the episodes.

    Raises:
        Mismatch: the folder holds a run that began otherwise.
        ValueError: a file in it is malformed.
    """

    def __init__(self, path: Path, head: Mapping, plan: Plan):
        self.path, self._head, self._plan = path, json.loads(json.dumps(head)), plan
        self._results: dict[str, dict] = {}
        self._timings: dict[str, dict] = {}
        if (path / RESULTS).is_file():
            self._check_same(read_json(path / RESULTS), plan)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / EPISODES, plan.to_json())

    @property
    def done(self) -> frozenset[str]:
        """Ids of the episodes that have a result."""
        return frozenset(self._results)

    @property
    def results(self) -> list[dict]:
        """What came out so far, in the order of the plan."""
        return [self._results[item.id] for item in self._plan.episodes if item.id in self._results]

    @property
    def summary(self) -> dict:
        """Means of what came out so far."""
        return summary(self.results)

    def add(self, result: Mapping, latencies_ms: Sequence[float], seconds: float) -> None:
        """Takes an episode's result and writes all files."""
        name = result["id"]
        self._results[name] = json.loads(json.dumps(result))
        self._timings[name] = {"latency_ms": [round(ms, 3) for ms in latencies_ms], "seconds": round(seconds, 3)}
        everything = [ms for timing in self._timings.values() for ms in timing["latency_ms"]]
        total_s = max(1e-3, sum(timing["seconds"] for timing in self._timings.values()))
        rate = {"seconds": round(total_s, 3), "episodes_per_hour": round(3600 * len(self._timings) / total_s, 1)}
        write_json(self.path / TIMINGS, {"latency_ms": percentiles(everything), **rate, "episodes": self._timings})
        write_json(self.path / RESULTS, self._head | {"summary": self.summary, "episodes": self.results})

    def add_pictures(self, episode_id: str, jpegs: Sequence[bytes]) -> None:
        """Keeps an episode's film strip."""
        folder = self.path / PICTURES / episode_id
        folder.mkdir(parents=True, exist_ok=True)
        for number, jpeg in enumerate(jpegs):
            (folder / f"{number:02d}.jpg").write_bytes(jpeg)

    def add_map(self, scene: str, floor: FloorMap) -> None:
        """Keeps a scene's floor map."""
        path = self.path / MAPS / f"{scene}.npz"
        if not path.is_file():
            with whole_file(path) as partial:
                np.savez_compressed(partial, free=floor.free, origin_m=floor.origin_m, cell_m=floor.cell_m)

    def _check_same(self, found: dict, plan: Plan) -> None:
        here = {key: found.get(key) for key in self._head}
        other = sorted(_differences(here, self._head))
        if (self.path / EPISODES).is_file() and read_json(self.path / EPISODES) != plan.to_json():
            other.append("the episodes")
        if other:
            raise Mismatch(
                f"{self.path} holds a run with another {', '.join(other)}; "
                "give the command that began it to go on with it, or another --out"
            )
        self._results = {entry["id"]: entry for entry in found["episodes"]}
        timings = read_json(self.path / TIMINGS) if (self.path / TIMINGS).is_file() else {}
        self._timings = dict(timings.get("episodes", {}))


def summary(results: Sequence[Mapping]) -> dict:
    """Means of episodes with 95 % intervals, and how their questions were answered."""
    asked = [item for entry in results for item in entry["questions"]]
    kinds = sorted({item["kind"] for item in asked})
    return {
        "episodes": len(results),
        "errors": sum(bool(entry["error"]) for entry in results),
        **{name: mean_with_interval([entry[name] for entry in results]) for name in _MEANS},
        "answer_accuracy": mean_with_interval([item["score"] for item in asked]),
        "answers": {kind: mean_with_interval([q["score"] for q in asked if q["kind"] == kind]) for kind in kinds},
        "answers_before_seen": sum(not item["seen_before_answer"] and not item["said_unseen"] for item in asked),
    }


def _differences(found: object, wanted: object, name: str = "") -> list[str]:
    """Names of the settings in which two differ."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        keys = sorted(set(found) | set(wanted))
        return [
            text
            for key in keys
            for text in _differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if found == wanted else [f"{name} ({found!r}, now {wanted!r})"]
