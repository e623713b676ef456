"""The loop of a run: steps, checkpoints, and all that can go wrong on the way. What a step learns from: data.py."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

import vlm3r_core
from training.aids import Aids
from training.checkpoint import Checkpoint, checkpoints, clear_leftovers, read_checkpoint, write_checkpoint
from training.config import RunConfig, differences
from training.data import LoadedPack, Packs, Plan, load_packs
from training.features import FeatureCache
from training.packing import held_attention
from training.running.journal import Journal
from training.running.loss import pack_features, pack_losses
from training.running.optimizer import SharedAdamW, learning_rate
from training.running.processes import Processes
from training.running.stop import StopRequest
from training.samples.sample import Sample
from vlm3r_core.model.vlm3r import VLM3R

# What a run may be given anew without becoming another one.
MAY_CHANGE = (
    "data videos out features processes stop_after_epochs max_steps save_steps keep_checkpoints workers device threads "
    "tensorboard wandb max_bad_steps budget_min"
).split()

_log = logging.getLogger(__name__)


@dataclass
class Counts:
    """What a run has seen."""

    step: int = 0
    questions: int = 0
    skipped_steps: int = 0
    # of all starts together, by the leading process's clock
    seconds: float = 0.0
    # what could not be read -> why
    unreadable: dict[str, str] = field(default_factory=dict)
    too_long: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        counts: what it has seen.
        finished: all steps were taken, or all time is spent.
        signal: that ended it, 0 for none.
    """

    counts: Counts
    finished: bool
    signal: int = 0


