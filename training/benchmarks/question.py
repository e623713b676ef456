"""A benchmark's question, whatever file it came from. Reads no file and scores nothing."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from training.benchmarks.pictures import StoredPicture
from vlm3r_core.scene.formatting import answer_kind, prompt_text
from vlm3r_core.scene.scoring import BENCHMARKS, LETTERS


@dataclass(frozen=True)
class BenchmarkQuestion:
    """One question.

    Args:
        id: unique within its benchmark.
        benchmark: `vsi` or `vsti`, which say how it is scored; another one's questions are all choices.
        question_type: the benchmark's name of its task.
        question: the text.
        options: with their letters, such as `A. left`; empty where a number is asked for.
        truth: the right letter, or the right number as text.
        scene: what it is about; intervals and blind baselines draw whole scenes.
        video: a video file or a folder of images, None where the question comes with pictures or with nothing.
        pictures: in the order they are shown, for benchmarks without videos.
        subset: what a benchmark averages over besides its tasks, "" where there is none.

    Raises:
        ValueError: a choice without options or whose truth is none of their letters.
    """

    id: str
    benchmark: str
    question_type: str
    question: str
    options: tuple[str, ...]
    truth: str
    scene: str
    video: Path | None
    pictures: tuple[Path | StoredPicture, ...] = ()
    subset: str = ""

    def __post_init__(self):
        letters = LETTERS[: len(self.options)]
        if self.is_choice and (not self.options or self.truth not in tuple(letters)):
            raise ValueError(
                f"question {self.id} of {self.benchmark} needs options and the letter of the right one, got "
                f"{len(self.options)} options and the truth {self.truth!r}; check the benchmark's file"
            )

    @property
    def is_choice(self) -> bool:
        """Whether a letter is asked for; else it is a number."""
        return self.benchmark not in BENCHMARKS or answer_kind(self.question_type, self.benchmark) == "choice"

    @property
    def prompt(self) -> str:
        """What a model is asked, without the place of the video."""
        return prompt_text(self.question, self.options, "choice" if self.is_choice else "number")

    @property
    def view(self) -> Hashable:
        """What is looked at: questions with the same view share one visual prefix."""
        return self.video or self.pictures
