"""Ends a run in good order when the system asks for it. Saves nothing itself."""

from __future__ import annotations

import signal
from types import FrameType


class StopRequest:
    """Remembers SIGTERM and SIGINT while it is entered; a second one ends the process as usual."""

    def __init__(self):
        self.signal = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, self._before[number])
