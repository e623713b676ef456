"""Makes parts of a question set here, in local processes or on a Ray cluster; the parts are the same everywhere.

Decides neither order nor numbers: parts come as they are done.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from training.qa.parts import make_part
from training.qa.settings import QaSettings
from training.scans.scan import Scan

LOCAL = "local"
_AHEAD = 2  # jobs handed out for each worker, so that none waits and memory stays small
_ROOT = Path(__file__).resolve().parents[2]


def run_here(scans: Sequence[Scan], out: Path, settings: QaSettings) -> Iterator[tuple[int, bytes]]:
    """Makes one part after the other in this process.

    Args:
        scans: what to ask about.
        out: the set's folder.
        settings: how.

    Returns:
        (place in scans, Part.to_bytes) as they are done.
    """
    for place, scan in enumerate(scans):
        yield place, _job(scan, out, settings)


def run_processes(scans: Sequence[Scan], out: Path, settings: QaSettings, workers: int) -> Iterator[tuple[int, bytes]]:
    """The same in local processes with a thread each.

    Raises:
        RuntimeError: a worker died.
    """
    # spawned, so that no library's threads are forked; a thread each, as there is a process for every core
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from _drained(pool, scans, out, settings, workers)
    except BrokenProcessPool:
        raise RuntimeError(
            "a worker process died, most likely for lack of memory; give the same command with fewer --workers, "
            "finished scenes stay"
        ) from None
    finally:
        for name, value in threads.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def run_ray(scans: Sequence[Scan], out: Path, settings: QaSettings, address: str) -> Iterator[tuple[int, bytes]]:
    """The same on a Ray cluster; scans and the set's folder must be on a file system that all its machines share.

    Args:
        scans, out, settings: as for run_here.
        address: of the cluster, such as `auto` or `ray://HOST:10001`; `local` starts one on this machine.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """
    ray = _ray()
    env = {"env_vars": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}}
    if address != LOCAL:
        env["py_modules"] = [str(_ROOT / name) for name in ("vlm3r_core", "training", "sim")]
        del env["env_vars"]["PYTHONPATH"]
    try:
        ray.init(address=None if address == LOCAL else address, runtime_env=env, log_to_driver=False, **_quiet(address))
    except (ConnectionError, TimeoutError) as error:
        raise ValueError(f"no Ray cluster at {address!r}: {error}; start one, or give --ray local") from error
    try:
        job = ray.remote(_job)
        most, places, waiting = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1))), {}, iter(enumerate(scans))
        while True:
            for place, scan in waiting:
                places[job.remote(scan, out, settings)] = place
                if len(places) >= most:
                    break
            if not places:
                return
            for reference in ray.wait(list(places))[0]:
                yield places.pop(reference), ray.get(reference)
    finally:
        ray.shutdown()


def _drained(
    pool: ProcessPoolExecutor, scans: Sequence[Scan], out: Path, settings: QaSettings, workers: int
) -> Iterator[tuple[int, bytes]]:
    places, waiting = {}, iter(enumerate(scans))
    try:
        while True:
            for place, scan in waiting:
                places[pool.submit(_job, scan, out, settings)] = place
                if len(places) >= _AHEAD * workers:
                    break
            if not places:
                return
            for future in wait(places, return_when=FIRST_COMPLETED).done:
                yield places.pop(future), future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _job(scan: Scan, out: Path, settings: QaSettings) -> bytes:
    return make_part(scan, out, settings).to_bytes()


def _ray():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report home
    try:
        import ray
    except ImportError:
        raise ValueError(
            "--ray needs the package ray, which is not installed; pip install 'vlm3r[ray]', or use --workers"
        ) from None
    return ray


def _quiet(address: str) -> dict:
    return {"include_dashboard": False} if address == LOCAL else {}
