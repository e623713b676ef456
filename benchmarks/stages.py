"""Where one frame's time goes on the engine's real path, stage by stage. Changes nothing about what is computed."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps

import numpy as np

from benchmarks.floors import STAGES
from benchmarks.machine import synchronizer
from vlm3r_core.config import StreamConfig
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.stream.engine import StreamEngine
from vlm3r_core.types import Frame

OTHER = "other"


class StageClock:
    """Adds up the time inside named stages; time inside a nested stage counts for that one alone.

    Args:
        wait: called at every boundary, so that a GPU's work is counted where it was asked for.
        clock: seconds that only rise.
    """

    def __init__(self, wait: Callable[[], None], clock: Callable[[], float] = time.perf_counter):
        self._wait, self._clock = wait, clock
        self._nested_s: list[float] = []
        self._now_s: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts what runs inside for `name`."""
        self._wait()
        started = self._clock()
        self._nested_s.append(0.0)
        try:
            yield
        finally:
            self._wait()
            elapsed = self._clock() - started
            self._now_s[name] += elapsed - self._nested_s.pop()
            if self._nested_s:
                self._nested_s[-1] += elapsed

    def take_ms(self) -> dict[str, float]:
        """Milliseconds of each stage since the last call."""
        now, self._now_s = self._now_s, defaultdict(float)
        return {name: 1e3 * seconds for name, seconds in now.items()}


@contextmanager
def timed_stages(engine: StreamEngine, clock: StageClock) -> Iterator[None]:
    """Times the engine's own methods while it runs, and leaves them as they were."""
    model, memory = engine.model, engine.model.cut3r.pose_retriever
    methods = [
        (engine, "push", OTHER),
        (engine, "_step", "preprocess"),
        (model, "step", OTHER),
        (model, "cut3r_pixels", "preprocess"),
        (model.siglip, "forward", "SigLIP"),
        (model.cut3r, "encode", "CUT3R encode"),
        (model.cut3r, "advance", "CUT3R decode"),
        *[(memory, name, "CUT3R memory") for name in ("key", "read", "write")],
        (model, "fuse", "fusion"),
        (model, "project", "fusion"),
        (engine._prefix, "sync", "prefix append"),
    ]
    for owner, name, stage in methods:
        # Found before the class's method; deleted afterwards, so nothing of the class is touched.
        setattr(owner, name, _timed(getattr(owner, name), partial(clock.stage, stage)))
    try:
        yield
    finally:
        for owner, name, _ in methods:
            delattr(owner, name)


def _timed(method: Callable, stage: Callable) -> Callable:
    @wraps(method)
    def run(*args, **kwargs):
        with stage():
            return method(*args, **kwargs)

    return run


def measure_stages(
    model: VLM3R, config: StreamConfig, frames: list[Frame], warm_up: int, tick: Callable[[], None]
) -> dict:
    """Pushes the frames twice, without and with timers.

    Args:
        model: any device.
        config: the stream's.
        frames: rising stamps, more than `warm_up`.
        warm_up: the first so many frames are pushed but not counted.
        tick: called after every frame.

    Returns:
        `stages`: {name: {median_ms, p95_ms, mean_ms}} of STAGES and `other`, the time between them; their `sum`;
        `push`, the same numbers without any timer inside; `engine_step_mean_ms`, what the engine itself noted during
        the timed run, and `timed_mean_ms` over the same frames; `context_frames` at the end.
    """
    wait = synchronizer(model.device)
    plain_ms = []
    engine = StreamEngine(model, config)
    for frame in frames:
        started = time.perf_counter()
        engine.push(frame)
        wait()
        plain_ms.append(1e3 * (time.perf_counter() - started))
        tick()
    engine, clock = StreamEngine(model, config), StageClock(wait)
    split = []
    with timed_stages(engine, clock):
        for frame in frames:
            engine.push(frame)
            split.append(clock.take_ms())
            tick()
    sums = [sum(row.values()) for row in split]
    # The engine's own meter remembers its last 100 steps.
    noted = sums[-100:]
    counted = split[warm_up:]
    return {
        "stages": {name: summary([row.get(name, 0.0) for row in counted]) for name in (*STAGES, OTHER)},
        "sum": summary(sums[warm_up:]),
        "push": summary(plain_ms[warm_up:]),
        "frames_per_s": 1e3 / float(np.mean(plain_ms[warm_up:])),
        "engine_step_mean_ms": engine.stats().step_mean_ms,
        "timed_mean_ms": float(np.mean(noted)),
        "frames": len(counted),
        "context_frames": engine.stats().frames_kept,
    }


def summary(values_ms: list[float]) -> dict[str, float]:
    """Median, 95th percentile and mean."""
    return {
        "median_ms": float(np.median(values_ms)),
        "p95_ms": float(np.quantile(values_ms, 0.95)),
        "mean_ms": float(np.mean(values_ms)),
    }
