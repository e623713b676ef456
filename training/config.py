"""Every setting of a training run, and the named runs. Starts nothing; torch is not imported."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from pathlib import Path
from typing import Any, get_type_hints

from vlm3r_core.config import check_choice, check_settings, setting

LABEL_RULES = ("answer", "published")
TRAINABLE = ("lora", "language", "bridge")
SCHEDULES = ("cosine", "constant")
PRECISIONS = ("auto", "float32", "bfloat16")
ATTENTIONS = ("split", "mask", "fold")
# the value of `features` that reads the .pt files of the published extraction beside the videos
PUBLISHED_FEATURES = "published"


@dataclass(frozen=True)
class RunConfig:
    """One training run.

    A step takes `batch_questions` questions, in packs of up to `questions_per_pack` questions of one video; the packs
    are dealt to the processes, and each process takes its packs one after the other (gradient accumulation).

    The labels default to `answer`. The published rule also teaches the chat template's own tokens, some 14 of the 17
    learned ones for a one-number answer; they are the same in every sample and are never decoded, because the engine
    puts them there, yet they weigh most of the loss. `published` is there to repeat the published run.
    """

    data: str = setting("", "question set folder, or mixture: .json, .jsonl, .yaml or .parquet")
    videos: str = setting("", "folder the samples' video paths are relative to; empty: the data's own folder")
    out: str = setting("", "run folder: checkpoints, logs, export; empty: out/train/<run name>")
    model: str = setting(
        "tiny-random",
        "where to start: a preset, a folder of ours, base=PATH,cut3r=PATH[,sizes=PATH] for a new adapter, or with "
        "adapter=PATH to train that one further",
    )
    features: str = setting(
        "", f"folder of cached encoder features; {PUBLISHED_FEATURES!r}: .pt files beside the videos; empty: none"
    )
    sampling: str = setting("all", "which samples of the data: all, first:N, end:N or random:N, N may be a percentage")
    frames: int = setting(32, "frames sampled uniformly from a video", span=(1, 1024))
    blind: bool = setting(False, "learn from text alone and read no frame: a start, or a blind model to compare with")
    time_instruction: bool = setting(True, "tell the model when the frames were taken")
    labels: str = setting("answer", "what of a conversation is learned", choices=LABEL_RULES)
    questions_per_pack: int = setting(8, "questions of a video that share one visual prefix", span=(1, 1024))
    batch_questions: int = setting(128, "questions of one step, over all processes", span=(1, 1_000_000))
    processes: int = setting(0, "processes the run is meant for, and checked against; 0: any number", span=(0, 65536))
    epochs: int = setting(1, "passes over the data that the schedule is laid out for", span=(1, 10_000))
    stop_after_epochs: int = setting(0, "end after so many passes all the same; 0: all", span=(0, 10_000))
    max_steps: int = setting(0, "end after so many steps all the same; 0: no limit", span=(0, inf))
    budget_min: float = setting(
        0.0, "minutes, of all starts together, in which the schedule ends at the latest; 0: no limit", span=(0, inf)
    )
    learning_rate: float = setting(2e-5, "peak learning rate of all groups", span=(0, 1))
    schedule: str = setting("cosine", "learning rate after the warm-up", choices=SCHEDULES)
    warmup_ratio: float = setting(0.03, "part of the steps the learning rate climbs", span=(0, 1))
    weight_decay: float = setting(0.0, "AdamW's", span=(0, 1))
    beta1: float = setting(0.9, "AdamW's", span=(0, 1))
    beta2: float = setting(0.999, "AdamW's", span=(0, 1))
    epsilon: float = setting(1e-8, "AdamW's", span=(0, 1))
    max_grad_norm: float = setting(1.0, "longer gradients are shortened to this; 0: never", span=(0, inf))
    train: str = setting(
        "lora",
        "besides fusion and projector: lora of the language model, the whole language model, or neither (bridge)",
        choices=TRAINABLE,
    )
    lora_rank: int = setting(128, "rank", span=(1, 8192))
    lora_alpha: int = setting(256, "its update counts alpha / rank", span=(1, 65536))
    lora_dropout: float = setting(0.05, "on the LoRA's input", span=(0, 1))
    fusion_dropout: float = setting(0.1, "behind the fusion block", span=(0, 1))
    precision: str = setting("auto", "of activations; auto: bfloat16 on a GPU, float32 on a CPU", choices=PRECISIONS)
    tf32: bool = setting(True, "TF32 matrix products on GPUs that have them")
    gradient_checkpointing: bool = setting(True, "recompute the language model's layers in the backward pass")
    compile: bool = setting(False, "torch.compile the language model's layers")
    attention: str = setting("split", "how packed questions attend: the same numbers, another cost", choices=ATTENTIONS)
    grounding_weight: float = setting(
        0.0,
        "of an aid: words that name a category tell where it is, how large, how many, when first seen",
        span=(0, inf),
    )
    grounding_layer: int = setting(3, "behind so many layers of the language model they tell it", span=(0, 1024))
    pair_weight: float = setting(
        0.0, "of an aid: such words also tell how far they are from another one, and on which side", span=(0, inf)
    )
    align_weight: float = setting(
        0.0, "of an aid: visual tokens point to the words of what they show, and tell where it is", span=(0, inf)
    )
    match_start: float = setting(
        0.0,
        "start with heads in which words look at visual tokens like them, directions of such a length; 0: do not",
        span=(0, 100),
    )
    teachers: str = setting("", "folder of encoders with the heads that alignment learns from")
    soft_numbers: float = setting(
        0.0, "a number's neighbours are learned too, in a bell of this share of it; 0: the number alone", span=(0, 10)
    )
    max_length: int = setting(32768, "places of one conversation at most, visual tokens included", span=(16, inf))
    group_by_length: bool = setting(True, "deal packs of a step so that all processes work on alike lengths")
    save_steps: int = setting(0, "steps from checkpoint to checkpoint; 0: one after each pass", span=(0, inf))
    keep_checkpoints: int = setting(5, "newest checkpoints that stay", span=(1, 10_000))
    workers: int = setting(2, "processes that read videos", span=(0, 256))
    seed: int = setting(42, "of order, initial weights and dropout", span=(0, 2**31))
    max_bad_steps: int = setting(5, "steps in a row without a finite gradient that are skipped", span=(0, 10_000))
    device: str = setting("auto", "auto, cpu or cuda")
    threads: int = setting(0, "CPU threads of this process; 0: as torch has it", span=(0, 1024))
    tensorboard: bool = setting(True, "write curves where tensorboard is installed")
    wandb: bool = setting(False, "log to Weights & Biases where wandb is installed")

    def __post_init__(self):
        check_settings(self)
        if self.batch_questions % self.questions_per_pack:
            raise ValueError(
                f"RunConfig.batch_questions {self.batch_questions} must be a multiple of questions_per_pack "
                f"{self.questions_per_pack}"
            )
        if self.attention == "fold" and (self.gradient_checkpointing or self.compile):
            raise ValueError(
                "RunConfig.attention 'fold' has layers of its own, which are neither computed again nor compiled; set "
                "gradient_checkpointing and compile to false, or attention to split"
            )
        aided = self.grounding_weight or self.pair_weight or self.align_weight
        if aided and (self.attention != "fold" or self.blind):
            raise ValueError(
                "RunConfig.grounding_weight, pair_weight and align_weight need attention fold and a run that is not "
                f"blind, got attention {self.attention!r} and blind {self.blind}"
            )
        if self.align_weight and not self.teachers:
            raise ValueError("RunConfig.align_weight needs --teachers, a folder of encoders with their heads")
        if self.processes and self.packs_per_step % self.processes:
            raise ValueError(
                f"a step has {self.packs_per_step} packs, batch_questions / questions_per_pack, which {self.processes} "
                "processes cannot share evenly; change one of the three"
            )

    @property
    def packs_per_step(self) -> int:
        """Sequences of one step, over all processes."""
        return self.batch_questions // self.questions_per_pack

    def accumulation(self, processes: int) -> int:
        """Sequences each process takes one after the other in a step.

        Raises:
            ValueError: they do not share evenly.
        """
        if self.packs_per_step % processes:
            raise ValueError(
                f"a step has {self.packs_per_step} packs, which {processes} processes cannot share evenly; change "
                "batch_questions or questions_per_pack"
            )
        return self.packs_per_step // processes

    def to_json(self) -> str:
        """As it lies in the run folder."""
        return json.dumps(asdict(self), indent=2) + "\n"


_PAPER = RunConfig(
    model="base=lmms-lab/LLaVA-NeXT-Video-7B-Qwen2,cut3r=cut3r_512_dpt_4_64.pth",
    processes=16,
    epochs=5,
    stop_after_epochs=1,
    labels="published",
    gradient_checkpointing=True,
)

# Source: facts of the paper (section 4.1, appendix A.2) and of the released training script.
RUNS: dict[str, RunConfig] = {
    # Differs: packed, eight questions of a video behind one visual prefix; loss and gradients of a step are the same.
    "paper-vsi": replace(_PAPER, data="data/vlm_3r_data/vsibench_train.yaml", videos="data/vlm_3r_data"),
    "paper-vsti": replace(_PAPER, data="data/vlm_3r_data/vstibench_train.yaml", videos="data/vlm_3r_data"),
    "published-script": replace(
        _PAPER,
        data="data/vlm_3r_data/vsibench_train.yaml",
        videos="data/vlm_3r_data",
        processes=8,
        stop_after_epochs=0,
        questions_per_pack=1,
        compile=True,
        attention="mask",
    ),
    # all of a small language model, from random or pre-trained weights
    "tiny": RunConfig(
        train="language",
        frames=16,
        attention="fold",
        time_instruction=False,
        questions_per_pack=24,
        batch_questions=192,
        epochs=3,
        learning_rate=1e-3,
        lora_dropout=0.0,
        fusion_dropout=0.0,
        gradient_checkpointing=False,
        keep_checkpoints=2,
        save_steps=200,
    ),
    # minutes on two cores: shows that every part works, not what can be learned
    "smoke": RunConfig(
        train="lora",
        lora_rank=8,
        lora_alpha=16,
        frames=4,
        time_instruction=False,
        questions_per_pack=8,
        batch_questions=16,
        max_steps=20,
        epochs=1000,
        schedule="constant",
        warmup_ratio=0.0,
        learning_rate=2e-3,
        save_steps=10,
        gradient_checkpointing=False,
        keep_checkpoints=2,
        workers=1,
    ),
}


def parse_run(arguments: Sequence[str] | None = None) -> tuple[str, RunConfig]:
    """A named run with the settings the command line changes.

    Returns:
        Its name and settings, `out` filled in.

    Raises:
        SystemExit: argparse's, on words it does not know.
        ValueError: unknown run (names the known ones and the nearest), or a refused value.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Trains a model on a question set or a mixture; goes on from the run folder's newest checkpoint.",
    )
    parser.add_argument("run", help=f"one of {', '.join(RUNS)}")
    add_settings(parser, RunConfig)
    given = vars(parser.parse_args(arguments))
    name = given.pop("run")
    check_choice("run", name, tuple(RUNS))
    config = replace(RUNS[name], **given)
    return name, replace(config, out=config.out or str(Path("out", "train", name)))