class Run:
    """One run, from its newest checkpoint or from the start.

    Args:
        model: made trainable; on the processes' device.
        parameters: what learns.
        samples: all of them.
        config: the run's.
        processes: who takes part.
        dtype: of activations.
        cache: of features, if any.
        aids: what is learned beside answers.

    Raises:
        ValueError: the run's folder holds another run, or the data do not fill a step.
    """

    def __init__(
        self,
        model: VLM3R,
        parameters: dict[str, torch.nn.Parameter],
        samples: Sequence[Sample],
        config: RunConfig,
        processes: Processes,
        *,
        dtype: torch.dtype,
        cache: FeatureCache | None = None,
        aids: Aids,
    ):
        self._aids = aids
        self._model, self._samples, self._config, self._processes = model, samples, config, processes
        self._dtype, self._cache, self._folder = dtype, cache, Path(config.out)
        self.plan, self.counts = Plan(samples, config), Counts()
        self._accumulation = config.accumulation(processes.count)
        self._optimizer = SharedAdamW(parameters, config, processes)
        self._data = _fingerprint(samples)
        self._bad_steps, self._began, self._before = 0, time.monotonic(), 0.0
        if config.gradient_checkpointing:
            model.language.qwen.activation_checkpointing_enable({"use_reentrant": False})
        if config.compile:
            for layer in model.language.qwen.model.layers:
                layer.compile(dynamic=True)

    def resume(self) -> None:
        """Goes on from the newest checkpoint, if there is one.

        Raises:
            ValueError: it belongs to another run, or is damaged.
        """
        self._processes.sum([0.0])  # nobody looks before all are here
        found = checkpoints(self._folder)
        if not found:
            return
        checkpoint = read_checkpoint(found[-1])
        changed = differences(checkpoint.facts["config"], asdict(self._config), ignore=MAY_CHANGE)
        if checkpoint.facts["data"] != self._data:
            changed.append("data: the samples are not those it was trained on")
        if changed:
            raise ValueError(
                f"{found[-1]} belongs to a run with other settings ({'; '.join(changed)}); choose another --out, or go "
                "on with the same settings"
            )
        self._optimizer.load(checkpoint.weights, checkpoint.optimizer)
        self.counts = Counts(checkpoint.step, **checkpoint.facts["counts"])
        self._bad_steps = checkpoint.facts["bad_steps"]
        _log.info("going on from %s, step %d of %d", found[-1], checkpoint.step, self.plan.last_step)

    def train(self) -> Outcome:
        """Takes all steps that are left.

        Raises:
            FloatingPointError: too many steps in a row without a finite gradient; the checkpoint before them stays.
            OSError: a checkpoint cannot be written; the one before stays.
        """
        config, last = self._config, self.plan.last_step
        if self._processes.leads:
            self._folder.mkdir(parents=True, exist_ok=True)
            clear_leftovers(self._folder)
        journal = Journal(
            self._folder,
            config,
            step=self.counts.step,
            done=self.counts.questions,
            total=self.plan.questions,
            leads=self._processes.leads,
        )
        self._began, self._before = time.monotonic(), self.counts.seconds
        specs = self.plan.share(self.counts.step, self._processes.rank, self._processes.count)
        packs = Packs(self._samples, config, self._model.config, self._model.tokenizer, self._cache)
        loaded, stopped = load_packs(packs, specs, config.workers), 0
        try:
            with StopRequest() as request, held_attention(self._model.language, config.attention):
                while self.counts.step < last and not stopped and not self._spent:
                    stopped = self._step(loaded, journal, request)
                    if stopped or self._spent or self._is_due(last):
                        self.save()
        finally:
            # ends the reading processes
            loaded.close()
            journal.close()
        return Outcome(self.counts, self.counts.step >= last or self._spent, stopped)

    @property
    def _time_share(self) -> float:
        """Part of the minutes that is spent, 0 where they are not limited."""
        return self.counts.seconds / (60 * self._config.budget_min) if self._config.budget_min else 0.0

    @property
    def _spent(self) -> bool:
        return self._time_share >= 1.0

    def save(self) -> None:
        """Writes a checkpoint; all processes must do it together.

        Raises:
            OSError: it cannot be written; all processes raise.
        """
        optimizer, failure = self._optimizer.state(), None
        shared = self._processes.gather_objects(asdict(self.counts))
        self.counts.unreadable = {path: why for counts in shared for path, why in counts["unreadable"].items()}
        self.counts.too_long = sorted({sample for counts in shared for sample in counts["too_long"]})
        if self._processes.leads:
            try:
                self._write(optimizer)
            except OSError as error:
                failure = error
        if self._processes.sum([float(failure is not None)])[0]:
            raise failure or OSError("the leading process could not write the checkpoint; its message says why")

    def _write(self, optimizer: dict[str, torch.Tensor]) -> None:
        counts = asdict(self.counts)
        facts = {
            "config": asdict(self._config),
            "data": self._data,
            "counts": {name: value for name, value in counts.items() if name != "step"},
            "bad_steps": self._bad_steps,
            "versions": {"vlm3r": vlm3r_core.__version__, "torch": torch.__version__},
        }
        weights = {name: parameter.detach().cpu().clone() for name, parameter in self._optimizer.parameters.items()}
        path = write_checkpoint(
            self._folder, Checkpoint(self.counts.step, weights, optimizer, facts), self._config.keep_checkpoints
        )
        _log.info("saved %s", path)

    def _step(self, loaded: Iterator[LoadedPack], journal: Journal, request: StopRequest) -> int:
        """Takes one step; returns the signal that asks to end, 0 for none."""
        started = time.perf_counter()
        self._optimizer.clear()
        loss_sum, questions, beside = 0.0, 0, {}
        for _ in range(self._accumulation):
            pack = next(loaded)
            self._note_faults(pack)
            if pack.pack is None:
                continue
            blind = self._config.blind
            features = None if blind else pack_features(self._model, pack, self._samples, self._cache)
            sample, count = self._samples[pack.spec.samples[0]], pack.pack.count
            losses = pack_losses(self._model, pack, features, self._config, self._dtype, self._aids, sample)
            (self._aids.total(losses) * count).backward()
            loss_sum, questions = loss_sum + losses.pop("answers").item() * count, questions + count
            for name, loss in losses.items():
                beside[name] = beside.get(name, 0.0) + loss.item() * count
        # what the aids say is this process's own
        beside = {name: value / max(1, questions) for name, value in beside.items()}
        clock = self._before + time.monotonic() - self._began if self._processes.leads else 0.0
        signal = float(request.signal)
        loss_sum, questions, asked, spent_s = self._processes.sum([loss_sum, questions, signal, clock])
        # by steps or by time, whichever is further
        place = max(self.counts.step, self._time_share * self.plan.steps)
        rate = learning_rate(self._config, place, self.plan.steps)
        self.counts.seconds = spent_s
        norm = self._optimizer.collect(1 / max(1, questions))
        self._update(norm, rate, loss_sum, int(questions))
        self.counts.step += 1
        self.counts.questions += int(questions)
        values = {"loss": loss_sum / max(1, questions), "learning_rate": rate, "gradient_norm": norm}
        seconds = time.perf_counter() - started
        values |= {"questions_per_s": questions / seconds, "epoch": self.counts.step / self.plan.steps_per_epoch}
        journal.step(self.counts.step, values | beside, int(questions))
        return (request.signal or 15) if asked else 0

    def _update(self, norm: float, rate: float, loss_sum: float, questions: int) -> None:
        """Takes what was learned into the weights, unless it is no number or nothing could be read."""
        if math.isfinite(norm) and math.isfinite(loss_sum) and questions:
            limit = self._config.max_grad_norm
            self._optimizer.step(rate, limit / (norm + 1e-6) if 0 < limit < norm else 1.0)
            self._bad_steps = 0
            return
        self._bad_steps += 1
        self.counts.skipped_steps += 1
        number = self.counts.step + 1
        what = f"its loss is {loss_sum} and its gradient {norm}" if questions else "none of its videos could be read"
        _log.warning("step %d is skipped: %s", number, what)
        if self._bad_steps > self._config.max_bad_steps:
            raise FloatingPointError(
                f"{self._bad_steps} steps in a row up to step {number} taught nothing: {what}. The weights in the "
                f"newest checkpoint of {self._folder} are good; lower --learning_rate, look at the data of these steps "
                "or raise --max_bad_steps"
            )

    def _note_faults(self, pack: LoadedPack) -> None:
        if pack.fault and pack.fault[0] not in self.counts.unreadable:
            self.counts.unreadable[pack.fault[0]] = pack.fault[1]
            _log.warning("left out %s: %s", *pack.fault)
        new = [sample for sample in pack.too_long if sample not in self.counts.too_long]
        self.counts.too_long += new
        for sample in new:
            _log.warning("left out sample %s: longer than max_length %d", sample, self._config.max_length)

    def _is_due(self, last: int) -> bool:
        every = self._config.save_steps or self.plan.steps_per_epoch
        return self.counts.step % every == 0 or self.counts.step == last


def _fingerprint(samples: Sequence[Sample]) -> str:
    """Of what is learned and in which order it was read; where the videos lie does not count."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps([sample.id, sample.video, sample.turns]).encode())
    return digest.hexdigest()
