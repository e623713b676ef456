"""How this process keeps memory on a CPU. Allocates none itself."""

from __future__ import annotations

import ctypes

import torch

# glibc's names in malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """Lets glibc keep what tensors gave back, and the CPU take numbers next to zero for zero.

    By default every tensor of some size is mapped anew and its pages are cleared one fault at a time, which costs small
    models a third of a step; numbers too small for their type slow arithmetic down by a factor. Elsewhere than on glibc
    the first does nothing.
    """
    torch.set_flush_denormal(True)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_MMAP_THRESHOLD, 1 << 30)
    mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
    mallopt(_TOP_PAD, 1 << 26)
