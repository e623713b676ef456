"""One model with and without its geometry, as the paper's ablation: each variant a run of its own. Scores nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.benchmarks.question import BenchmarkQuestion
from training.evaluation.report import write_results, write_tables
from training.evaluation.run import Shard, ask_all
from training.evaluation.said import Answers
from training.evaluation.settings import ABLATIONS, VARIANTS, EvalSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is asked, where the answers go and how the work is shared.

    Args:
        questions: all of the benchmark.
        out: folder of the run.
        shard: which share is asked here, and how many there are.
        workers: threads that decode videos ahead.
        progress: whether bars are shown.
    """

    questions: Sequence[BenchmarkQuestion]
    out: Path
    shard: Shard = (0, 1)
    workers: int = 2
    progress: bool = True


# Makes what answers under some settings.
MakeAnswers = Callable[[EvalSettings], Answers]


def evaluate(job: Job, settings: EvalSettings, make_answers: MakeAnswers, ablate: Iterable[str] = ()) -> list[dict]:
    """Asks, scores and writes a run; with ablations the full model and each of them, and one table of all.

    Args:
        job: questions and folder.
        settings: of the full model.
        make_answers: called once for each variant.
        ablate: names of ABLATIONS.

    Returns:
        Results of each variant, the full model first; none for a shard, whose tables come from merging.

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    names = [ABLATIONS[name] for name in dict.fromkeys(ablate)]
    if not names:
        return _evaluate_one(job, settings, make_answers)
    results = []
    for name in ("full", *(known for known in VARIANTS if known in names)):
        _log.info("variant: %s", name)
        own = replace(settings, token_selection=VARIANTS[name] or settings.token_selection)
        results += _evaluate_one(replace(job, out=job.out / name), own, make_answers)
    if results:
        write_tables(job.out, results)
    return results


def _evaluate_one(job: Job, settings: EvalSettings, make_answers: MakeAnswers) -> list[dict]:
    answers = make_answers(settings)
    records = ask_all(
        job.questions,
        settings,
        answers,
        job.out,
        shard=job.shard,
        workers=job.workers,
        progress=job.progress,
    )
    return [write_results(job.out, settings, records)] if job.shard[1] == 1 else []
