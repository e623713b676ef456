"""Runs that are ended from outside: by signals, kill -9 while a checkpoint is written, a full disk; and two at once.

Each run is a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
import torch
from train_process import finish, start, wait_until, words_of

from training.checkpoint import checkpoints, clear_leftovers, read_checkpoint, whole_folder


@pytest.fixture
def settings(make_run, nano_folder, tmp_path):
    """Settings of a run whose model other processes find too."""

    def make(**changes):
        return make_run(model=str(nano_folder), out=str(tmp_path / "run"), **changes)

    return make


def steps_told(run: Path) -> int:
    path = run / "log.jsonl"
    return len(path.read_text().splitlines()) if path.is_file() else 0


def last_checkpoint(run: Path):
    return read_checkpoint(checkpoints(run)[-1])


def test_a_signal_saves_and_ends(settings, tmp_path):
    """SIGTERM, as a machine's scheduler sends it, then on to SIGINT, as ^C does."""
    config, run, log = settings(epochs=1000, save_steps=10_000, workers=1), tmp_path / "run", tmp_path / "log"
    steps = 0
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start(words_of(config), log)
        wait_until(lambda: steps_told(run) >= steps + 2, process)  # noqa: B023 (called before steps changes)
        os.kill(process.pid, number)
        assert finish(process) == 128 + number
        saved = last_checkpoint(run)
        assert saved.step == steps_told(run) >= steps + 2
        assert f"stopped after step {saved.step}, which is saved; start `python -m training.train" in log.read_text()
        assert not (run / "model").exists()
        steps = saved.step
    assert log.read_text().count("going on from") == 1


def test_killed_while_a_checkpoint_is_written(settings, tmp_path):
    """kill -9 finds a checkpoint half written; the one before is whole, and the run goes on from it."""
    config, run, log = settings(epochs=10_000, save_steps=1, keep_checkpoints=2), tmp_path / "run", tmp_path / "log"
    for _ in range(5):
        process = start(words_of(config), log)
        wait_until(lambda: len(checkpoints(run)) == 2, process)
        wait_until(lambda: any(run.glob(".checkpoint-*.partial-*")), process, pause_s=0.0005)
        os.kill(process.pid, signal.SIGKILL)
        assert finish(process) == -signal.SIGKILL
        if leftovers := list(run.glob(".checkpoint-*.partial-*")):
            break
    assert leftovers
    saved = last_checkpoint(run)
    half = int(leftovers[0].name.split("-")[1].split(".")[0])
    assert saved.step == half - 1
    assert finish(start(words_of(config, max_steps=saved.step + 2), log)) == 0
    assert last_checkpoint(run).step == saved.step + 2
    assert f"going on from {run}/checkpoint-{saved.step:08d}" in log.read_text()
    assert not list(run.glob(".checkpoint-*"))


def test_a_full_disk_keeps_the_checkpoint_before(settings, tmp_path):
    """A limit on the size of files stands for the disk: the weights of a larger LoRA do not fit."""
    config, run, log = settings(epochs=2, max_steps=2), tmp_path / "run", tmp_path / "log"
    assert finish(start(words_of(config), log)) == 0
    before = last_checkpoint(run)
    size = max(path.stat().st_size for path in checkpoints(run)[-1].iterdir())
    assert finish(start(words_of(config, max_steps=4), log, file_bytes=size // 2)) == 2
    message = log.read_text()
    assert "checkpoint-00000003 could not be written" in message
    assert "what was there before is untouched. Free some room" in message
    after = last_checkpoint(run)
    assert after.step == before.step == 2
    assert all(torch.equal(after.weights[name], tensor) for name, tensor in before.weights.items())
    assert not list(run.glob(".checkpoint-*"))
    assert finish(start(words_of(config, max_steps=4), log)) == 0
    assert last_checkpoint(run).step == 4


def test_two_processes_are_one(settings, tmp_path):
    """The same packs, dropout included; only the order of sums differs. What one saved the other goes on from."""
    one = settings(epochs=2, max_steps=2, workers=0)
    assert finish(start(words_of(one, out=str(tmp_path / "one"), max_steps=4), tmp_path / "log")) == 0
    run_two(words_of(one, out=str(tmp_path / "two")), tmp_path)
    # on from two processes' checkpoint, alone and together
    run_two(words_of(one, out=str(tmp_path / "two"), max_steps=3), tmp_path)
    assert finish(start(words_of(one, out=str(tmp_path / "two"), max_steps=4), tmp_path / "log")) == 0
    alone, together = (last_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert alone.step == together.step == 4
    assert together.weights.keys() == alone.weights.keys()
    assert together.optimizer.keys() == alone.optimizer.keys()
    for name, tensor in alone.optimizer.items():
        torch.testing.assert_close(
            together.optimizer[name], tensor, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    seen = 0
    for name, tensor in alone.weights.items():
        # where the gradient is nothing but rounding, as a key's bias has it, AdamW makes whole steps of it
        real = alone.optimizer[f"exp_avg_sq.{name}"].sqrt() > 1e-6
        seen += int(real.sum())
        torch.testing.assert_close(together.weights[name][real], tensor[real], rtol=0, atol=1e-4)
    assert seen > 0.8 * sum(tensor.numel() for tensor in alone.weights.values())
    counted = [
        {name: count for name, count in each.facts["counts"].items() if name != "seconds"} for each in (alone, together)
    ]
    assert counted[0] == counted[1]
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def run_two(words: list[str], folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    runs = [start(words, folder / f"log{rank}", env | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in (0, 1)]
    codes = [finish(run) for run in runs]
    assert codes == [0, 0], [(folder / f"log{rank}").read_text() for rank in (0, 1)]


# ---- folders that are written whole or not at all


def write(target: Path, name: str, error: Exception | None = None) -> None:
    with whole_folder(target) as partial:
        (partial / name).write_text(name)
        assert partial != target
        if error:
            raise error


def test_a_folder_is_whole_or_not_there(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(KeyError):
        write(target, "a", KeyError())
    assert list(tmp_path.iterdir()) == []
    write(target, "a")
    with pytest.raises(OSError, match=r"could not be written \(no space left\); what was there before"):
        write(target, "b", OSError("no space left"))
    assert [path.name for path in target.iterdir()] == ["a"]
    write(target, "b")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_damaged_checkpoints_are_told(tmp_path):
    assert checkpoints(tmp_path / "none") == []
    (tmp_path / "checkpoint-00000001").mkdir()
    (tmp_path / ".checkpoint-00000002.partial-1").mkdir()
    assert checkpoints(tmp_path) == []  # no state.json: never finished
    (tmp_path / "checkpoint-00000001/state.json").write_text('{"step": 1}')
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "checkpoint-00000001")
    for name in ("weights", "optimizer"):
        (tmp_path / f"checkpoint-00000001/{name}.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match=r"is damaged .*; remove it, the run then goes on from the one before"):
        read_checkpoint(tmp_path / "checkpoint-00000001")
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001"]