def add_settings(parser: argparse.ArgumentParser, settings: type, *, but: Sequence[str] = ()) -> None:
    """Lets a command line change the fields of a dataclass of settings; those it does not name are left out.

    Args:
        parser: of the command line.
        settings: the dataclass.
        but: fields that have no option.
    """
    hints = get_type_hints(settings)
    for item in fields(settings):
        if item.name in but:
            continue
        names = dict.fromkeys((f"--{item.name}", f"--{item.name.replace('_', '-')}"))
        known = f" ({', '.join(item.metadata['choices'])})" if item.metadata["choices"] else ""
        parser.add_argument(
            *names,
            dest=item.name,
            type=_truth if hints[item.name] is bool else hints[item.name],
            default=argparse.SUPPRESS,
            metavar=hints[item.name].__name__.upper(),
            help=f"{item.metadata['doc']}{known}".replace("%", "%%"),
        )


def differences(one: dict[str, Any], other: dict[str, Any], *, ignore: Sequence[str] = ()) -> list[str]:
    """A line for each setting in which two saved configurations differ."""
    names = sorted((one.keys() | other.keys()) - set(ignore))
    return [
        f"{name}: {one.get(name)!r} there, {other.get(name)!r} now"
        for name in names
        if one.get(name) != other.get(name)
    ]


def _truth(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return words[text.lower()]
