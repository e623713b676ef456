"""A run that ends when its minutes are spent, whatever steps are left; resumed, it has what was left of them."""

from __future__ import annotations

import json
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from training.checkpoint import checkpoints, read_checkpoint
from training.running import loop
from training.running.processes import Processes
from training.running.session import run_training
from vlm3r_core.loading import model_config

ALONE = Processes(0, 1, torch.device("cpu"))


def rates(config) -> list[float]:
    return [json.loads(line)["learning_rate"] for line in Path(config.out, "log.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Of the loop: whenever it is asked, ten seconds have gone by."""
    ticks = count(step=10)
    fake = SimpleNamespace(monotonic=lambda: float(next(ticks)), perf_counter=time.perf_counter)
    monkeypatch.setattr(loop, "time", fake)


def test_minutes_end_a_run_and_its_schedule(make_run):
    # three steps a pass, so 300 by the data; a step is ten seconds
    config = make_run(epochs=100, budget_min=1, warmup_ratio=0.05)
    outcome = run_training(config, ALONE)
    assert outcome.finished
    assert outcome.counts.step == 6
    assert outcome.counts.seconds == 60
    # the schedule goes all the way down
    assert rates(config)[-1] < 0.1 * max(rates(config))
    assert model_config(str(Path(config.out, "model"))).trained_frames == config.frames
    # started again there is nothing left to do
    assert run_training(config, ALONE).counts.step == 6


def test_a_resumed_run_has_what_was_left(make_run):
    first = run_training(make_run(epochs=100, budget_min=0.5), ALONE)
    assert first.counts.step == 3
    config = make_run(epochs=100, budget_min=1)
    second = run_training(config, ALONE)
    assert (second.counts.step, second.counts.seconds) == (6, 60)
    assert read_checkpoint(checkpoints(Path(config.out))[-1]).facts["counts"]["seconds"] == 60
