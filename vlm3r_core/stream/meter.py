"""How long the last steps took, and how many come a second. Measures nothing itself."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class StepMeter:
    """Step times of the last 100 frames.

    Args:
        clock: seconds that only rise.
    """

    # A stream that stopped this long ago has no rate.
    _WINDOW_S = 5.0

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._steps: deque[tuple[float, float]] = deque(maxlen=100)

    def add(self, seconds: float) -> None:
        """Notes a step that has just ended."""
        self._steps.append((self._clock(), seconds))

    def mean_ms(self) -> float:
        """Mean of the last 100 steps, 0 before the first."""
        return 1e3 * sum(seconds for _, seconds in self._steps) / max(len(self._steps), 1)

    def max_ms(self) -> float:
        """Longest of the last 100 steps, 0 before the first."""
        return 1e3 * max((seconds for _, seconds in self._steps), default=0.0)

    def per_second(self) -> float:
        """Steps a second over the last five seconds, 0 where fewer than two ended then."""
        since = self._clock() - self._WINDOW_S
        ends = [end for end, _ in self._steps if end >= since]
        return (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 and ends[-1] > ends[0] else 0.0
