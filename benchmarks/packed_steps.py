"""Forward and backward steps of the same questions: packed in two ways, and one by one. Trains nothing for good."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from benchmarks.machine import describe_machine, load_average, machine_line, measure_peaks, read_memory, synchronizer
from benchmarks.tables import markdown_table
from training.packing import ATTENTIONS, held_attention, pack, packed_loss
from vlm3r_core.labels import IGNORED, conversation_ids, expand_labels
from vlm3r_core.loading import load
from vlm3r_core.model.vlm3r import VLM3R

_QUESTION = (
    "<image>\nThese are frames of a video.\nMeasuring from the closest point of each object, what is the distance "
    "between the {} and the {} (in meters)?\nPlease answer the question using a single word or phrase."
)
_NAMES = ("chair", "table", "sofa", "bed", "door", "window", "lamp", "tv", "plant", "stove")
TARGET_COUNT, TARGET_RATIO = 8, 6.0


def run(
    spec: str, device: str, dtype: str, *, counts: Sequence[int], frames: int, repeats: int, checkpointing: bool
) -> dict:
    """Measures every count of questions a video, all ways in turn so that other load falls on all alike."""
    model = load(spec, device, dtype)
    _make_trainable(model, checkpointing)
    machine = describe_machine(model.device)
    peaks = measure_peaks(model.device, model.dtype)
    features = torch.randn(
        frames, model.config.siglip.grid**2, model.config.siglip.hidden_size, device=model.device, dtype=model.dtype
    )
    talks = [conversation_ids(model.tokenizer, _turns(index), "answer") for index in range(max(counts))]
    encode_s = _encode_s(model, frames)
    rows = [_measure(model, features, talks[:count], repeats, peaks.flops) for count in counts]
    machine |= {"load_average_after": load_average(), "peak_gflops": peaks.flops / 1e9}
    return {
        "model": spec,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "frames": frames,
        "visual_tokens": len(_visual(model, features)),
        "question_tokens": len(talks[0][0]),
        "checkpointing": checkpointing,
        "encode_s": encode_s,
        "machine": machine,
        "memory": read_memory(model.device),
        "rows": rows,
    }


def markdown(result: dict) -> str:
    """The result as a table with the target below."""
    header = (
        "questions a video",
        "one by one /s",
        *[f"packed, {way} /s" for way in ATTENTIONS],
        *[f"{way} ratio" for way in ATTENTIONS],
        "ratio of floors",
        "ratio with encoders",
        "floor /s",
    )
    encode_s = result["encode_s"]
    rows = [
        [
            str(row["count"]),
            *[row[f"{way}_per_s"] for way in ("alone", *ATTENTIONS)],
            *[row[f"{way}_per_s"] / row["alone_per_s"] for way in ATTENTIONS],
            row["floor_ratio"],
            (1 / row["alone_per_s"] + encode_s) / (1 / row["split_per_s"] + encode_s / row["count"]),
            row["floor_per_s"],
        ]
        for row in result["rows"]
    ]
    caption = (
        f"Questions a second, forward and backward of fusion's projector and the language model, model "
        f"{result['model']}, {result['dtype']} on {result['device']}, {result['frames']} frames = "
        f"{result['visual_tokens']} visual tokens, a question of {result['question_tokens']} tokens. The floor counts "
        f"multiplications of the packed step at the measured {result['machine']['peak_gflops']:,.0f} GFLOP/s. Features "
        f"of the frozen encoders are given, but for the ratio with encoders, whose {encode_s:.2f} s a video are added "
        "to every step, as where nothing is cached. "
        f"Machine: {machine_line(result['machine'])}."
    )
    parts = [caption, markdown_table(header, rows)]
    target = next((row for row in result["rows"] if row["count"] == TARGET_COUNT), None)
    if target:
        ratio = max(target[f"{way}_per_s"] for way in ATTENTIONS) / target["alone_per_s"]
        verdict = "met" if ratio >= TARGET_RATIO else "missed"
        parts.append(f"packed / one by one at {TARGET_COUNT}: {ratio:.1f}, wanted {TARGET_RATIO:.0f}: {verdict}")
    return "\n\n".join(parts)


def _turns(index: int) -> list[str]:
    first, second = _NAMES[index % len(_NAMES)], _NAMES[(index * 3 + 1) % len(_NAMES)]
    return [_QUESTION.format(first, second), f"{1 + index / 10:.1f}"]


def _make_trainable(model: VLM3R, checkpointing: bool) -> None:
    """As a run trains a small model: all of projector and language model."""
    model.train()
    for part in (model.projector, model.language):
        part.requires_grad_(True)
    if checkpointing:
        model.language.qwen.gradient_checkpointing_enable()


def _encode_s(model: VLM3R, frames: int) -> float:
    """Seconds the frozen encoders take for a video, fusion and projector included."""
    size, wait, times = model.config.siglip.image_size, synchronizer(model.device), []
    pixels = torch.zeros(frames, 3, size, size, device=model.device, dtype=model.dtype)
    for _ in range(3):
        wait()
        started = time.perf_counter()
        with torch.no_grad():
            model.encode(pixels)
        wait()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _visual(model: VLM3R, fused: torch.Tensor) -> torch.Tensor:
    return model.visual_sequence(model.project(fused)[2])


def _measure(model: VLM3R, features: torch.Tensor, talks: Sequence, repeats: int, flops: float) -> dict:
    def together(attention: str) -> Callable[[], None]:
        def step() -> None:
            visual = _visual(model, features)
            with held_attention(model.language, attention):
                packed_loss(model, pack(talks, len(visual)), visual, attention=attention).backward()

        return step

    def one_by_one() -> None:
        for talk in talks:
            visual = _visual(model, features)
            _plain_loss(model, talk, visual).backward()

    ways = {"alone": one_by_one} | {name: together(name) for name in ATTENTIONS}
    times: dict[str, list[float]] = {name: [] for name in ways}
    wait = synchronizer(model.device)
    for repeat in range(repeats + 1):
        for name, step in ways.items():
            wait()
            started = time.perf_counter()
            step()
            wait()
            # the first one warms up
            if repeat:
                times[name].append(time.perf_counter() - started)
            model.zero_grad(set_to_none=True)
    visual = len(_visual(model, features))
    lengths = [len(talk[0]) - 1 for talk in talks]
    packed, single = _step_flops(model, visual, lengths), sum(_step_flops(model, visual, [n]) for n in lengths)
    row = {f"{name}_per_s": len(talks) / statistics.median(values) for name, values in times.items()}
    return row | {"count": len(talks), "floor_per_s": len(talks) * flops / packed, "floor_ratio": single / packed}


def _plain_loss(model: VLM3R, talk: tuple[list[int], list[int]], visual: torch.Tensor) -> torch.Tensor:
    """One conversation without a mask, so that the kernel for causal attention serves it."""
    ids, labels = talk
    learned = torch.tensor(expand_labels(ids, labels, [len(visual)])[1:], device=visual.device)
    embeddings = model.embed_prompt(ids, [visual])
    hidden = model.language.qwen.model(inputs_embeds=embeddings[None], use_cache=False).last_hidden_state[0, :-1]
    logits = model.language.qwen.lm_head(hidden[learned != IGNORED])
    return F.cross_entropy(logits.float(), learned[learned != IGNORED])


def _step_flops(model: VLM3R, visual: int, lengths: Sequence[int]) -> float:
    """Multiplications and additions of forward and backward, three times forward; only what must be seen counts."""
    config = model.config.language
    kv = config.hidden_size * config.num_kv_heads // config.num_heads
    attention = 2 * config.hidden_size**2 + 2 * config.hidden_size * kv
    matrices = attention + 3 * config.hidden_size * config.intermediate_size
    tokens = visual + sum(lengths)
    seen = visual**2 / 2 + sum(n * visual + n**2 / 2 for n in lengths)
    forward = config.num_layers * (2 * matrices * tokens + 4 * config.hidden_size * seen)
    return 3 * (forward + 2 * config.hidden_size * config.vocab_size * len(lengths))
