"""How a process that reads videos for training behaves. Reads none itself."""

from __future__ import annotations

import signal


def end_with_parent(_: int) -> None:
    """Leaves ^C to the training process, which still takes a step and saves; it ends its readers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
