"""Time from question to first token after N frames: cached prefix, prefix run again, frames encoded again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from benchmarks import floors
from vlm3r_core.config import StreamConfig
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import prefix_ids, question_message, suffix_ids
from vlm3r_core.stream.engine import StreamEngine
from vlm3r_core.types import Frame

QUESTION = "How many chair(s) are in this room?"


def measure_first_token(
    model: VLM3R,
    config: StreamConfig,
    make_frame: Callable[[int], Frame],
    after: Sequence[int],
    repeats: int,
    tick: Callable[[], None],
) -> list[dict]:
    """Asks the same question after each of several numbers of frames, three ways in turn.

    Args:
        model: any device.
        config: the stream's; its policy must keep the prefix cache up to date (`uniform` or `window`).
        make_frame: the stream's frame of a given index.
        after: numbers of frames.
        repeats: questions each way; the median counts.
        tick: called after every frame and every round of questions.

    Returns:
        A row each: frames, context_frames, question_tokens, context_tokens, and in milliseconds cached_ms (as the
        engine serves it), prefill_ms (visual tokens kept, prefix cache cleared before the question) and recompute_ms
        (the context's frames encoded again from a fresh state, then prefill and question, as the published code
        does for every question).
    """
    engine = StreamEngine(model, config)
    # This policy runs nothing into the prefix cache before the question, so each way of asking runs it once.
    fresh = StreamEngine(model, replace(config, memory_policy="resample"))
    rows = []
    for index in range(max(after)):
        engine.push(make_frame(index))
        tick()
        if index + 1 in after:
            rows.append(_ask_three_ways(engine, fresh, make_frame, repeats, tick))
    return rows


def _ask_three_ways(
    engine: StreamEngine,
    fresh: StreamEngine,
    make_frame: Callable[[int], Frame],
    repeats: int,
    tick: Callable[[], None],
) -> dict:
    stamps = engine.ask(QUESTION, max_new_tokens=1).supporting_stamps_ns
    context = [frame for index in range(engine.stats().frames_seen) if (frame := make_frame(index)).stamp_ns in stamps]
    rounds = []
    for _ in range(repeats):
        cached = _first_token_ms(engine)
        engine._prefix.clear()
        rounds.append((cached, _first_token_ms(engine), _recompute_ms(fresh, context)))
        tick()
    cached, prefill, recompute = (median(times) for times in zip(*rounds, strict=True))
    model, tokenizer = engine.model, engine.tokenizer
    return {
        "frames": engine.stats().frames_seen,
        "context_frames": len(context),
        "context_tokens": len(prefix_ids(tokenizer)) + len(context) * model.config.tokens_per_frame,
        "question_tokens": len(suffix_ids(tokenizer, question_message(QUESTION))),
        "cached_ms": cached,
        "prefill_ms": prefill,
        "recompute_ms": recompute,
    }


def _first_token_ms(engine: StreamEngine) -> float:
    return engine.ask(QUESTION, max_new_tokens=1).latency_ms.first_token


def _recompute_ms(fresh: StreamEngine, context: list[Frame]) -> float:
    started = time.perf_counter()
    fresh.reset()
    for frame in context:
        fresh.push(frame)
    return 1e3 * (time.perf_counter() - started) + _first_token_ms(fresh)


def first_token_floors(model: VLM3R, row: dict, peaks: floors.Peaks) -> dict[str, float]:
    """The least each way of a row can take on the given device, in milliseconds.

    Returns:
        cached_floor_ms, prefill_floor_ms, recompute_floor_ms.
    """
    context, question = row["context_tokens"], row["question_tokens"]
    vision = floors.frame_work(model, 0)
    del vision["prefix append"]
    whole = floors.append_work(model, context + question, 0, logits=True).floor_ms(peaks)
    return {
        "cached_floor_ms": floors.append_work(model, question, context, logits=True).floor_ms(peaks),
        "prefill_floor_ms": whole,
        "recompute_floor_ms": row["context_frames"] * sum(w.floor_ms(peaks) for w in vision.values()) + whole,
    }
