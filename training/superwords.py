"""The words of a small model's tokenizer: fixed phrases, categories and numbers, a token each. Trains nothing.

Phrases are cut out of the questions as they are worded: whatever stands between two places that are filled in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vlm3r_core.prompt import MCA_POST_PROMPT, PRE_PROMPT, SYSTEM_TEXT
from vlm3r_core.scene.formatting import answer_kind, prompt_text
from vlm3r_core.scene.questions import (
    TURN_TEXTS,
    WORDINGS,
    question_text,
    question_type,
    route_question,
    view_direction_text,
    view_distance_text,
)
from vlm3r_core.scene.tasks import TASKS

MOST_INTEGER, MOST_DECIMAL = 400, 20
# what fixed answers and options say, apart from the turns
_WORDS = (
    "left right back front-left front-right back-left back-right Left Right Near Far Up Down Forward Backward"
).split()
_JOINTS = (", ", " and ", ", and ", "\n", "(s)", " of ", "frame ", "The ", " the ", "?\n")
_THINGS = "category object object1 object2 primary stand face query A B".split()
_FRAMES = ("frame", "start", "end")
# stand for what is filled in, each its own character of Unicode's private area
_MARKS = tuple(chr(0xE000 + place) for place in range(12))
_ANY_MARK = re.compile(f"[{_MARKS[0]}-{_MARKS[-1]}]")


def number_words() -> list[str]:
    """Integers from 0, then numbers with one decimal."""
    integers = [str(value) for value in range(MOST_INTEGER + 1)]
    return integers + [f"{tenths / 10:.1f}" for tenths in range(1, 10 * MOST_DECIMAL + 1)]


def phrases() -> list[str]:
    """Every fixed piece of the questions and of the chat template, sorted."""
    found = {"system\n", "user\n", "assistant\n", SYSTEM_TEXT, f"\n{PRE_PROMPT}\n", f"\n{MCA_POST_PROMPT}"}
    found.update(_WORDS, _JOINTS, TURN_TEXTS.values())
    for message in (*_questions(), *_views(), *_routes()):
        found.update(piece for piece in _ANY_MARK.split(f"\n{message}") if piece)
    # a single byte has a token already
    return sorted(piece for piece in found if len(piece) > 1)


def _questions() -> Iterator[str]:
    """Messages of all tasks but route plans, with marks where something is filled in."""
    for wording in WORDINGS:
        for task in TASKS:
            names = dict.fromkeys(_THINGS, _MARKS[0]) | {"mentioned": ", ".join(_MARKS[:2])}
            names |= dict.fromkeys(_FRAMES, f"frame {_MARKS[0]} of {_MARKS[0]}")
            kind = answer_kind(question_type(task, wording=wording))
            for count in (2, 3, 4):
                text = question_text(task, names, _MARKS[:count], wording=wording)
                yield prompt_text(text, _options(count), kind)


def _views() -> Iterator[str]:
    """Messages about the current view."""
    yield prompt_text(view_direction_text(_MARKS[0]), _options(4), "choice")
    yield prompt_text(view_distance_text(_MARKS[0]), None, "number")


def _routes() -> Iterator[str]:
    start, facing, goal, *via = _MARKS[:7]
    for count in range(4):
        for beginning in ((start, facing), ("", "")):
            for way in ((facing, *via[: count - 1]) if count else (), tuple(via[:count])):
                text = route_question(*beginning, goal, way).text
                for options in (2, 3, 4):
                    yield prompt_text(text, _options(options), "choice")


def _options(count: int) -> list[str]:
    return [f"{letter}. {mark}" for letter, mark in zip("ABCD", _MARKS[:count], strict=False)]
