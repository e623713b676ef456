"""What a stream holds after N frames, and whether that grows. Frees nothing by itself but Python's garbage."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.first_token import QUESTION
from benchmarks.machine import read_memory
from vlm3r_core.config import StreamConfig
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.stream.engine import StreamEngine
from vlm3r_core.types import Frame

# A question now and then, as in use: what it leaves behind would count too.
_FRAMES_PER_QUESTION = 50


def measure_memory(
    model: VLM3R,
    config: StreamConfig,
    make_frame: Callable[[int], Frame],
    at: Sequence[int],
    tick: Callable[[], None],
) -> list[dict]:
    """Runs one stream and reads its memory after each of several numbers of frames.

    Returns:
        A row each: frames, kept_frames, engine_bytes (the engine's own count), engine_peak_bytes (its maximum so far;
        the uniform policy keeps between half and all of its frames, so the count itself goes up and down), rss_bytes,
        and on a GPU cuda_bytes and cuda_peak_bytes.
    """
    engine, rows, peak = StreamEngine(model, config), [], 0
    for index in range(max(at)):
        engine.push(make_frame(index))
        if index % _FRAMES_PER_QUESTION == 0:
            engine.ask(QUESTION, max_new_tokens=4)
        stats = engine.stats()
        peak = max(peak, stats.memory_bytes)
        if index + 1 in at:
            held = {"engine_bytes": stats.memory_bytes, "engine_peak_bytes": peak}
            rows.append({"frames": index + 1, "kept_frames": stats.frames_kept, **held, **read_memory(model.device)})
        tick()
    return rows


def growth_percent(rows: Sequence[dict], since: int) -> dict[str, float]:
    """How much each kind of memory grew from the row after `since` frames to the last one, in percent."""
    first = next(row for row in rows if row["frames"] == since)
    kinds = [name for name in first if name.endswith("_bytes")]
    return {name: 100 * (rows[-1][name] / first[name] - 1) for name in kinds}
