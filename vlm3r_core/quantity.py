"""Numbers with units in questions and answers. Knows no model, and no question by heart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import nan

# Longer spellings first: the pattern below takes the first that fits.
_UNITS = {
    "m^2": ("square meters", "square metres", "square meter", "square metre", "sq m", "m^2", "m2", "m²"),
    "cm": ("centimeters", "centimetres", "centimeter", "centimetre", "cm"),
    "m": ("meters", "metres", "meter", "metre", "m"),
    "deg": ("degrees", "degree", "deg", "°"),
    "s": ("seconds", "second", "sec", "s"),
}
_SPELLINGS = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings}
_UNIT_PATTERN = "|".join(re.escape(spelling) for spelling in sorted(_SPELLINGS, key=len, reverse=True))
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_DIGITS = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<number>[-+]?(?:{_DIGITS})|(?:{'|'.join(_WORDS)})\b)\s*(?P<unit>(?:{_UNIT_PATTERN})(?![a-z]))?",
    re.IGNORECASE,
)
_ASKED_UNIT = re.compile(rf"\b(?:in|of)\s+(?P<unit>{_UNIT_PATTERN})(?![a-z])", re.IGNORECASE)
_COUNT = re.compile(r"\bhow many\b|\bnumber of\b", re.IGNORECASE)
_MEASURE = re.compile(
    r"\bhow (?:far|long|tall|wide|high|deep|big|large|much)\b|"
    r"\bwhat is the (?:\w+ )*(?:distance|size|length|width|height|area|angle)\b",
    re.IGNORECASE,
)


def infer_answer_type(question: str, options: Sequence[str]) -> str:
    """What `auto` means for a question: `choice` with options, `number` when it asks for an amount, else `text`."""
    if options:
        return "choice"
    wanted = _COUNT.search(question) or _MEASURE.search(question) or _ASKED_UNIT.search(question)
    return "number" if wanted else "text"


def asked_unit(question: str) -> str:
    """The unit a question asks for, `count` for a how-many question, "" where it names none."""
    match = _ASKED_UNIT.search(question)
    if match:
        return _SPELLINGS[match["unit"].lower()]
    return "count" if _COUNT.search(question) else ""


def parse_number(text: str) -> tuple[float, str]:
    """The first number in a text and the unit after it.

    Understands digits, a decimal point, thousands commas and the words zero to twelve.

    Returns:
        (value, unit), the unit as in Answer.unit or ""; (NaN, "") where there is no number.
    """
    match = _NUMBER.search(text)
    if match is None:
        return nan, ""
    word = match["number"].lower()
    value = float(_WORDS.index(word)) if word in _WORDS else float(word.replace(",", ""))
    return value, _SPELLINGS.get((match["unit"] or "").lower(), "")
