"""What a run tells while it goes: a bar, a line of JSON a step, curves. Decides nothing."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from training.config import RunConfig

JOURNAL = "log.jsonl"

_log = logging.getLogger(__name__)


class Journal:
    """The leading process's; the others' is silent.

    Args:
        run: the run's folder.
        config: which curves are wanted.
        step: steps that were taken already; what was told of later ones is forgotten.
        done: questions of those steps.
        total: questions of the whole run, about.
        leads: whether this process tells anything.
        unit: what is counted.
    """

    def __init__(
        self, run: Path, config: RunConfig, *, step: int, done: int, total: int, leads: bool, unit: str = "question"
    ):
        self._leads, self._curves, self._wandb, self._unit = leads, None, None, unit
        self._bar = tqdm(total=total, initial=done, unit=unit, desc="train", file=sys.stderr, disable=not leads)
        if not leads:
            return
        _forget_after(run / JOURNAL, step)
        self._file = (run / JOURNAL).open("a", encoding="utf-8")
        self._curves = _tensorboard(run, step) if config.tensorboard else None
        self._wandb = _wandb(run, config) if config.wandb else None

    def step(self, step: int, values: dict[str, float], questions: int) -> None:
        """Tells of a step that was taken, `step` counted from 1."""
        if not self._leads:
            return
        self._bar.update(questions)
        self._bar.set_postfix({name: f"{values[name]:.4g}" for name in ("loss", "learning_rate")}, refresh=False)
        self._file.write(json.dumps({"step": step, f"{self._unit}s": questions, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if self._curves:
                self._curves.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(values, step=step)

    def close(self) -> None:
        """Puts everything where it belongs."""
        self._bar.close()
        if not self._leads:
            return
        self._file.close()
        if self._curves:
            self._curves.close()
        if self._wandb:
            self._wandb.finish()


def _forget_after(path: Path, step: int) -> None:
    """Steps that are taken again are told again; a line that was cut off goes too."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            kept += [line] if json.loads(line)["step"] <= step else []
        except (ValueError, KeyError):
            continue
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _tensorboard(run: Path, step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _log.info("no curves: tensorboard is not installed (.venv/bin/pip install -c constraints.txt -e '.[train]')")
        return None
    return SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)


def _wandb(run: Path, config: RunConfig):
    try:
        import wandb
    except ImportError:
        _log.warning("no Weights & Biases: wandb is not installed")
        return None
    return wandb.init(project="vlm3r", name=run.name, dir=str(run), config=asdict(config), resume="allow", id=run.name)
