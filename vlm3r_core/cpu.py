"""How this process shares the CPU with others. To be called before torch is imported, so it does not import it."""

from __future__ import annotations

import os


def share_cores() -> None:
    """Leaves a core to the camera and the executor, and lets torch's threads wait without spinning for long.

    By default torch takes every core and its threads spin while they wait for each other: on a machine whose cores are
    busy with anything else that made a small model's step more than ten times slower. What the environment already says
    (OMP_NUM_THREADS, GOMP_SPINCOUNT, OMP_WAIT_POLICY) stays.
    """
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores - 1)))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
