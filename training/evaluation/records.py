"""Questions with their answers and scores, kept one a line in a file that a broken run can go on with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from training.benchmarks.question import BenchmarkQuestion
from training.evaluation.said import Said
from vlm3r_core.scene.scoring import ACCURACY, BENCHMARKS, Score, fuzzy_matching, robust_letter, score_answer


@dataclass(frozen=True)
class Record:
    """One question, what was said and what that is worth.

    Args:
        index: place of the question in the benchmark.
        prediction: what was said, None where nothing was.
        parsed: what was read from it: a letter, a number, or None.
        score: in 0..1.
        confidence: in 0..1, see Said.confidence; None where unknown.
        letters: probability of each option's letter among the options'.
        tokens: decoded.
        latency_ms: see Said.
        error: why nothing was said, "" else.

    The others are those of BenchmarkQuestion and of Score.
    """

    index: int
    id: str
    benchmark: str
    question_type: str
    subset: str
    scene: str
    question: str
    options: tuple[str, ...]
    truth: str
    prediction: str | None
    parsed: str | float | None
    score: float
    metric: str
    confidence: float | None
    letters: tuple[float, ...]
    tokens: int
    latency_ms: float
    error: str

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other one."""
        return self.benchmark, self.id

    @property
    def line(self) -> str:
        """The record as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


def score_record(index: int, question: BenchmarkQuestion, said: Said, parser: str) -> Record:
    """Scores an answer; one that never came scores 0, as an error sentence does in the published evaluator."""
    prediction = None if said.error else said.text
    score = score_text(question.benchmark, question.question_type, prediction, question.truth, question.options, parser)
    # JSON has no infinity; such a number scores like none
    parsed = score.parsed if not isinstance(score.parsed, float) or abs(score.parsed) < float("inf") else None
    return Record(
        index=index,
        id=question.id,
        benchmark=question.benchmark,
        question_type=question.question_type,
        subset=question.subset,
        scene=question.scene,
        question=question.question,
        options=question.options,
        truth=question.truth,
        prediction=prediction,
        parsed=parsed,
        score=score.value,
        metric=score.metric,
        confidence=None if said.error else said.confidence(score.parsed),
        letters=said.letters,
        tokens=said.tokens,
        latency_ms=round(said.latency_ms, 3),
        error=said.error,
    )


def score_text(
    benchmark: str, question_type: str, answer: str | None, truth: str, options: Sequence[str], parser: str
) -> Score:
    """What an answer is worth: as VSI-Bench and VSTI-Bench score it, elsewhere whether it is the right letter."""
    if benchmark in BENCHMARKS:
        return score_answer(benchmark, question_type, answer, truth, options=options, parser=parser)
    if answer is None:
        return Score(ACCURACY, 0.0, None)
    said = fuzzy_matching(answer) if parser == "published" else robust_letter(answer, options)
    return Score(ACCURACY, float(said is not None and said.upper() == truth.upper()), said)


class RecordFile:
    """Records in a file, appended as they are made; a line cut off by a crash is dropped.

    Args:
        path: of the file; made with its folder when the first record comes.
    """

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> list[Record]:
        """The whole records in the file's order; what a crash left behind them is cut off.

        Raises:
            ValueError: a line in the middle is broken.
        """
        if not self.path.is_file():
            return []
        kept, records = 0, []
        with self.path.open("rb") as file:
            lines = file.readlines()
        for number, line in enumerate(lines):
            try:
                record = _record(json.loads(line)) if line.endswith(b"\n") else None
            except (ValueError, TypeError) as error:
                if number + 1 < len(lines):
                    raise ValueError(
                        f"{self.path}:{number + 1} is no record of an answer ({error}); move it away to start over"
                    ) from error
                record = None
            if record is None:
                os.truncate(self.path, kept)
                break
            kept += len(line)
            records.append(record)
        return records

    def append(self, records: Iterable[Record]) -> None:
        """Adds records; they are on the disk when this returns.

        Raises:
            OSError: they cannot be written; what is there of them is cut off when the file is read again.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("ab") as file:
                file.write("".join(record.line for record in records).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            advice = f"{error.strerror}; make room and run the same command again"
            raise OSError(error.errno, advice, str(self.path)) from error


def _record(row: dict) -> Record:
    values = {name: row[name] for name in (item.name for item in fields(Record)) if name in row}
    missing = [item.name for item in fields(Record) if item.name not in values]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return Record(**values | {name: tuple(values[name]) for name in ("options", "letters")})
