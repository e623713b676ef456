"""The nano model, engines on it, and frames for them."""

from __future__ import annotations

import numpy as np
import pytest
from nano import build_nano

from vlm3r_core.config import StreamConfig
from vlm3r_core.stream.engine import StreamEngine
from vlm3r_core.types import Frame

SECOND_NS = 1_000_000_000


@pytest.fixture(scope="session")
def nano_model():
    return build_nano()


@pytest.fixture
def make_engine(nano_model):
    def make(**settings) -> StreamEngine:
        return StreamEngine(nano_model, StreamConfig(**settings))

    return make


@pytest.fixture(scope="session")
def make_frames():
    """Frames whose content differs, one second apart from `start_s` on."""

    def make(count: int, start_s: int = 1, size: tuple[int, int] = (48, 64)) -> list[Frame]:
        frames = []
        for second in range(start_s, start_s + count):
            rng = np.random.default_rng(second)
            coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            rgb = np.kron(coarse, np.ones((size[0] // 6, size[1] // 8, 1), dtype=np.uint8))
            frames.append(Frame(rgb, second * SECOND_NS))
        return frames

    return make


@pytest.fixture(scope="session")
def golden_dir(shared_dir):
    """The published model at small size."""
    path = shared_dir / "golden/vlm3r_tiny"
    if not path.is_dir():
        pytest.skip(f"golden data not found: {path}")
    return path
