"""How the command lines of the simulator end: one line that says what is wrong, and an exit status. Parses nothing."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Signals sooner than this after one that interrupted do not disturb the way out, seconds. Later ones interrupt again:
# libraries with bare excepts swallow some.
_WAY_OUT_S = 3.0


def run_command(name: str, work: Callable[[], int | None], interrupted: str) -> int:
    """Does what a command line asks for; what goes wrong is a line on stderr.

    Args:
        name: of the command.
        work: does it and returns an exit status, None for 0.
        interrupted: what to say where Ctrl-C or SIGTERM ended it: what is left, what to do.

    Returns:
        The exit status: that of work, 1 where something broke down on the way, 2 for bad input, 130 interrupted.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        with _interruptible():
            return work() or EXIT_OK
    except (OSError, ValueError, ImportError) as error:
        print(f"{name}: {_told(error)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except RuntimeError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except MemoryError as error:
        print(f"{name}: out of memory ({error}); take a smaller or coarser world", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted, {interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED


def check_writable(path: Path) -> None:
    """Makes a file's folder and tries to write in it, so that long work does not end at its last line.

    Raises:
        OSError: a file cannot be written there.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path.parent)) from None


def _told(error: Exception) -> str:
    """An error in words; those of the system lack what to do."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    if error.errno in _FULL and error.strerror == os.strerror(error.errno):  # others say what to do themselves
        where = f", {error.filename} cannot be written" if error.filename else ""
        return f"the disk is full{where}; make room and try again"
    if error.filename is None:
        return error.strerror
    return f"{error.filename}: {error.strerror}; check the path and your rights to it"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Makes SIGTERM interrupt as Ctrl-C does, and one interruption of several in a row."""
    last_s = -_WAY_OUT_S

    def interrupt(number, frame):
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= _WAY_OUT_S:
            last_s = now_s
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
