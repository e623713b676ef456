"""Training as processes of their own, which signals and limits may end. They start from one that has torch already."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["training.running.session", "peft", "train_process"])


def start(words: list[str], log: Path, env: dict[str, str] | None = None, file_bytes: int = 0):
    """`python -m training.train` with these words; what it says goes to a file."""
    process = CONTEXT.Process(target=_main, args=(words, log, env or {}, file_bytes))
    process.start()
    return process


def _main(words: list[str], log: Path, env: dict[str, str], file_bytes: int) -> None:
    import torch

    from training.train import main

    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(env)
    torch.set_num_threads(1)
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    code = main(words)
    sys.stdout.flush()
    sys.exit(code)


def finish(process, seconds: float = 120) -> int:
    """Waits for its exit code."""
    process.join(seconds)
    assert process.exitcode is not None, "the run did not end"
    return process.exitcode


def wait_until(condition: Callable[[], bool], process, seconds: float = 120, pause_s: float = 0.05) -> None:
    """Looks again and again, as long as the process lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), "the run ended early"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(pause_s)


def words_of(config, **changes) -> list[str]:
    """A command line for the run `smoke` that gives these settings."""
    settings = json.loads(config.to_json()) | changes
    return ["smoke", *(f"--{name}={value}" for name, value in settings.items())]
