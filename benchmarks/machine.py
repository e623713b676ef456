"""The machine a benchmark runs on: its name, its measured peaks, its memory in use. Knows nothing of the model."""

from __future__ import annotations

import gc
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.floors import Peaks

_REPEATS = 7


def describe_machine(device: torch.device) -> dict[str, str | int | float]:
    """Facts that belong beside every measured number; the load tells whether others were using the machine."""
    facts = {
        "cpu": _cpu_name(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "threads": torch.get_num_threads(),
        "load_average_before": load_average(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "gpu_gib": round(properties.total_memory / 2**30, 1)}
    return facts


def load_average() -> float:
    """Processes that ran or wanted to in the last minute, of the whole machine."""
    return round(os.getloadavg()[0], 2)


def machine_line(facts: dict) -> str:
    """The facts as one line for a table's caption."""
    gpu = f"{facts['gpu']} ({facts['gpu_gib']} GiB), " if "gpu" in facts else ""
    return (
        f"{gpu}{facts['cpu']}, {facts['cpu_cores']} cores, {facts['ram_gib']} GiB RAM, torch {facts['torch']} with "
        f"{facts['threads']} thread{'s' * (facts['threads'] != 1)}, Python {facts['python']}, "
        f"load average {facts['load_average_before']} before, {facts['load_average_after']} after"
    )


def synchronizer(device: torch.device) -> Callable[[], None]:
    """What waits until the device has done all it was given; nothing on a CPU."""
    if device.type != "cuda":
        return lambda: None
    return lambda: torch.cuda.synchronize(device)


def measure_peaks(device: torch.device, dtype: torch.dtype) -> Peaks:
    """The best of a few large matrix products and copies on this device, here and now."""
    on_gpu = device.type == "cuda"
    side, nbytes = (8192, 2**31) if on_gpu else (2048, 2**28)
    wait = synchronizer(device)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)
    multiply_s = _best_s(lambda: torch.mm(left, right, out=product), wait)
    source = torch.zeros(nbytes, device=device, dtype=torch.uint8)
    target = torch.zeros_like(source)
    copy_s = _best_s(lambda: target.copy_(source), wait)
    return Peaks(flops=2 * side**3 / multiply_s, bytes_per_s=2 * nbytes / copy_s)


def max_peaks(one: Peaks, other: Peaks) -> Peaks:
    """The better of two measurements; on a busy machine each may fall short."""
    return Peaks(max(one.flops, other.flops), max(one.bytes_per_s, other.bytes_per_s))


def read_memory(device: torch.device) -> dict[str, int]:
    """Bytes in use now: the process's resident set, and on a GPU what torch holds and held at most."""
    gc.collect()
    facts = {"rss_bytes": _resident_bytes()}
    if device.type == "cuda":
        facts["cuda_bytes"] = torch.cuda.memory_allocated(device)
        facts["cuda_peak_bytes"] = torch.cuda.max_memory_allocated(device)
    return facts


def _best_s(action: Callable[[], object], wait: Callable[[], None]) -> float:
    times = []
    for _ in range(_REPEATS):
        wait()
        started = time.perf_counter()
        action()
        wait()
        times.append(time.perf_counter() - started)
    return min(times)


def _resident_bytes() -> int:
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    # Elsewhere only the largest resident set so far is at hand; macOS counts it in bytes, others in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _cpu_name() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
