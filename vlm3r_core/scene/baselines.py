"""What a question set gives away without frames: chance, the most frequent answer, priors of its texts."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlm3r_core.scene.scoring import LETTERS, mean_relative_accuracy, to_float

# How many imagined answers of an even prior stand against the counted ones.
_PRIOR_WEIGHT = 2.0
_FOLDS = 5
_OPTION_LETTER = re.compile(r"^\s*[A-Z][.):]\s*")


@dataclass(frozen=True)
class TextQuestion:
    """A question as a reader without eyes has it.

    Args:
        question_type: what priors are kept apart by.
        text: the question.
        options: texts of the options, with or without letters; empty for a number.
        truth: the right letter, or the right number as text.
        scene: what it is about; a fold never learns from the scenes it is tried on.
    """

    question_type: str
    text: str
    options: tuple[str, ...]
    truth: str
    scene: str


def random_scores(questions: Sequence[TextQuestion], reference: Sequence[TextQuestion] = ()) -> list[float]:
    """Expected score of a drawn answer to each question.

    An option is drawn evenly; a number is drawn from the truths of the reference's questions of the same type, of the
    set's own other questions where no reference is given.
    """
    truths = _numbers_by_type(reference or questions)
    return [
        1 / len(q.options) if q.options else _mean_score(truths.get(q.question_type, []), to_float(q.truth))
        for q in questions
    ]


def frequent_scores(questions: Sequence[TextQuestion], reference: Sequence[TextQuestion] = ()) -> list[float]:
    """Score of the most frequent answer of a question's type: letter, or number; ties go to the smaller one.

    Source: VSI-Bench, chance level (frequency); counted in the set itself where no reference is given.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for q in reference or questions:
        counts[q.question_type][q.truth.strip()] += 1
    best = {kind: min(counter, key=lambda truth: (-counter[truth], truth)) for kind, counter in counts.items()}
    return [_score(q, best.get(q.question_type, "")) for q in questions]


def blind_answers(
    questions: Sequence[TextQuestion], reference: Sequence[TextQuestion] = (), *, seed: int = 0
) -> list[str]:
    """The answer that priors learned from questions and truths alone would give to each question.

    Args:
        questions: to be answered.
        reference: to learn from; without it, the set's own scenes in five folds, never the fold's own.
        seed: of the folds.

    Source: the idea of VSI-Bench-Debiased, a model of answer priors that never sees a frame; Differs: ours is a table
    of counts over option texts, letters and what the question names, with back-off, not a random forest.
    """
    if reference:
        priors = Priors(reference)
        return [priors.answer(q) for q in questions]
    fold_of = _folds([q.scene for q in questions], seed)
    answers = [""] * len(questions)
    for fold in sorted(set(fold_of)):
        priors = Priors([q for q, number in zip(questions, fold_of, strict=True) if number != fold])
        for index, number in enumerate(fold_of):
            if number == fold:
                answers[index] = priors.answer(questions[index])
    return answers


def blind_scores(
    questions: Sequence[TextQuestion], reference: Sequence[TextQuestion] = (), *, seed: int = 0
) -> list[float]:
    """Score of each of blind_answers: how far a set can be answered without frames."""
    return [_score(q, said) for q, said in zip(questions, blind_answers(questions, reference, seed=seed), strict=True)]


