"""A reader's settings out of named values, such as a command line gives them. Knows no reader."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import TypeVar

from vlm3r_core.config import check_choice

Settings = TypeVar("Settings")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def settings_from(
    kind: type[Settings], given: Settings | None, *, as_published: bool, options: Mapping[str, object]
) -> Settings:
    """Settings of a reader.

    Args:
        kind: a dataclass of plain values with a classmethod `published`.
        given: settings that are there already; then nothing else may be.
        as_published: start from kind.published() instead of the defaults.
        options: values by name; texts are read as the field's type.

    Raises:
        ValueError: no such setting, a value of another type or out of range, or both settings and options.
    """
    if given is not None:
        if as_published or options:
            raise ValueError("give either settings or options of a reader, not both")
        return given
    defaults = {item.name: item.default for item in fields(kind)}
    for name in options:
        check_choice(f"option of {kind.__name__}", name, tuple(defaults))
    values = {name: _typed(name, value, type(defaults[name])) for name, value in options.items()}
    return kind.published(**values) if as_published else kind(**values)


def _typed(name: str, value: object, kind: type) -> object:
    if kind is bool and isinstance(value, str):
        value = _WORDS.get(value.lower(), value)
    elif isinstance(value, str) and kind in (int, float):
        with suppress(ValueError):
            value = kind(value)
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ValueError(f"option {name} must be of type {kind.__name__}, got {value!r}")
    return value
