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
    """Asks the same question of streams that have seen different numbers of frames, three ways in turn.

    Args:
        model: any device.
        config: the stream's; its policy must keep the prefix cache up to date (`uniform` or `window`).
        make_frame: the stream's frame of a given index.
        after: numbers of frames.
        repeats: questions each way; the median counts.
        tick: called after every frame and every round of questions to all streams.

    Returns:
        A row each: frames, context_frames, question_tokens, context_tokens, and in milliseconds cached_ms (as the
        engine serves it), prefill_ms (visual tokens kept, prefix cache cleared before the question) and recompute_ms
        (the context's frames encoded again from a fresh state, then prefill and question, as the published code
        does for every question).
    """
    streams = [_seen(model, config, make_frame, count, tick) for count in after]
    # This policy runs nothing into the prefix cache before the question, so each way of asking runs it once.
    fresh = StreamEngine(model, replace(config, memory_policy="resample"))
    contexts = [_context(stream, make_frame) for stream in streams]
    rounds = []
    for _ in range(repeats):
        # Streams and ways in turn: whatever else the machine does at the time falls on all of them alike.
        rounds.append(
            [ask_three_ways(stream, fresh, context) for stream, context in zip(streams, contexts, strict=True)]
        )
        tick()
    return [
        {**_sizes(stream, len(context)), **{way: median(times[way] for times in column) for way in column[0]}}
        for stream, context, column in zip(streams, contexts, zip(*rounds, strict=True), strict=True)
    ]


def ask_three_ways(engine: StreamEngine, fresh: StreamEngine, context: Sequence[Frame]) -> dict[str, float]:
    """Milliseconds to the first token: cached_ms, prefill_ms and recompute_ms of `measure_first_token`.

    Args:
        engine: has seen the frames and holds its prefix; holds it again afterwards.
        fresh: an engine of the resample policy on the same model; what it saw is forgotten.
        context: the frames in the engine's context.
    """
    cached = first_token_ms(engine)
    engine._prefix.clear()
    return {"cached_ms": cached, "prefill_ms": first_token_ms(engine), "recompute_ms": recompute_ms(fresh, context)}


def first_token_ms(engine: StreamEngine) -> float:
    """Asks the question; milliseconds until its first token."""
    return engine.ask(QUESTION, max_new_tokens=1).latency_ms.first_token


def recompute_ms(fresh: StreamEngine, context: Sequence[Frame]) -> float:
    """Encodes the frames from a fresh state, runs the whole prompt; milliseconds until the first token."""
    started = time.perf_counter()
    fresh.reset()
    for frame in context:
        fresh.push(frame)
    return 1e3 * (time.perf_counter() - started) + first_token_ms(fresh)


def _seen(
    model: VLM3R, config: StreamConfig, make_frame: Callable[[int], Frame], count: int, tick: Callable[[], None]
) -> StreamEngine:
    engine = StreamEngine(model, config)
    for index in range(count):
        engine.push(make_frame(index))
        tick()
    return engine


def _context(engine: StreamEngine, make_frame: Callable[[int], Frame]) -> list[Frame]:
    stamps = engine.ask(QUESTION, max_new_tokens=1).supporting_stamps_ns
    return [frame for index in range(engine.stats().frames_seen) if (frame := make_frame(index)).stamp_ns in stamps]


def _sizes(engine: StreamEngine, context_frames: int) -> dict[str, int]:
    tokenizer = engine.tokenizer
    return {
        "frames": engine.stats().frames_seen,
        "context_frames": context_frames,
        "context_tokens": len(prefix_ids(tokenizer)) + context_frames * engine.model.config.tokens_per_frame,
        "question_tokens": len(suffix_ids(tokenizer, question_message(QUESTION))),
    }


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
