"""Runs steps one after the other and remembers those that are done. Knows nothing of what they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from training.recipe.steps import Step
from vlm3r_core.files import write_text

_POLL_S = 0.2
# a run of ours saves its checkpoint when it is told to end
_PATIENCE_S = 120.0
_TAIL_LINES = 15


class StepFailed(RuntimeError):
    """A command of a step ended with an error."""


class State:
    """What is remembered between two starts, as JSON.

    Args:
        path: of the file.
        facts: what must not differ between two starts.

    Raises:
        ValueError: the file is of another run.
    """

    def __init__(self, path: Path, facts: dict):
        self._path, self._content = path, {"facts": facts, "seconds": {}, "done": []}
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept.get("facts") != json.loads(json.dumps(facts)):
                raise ValueError(
                    f"{path} is of a run with other settings: {kept.get('facts')}; give the same, or another --out"
                )
            self._content = kept
        self.save()

    @property
    def seconds(self) -> dict[str, float]:
        """How long each finished step took, all its starts together."""
        return dict(self._content["seconds"])

    def is_done(self, step: Step) -> bool:
        """Whether a step was finished and its results are still there."""
        return step.name in self._content["done"] and all(path.is_file() for path in step.results)

    def add(self, step: Step, seconds: float, *, done: bool) -> None:
        """Notes time that was spent on a step, and whether that finished it."""
        spent = self._content["seconds"]
        spent[step.name] = round(spent.get(step.name, 0.0) + seconds, 1)
        if done:
            self._content["done"].append(step.name)
        self.save()

    def save(self) -> None:
        """Writes the file."""
        write_text(self._path, json.dumps(self._content, indent=1) + "\n")


def run_steps(steps: Sequence[Step], state: State, logs: Path, tell: Callable[[str], None]) -> None:
    """Runs what is not done yet.

    Args:
        steps: in order.
        state: what is done.
        logs: folder for what the commands say.
        tell: takes a line for each step.

    Raises:
        StepFailed: a command failed; what was done before stays.
        KeyboardInterrupt: when all commands have ended.
    """
    for number, step in enumerate(steps, 1):
        place = f"{number}/{len(steps)} {step.name}"
        if state.is_done(step):
            tell(f"{place}: done before, {state.seconds[step.name]:.0f} s")
            continue
        tell(f"{place} ...")
        started, done = time.monotonic(), False
        try:
            _run(step, logs / f"{number:02d}")
            done = True
        finally:
            state.add(step, time.monotonic() - started, done=done)
        tell(f"{place}: {state.seconds[step.name]:.0f} s")


def _run(step: Step, log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = max(1, len(os.sched_getaffinity(0)) // len(step.commands))
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    files = [log.with_name(f"{log.name}-{number}.log") for number in range(len(step.commands))]
    running: list[subprocess.Popen] = []
    failed: list[int] = []
    try:
        for command, path in zip(step.commands, files, strict=True):
            with path.open("a", encoding="utf-8") as file:
                # a session of its own: Ctrl-C comes to us, and we tell them once
                options = {"stdout": file, "stderr": subprocess.STDOUT, "env": env, "start_new_session": True}
                running.append(subprocess.Popen([sys.executable, *command], **options))
        while not failed and any(process.poll() is None for process in running):
            time.sleep(_POLL_S)
            failed = [number for number, process in enumerate(running) if process.poll()]
    finally:
        # when one has failed, the others have nothing to work for
        _end(running)
    failed = failed or [number for number, process in enumerate(running) if process.returncode]
    if failed:
        command, path, status = step.commands[failed[0]], files[failed[0]], running[failed[0]].returncode
        said = path.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
        tail = "\n".join(said[-_TAIL_LINES:])
        raise StepFailed(f"{step.name} failed with exit status {status}\n{tail}\nthe command: {' '.join(command)}")


def _end(running: Sequence[subprocess.Popen]) -> None:
    for process in running:
        if process.poll() is None:
            process.terminate()
    until = time.monotonic() + _PATIENCE_S
    for process in running:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
