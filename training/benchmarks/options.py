"""Option texts, letters and questions with their options inside. Pure text; reads no file."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence

from vlm3r_core.scene.scoring import LETTERS

_LETTER = re.compile(r"^\s*\(?([A-Za-z])(?:[).:\s]|$)")
_LEAD_IN = re.compile(r"\s*(?:Options|Choices|Select from the following choices)\s*[:.]?\s*$", re.IGNORECASE)


def lettered(texts: Sequence[object]) -> tuple[str, ...]:
    """`left`, `right` to `A. left`, `B. right`; texts that have their letters already keep their words alone.

    Raises:
        ValueError: more options than letters.
    """
    if len(texts) > len(LETTERS):
        raise ValueError(f"at most {len(LETTERS)} options can be lettered, got {len(texts)}")
    pairs = zip(LETTERS, texts, strict=False)
    return tuple(f"{letter}. {_bare(str(text), letter)}" for letter, text in pairs)


def letter_of(answer: object) -> str:
    """The letter of `C`, `(C)`, `c.` or `C. left`, "" where there is none."""
    found = _LETTER.match(str(answer))
    return found[1].upper() if found else ""


def option_list(value: object) -> list[str]:
    """Options from a list, or from the text of a JSON or Python list.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            try:
                value = ast.literal_eval(value)
            except (SyntaxError, ValueError):
                value = None
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"options must be a list of texts, got {value!r}")
    return [str(item) for item in value]


def split_options(text: str) -> tuple[str, list[str]]:
    """Parts a question and the options behind it, `... A. left B. right` or `... Options: A: left, B: right`.

    Returns:
        The question alone and the option texts without letters; the whole text and no options where there are not
        two or more in order.
    """
    marks = _marks(text)
    if len(marks) < 2:
        return text, []
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    options = [text[mark.end() : end].strip().rstrip(",;").strip() for mark, end in zip(marks, ends, strict=True)]
    return _LEAD_IN.sub("", text[: marks[0].start()]).strip(), options


def _marks(text: str) -> list[re.Match]:
    """The letters A, B, C ... with their sign, each the first after the one before."""
    marks: list[re.Match] = []
    for letter in LETTERS:
        found = re.compile(rf"(?<![\w(]){letter}\s?[.:)]\s*(?=\S)").search(text, marks[-1].end() if marks else 0)
        if found is None:
            return marks
        marks.append(found)
    return marks


def _bare(text: str, letter: str) -> str:
    return re.sub(rf"^\s*\(?{letter}[).:]\s*", "", text).strip()
