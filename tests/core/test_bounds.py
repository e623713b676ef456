"""Bounds: a stream holds the same after thousands of frames as after a hundred, whatever the memory policy."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from nano import NANO, build_nano

from vlm3r_core.config import MEMORY_POLICIES, StreamConfig
from vlm3r_core.prompt import Tokenizer, prefix_ids
from vlm3r_core.stream.engine import StreamEngine
from vlm3r_core.types import Frame

FRAMES, EARLY = 2000, 100
MAX_FRAMES, MAX_POOL = 8, 12
QUESTION = "How far is the door?"

# One layer wherever one will do: what is kept does not depend on depth, and thousands of frames take seconds.
PICO = replace(
    NANO,
    name="pico",
    siglip=replace(NANO.siglip, num_layers=1),
    cut3r=replace(NANO.cut3r, enc_depth=1, dec_depth=2),
    language=replace(NANO.language, num_layers=1),
)


@dataclass
class Reading:
    """What a stream holds after one frame."""

    nbytes: int
    kept: int
    context: int
    prefix_tokens: int


def read(engine: StreamEngine) -> Reading:
    stats = engine.stats()
    return Reading(stats.memory_bytes, stats.frames_kept, len(engine._memory.context()), engine._prefix._cache.length)


def live_objects() -> tuple[int, int]:
    """Containers the collector knows, and tensors."""
    gc.collect()
    objects = gc.get_objects()
    return len(objects), sum(issubclass(type(item), torch.Tensor) for item in objects)


@pytest.fixture(scope="module")
def pico_model():
    return build_nano(PICO)


def make_engine(model, policy: str) -> StreamEngine:
    config = StreamConfig(
        memory_policy=policy, max_frames=MAX_FRAMES, max_pool_frames=MAX_POOL, max_question_tokens=256
    )
    return StreamEngine(model, config)


def make_frame(index: int) -> Frame:
    return Frame(np.full((16, 16, 3), index % 256, dtype=np.uint8), index + 1)


@pytest.fixture(scope="module", params=MEMORY_POLICIES)
def long_stream(request, pico_model):
    """A long stream with questions in between: the engine, a reading a frame, and objects early and late."""
    engine, readings, objects = make_engine(pico_model, request.param), [], []
    for index in range(FRAMES):
        engine.push(make_frame(index))
        if index % 50 == 49:
            engine.ask(QUESTION, max_new_tokens=2)
        readings.append(read(engine))
        if index + 1 in (FRAMES // 4, FRAMES):
            objects.append(live_objects())
    return engine, readings, objects


class TestThousandsOfFrames:
    def test_memory_peaks_within_the_first_hundred_frames(self, long_stream):
        _, readings, _ = long_stream
        assert max(reading.nbytes for reading in readings) == max(reading.nbytes for reading in readings[:EARLY])

    def test_kept_frames_and_context_stay_within_their_bounds(self, long_stream):
        engine, readings, _ = long_stream
        bound = MAX_POOL if engine.config.memory_policy == "resample" else MAX_FRAMES
        assert max(reading.kept for reading in readings) == bound
        assert max(reading.context for reading in readings) == MAX_FRAMES

    def test_prefix_cache_stays_within_its_bound(self, long_stream):
        engine, readings, _ = long_stream
        system = len(prefix_ids(Tokenizer()))
        assert max(r.prefix_tokens for r in readings) == system + MAX_FRAMES * engine.model.config.tokens_per_frame
        assert len(engine._prefix._indices) <= MAX_FRAMES

    def test_no_object_stays_behind(self, long_stream):
        _, readings, ((containers, tensors), (containers_late, tensors_late)) = long_stream
        # one tensor a kept frame; what else there is must be the same
        assert tensors_late - readings[-1].kept == tensors - readings[FRAMES // 4 - 1].kept
        # 1500 frames and 30 questions lie between, and each frame left a Reading; a container left by each frame or
        # question would show. The interpreter's own caches may take a few.
        assert containers_late - containers - (FRAMES - FRAMES // 4) < 25

    def test_every_kept_frame_owns_no_more_than_its_tokens(self, long_stream):
        engine, _, _ = long_stream
        for frame in engine._memory.frames():
            assert frame.tokens.untyped_storage().nbytes() == frame.tokens.nbytes


@pytest.mark.parametrize("policy", MEMORY_POLICIES)
def test_a_loaded_stream_lets_go_of_frames_one_by_one(pico_model, tmp_path, policy):
    engine = make_engine(pico_model, policy)
    for index in range(MAX_FRAMES):
        engine.push(make_frame(index))
    engine.save(tmp_path / "stream")
    engine.load(tmp_path / "stream")
    assert len(engine._memory.frames()) == MAX_FRAMES
    for frame in engine._memory.frames():
        assert frame.tokens.untyped_storage().nbytes() == frame.tokens.nbytes


def test_sessions_leave_nothing_behind(pico_model):
    engine = make_engine(pico_model, "uniform")

    def session():
        for index in range(3):
            engine.push(make_frame(index))
        engine.ask(QUESTION, max_new_tokens=2)
        engine.reset()

    for _ in range(3):
        session()
    containers, tensors = live_objects()
    for _ in range(20):
        session()
    containers_late, tensors_late = live_objects()
    assert tensors_late == tensors
    # fewer than one container for each session
    assert containers_late - containers < 20
    assert engine.stats().frames_kept == 0
