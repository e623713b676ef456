"""How this process shares the CPU with others. To be called before torch is imported, so it does not import it."""

from __future__ import annotations

import os


def sleep_while_waiting() -> None:
    """Lets torch's CPU threads sleep when they wait for each other; a choice made in the environment stays.

    By default they spin. On a machine whose cores are busy with anything else that makes a small model's step more
    than ten times slower; on an idle machine it gains little.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
