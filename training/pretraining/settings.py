"""Every setting of a pre-training run. Starts nothing; torch is not imported."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from training.config import add_settings
from vlm3r_core.config import MODEL_PRESETS, ModelConfig, check_choice, check_settings, setting

OBJECTIVES = ("vision", "geometry")
HEADS = ("linear", "dpt")
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("float32", "bfloat16")
# flats from here on are for tests and held-out scores, here and in every other part of the project
FIRST_HELD_OUT = 900_000
# pixels a side of a patch for which clips have depth and class; cells are made of them
TRUTHS_A_PATCH = 12
# may change between two starts of a run
RUNNING = ("run_dir", "workers", "threads", "save_steps", "keep_checkpoints", "budget_min", "tensorboard", "wandb")


@dataclass(frozen=True)
class PretrainConfig:
    """One pre-training run: of the SigLIP tower (vision), or of CUT3R (geometry) behind a tower that is frozen."""

    objective: str = setting("geometry", "what is trained", choices=OBJECTIVES)
    run_dir: str = setting("", "run folder: checkpoints, log, encoders; empty: out/pretrain/<objective>")
    model: str = setting("tiny-start", "preset with the sizes")
    motion_columns: int = setting(48, "the model's cut3r.motion_columns", span=(0, 512))
    siglip_input: bool = setting(False, "give CUT3R the tower's tokens (the model's cut3r.siglip_width)")
    enc_depth: int = setting(0, "layers of CUT3R's own image encoder; 0: the preset's", span=(0, 48))
    dec_depth: int = setting(0, "levels of CUT3R's two decoders; 0: the preset's", span=(0, 48))
    vision: str = setting("", "encoders folder with the tower that geometry builds on; needed for siglip_input")
    start: str = setting("", "encoders folder whose weights training starts from; empty: seeded random ones")
    clips: str = setting("out/pretrain/clips", "folder of the clips on disk, shared by runs")
    first_flat: int = setting(0, "seed of the first flat to learn from", span=(0, FIRST_HELD_OUT - 1))
    flats: int = setting(1000, "flats to learn from", span=(1, FIRST_HELD_OUT))
    first_held_out: int = setting(FIRST_HELD_OUT, "seed of the first flat to measure on", span=(FIRST_HELD_OUT, inf))
    held_out_flats: int = setting(32, "flats to measure on", span=(1, 100_000))
    clips_per_flat: int = setting(4, "clips of one flat", span=(1, 1000))
    clip_frames: int = setting(16, "frames of a clip", span=(2, 1024))
    turn_deg: float = setting(20.0, "turn from frame to frame, degrees", span=(0.0, 90.0))
    shift_m: float = setting(0.8, "longest way of a clip, metres", span=(0.0, 20.0))
    frames_per_clip: int = setting(4, "frames that vision takes of a clip", span=(1, 1024))
    train_frames: int = setting(
        0, "frames in a row that geometry learns from of a clip, drawn anew each time; 0: all", span=(0, 1024)
    )
    head: str = setting(
        "linear",
        "where geometry reads points: `linear` from each patch token, cheap, dropped afterwards; `dpt` by CUT3R's own "
        "heads",
        choices=HEADS,
    )
    cells: int = setting(2, "points, or class labels, a side of a patch", span=(1, TRUTHS_A_PATCH))
    head_frames: int = setting(4, "frames of a clip whose points are learned in a step; 0: all", span=(0, 1024))
    bptt_frames: int = setting(0, "frames after which gradients through the state are cut; 0: never", span=(0, 1024))
    pose_weight: float = setting(1.0, "of the pose loss", span=(0, inf))
    step_weight: float = setting(
        1.0, "of the loss of poses seen from the frame before, which CUT3R's training has not", span=(0, inf)
    )
    rgb_weight: float = setting(0.0, "of the colour loss; only with --head dpt", span=(0, inf))
    foreground_weight: float = setting(3.0, "of a cell full of objects, where one of walls counts 1", span=(1, inf))
    mirror: bool = setting(True, "half of the clips are seen in a mirror")
    reverse: bool = setting(True, "half of the clips run backwards")
    colour: float = setting(0.2, "how far brightness, contrast and colours are changed", span=(0, 0.9))
    batch_clips: int = setting(8, "clips of a step, over all processes", span=(1, 65536))
    steps: int = setting(1000, "steps the schedule is laid out for", span=(1, inf))
    budget_min: float = setting(0.0, "minutes in which the schedule ends at the latest; 0: no limit", span=(0, inf))
    learning_rate: float = setting(1e-3, "peak learning rate", span=(0, 1))
    schedule: str = setting("cosine", "learning rate after the warm-up", choices=SCHEDULES)
    warmup_ratio: float = setting(0.05, "part of the steps the learning rate climbs", span=(0, 1))
    weight_decay: float = setting(0.01, "AdamW's", span=(0, 1))
    beta1: float = setting(0.9, "AdamW's", span=(0, 1))
    beta2: float = setting(0.98, "AdamW's", span=(0, 1))
    epsilon: float = setting(1e-8, "AdamW's", span=(0, 1))
    max_grad_norm: float = setting(1.0, "longer gradients are shortened to this; 0: never", span=(0, inf))
    max_bad_steps: int = setting(5, "steps in a row without a finite gradient that are skipped", span=(0, 10_000))
    save_steps: int = setting(200, "steps from checkpoint to checkpoint", span=(1, inf))
    keep_checkpoints: int = setting(2, "newest checkpoints that stay", span=(1, 10_000))
    measure_steps: int = setting(500, "steps between two measurements on held-out flats; 0: at the end", span=(0, inf))
    workers: int = setting(1, "processes that film flats, and on a GPU read clips", span=(0, 256))
    seed: int = setting(0, "of weights, order and changes to the pictures", span=(0, 2**31))
    precision: str = setting(
        "float32", "of activations; bfloat16 pays on a GPU, and on a CPU with AMX", choices=PRECISIONS
    )
    device: str = setting("auto", "auto, cpu or cuda")
    threads: int = setting(1, "CPU threads of this process; 0: as torch has it", span=(0, 1024))
    tensorboard: bool = setting(True, "write curves where tensorboard is installed")
    wandb: bool = setting(False, "log to Weights & Biases where wandb is installed")

    def __post_init__(self):
        check_settings(self)
        check_choice("PretrainConfig.model", self.model, tuple(MODEL_PRESETS))
        if self.first_flat + self.flats > FIRST_HELD_OUT:
            raise ValueError(
                f"PretrainConfig: flats {self.first_flat}..{self.first_flat + self.flats - 1} reach the ones kept for "
                f"tests, which begin at {FIRST_HELD_OUT}; lower first_flat or flats"
            )
        if TRUTHS_A_PATCH % self.cells:
            raise ValueError(f"PretrainConfig.cells must divide {TRUTHS_A_PATCH}, got {self.cells}")
        if self.rgb_weight and self.head != "dpt":
            raise ValueError("PretrainConfig.rgb_weight needs --head dpt: only CUT3R's own heads tell colours")
        if self.objective == "geometry" and self.siglip_input and not self.vision:
            raise ValueError(
                "geometry with --siglip_input needs --vision, the encoders folder of a vision run; run `python -m "
                "training.pretrain vision` first, or give --siglip_input false"
            )

    @property
    def sizes(self) -> ModelConfig:
        """The model that is trained, a part of it at least."""
        preset = MODEL_PRESETS[self.model]
        cut3r = replace(
            preset.cut3r,
            motion_columns=self.motion_columns,
            siglip_width=preset.siglip.hidden_size if self.siglip_input else 0,
            enc_depth=self.enc_depth or preset.cut3r.enc_depth,
            dec_depth=self.dec_depth or preset.cut3r.dec_depth,
            # rounding is there to match published weights
            rope_half_rounding=False,
        )
        return replace(preset, cut3r=cut3r)

    def to_json(self) -> str:
        """As it lies in the run folder."""
        return json.dumps(asdict(self), indent=2) + "\n"


def parse_pretrain(arguments: Sequence[str] | None = None) -> PretrainConfig:
    """An objective with the settings the command line changes, `run_dir` filled in.

    Raises:
        SystemExit: argparse's, on words it does not know.
        ValueError: a refused value.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training.pretrain",
        description="Pre-trains a small encoder on simulated flats; goes on from the run folder's newest checkpoint.",
    )
    parser.add_argument("objective", help=f"one of {', '.join(OBJECTIVES)}")
    add_settings(parser, PretrainConfig, but=("objective",))
    given: dict[str, Any] = vars(parser.parse_args(arguments))
    config = PretrainConfig(**given)
    return replace(config, run_dir=config.run_dir or str(Path("out", "pretrain", config.objective)))
