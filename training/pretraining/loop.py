"""The steps of a pre-training run: gradients, checkpoints, measurements, time. Which losses is the objective's part."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from signal import SIGTERM

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from tqdm import tqdm

from training.checkpoint import Checkpoint, checkpoints, clear_leftovers, read_checkpoint, write_checkpoint
from training.config import differences
from training.pretraining.batches import Batch, TrainBatches, as_batch, join
from training.pretraining.clips import ClipSet
from training.pretraining.settings import RUNNING, PretrainConfig
from training.running.journal import Journal
from training.running.optimizer import SharedAdamW, learning_rate
from training.running.processes import Processes
from training.running.stop import StopRequest
from vlm3r_core.files import write_text

SETTINGS, SCORES = "config.json", "scores.jsonl"

_log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a run is.

    Args:
        step: steps that were taken or skipped; bad_steps in a row without a finite gradient.
        seconds: of all its starts together.
        scores: of the newest measurement.
        signal: that ended it, 0 for none.
    """

    step: int = 0
    skipped_steps: int = 0
    bad_steps: int = 0
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)
    signal: int = 0

    def share(self, config: PretrainConfig) -> float:
        """Part of the run that is done, in steps or in minutes, whichever is more."""
        by_time = self.seconds / (60 * config.budget_min) if config.budget_min else 0.0
        return max(self.step / config.steps, by_time)


