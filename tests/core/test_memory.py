"""Memory policies: the bound is a number, the newest frame is always there, the spread is what it says."""

from __future__ import annotations

import pytest
import torch

from vlm3r_core.clip import sample_uniform
from vlm3r_core.config import StreamConfig
from vlm3r_core.stream.memory import KeptFrame, ResampleMemory, UniformMemory, WindowMemory, make_memory, uniform_stride


def fill(memory, count):
    for index in range(count):
        memory.add(KeptFrame(index, index * 10, torch.zeros(1, 1)))
    return memory


def indices(memory):
    return [frame.index for frame in memory.context()]


@pytest.mark.parametrize("max_frames", [1, 2, 3, 4, 32])
@pytest.mark.parametrize("policy", ["uniform", "window", "resample"])
def test_bound_and_newest(policy, max_frames):
    memory = make_memory(StreamConfig(memory_policy=policy, max_frames=max_frames, max_pool_frames=max_frames + 3))
    for index in range(300):
        memory.add(KeptFrame(index, index, torch.zeros(1, 1)))
        context = indices(memory)
        assert context[-1] == index
        assert context == sorted(set(context))
        assert len(context) <= max_frames
        assert len(memory.frames()) <= max_frames + 3


def test_uniform_keeps_multiples_of_a_stride_that_doubles():
    assert indices(fill(UniformMemory(4), 4)) == [0, 1, 2, 3]
    assert indices(fill(UniformMemory(4), 5)) == [0, 2, 4]
    assert indices(fill(UniformMemory(4), 6)) == [0, 2, 4, 5]
    assert indices(fill(UniformMemory(4), 7)) == [0, 2, 4, 6]
    assert indices(fill(UniformMemory(4), 8)) == [0, 4, 7]


def test_uniform_stays_more_than_half_full_and_rarely_rebuilds():
    memory, before, rebuilds = UniformMemory(32), [], 0
    for index in range(5000):
        memory.add(KeptFrame(index, index, torch.zeros(1, 1)))
        context = indices(memory)
        if index >= 32:
            assert len(context) > 16
        # all but the newest of the former context survives unless the stride doubled
        rebuilds += context[: len(before) - 1] != before[:-1]
        before = context
    assert rebuilds == 8  # 5000 frames / 32 is between 2^7 and 2^8


def test_uniform_stride_is_the_smallest_that_fits():
    for count in range(1, 400):
        stride = uniform_stride(count, 8)
        held = {*range(0, count, stride), count - 1}
        assert len(held) <= 8
        assert stride == 1 or len({*range(0, count, stride // 2), count - 1}) > 8


def test_window_keeps_the_newest_and_halves():
    memory = fill(WindowMemory(6), 6)
    assert indices(memory) == [0, 1, 2, 3, 4, 5]
    memory.add(KeptFrame(6, 6, torch.zeros(1, 1)))
    assert indices(memory) == [3, 4, 5, 6]


def test_resample_equals_the_papers_sampling_while_the_pool_holds_everything():
    memory = ResampleMemory(32, 128)
    for index in range(128):
        memory.add(KeptFrame(index, index, torch.zeros(1, 1)))
        assert indices(memory) == sample_uniform(index + 1, 32)


@pytest.mark.parametrize("policy", ["uniform", "window", "resample"])
def test_restore_continues_alike(policy):
    config = StreamConfig(memory_policy=policy, max_frames=5, max_pool_frames=9)
    for count in (0, 1, 4, 5, 6, 23):
        original = fill(make_memory(config), count)
        copy = make_memory(config)
        copy.restore(original.frames())
        for index in range(count, count + 15):
            for memory in (original, copy):
                memory.add(KeptFrame(index, index, torch.zeros(1, 1)))
            assert indices(original) == indices(copy)
