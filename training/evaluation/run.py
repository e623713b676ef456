"""Asks every question of a benchmark, video by video, into a folder that a broken run goes on with. Holds no model."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.benchmarks.question import BenchmarkQuestion
from training.evaluation.files import read_json, write_json
from training.evaluation.frames import View, read_view
from training.evaluation.records import Record, RecordFile, score_record
from training.evaluation.said import Answers, Said
from training.evaluation.settings import EvalSettings, differing

SETTINGS, ANSWERS, TIMINGS = "settings.json", "answers.jsonl", "timings.json"
# Number of a shard and how many there are.
Shard = tuple[int, int]
# A question's place in the benchmark, and the question.
Placed = tuple[int, BenchmarkQuestion]

_log = logging.getLogger(__name__)


def ask_all(
    questions: Sequence[BenchmarkQuestion],
    settings: EvalSettings,
    answers: Answers,
    folder: Path,
    *,
    shard: Shard = (0, 1),
    workers: int = 2,
    progress: bool = True,
) -> list[Record]:
    """Asks what was not asked before.

    Args:
        questions: all of the benchmark.
        settings: what the answers depend on.
        answers: asks questions about one view.
        folder: of the run; records already in it are kept.
        shard: which share of the videos is asked about.
        workers: threads that decode videos ahead.
        progress: whether a bar is shown.

    Returns:
        Records of the whole shard, in the benchmark's order.

    Raises:
        ValueError: the folder holds a run with other settings, or the shard does not exist.
    """
    count = claim(folder, settings, len(questions), shard)
    file = RecordFile(folder / ANSWERS)
    done = {record.key: record for record in file.read()}
    groups = list(_groups(questions).values())
    mine = [number for number in range(len(groups)) if number % count == shard[0]]
    left = {n: [p for p in groups[n] if (p[1].benchmark, p[1].id) not in done] for n in mine}
    left = {number: placed for number, placed in left.items() if placed}
    total = sum(len(groups[number]) for number in mine)
    if done:
        _log.info("%s: %d of %d questions were asked before", folder, len(done), total)
    started = time.perf_counter()
    with tqdm(total=total, initial=len(done), unit="question", disable=None if progress else True) as bar:
        for placed, view in _views_ahead(groups, left, settings, workers):
            records = _ask(placed, view, settings, answers)
            file.append(records)
            done |= {record.key: record for record in records}
            bar.update(len(records))
    asked = [done[question.benchmark, question.id] for placed in left.values() for _, question in placed]
    if asked:
        write_json(folder / TIMINGS, _timings(asked, time.perf_counter() - started, len(left)))
    return sorted(done.values(), key=lambda record: record.index)


def claim(folder: Path, settings: EvalSettings, questions: int, shard: Shard) -> int:
    """Writes a run's settings into its folder, or checks that they are those in it.

    Returns:
        How many shards there are.

    Raises:
        ValueError: the folder holds a run with other settings, or the shard does not exist.
    """
    number, count = shard
    if not 0 <= number < count:
        raise ValueError(f"shard must be i/n with 0 <= i < n, got {number}/{count}")
    facts = {"settings": asdict(settings), "shard": [number, count], "count": questions}
    path = folder / SETTINGS
    if not path.is_file():
        write_json(path, facts)
        return count
    kept = read_json(path, "move the folder away to start over")
    different = differing(settings, kept.get("settings", {}))
    if kept.get("shard") != facts["shard"]:
        different.append(f"shard: {kept.get('shard')} there, {facts['shard']} here")
    if different:
        raise ValueError(f"{folder} holds a run with other settings ({'; '.join(different)}); give another --out")
    return count


def _groups(questions: Sequence[BenchmarkQuestion]) -> dict[Hashable, list[Placed]]:
    """Questions by what they look at, in order of first appearance; those without anything stand alone."""
    groups: dict[Hashable, list[Placed]] = {}
    for index, question in enumerate(questions):
        groups.setdefault(question.view or (question.benchmark, question.id), []).append((index, question))
    return groups


def _views_ahead(
    groups: Sequence[list[Placed]], left: dict[int, list[Placed]], settings: EvalSettings, workers: int
) -> Iterator[tuple[list[Placed], Future]]:
    """What is left to ask with the view it is about, views being read a little ahead."""
    shown = _shown(groups, settings)
    waiting: deque[tuple[list[Placed], Future]] = deque()
    with ThreadPoolExecutor(max(1, workers), "video") as pool:
        try:
            for number, placed in left.items():
                waiting.append((placed, pool.submit(_view, shown[number], settings.frames)))
                if len(waiting) > workers:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _shown(groups: Sequence[list[Placed]], settings: EvalSettings) -> list[BenchmarkQuestion | None]:
    """The question whose frames each group is shown; None for none."""
    firsts = [placed[0][1] for placed in groups]
    if settings.view == "none":
        return [None] * len(firsts)
    if settings.view == "own":
        return firsts
    if len({question.scene for question in firsts}) < 2:
        raise ValueError("frames of another scene need questions about two scenes or more")
    # half the benchmark away, or as near to it as another scene stands
    return [_far(firsts, number) for number in range(len(firsts))]


def _far(firsts: Sequence[BenchmarkQuestion], number: int) -> BenchmarkQuestion:
    count = len(firsts)
    places = ((number + count // 2 + step) % count for step in range(count))
    return next(firsts[place] for place in places if firsts[place].scene != firsts[number].scene)


def _view(question: BenchmarkQuestion | None, frames: int) -> View:
    return View() if question is None else read_view(question, frames)


def _ask(placed: Sequence[Placed], view: Future, settings: EvalSettings, answers: Answers) -> list[Record]:
    """Records of questions about one view; where it cannot be read, of none being answered."""
    questions = [question for _, question in placed]
    try:
        shown = view.result()
    except (OSError, ValueError) as error:
        _log.warning("%d questions are not asked: %s", len(questions), error)
        said = [Said("", error=_reason(error, questions[0]))] * len(questions)
    else:
        said = list(answers(shown, questions))
    return [score_record(index, q, one, settings.parser) for (index, q), one in zip(placed, said, strict=True)]


def _reason(error: Exception, question: BenchmarkQuestion) -> str:
    """Why a view could not be read, the file always named."""
    name, told = str(question.video or question.id), str(error)
    return told if name in told else f"{name}: {told}"


def _timings(records: Sequence[Record], seconds: float, views: int) -> dict:
    latency = np.array([record.latency_ms for record in records])
    return {
        "questions": len(records),
        "views": views,
        "seconds": round(seconds, 3),
        "questions_per_s": round(len(records) / seconds, 3),
        "latency_p50_ms": round(float(np.percentile(latency, 50)), 3),
        "latency_p99_ms": round(float(np.percentile(latency, 99)), 3),
    }