class PretrainRun:
    """One objective, its clips and its files.

    Args:
        objective: Vision or Geometry.
        config: of the run, run_dir given.
        clips: to learn from; held_out to measure on.
        processes: of the run.
    """

    def __init__(
        self, objective: nn.Module, config: PretrainConfig, clips: ClipSet, held_out: ClipSet, processes: Processes
    ):
        self.objective, self.config, self.processes = objective, config, processes
        self._clips, self._held_out = clips, held_out
        self._folder, self.progress = Path(config.run_dir), Progress()
        learned = objective.learned()
        for parameter in learned.values():
            parameter.requires_grad_(True)
        self._adam = SharedAdamW(learned, config, processes)

    @property
    def finished(self) -> bool:
        """Whether all steps are taken, or all time is spent."""
        return self.progress.share(self.config) >= 1

    def resume(self) -> None:
        """Goes on from the newest checkpoint, if there is one.

        Raises:
            ValueError: it is damaged, or of a run with other settings.
        """
        if self.processes.leads:
            self._folder.mkdir(parents=True, exist_ok=True)
            clear_leftovers(self._folder)
            write_text(self._folder / SETTINGS, self.config.to_json())
        found = checkpoints(self._folder)
        if not found:
            return
        checkpoint = read_checkpoint(found[-1])
        facts = checkpoint.facts
        odd = differences(facts["config"], asdict(self.config), ignore=RUNNING)
        if odd:
            raise ValueError(
                f"{found[-1]} is of a run with other settings ({'; '.join(odd)}); give the same ones, or another "
                "--run-dir"
            )
        self._adam.load(checkpoint.weights, checkpoint.optimizer)
        self.progress = Progress(step=checkpoint.step, **facts["progress"])
        _log.info("going on after step %d from %s", checkpoint.step, found[-1])

    def train(self) -> Progress:
        """All steps that are left, unless a signal comes.

        Raises:
            FloatingPointError: too many steps in a row had no finite gradient.
            OSError: the disk is full; the newest checkpoint stays.
        """
        config, progress = self.config, self.progress
        journal = Journal(
            self._folder,
            config,
            step=progress.step,
            done=progress.step * config.batch_clips,
            total=config.steps * config.batch_clips,
            leads=self.processes.leads,
            unit="clip",
        )
        began, before, saved = time.monotonic(), progress.seconds, progress.step
        with StopRequest() as stop:
            for batch in self._batches():
                if self.finished or progress.signal:
                    break
                values = self._step(batch)
                self._agree(before + time.monotonic() - began, stop.signal)
                journal.step(progress.step, {**values, "seconds": progress.seconds}, config.batch_clips)
                if config.measure_steps and progress.step % config.measure_steps == 0 and not self.finished:
                    self.measure()
                if progress.step % config.save_steps == 0:
                    self._save()
                    saved = progress.step
        journal.close()
        if self.finished and progress.scores.get("step") != progress.step:
            self.measure()
        if saved != progress.step or self.finished:
            self._save()
        return progress

    def measure(self) -> dict[str, float]:
        """Scores on the held-out flats, written beside the log."""
        clips = range(len(self._held_out))
        self.objective.eval()
        scores = {"step": self.progress.step, "seconds": round(self.progress.seconds, 1)}
        scores |= self.objective.measure(self._held_out_batches(clips))
        self.objective.train()
        self.progress.scores = scores
        if self.processes.leads:
            with (self._folder / SCORES).open("a", encoding="utf-8") as file:
                file.write(json.dumps(scores) + "\n")
        told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if name not in ("step", "seconds"))
        _log.info("step %d: %s", self.progress.step, told)
        return scores

    def _step(self, batch: Batch) -> dict[str, float]:
        config, progress = self.config, self.progress
        self._adam.clear()
        device = self.processes.device
        with half_precision(device) if config.precision == "bfloat16" else nullcontext():
            losses = self.objective(batch.to(device), progress.step)
        losses["loss"].backward()
        length = self._adam.collect(1 / self.processes.count)
        rate = learning_rate(config, progress.share(config) * config.steps, config.steps)
        if length < float("inf"):
            factor = min(1.0, config.max_grad_norm / length) if config.max_grad_norm and length else 1.0
            self._adam.step(rate, factor)
            progress.bad_steps = 0
        else:
            self._skip(length)
        progress.step += 1
        means = self.processes.sum([float(value.detach()) / self.processes.count for value in losses.values()])
        return {**dict(zip(losses, means, strict=True)), "learning_rate": rate, "gradient": length}

    def _agree(self, seconds: float, signal: int) -> None:
        """All processes end with the same step: by the first one's clock, and where any of them got a signal."""
        clock, signals = self.processes.sum([seconds if self.processes.leads else 0.0, float(signal)])
        self.progress.seconds = clock
        if signals:
            self.progress.signal = signal or SIGTERM

    def _skip(self, length: float) -> None:
        progress = self.progress
        progress.skipped_steps += 1
        progress.bad_steps += 1
        _log.warning("step %d is skipped: its gradient is %s", progress.step, length)
        if progress.bad_steps > self.config.max_bad_steps:
            raise FloatingPointError(
                f"{progress.bad_steps} steps in a row had no finite gradient; lower learning_rate, or start from an "
                f"older checkpoint in {self._folder}"
            )

    def _save(self) -> None:
        optimizer = self._adam.state()
        if not self.processes.leads:
            return
        weights = {name: item.detach().cpu().clone() for name, item in self._adam.parameters.items()}
        facts = asdict(self.progress)
        step = facts.pop("step")
        facts.pop("signal")
        checkpoint = Checkpoint(step, weights, optimizer, {"config": asdict(self.config), "progress": facts})
        write_checkpoint(self._folder, checkpoint, self.config.keep_checkpoints)

    def _batches(self) -> Iterator[Batch]:
        """The batches of all steps to come; read ahead by other processes where a GPU waits for them."""
        data = TrainBatches(self._clips, self.config, self.processes.rank, self.processes.count)
        steps = range(self.progress.step, self.config.steps)
        workers = self.config.workers if self.processes.device.type == "cuda" else 0
        yield from DataLoader(data, batch_size=None, sampler=steps, num_workers=workers, collate_fn=_as_is)

    def _held_out_batches(self, clips: range) -> Iterator[Batch]:
        size, several = self._held_out.cache.settings.size_px, self.config.batch_clips
        for first in tqdm(range(0, len(clips), several), desc="measure", disable=not self.processes.leads, leave=False):
            some = clips[first : first + several]
            yield join([as_batch(self._held_out.read(number), size) for number in some]).to(self.processes.device)


@contextmanager
def half_precision(device: torch.device) -> Iterator[None]:
    """Activations in bfloat16; on a CPU with plain attention, since torch's own kernel there is slow backwards."""
    plain = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with plain, torch.autocast(device.type, torch.bfloat16):
        yield


def _as_is(batch: Batch) -> Batch:
    return batch
