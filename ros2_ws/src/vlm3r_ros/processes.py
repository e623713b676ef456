"""Child processes that never outlive their parent's block, each with a log file. Knows no ROS."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

STOP_TIMEOUT_S = 8.0
POLL_S = 0.05
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ProcessFailed(RuntimeError):
    """A child ended on its own when it should not have, or with an error."""


def interrupt_once() -> None:
    """Makes the first Ctrl-C, SIGTERM or SIGHUP raise KeyboardInterrupt; later ones do not disturb the way out."""

    def interrupt(number: int, frame) -> None:
        for each in INTERRUPTS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in INTERRUPTS:
        signal.signal(number, interrupt)


@contextlib.contextmanager
def interrupts_deferred():
    """Holds interrupts back until the block ends: a child that is just starting would be nobody's."""
    received = []
    before = {each: signal.signal(each, lambda number, frame: received.append(number)) for each in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in received[:1]:
        signal.raise_signal(number)


class Child:
    """A running process with its own process group, its output in a file.

    Args:
        name: for messages.
        command: the program and its arguments.
        log_path: file for stdout and stderr.
    """

    def __init__(self, name: str, command: Sequence[str], log_path: Path):
        self.name, self.log_path = name, log_path
        with log_path.open("wb") as log:
            # its own session: Ctrl-C in the terminal reaches the parent only, which then stops its children in order
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def check_running(self) -> None:
        """Raises ProcessFailed with the end of the log if the process has ended."""
        if self.exit_code() is not None:
            raise self.failure("ended")

    def failure(self, what: str) -> ProcessFailed:
        """An error with the exit code and the end of the log."""
        tail = self.log_path.read_text(errors="replace").strip().splitlines()[-5:]
        return ProcessFailed(
            "\n  ".join([f"{self.name} {what} (exit code {self.exit_code()}); its last lines:", *tail])
        )

    def stop(self) -> None:
        """Terminates the process and everything it started, and kills what does not end in time."""
        self._signal_group(signal.SIGTERM)
        until_s = time.monotonic() + STOP_TIMEOUT_S
        while self.exit_code() is None and time.monotonic() < until_s:
            time.sleep(POLL_S)
        # also what the process itself left behind
        self._signal_group(signal.SIGKILL)
        self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
