"""How command lines end: exit statuses, one line about what is wrong, interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from sim import record, rooms, routes, run
from sim.command import check_writable, run_command
from vlm3r_core.files import write_text


def failing(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("count must be at least 1"), 2, "it: count must be at least 1"),
        (ImportError("no rclpy"), 2, "it: no rclpy"),
        (PermissionError(13, "Permission denied", "/a/b"), 2, "it: /a/b: Permission denied; check the path and your"),
        (OSError(28, "No space left on device", "/a/b"), 2, "it: the disk is full, /a/b cannot be written; make room"),
        (OSError(27, "File too large"), 2, "it: the disk is full; make room and try again"),
        (RuntimeError("the server died"), 1, "it: the server died"),
        (MemoryError("10 GiB"), 1, "it: out of memory (10 GiB)"),
        (KeyboardInterrupt(), 130, "it: interrupted, nothing is left"),
    ],
)
def test_what_goes_wrong_is_one_line(error, status, said, capsys):
    assert run_command("it", failing(error), "nothing is left") == status
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_the_status_is_what_the_work_says():
    assert [run_command("it", lambda code=code: code, "") for code in (None, 0, 1)] == [0, 0, 1]


def test_a_bug_is_not_hidden():
    with pytest.raises(TypeError, match="a bug"):
        run_command("it", failing(TypeError("a bug")), "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_in_a_row_interrupt_once_and_the_handlers_come_back(number, capsys):
    before, cleaned = signal.getsignal(number), []

    def work():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), number)
            cleaned.append(True)

    assert run_command("it", work, "cleaned") == 130
    assert cleaned == [True]
    assert signal.getsignal(number) is before
    assert capsys.readouterr().err == "\nit: interrupted, cleaned\n"


def test_check_writable(tmp_path):
    check_writable(tmp_path / "new" / "file")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        check_writable(tmp_path / "new")
    (tmp_path / "plain").touch()
    with pytest.raises((FileExistsError, NotADirectoryError)):
        check_writable(tmp_path / "plain" / "file")


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (record.main, ["flat:0", "/proc/walk.mp4"]),
        (rooms.main, ["--out", "/proc/flats"]),
        (routes.main, ["--worlds", "flat:0", "--count", "1", "--out", "/proc/routes.jsonl"]),
        (run.main, ["--task", "find", "--worlds", "flat:0", "--out", "/proc/run"]),
    ],
)
def test_places_that_cannot_be_written_are_named_before_the_work(main, arguments, capsys):
    began_s = time.process_time()
    assert main(arguments) == 2
    assert "/proc" in capsys.readouterr().err
    assert time.process_time() - began_s < 1.0  # no flat was made


def test_a_full_disk_is_said_in_words(tmp_path):
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom sim.command import run_command\n"
        "from vlm3r_core.files import write_text\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "sys.exit(run_command('it', lambda: write_text(Path(sys.argv[1]), 'x' * 1000), ''))"
    )
    target = tmp_path / "file"
    write_text(target, "before")
    done = subprocess.run([sys.executable, "-c", program, target], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"it: the disk is full, {target} cannot be written; make room")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "before")]
