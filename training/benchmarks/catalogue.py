"""The benchmarks there are, by name, each with its reader and where it comes from. Reads no file itself."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from training.benchmarks import cv_bench, dsr, mindcube, mmsi, question_set, site, viewspatial, vsi, vsti
from training.benchmarks.question import BenchmarkQuestion

Reader = Callable[[Path], Iterator[BenchmarkQuestion]]


@dataclass(frozen=True)
class Benchmark:
    """A reader and what it wants.

    Args:
        read: yields every question under a root.
        source: what the root is a copy of.
        folder: name of the root below the cache of Hugging Face, where --root is not given.
    """

    read: Reader
    source: str
    folder: str


BENCHMARKS: dict[str, Benchmark] = {
    "vsi": Benchmark(vsi.read_vsi, vsi.SOURCE, "vsibench"),
    "vsi-debiased": Benchmark(vsi.read_vsi_debiased, vsi.SOURCE, "vsibench"),
    "vsi-pruned": Benchmark(vsi.read_vsi_pruned, vsi.SOURCE, "vsibench"),
    "vsti": Benchmark(vsti.read_vsti, vsti.SOURCE, "vstibench"),
    "vsti-published": Benchmark(vsti.read_vsti_published, vsti.SOURCE, "vstibench"),
    "vsti-corrected": Benchmark(vsti.read_vsti_corrected, vsti.SOURCE, "vstibench"),
    "cv-bench": Benchmark(cv_bench.read_cv_bench, cv_bench.SOURCE, "cvbench"),
    "mindcube": Benchmark(mindcube.read_mindcube, mindcube.SOURCE, "mindcube"),
    "mindcube-tiny": Benchmark(mindcube.read_mindcube_tiny, mindcube.SOURCE, "mindcube"),
    "mmsi": Benchmark(mmsi.read_mmsi, mmsi.SOURCE, "mmsibench"),
    "viewspatial": Benchmark(viewspatial.read_viewspatial, viewspatial.SOURCE, "viewspatial"),
    "site": Benchmark(site.read_site, site.SOURCE, "sitebench"),
    "dsr": Benchmark(dsr.read_dsr, dsr.SOURCE, "dsrbench"),
}


def read_questions(benchmark: str, root: Path | None = None) -> list[BenchmarkQuestion]:
    """Every question of a benchmark.

    Args:
        benchmark: one of BENCHMARKS, or a folder of questions that training.make_qa wrote.
        root: its folder; default the one below the cache of Hugging Face.

    Raises:
        ValueError: unknown benchmark (names the known ones and the nearest), rows that are not as they should be, or
            two questions with one id.
        FileNotFoundError: the folder or a table in it is not there.
    """
    known = BENCHMARKS.get(benchmark)
    if known is None and not Path(benchmark).expanduser().is_dir():
        near = difflib.get_close_matches(benchmark, BENCHMARKS, n=1)
        raise ValueError(
            f"unknown benchmark {benchmark!r}: expected one of {', '.join(BENCHMARKS)}"
            f"{f'; did you mean {near[0]!r}?' if near else ''}, or a folder of questions"
        )
    if known is None:
        return _checked(question_set.read_question_set(Path(benchmark).expanduser()))
    place = root or cache_folder() / known.folder
    if not place.is_dir():
        raise FileNotFoundError(f"{place} is no folder; give --root, a copy of {known.source}")
    return _checked(known.read(place))


def cache_folder() -> Path:
    """Where the published evaluator keeps its data: $HF_HOME."""
    return Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()


def _checked(questions: Iterator[BenchmarkQuestion]) -> list[BenchmarkQuestion]:
    """The same as a list, ids being unique within each benchmark."""
    found, seen = [], set()
    for question in questions:
        key = question.benchmark, question.id
        if key in seen:
            raise ValueError(f"two questions of {question.benchmark} have the id {question.id}; the ids must differ")
        seen.add(key)
        found.append(question)
    if not found:
        raise ValueError("the benchmark has no questions; check its files")
    return found
