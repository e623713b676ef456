"""One training sample: a conversation about a video. Says nothing of where it lies, reads no video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlm3r_core.labels import IMAGE_MARK

_ROLES = ("human", "gpt")


@dataclass(frozen=True)
class Sample:
    """A conversation about a video.

    Args:
        id: of the sample, as its file has it.
        root: folder the video's path is relative to.
        video: path of a video file or a folder of images, as the file has it.
        turns: what user and assistant say in turn, the user first; the first holds `<image>` once.
        question_type: the file's name of its task, "" where it names none.
    """

    id: str
    root: Path
    video: str
    turns: tuple[str, ...]
    question_type: str = ""

    @property
    def path(self) -> Path:
        """Where the video lies."""
        return self.root / self.video

    @property
    def opening(self) -> str:
        """What is said before the video; questions that share a pack say the same."""
        return self.turns[0].partition(IMAGE_MARK)[0]

    @property
    def words(self) -> int:
        """How long it is."""
        return sum(len(turn.split()) for turn in self.turns)


def sample_from_row(row: Mapping, root: Path, place: str) -> Sample:
    """A sample from a row of a published file; the row is left as it is.

    Args:
        row: with `video` and `conversations`, [{"from": "human" | "gpt", "value": text}, ...].
        root: folder of the videos.
        place: file and row, for messages.

    Raises:
        ValueError: there is no video, or no conversation of whole turns.

    Source: VLM-3R's training data, described in words.
    """
    video, talk = row.get("video"), row.get("conversations")
    if not isinstance(video, str) or not video:
        raise ValueError(f"{place} names no video; samples without one cannot be trained on, leave them out")
    good = isinstance(talk, list) and talk and len(talk) % 2 == 0 and all(isinstance(turn, Mapping) for turn in talk)
    if not good or [turn.get("from") for turn in talk] != [*_ROLES] * (len(talk) // 2):
        raise ValueError(f"{place} needs `conversations` in which human and gpt speak in turn, got {str(talk)[:120]!r}")
    turns = tuple(str(turn.get("value", "")) for turn in talk)
    if not all(turns[1::2]):
        raise ValueError(f"{place} has an empty answer; there is nothing to learn from it, leave it out")
    marks = [turn.count(IMAGE_MARK) for turn in turns]
    if marks[0] > 1 or any(marks[1:]):
        raise ValueError(f"{place} must hold {IMAGE_MARK} once, in its first turn; got it {sum(marks)} times")
    first = turns[0] if marks[0] else f"{IMAGE_MARK}\n{turns[0]}"
    return Sample(
        id=str(row.get("id", place)),
        root=root,
        video=video,
        turns=(first, *turns[1:]),
        question_type=str(row.get("question_type") or ""),
    )


def with_times(sample: Sample, instruction: str) -> tuple[str, ...]:
    """The turns with the time instruction where training puts it; the sample itself stays.

    Args:
        sample: whose turns.
        instruction: prompt.time_instruction's, or "" for none.

    Source: VLM-3R's training code, described in words: `<image>`, the instruction, then the first turn without
    `<image>`, each on a line of its own.
    """
    if not instruction:
        return sample.turns
    first = sample.turns[0].replace(IMAGE_MARK, "")
    return (f"{IMAGE_MARK}\n{instruction}\n{first}", *sample.turns[1:])
