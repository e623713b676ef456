"""Children end with their parent's block, whatever they do."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from vlm3r_ros import processes
from vlm3r_ros.processes import Child, ProcessFailed, interrupt_once, interrupts_deferred

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
inner = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.pause()"])
print(inner.pid, flush=True)
time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    """Runs and is no zombie that waits to be collected."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def until(condition, patience_s=30.0):
    deadline = time.monotonic() + patience_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def handlers():
    """Gives the signal handlers back afterwards."""
    before = {number: signal.getsignal(number) for number in processes.INTERRUPTS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_stop_kills_what_does_not_end_and_what_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "STOP_TIMEOUT_S", 0.5)
    child = Child("stubborn", [sys.executable, "-c", STUBBORN], tmp_path / "log")
    assert until(lambda: (tmp_path / "log").read_text().endswith("\n"))
    inner = int((tmp_path / "log").read_text())
    assert is_alive(inner)
    child.stop()
    assert child.exit_code() == -signal.SIGKILL
    assert until(lambda: not is_alive(inner))
    child.stop()


def test_a_child_that_ended_is_reported_with_its_last_lines(tmp_path):
    child = Child("short", [sys.executable, "-c", "print('one'); import sys; sys.exit('two')"], tmp_path / "log")
    assert until(lambda: child.exit_code() is not None)
    with pytest.raises(ProcessFailed, match=r"short ended \(exit code 1\); its last lines:\s+(one\s+two|two\s+one)"):
        child.check_running()


def test_only_the_first_interrupt_counts(handlers):
    interrupt_once()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGHUP)


def test_an_interrupt_while_a_child_starts_comes_afterwards(handlers):
    interrupt_once()
    reached = []

    def start():
        with interrupts_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("child is known")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert reached == ["child is known"]
