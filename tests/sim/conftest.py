"""Tests of the simulator need its extra; where that is not installed they are left out, and the run says so."""

from __future__ import annotations

import importlib.util

import pytest

MISSING = [name for name in ("embreex", "msgpack", "scipy", "trimesh", "zmq") if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header():
    return f"tests/sim left out: {', '.join(MISSING)} not installed (extra `sim`)" if MISSING else None


@pytest.fixture(scope="session")
def apartment_dir(shared_dir):
    """The flat that Habitat rendered and walked."""
    path = shared_dir / "golden" / "habitat" / "apartment"
    if not path.is_dir():
        pytest.skip(f"no Habitat golden data at {path}")
    return path


@pytest.fixture(scope="session")
def small_house_dir(shared_dir):
    """A furnished house with named objects."""
    path = shared_dir / "data" / "small_house"
    if not path.is_dir():
        pytest.skip(f"no small house at {path}")
    return path
