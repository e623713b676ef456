"""What every test may use: the shared data folder, and a ROS domain that no other test run on this machine uses."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from vlm3r_core.cpu import share_cores

ROOT = Path(__file__).resolve().parents[1]
DOMAINS = 101  # ROS domains 1..101 have ports below the ephemeral range of Linux
_domain_lock = pytest.StashKey[int]()


def _claim_domain() -> tuple[int, int]:
    """Locks the first free domain; the lock lives as long as this process.

    Returns:
        (domain, file descriptor of the lock).

    Raises:
        RuntimeError: every domain is in use.
    """
    for offset in range(DOMAINS):
        domain = 1 + (os.getpid() + offset) % DOMAINS
        path = Path(tempfile.gettempdir(), f"vlm3r_ros_domain_{os.getuid()}_{domain}.lock")
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return domain, lock
    raise RuntimeError(f"expected one of {DOMAINS} ROS domains to be free, none is; end other test runs")


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        # as many processes as cores run tests: a thread each
        os.environ["OMP_NUM_THREADS"] = "1"
    share_cores()
    domain, config.stash[_domain_lock] = _claim_domain()
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@pytest.fixture(scope="session")
def repo_dir() -> Path:
    """Root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Golden numbers and sample data: $VLM3R_SHARED_DIR, or `shared` beside the checkout."""
    path = Path(os.environ.get("VLM3R_SHARED_DIR") or ROOT.parent / "shared")
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}; set VLM3R_SHARED_DIR to the folder that has data/ and golden/")
    return path.resolve()
