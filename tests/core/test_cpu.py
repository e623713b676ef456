"""Sharing cores: one is left to others, and what a person chose stays."""

from __future__ import annotations

import os
import subprocess
import sys

PROBE = "from vlm3r_core.cpu import share_cores; share_cores(); import torch; print(torch.get_num_threads())"


def threads(**chosen: str) -> int:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=inherited | chosen, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_a_core_is_left_to_others():
    assert threads() == max(1, len(os.sched_getaffinity(0)) - 1)


def test_a_choice_in_the_environment_stays():
    assert threads(OMP_NUM_THREADS="2") == 2
