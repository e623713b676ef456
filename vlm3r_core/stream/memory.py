"""Which frames' visual tokens stay, and which of them a question sees. The bound is a number; no model here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vlm3r_core.clip import sample_uniform
from vlm3r_core.config import StreamConfig


@dataclass(frozen=True)
class KeptFrame:
    """The visual tokens of one frame."""

    index: int  # place in the stream since the last reset, from 0
    stamp_ns: int
    tokens: Tensor  # [T, D]


class Memory(Protocol):
    """What a memory policy offers. The newest frame is always in its context."""

    # True: the context mostly grows at its end, so it pays to run it into the prefix cache as frames come
    eager: bool

    def add(self, frame: KeptFrame) -> None:
        """Takes the next frame and forgets what the policy forgets."""

    def context(self) -> list[KeptFrame]:
        """The frames a question sees, oldest first."""

    def frames(self) -> list[KeptFrame]:
        """Every kept frame, oldest first."""

    def restore(self, frames: Iterable[KeptFrame]) -> None:
        """Replaces what is kept by what `frames()` of the same policy once returned."""


def uniform_stride(count: int, max_frames: int) -> int:
    """The smallest power of two whose multiples below `count`, with the newest frame, are at most `max_frames`."""
    newest, stride = count - 1, 1
    while stride <= newest and newest // stride + 1 + (newest % stride > 0) > max_frames:
        stride *= 2
    return stride


class UniformMemory:
    """Frames spread evenly over all that was seen, by doubling the stride whenever they would not fit.

    Keeps the frames whose index is a multiple of the stride, and the newest. Between doublings the context only grows
    at its end, but for the newest frame. It holds at most `max_frames`, and after the first doubling more than half.
    """

    eager = True

    def __init__(self, max_frames: int):
        self._max = max_frames
        self._kept: list[KeptFrame] = []

    def add(self, frame: KeptFrame) -> None:
        stride = uniform_stride(frame.index + 1, self._max)
        spread = [kept for kept in self._kept if kept.index % stride == 0]
        # With room for one frame not even the first one may stay.
        self._kept = [*spread[: self._max - 1], frame]

    def context(self) -> list[KeptFrame]:
        return list(self._kept)

    def frames(self) -> list[KeptFrame]:
        return list(self._kept)

    def restore(self, frames: Iterable[KeptFrame]) -> None:
        self._kept = list(frames)


class WindowMemory:
    """The newest frames. When full, the older half goes at once, so that the prefix cache is rebuilt rarely."""

    eager = True

    def __init__(self, max_frames: int):
        self._max = max_frames
        self._kept: list[KeptFrame] = []

    def add(self, frame: KeptFrame) -> None:
        full = len(self._kept) == self._max
        kept = self._kept[len(self._kept) - self._max // 2 :] if full else self._kept
        self._kept = [*kept, frame]

    def context(self) -> list[KeptFrame]:
        return list(self._kept)

    def frames(self) -> list[KeptFrame]:
        return list(self._kept)

    def restore(self, frames: Iterable[KeptFrame]) -> None:
        self._kept = list(frames)


class ResampleMemory:
    """The paper's uniform sampling at question time, out of a larger kept pool.

    While at most `max_pool` frames were pushed the pool is all of them and the context equals the paper's; beyond
    that the pool itself is thinned evenly. CUT3R has stepped every frame once and is never run again.
    """

    eager = False

    def __init__(self, max_frames: int, max_pool: int):
        self._max = max_frames
        self._pool = UniformMemory(max_pool)

    def add(self, frame: KeptFrame) -> None:
        self._pool.add(frame)

    def context(self) -> list[KeptFrame]:
        pool = self._pool.frames()
        if self._max == 1:
            return pool[-1:]
        return [pool[place] for place in sample_uniform(len(pool), self._max)]

    def frames(self) -> list[KeptFrame]:
        return self._pool.frames()

    def restore(self, frames: Iterable[KeptFrame]) -> None:
        self._pool.restore(frames)


def make_memory(config: StreamConfig) -> Memory:
    """The memory a stream's configuration asks for."""
    if config.memory_policy == "uniform":
        return UniformMemory(config.max_frames)
    if config.memory_policy == "window":
        return WindowMemory(config.max_frames)
    return ResampleMemory(config.max_frames, config.max_pool_frames)
