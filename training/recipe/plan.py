"""How the minutes of a budget are shared out. Runs nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from vlm3r_core.config import check_range

LEAST_MIN = 5.0
# Parts of the budget; what is left goes to starting programs, some twelve of them.
_CLIPS, _ENCODERS, _QUESTIONS, _BLIND, _TRAIN = 0.07, 0.28, 0.12, 0.06, 0.28
# A second and core, on two cores that do nothing else: clips filmed, flats asked about.
_CLIPS_PER_S, _FLATS_PER_S = 8.7, 2.5
# All of them, in a minute of the budget: so that evaluation stays below a tenth.
_TRIED_PER_MIN = 2.2
CLIPS_PER_FLAT = 2
_FLATS_A_FILE = 8


@dataclass(frozen=True)
class Plan:
    """Sizes and minutes of every step.

    Args:
        budget_min: of the whole.
        processes: side by side.
        clip_flats: encoders learn from, seeds from 0; held_out_flats they are measured on.
        question_flats: of each process's question set.
        tried_flats: the result is measured on.
        encoder_min: of either encoder's run, which go side by side.
        blind_min: of the run without frames; train_min of the run with them.
    """

    budget_min: float
    processes: int
    clip_flats: int
    held_out_flats: int
    question_flats: int
    tried_flats: int
    encoder_min: float
    blind_min: float
    train_min: float

    def to_json(self) -> dict:
        """As plain numbers."""
        return asdict(self)


def make_plan(budget_min: float, cores: int) -> Plan:
    """Shares a budget out.

    Args:
        budget_min: minutes in all, LEAST_MIN or more.
        cores: of the machine; two are used at most, so that the numbers mean the same everywhere.

    Raises:
        ValueError: too little time.
    """
    check_range("budget_min", budget_min, LEAST_MIN, 100_000.0)
    processes, seconds = max(1, min(2, cores)), 60 * budget_min
    filmed = _CLIPS * seconds * _CLIPS_PER_S * processes / CLIPS_PER_FLAT
    return Plan(
        budget_min=budget_min,
        processes=processes,
        clip_flats=max(1, round(filmed / _FLATS_A_FILE)) * _FLATS_A_FILE,
        held_out_flats=_FLATS_A_FILE if budget_min < 60 else 2 * _FLATS_A_FILE,
        question_flats=max(8, round(_QUESTIONS * seconds * _FLATS_PER_S)),
        tried_flats=round(min(420, max(12, _TRIED_PER_MIN * budget_min))),
        encoder_min=round(_ENCODERS * budget_min, 2),
        blind_min=round(_BLIND * budget_min, 2),
        train_min=round(_TRAIN * budget_min, 2),
    )


def cpu_precision(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """`bfloat16` on a CPU with matrix units for it (AMX), `float32` elsewhere: without them it is slower."""
    try:
        return "bfloat16" if "amx_bf16" in cpuinfo.read_text(encoding="utf-8") else "float32"
    except OSError:
        return "float32"
