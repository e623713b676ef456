"""Fixtures every folder of tests shares."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir():
    """The folder of golden data and clips that lies beside a checkout; its tests are skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared"
    path = Path(os.environ.get("VLM3R_SHARED_DIR", default))
    if not path.is_dir():
        pytest.skip(f"shared data not found at {path}; set VLM3R_SHARED_DIR")
    return path