class Priors:
    """Counts of what is right, by what the text of a question shows. Learns once, then answers."""

    def __init__(self, questions: Iterable[TextQuestion]):
        self._offered: Counter[tuple] = Counter()
        self._right: Counter[tuple] = Counter()
        self._numbers: dict[tuple, list[float]] = defaultdict(list)
        self._constants: dict[tuple, str] = {}
        for question in questions:
            self._learn(question)

    def answer(self, question: TextQuestion) -> str:
        """A letter, or a number as text; "" where nothing like it was learned."""
        if question.options:
            return LETTERS[int(np.argmax(self._scores(question)))]
        known = next((key for key in _number_keys(question) if self._numbers.get(key)), None)
        if known is None:
            return ""
        if known not in self._constants:
            self._constants[known] = repr(_best_constant(self._numbers[known]))
        return self._constants[known]

    def shares(self, question: TextQuestion) -> np.ndarray:
        """How likely each option [N] of a question seems to be right; they add up to 1."""
        odds = np.exp(self._scores(question))
        return odds / odds.sum()

    def _scores(self, question: TextQuestion) -> list[float]:
        return [sum(self._log_odds(key) for key in keys) for keys in _option_keys(question)]

    def _learn(self, question: TextQuestion) -> None:
        if question.options:
            for letter, keys in zip(LETTERS, _option_keys(question), strict=False):
                for key in keys:
                    self._offered[key] += 1
                    self._right[key] += letter == question.truth.strip().upper()
            return
        number = to_float(question.truth)
        if number is not None and math.isfinite(number):
            for key in _number_keys(question):
                self._numbers[key].append(number)

    def _log_odds(self, key: tuple) -> float:
        even = 1 / key[1]
        rate = (self._right[key] + _PRIOR_WEIGHT * even) / (self._offered[key] + _PRIOR_WEIGHT)
        return math.log(rate / even)


def _option_keys(question: TextQuestion) -> list[tuple[tuple, ...]]:
    """For each option what may tell of it: its letter, its text, and its text with the question's own words."""
    kind, count = question.question_type, len(question.options)
    texts = [_OPTION_LETTER.sub("", option).strip().lower() for option in question.options]
    context = question.text.lower()
    # what is asked about, apart from the options that the question may list
    for text in sorted(texts, key=len, reverse=True):
        context = context.replace(text, "")
    context = " ".join(context.split())
    return [
        ((kind, count, "letter", index), (kind, count, "text", text), (kind, count, "context", context, text))
        for index, text in enumerate(texts)
    ]


def _number_keys(question: TextQuestion) -> tuple[tuple, ...]:
    """The most telling first: the whole question, then its type alone."""
    return (question.question_type, question.text.lower()), (question.question_type,)


def _best_constant(truths: Sequence[float]) -> float:
    """The one of these numbers that scores best on all of them; a sample of 101 of many."""
    values = np.unique(truths)
    if len(values) > 101:
        values = np.quantile(values, np.linspace(0, 1, 101), method="nearest")
    return float(max(values, key=lambda value: (float(np.mean([_mra(value, t) for t in truths[:500]])), -value)))


def _mra(value: float, truth: float) -> float:
    return mean_relative_accuracy(float(value), float(truth))


def _mean_score(drawn: Sequence[float], truth: float | None) -> float:
    return float(np.mean([mean_relative_accuracy(value, truth) for value in drawn])) if len(drawn) else 0.0


def _numbers_by_type(questions: Iterable[TextQuestion]) -> Mapping[str, np.ndarray]:
    """The truths of every type; of many, 200 evenly over their order."""
    found: dict[str, list[float]] = defaultdict(list)
    for q in questions:
        number = None if q.options else to_float(q.truth)
        if number is not None:
            found[q.question_type].append(number)
    return {
        kind: np.quantile(values, np.linspace(0, 1, min(200, len(values))), method="nearest")
        for kind, values in found.items()
    }


def _score(question: TextQuestion, said: str) -> float:
    if question.options:
        return float(said.upper() == question.truth.strip().upper())
    return mean_relative_accuracy(to_float(said), to_float(question.truth))


def _folds(scenes: Sequence[str], seed: int) -> list[int]:
    """A fold for each question, the same for all questions of a scene."""
    names = sorted(set(scenes))
    numbers = np.arange(len(names)) % min(_FOLDS, max(2, len(names)))
    np.random.default_rng(seed).shuffle(numbers)
    fold_of = dict(zip(names, numbers.tolist(), strict=True))
    return [fold_of[scene] for scene in scenes]
