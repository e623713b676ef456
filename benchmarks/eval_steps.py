"""A video's questions answered in three ways: together behind one prefix, one by one behind it, each from frames."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.floors import Peaks, Work, append_work, vision_flops, vision_weights
from benchmarks.machine import describe_machine, load_average, machine_line, measure_peaks, read_memory, synchronizer
from benchmarks.tables import markdown_table
from training.benchmarks.question import BenchmarkQuestion
from training.evaluation.frames import View
from training.evaluation.model_answers import ModelAnswers
from training.evaluation.settings import EvalSettings
from vlm3r_core.loading import load
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import prefix_ids, suffix_ids

_NUMBER = "What is the distance between the {} and the {} (in meters)?"
_CHOICE = "If I am standing by the {0} and facing the {1}, is the door to the left or the right of the {1}?"
_NAMES = ("chair", "table", "sofa", "bed", "window", "lamp", "tv", "plant", "stove")
# Name of each way, its heading and what it does.
WAYS = {
    "together": ("together", "one encoding, questions decoded together"),
    "one_by_one": ("one by one", "one encoding, questions one after another"),
    "from_frames": ("from frames", "an encoding for every question"),
}
TARGET_COUNT, TARGET_RATIO = 18, 8.0


def run(spec: str, device: str, dtype: str, *, counts: Sequence[int], frames: int, tokens: int, repeats: int) -> dict:
    """Measures every count of questions a video, all ways in turn so that other load falls on all alike."""
    model = load(spec, device, dtype, preset="paper-eval")
    machine, peaks = describe_machine(model.device), measure_peaks(model.device, model.dtype)
    view = View(tuple(np.random.default_rng(0).integers(0, 256, (frames, 480, 640, 3), dtype=np.uint8)))
    settings = EvalSettings(model=spec, frames=frames, max_new_tokens=tokens)
    rows = [_measure(model, settings, view, _questions(count), repeats, peaks) for count in counts]
    return {
        "model": spec,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "frames": frames,
        "visual_tokens": frames * model.config.tokens_per_frame,
        "answer_tokens": tokens,
        "machine": machine | {"load_average_after": load_average(), "peak_gflops": peaks.flops / 1e9},
        "memory": read_memory(model.device),
        "rows": rows,
    }


def markdown(result: dict) -> str:
    """The result as a table with the target below."""
    headings = [heading for heading, _ in WAYS.values()]
    header = ("questions a video", *(f"{h} /s" for h in headings), "/ from frames", "/ one by one")
    rows = [
        [
            str(row["count"]),
            *[row[f"{way}_per_s"] for way in WAYS],
            _ratio(row, "from_frames"),
            _ratio(row, "one_by_one"),
            *[row[f"{way}_floor_per_s"] for way in WAYS],
        ]
        for row in result["rows"]
    ]
    told = "; ".join(f"{heading}: {what}" for heading, what in WAYS.values())
    caption = (
        f"Questions answered a second. {told[0].upper()}{told[1:]}. Model {result['model']}, {result['dtype']} on "
        f"{result['device']}, {result['frames']} frames = {result['visual_tokens']} visual tokens, at most "
        f"{result['answer_tokens']} tokens an answer; reading the video is not counted. The floors count the "
        "multiplications that each way cannot do without at the measured "
        f"{result['machine']['peak_gflops']:,.0f} GFLOP/s, or the bytes it must read. "
        f"Machine: {machine_line(result['machine'])}."
    )
    parts = [caption, markdown_table((*header, *(f"floor, {h} /s" for h in headings)), rows)]
    target = next((row for row in result["rows"] if row["count"] == TARGET_COUNT), None)
    if target:
        ratio = _ratio(target, "from_frames")
        verdict = "met" if ratio >= TARGET_RATIO else "missed"
        parts.append(f"together / from frames at {TARGET_COUNT}: {ratio:.1f}, wanted {TARGET_RATIO:.0f}: {verdict}")
    return "\n\n".join(parts)


def _ratio(row: dict, way: str) -> float:
    return row["together_per_s"] / row[f"{way}_per_s"]


def _questions(count: int) -> list[BenchmarkQuestion]:
    """Numbers and choices in turn, no two alike."""
    made = []
    for place in range(count):
        names = _NAMES[place % len(_NAMES)], _NAMES[(place * 2 + 1 + place // len(_NAMES)) % len(_NAMES)]
        choice = place % 2 == 1
        made.append(
            BenchmarkQuestion(
                id=str(place),
                benchmark="vsi",
                question_type="object_rel_direction_easy" if choice else "object_abs_distance",
                question=(_CHOICE if choice else _NUMBER).format(*names),
                options=("A. left", "B. right") if choice else (),
                truth="A" if choice else "1.5",
                scene="bench",
                video=Path("bench.mp4"),
            )
        )
    return made


def _measure(
    model: VLM3R,
    settings: EvalSettings,
    view: View,
    questions: Sequence[BenchmarkQuestion],
    repeats: int,
    peaks: Peaks,
) -> dict:
    batched = ModelAnswers(model, settings, batch=len(questions))
    single = ModelAnswers(model, settings, batch=1)
    ways: dict[str, Callable[[], object]] = {
        "together": lambda: list(batched.answer(view, questions)),
        "one_by_one": lambda: list(single.answer(view, questions)),
        "from_frames": lambda: [list(single.answer(view, [question])) for question in questions],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    wait = synchronizer(model.device)
    for repeat in range(repeats + 1):
        for name, answer in ways.items():
            wait()
            started = time.perf_counter()
            answer()
            wait()
            # the first one warms up
            if repeat:
                times[name].append(time.perf_counter() - started)
    count = len(questions)
    row = {f"{name}_per_s": count / statistics.median(values) for name, values in times.items()}
    floors = _floors_s(model, settings, questions, peaks)
    return row | {"count": count} | {f"{way}_floor_per_s": count / floor for way, floor in floors.items()}


def _floors_s(
    model: VLM3R, settings: EvalSettings, questions: Sequence[BenchmarkQuestion], peaks: Peaks
) -> dict[str, float]:
    """Seconds each way takes at least for a video with these questions."""
    lengths = [len(suffix_ids(model.tokenizer, question.prompt)) for question in questions]
    visual = settings.frames * model.config.tokens_per_frame
    prefix, steps = len(prefix_ids(model.tokenizer)) + visual, settings.answer_tokens - 1
    flops, weights = vision_flops(model.config), vision_weights(model)
    encode = sum(Work(flops[name], weights[name] * model.dtype.itemsize).floor_ms(peaks) for name in flops)
    encode_ms = settings.frames * encode + append_work(model, prefix, 0).floor_ms(peaks)

    def asked(group: Sequence[int]) -> float:
        """Milliseconds of questions of these lengths behind the prefix, weights and prefix read once a pass."""
        passes = [group, *([[1] * len(group)] * steps)]
        return sum(_pass_ms(model, lengths_now, prefix, peaks) for lengths_now in passes)

    together_ms, alone_ms = asked(lengths), sum(asked([length]) for length in lengths)
    return {
        "together": (encode_ms + together_ms) / 1e3,
        "one_by_one": (encode_ms + alone_ms) / 1e3,
        "from_frames": (len(questions) * encode_ms + alone_ms) / 1e3,
    }


def _pass_ms(model: VLM3R, lengths: Sequence[int], prefix: int, peaks: Peaks) -> float:
    """One pass over tokens of several questions, logits of the last one of each."""
    each = [append_work(model, length, prefix, logits=True) for length in lengths]
    return Work(sum(work.flops for work in each), max(work.nbytes for work in each)).floor_ms(peaks)
