"""What the generators hand around: a judged candidate, a question with its answer, a scene's result. Makes none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Candidate:
    """A possible question, judged.

    Args:
        task: its task.
        names: what fills the question's places, by place.
        reason: why it is no question, None where it is one.
        value: the truth unrounded, in the question's unit, or the angle in degrees; None where there is none.
        answer: the right answer as the item gives it.
        choices: option texts to shuffle, the right one among them; empty where the answer is a number.
        instance_ids: objects it is about, as far as the scan numbers them.
        frame_ids: frames it is about.
        frame_numbers: the same as the question counts them, from 1.
        num_frames: of how many.
        details: measured values by name.
    """

    task: str
    names: Mapping[str, str]
    reason: str | None = None
    value: float | None = None
    answer: str | float | int | None = None
    choices: tuple[str, ...] = ()
    instance_ids: tuple[int, ...] = ()
    frame_ids: tuple[int | str, ...] = ()
    frame_numbers: tuple[int, ...] = ()
    num_frames: int | None = None
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class QaItem:
    """A question with its answer.

    Args:
        id: dataset, scene, task and number, the same in every run.
        dataset: of the scene; scene its id; video_path its video; None where unknown.
        task: one of TASKS; question_type the name published files use.
        wording: how it is worded.
        names: what fills the question's places.
        question: the text.
        choices: option texts in the order of the letters; empty where there are none.
        options: the same with letters, as the published item holds them; None where there are none.
        ground_truth: the right answer, a number or an option's text.
        mc_answer: the right option's letter, None without options.
        value: the truth unrounded; an angle in degrees for directions; None where there is none.
        instance_ids: objects it is about; frame_ids frames it is about; frame_numbers as the question counts them.
        num_frames: of how many frames, None without frames.
    """

    id: str
    dataset: str | None
    scene: str
    video_path: str | None
    task: str
    question_type: str
    wording: str
    names: Mapping[str, str]
    question: str
    choices: tuple[str, ...]
    options: tuple[str | float, ...] | None
    ground_truth: str | float | int
    mc_answer: str | None
    value: float | None
    instance_ids: tuple[int, ...] = ()
    frame_ids: tuple[int | str, ...] = ()
    frame_numbers: tuple[int, ...] = ()
    num_frames: int | None = None

    @property
    def is_choice(self) -> bool:
        """Whether a letter is asked for; questions for a number may have options that nobody is shown."""
        return isinstance(self.ground_truth, str)


@dataclass(frozen=True)
class TaskResult:
    """The questions of one task and scene, and how many candidates fell for which reason."""

    items: tuple[QaItem, ...]
    rejected: Mapping[str, int]
