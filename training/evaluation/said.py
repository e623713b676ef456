"""What a model said to one question, wherever it runs. Scores nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from training.benchmarks.question import BenchmarkQuestion
from training.evaluation.frames import View
from vlm3r_core.scene.scoring import LETTERS


@dataclass(frozen=True)
class Said:
    """An answer.

    Args:
        text: what was said, without blanks around it; empty where nothing came.
        letters: probability of each option's letter among the options', empty where none were given or are known.
        fluency: geometric mean of the probabilities of the decoded tokens, None where unknown.
        tokens: decoded.
        latency_ms: from asking until the answer was there, together with the questions asked at the same time.
        error: why there is no answer, "" where there is one.
    """

    text: str
    letters: tuple[float, ...] = ()
    fluency: float | None = None
    tokens: int = 0
    latency_ms: float = 0.0
    error: str = ""

    def confidence(self, parsed: object) -> float | None:
        """How sure it was: the probability of the letter it said among the options', else its fluency.

        Args:
            parsed: what was read from the text.
        """
        place = LETTERS.find(parsed.upper()) if isinstance(parsed, str) and len(parsed) == 1 else -1
        return self.letters[place] if 0 <= place < len(self.letters) else self.fluency


# Asks questions about one view, the answers come in their order.
Answers = Callable[[View, Sequence[BenchmarkQuestion]], Iterable[Said]]
