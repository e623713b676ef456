"""A run from its settings to its export. The command line: training/train.py; the steps: loop.py."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch

from training.aids import Aids, ReadTeachers
from training.config import PUBLISHED_FEATURES, RunConfig
from training.data import missing_videos
from training.features import FeatureCache
from training.lora import make_trainable
from training.matching import start_matching
from training.running.export import export
from training.running.loop import Outcome, Run
from training.running.processes import Processes
from training.running.start import activation_dtype, start_model
from training.samples.encoding import visual_length
from training.samples.mixture import read_samples

UNREADABLE, RESULT = "unreadable.json", "result.json"
# tokens of a long question, chat template included
_LONGEST_QUESTION = 128

_log = logging.getLogger(__name__)


def run_training(config: RunConfig, processes: Processes, read_teachers: ReadTeachers | None = None) -> Outcome:
    """Trains from the newest checkpoint, or from the start, to the end, and exports what was learned.

    Args:
        config: `data` and `out` given.
        processes: of the run.
        read_teachers: of alignment, where a run asks for it.

    Raises:
        FileNotFoundError, ValueError: data, model or settings are not usable; nothing was changed.
        FloatingPointError: training fell apart.
        OSError: the disk is full; the newest checkpoint stays.
    """
    if not config.data:
        raise ValueError("a run needs --data, a question set folder or a mixture")
    if config.processes not in (0, processes.count):
        _log.warning(
            "the run is meant for %d processes, here are %d; the batch of %d questions is the same, only slower",
            config.processes,
            processes.count,
            config.batch_questions,
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.tf32
    samples = read_samples(
        Path(config.data), Path(config.videos) if config.videos else None, sampling=config.sampling, seed=config.seed
    )
    cached = config.features not in ("", PUBLISHED_FEATURES)
    if not config.blind:
        missing_videos(samples, features=cached)
    model, cache = start_model(config, processes.device), None
    if cached and not config.blind:
        cache = FeatureCache.open(Path(config.features), model, config.frames)
    if config.match_start:
        distance = visual_length(model.config, config.frames) + _LONGEST_QUESTION
        start_matching(model.language, config.match_start, distance, config.seed)
    parameters, aids = make_trainable(model, config), Aids(model, config, samples, read_teachers)
    run = Run(
        model,
        parameters | {f"aids.{name}": parameter for name, parameter in aids.named_parameters()},
        samples,
        config,
        processes,
        dtype=activation_dtype(config, processes.device),
        cache=cache,
        aids=aids,
    )
    run.resume()
    outcome = run.train()
    if processes.leads:
        _finish(config, outcome, export(model, config, Path(config.out)) if outcome.finished else "")
    return outcome


def _finish(config: RunConfig, outcome: Outcome, spec: str) -> None:
    """Writes what there is to say at the end."""
    folder, counts = Path(config.out), outcome.counts
    (folder / "config.json").write_text(config.to_json(), encoding="utf-8")
    left_out = {"videos": counts.unreadable, "too_long": counts.too_long}
    (folder / UNREADABLE).write_text(json.dumps(left_out, indent=2) + "\n", encoding="utf-8")
    facts = {
        "steps": counts.step,
        "questions": counts.questions,
        "skipped_steps": counts.skipped_steps,
        "finished": outcome.finished,
        "model": spec,
    }
    (folder / RESULT).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def describe_outcome(name: str, config: RunConfig, outcome: Outcome) -> str:
    """What a person is to know at the end, with what to go on with: a command, or the model's spec."""
    counts, lines = outcome.counts, []
    if counts.unreadable or counts.too_long:
        lines.append(
            f"left out: {len(counts.unreadable)} videos that could not be read, {len(counts.too_long)} samples that "
            f"are too long; {Path(config.out, UNREADABLE)} names them"
        )
    if not outcome.finished:
        again = f"start `python -m training.train {name}` with the same settings again to go on"
        return "\n".join([*lines, f"stopped after step {counts.step}, which is saved; {again}"])
    spec = json.loads(Path(config.out, RESULT).read_text(encoding="utf-8"))["model"]
    return "\n".join([*lines, f"trained on {counts.questions} questions in {counts.step} steps; load it with", spec])
