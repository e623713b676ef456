"""Speed and memory of one stream: python -m benchmarks.bench_stream. It asserts nothing; targets are printed beside."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import floors, report
from benchmarks.first_token import first_token_floors, measure_first_token
from benchmarks.machine import describe_machine, load_average, measure_peaks
from benchmarks.memory_growth import growth_percent, measure_memory
from benchmarks.stages import measure_stages
from vlm3r_core.config import StreamConfig
from vlm3r_core.loading import load
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.types import Frame

_FRAME_HZ = 10
# Pictures made once and shown in turn; what they show does not change the time they take.
_PICTURES, _PICTURE_SIZE = 16, (480, 640)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark, prints its tables and writes them as JSON."""
    args = parse_arguments(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    model = load(args.model, args.device, args.dtype)
    result = run(model, args)
    write_json(args.out, result)
    print(report.markdown(result))
    print(f"\nwritten to {args.out}")
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_stream", description=__doc__)
    parser.add_argument("--model", default="tiny-random", help="model preset (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--threads", type=_positive, help="CPU threads of torch (default: torch's choice)")
    parser.add_argument(
        "--frames", type=_positive, nargs="+", default=[8, 32, 128, 512], help="ask after so many frames"
    )
    parser.add_argument("--stage-frames", type=_positive, default=100, help="frames whose stages are timed")
    parser.add_argument("--warm-up", type=_positive, default=32, help="frames before them that are not timed")
    parser.add_argument("--repeats", type=_positive, default=9, help="questions for each median")
    parser.add_argument("--memory-since", type=_positive, default=100, help="memory may not grow after so many frames")
    parser.add_argument("--memory-frames", type=_positive, default=2000, help="frames of the memory run")
    parser.add_argument("--out", type=Path, default=Path("out/bench_stream.json"), help="JSON file to write")
    args = parser.parse_args(argv)
    args.frames = sorted(set(args.frames))
    if args.memory_frames <= args.memory_since:
        parser.error(f"--memory-frames must be more than --memory-since {args.memory_since}, got {args.memory_frames}")
    return args


def run(model: VLM3R, args: argparse.Namespace) -> dict:
    """All measurements on one model; every ratio in the result compares numbers of this one run."""
    config, make_frame = StreamConfig(), frame_source()
    timed = [make_frame(index) for index in range(args.warm_up + args.stage_frames)]
    marks = sorted({*(n for n in args.frames if n < args.memory_frames), args.memory_since, args.memory_frames})
    steps = 2 * len(timed) + args.frames[-1] + args.repeats * len(args.frames) + args.memory_frames
    machine, peaks = describe_machine(model.device), measure_peaks(model.device, model.dtype)
    with tqdm(total=steps, unit="step", disable=None) as bar:
        bar.set_description("memory")
        memory = measure_memory(model, config, make_frame, marks, bar.update)
        bar.set_description("stages")
        stages = measure_stages(model, config, timed, args.warm_up, bar.update)
        bar.set_description("first token")
        questions = measure_first_token(model, config, make_frame, args.frames, args.repeats, bar.update)
    add_floors(model, peaks, stages, questions)
    machine["load_average_after"] = load_average()
    result = {
        "model": model.config.name,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "machine": {**machine, "peak_gflops": peaks.flops / 1e9, "peak_gb_per_s": peaks.bytes_per_s / 1e9},
        "frame": stages,
        "first_token": questions,
        "memory": {
            "rows": memory,
            "since": args.memory_since,
            "growth_percent": growth_percent(memory, args.memory_since),
        },
    }
    return {**result, "targets": report.targets(result)}


def frame_source() -> Callable[[int], Frame]:
    """Frames by index: smooth pictures in turn, stamps a tenth of a second apart."""
    rng = np.random.default_rng(0)
    rows, columns = _PICTURE_SIZE
    coarse = rng.integers(0, 256, (_PICTURES, rows // 40, columns // 40, 3), dtype=np.uint8)
    pictures = coarse.repeat(40, axis=1).repeat(40, axis=2)
    return lambda index: Frame(pictures[index % _PICTURES], (index + 1) * 10**9 // _FRAME_HZ)


def add_floors(model: VLM3R, peaks: floors.Peaks, stages: dict, questions: list[dict]) -> None:
    """Writes beside every time the least it could be on this device: `floor_ms` and the like."""
    context = (stages["context_frames"] - 1) * model.config.tokens_per_frame
    work = floors.frame_work(model, context)
    for name, numbers in stages["stages"].items():
        numbers["floor_ms"] = work[name].floor_ms(peaks) if name in work else None
    stages["floor_ms"] = sum(item.floor_ms(peaks) for item in work.values())
    for row in questions:
        row |= first_token_floors(model, row, peaks)


def write_json(path: Path, result: dict) -> None:
    """Writes the result whole or not at all; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return number


if __name__ == "__main__":
    raise SystemExit(main())
