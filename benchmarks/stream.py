"""All measurements of one stream on one model, in one run. No command line and no files here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from tqdm import tqdm

from benchmarks import floors, report
from benchmarks.first_token import first_token_floors, measure_first_token
from benchmarks.machine import describe_machine, load_average, max_peaks, measure_peaks
from benchmarks.memory_growth import growth_percent, measure_memory
from benchmarks.stages import measure_stages
from vlm3r_core.config import StreamConfig
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.types import Frame

_FRAME_HZ = 10
# Pictures made once and shown in turn; what they show does not change the time they take.
_PICTURES, _PICTURE_SIZE = 16, (480, 640)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Args:
        frames: questions are asked after each of these numbers of frames.
        stage_frames: frames whose stages are timed.
        warm_up: frames before them that are not timed.
        repeats: questions for each median.
        memory_since: memory is to stay flat after so many frames.
        memory_frames: frames of the memory run.

    Raises:
        ValueError: a number below 1, or a memory run that ends before memory is to stay flat.
    """

    frames: tuple[int, ...] = (8, 32, 128, 512)
    stage_frames: int = 100
    warm_up: int = 32
    repeats: int = 9
    memory_since: int = 100
    memory_frames: int = 2000

    def __post_init__(self):
        if min(*self.frames, self.stage_frames, self.warm_up, self.repeats, self.memory_since) < 1:
            raise ValueError(f"every number of the plan must be at least 1, got {self}")
        if self.memory_frames <= self.memory_since:
            raise ValueError(
                f"memory_frames must be more than memory_since {self.memory_since}, got {self.memory_frames}"
            )


def run(model: VLM3R, plan: Plan) -> dict:
    """All measurements on one model; every ratio in the result compares numbers of this one run."""
    config, make_frame = StreamConfig(), frame_source()
    timed = [make_frame(index) for index in range(plan.warm_up + plan.stage_frames)]
    marks = sorted({*(n for n in plan.frames if n < plan.memory_frames), plan.memory_since, plan.memory_frames})
    machine, peaks = describe_machine(model.device), measure_peaks(model.device, model.dtype)
    steps = plan.memory_frames + 2 * len(timed) + sum(plan.frames) + plan.repeats
    with tqdm(total=steps, unit="step", disable=None) as bar:
        bar.set_description("memory")
        memory = measure_memory(model, config, make_frame, marks, bar.update)
        bar.set_description("stages")
        stages = measure_stages(model, config, timed, plan.warm_up, bar.update)
        bar.set_description("first token")
        questions = measure_first_token(model, config, make_frame, plan.frames, plan.repeats, bar.update)
    peaks = max_peaks(peaks, measure_peaks(model.device, model.dtype))
    add_floors(model, peaks, stages, questions)
    machine |= {
        "load_average_after": load_average(),
        "peak_gflops": peaks.flops / 1e9,
        "peak_gb_per_s": peaks.bytes_per_s / 1e9,
    }
    growth = growth_percent(memory, plan.memory_since)
    result = {
        "model": model.config.name,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "machine": machine,
        "plan": asdict(plan),
        "frame": stages,
        "first_token": questions,
        "memory": {"rows": memory, "since": plan.memory_since, "growth_percent": growth},
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
