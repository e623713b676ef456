"""The words and numbers of the report: the table of runs, an episode's outcome, its figures. Computes no metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sim.reporting.run_data import RunData

NOTHING = "-"


def number(value: object, digits: int = 2, unit: str = "") -> str:
    """A number as text; a dash where there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return NOTHING
    text = ("∞" if value > 0 else "-∞") if math.isinf(value) else f"{value:.{digits}f}"
    return f"{text} {unit}".strip()


def percent(value: object) -> str:
    """A share in 0..1 as percent."""
    return number(100 * value, 1, "%") if isinstance(value, (int, float)) else NOTHING


def count(value: object) -> str:
    """A whole number as text."""
    return number(value, 0)


# Columns of the table of runs: title, key in the summary, how its number is written, what it means.
_COLUMNS = (
    ("SR 1 m", "success_1m", percent, "share of episodes stopped within 1 m of the goal"),
    ("SR 3 m", "success_3m", percent, "share of episodes stopped within 3 m of the goal"),
    ("OSR", "oracle_success", percent, "share of episodes that were near enough to the goal at any time"),
    ("SPL", "spl", number, "success weighted by path length, 0 to 1"),
    ("NE, m", "ne_m", number, "navigation error: walking distance from the end to the goal, metres"),
    ("nDTW", "ndtw", number, "likeness of the walked and the reference path, 0 to 1"),
    ("path, m", "path_m", number, "metres walked, mean of an episode"),
    ("collisions", "collisions", number, "mean of an episode"),
    ("answers", "answer_accuracy", percent, "mean score of the answers"),
    ("unseen", "answers_before_seen", count, "answers given before the thing asked for was seen"),
)


def table_columns() -> list[dict]:
    """Titles and meanings of the columns of figures."""
    return [{"title": title, "meaning": meaning} for title, _, _, meaning in _COLUMNS]


def run_row(run: RunData) -> dict:
    """A run's row in the table of runs."""
    cells = []
    for _, key, write, _ in _COLUMNS:
        value, interval = _figure(run.results["summary"], key)
        small = [] if interval is None else [" to ".join(_end(end, write) for end in interval)]
        if key == "answer_accuracy":
            small += _by_kind(run.results["summary"])
        cells.append({"value": write(value), "small": small})
    planned = len(run.limits)
    done = len(run.episodes)
    return {
        "label": run.label,
        "folder": run.folder.resolve().name,
        "task": run.results["task"],
        "seed": run.results.get("seed", NOTHING),
        "episodes": f"{done} of {planned}" if planned > done else str(done),
        "cells": cells,
        "latency": latency_text([ms for entry in run.timings.values() for ms in entry["latency_ms"]]),
    }


def latency_text(latencies_ms: Sequence[float | None]) -> str:
    """Median and 99th percentile."""
    known = [value for value in latencies_ms if value is not None and math.isfinite(value)]
    if not known:
        return NOTHING
    middle, late = np.percentile(known, [50, 99])
    return " / ".join(f"{value:.1f}" if value < 100 else f"{value:.0f}" for value in (middle, late))


def _by_kind(summary: dict) -> list[str]:
    """Mean score of each kind of question, where there are several."""
    kinds = summary.get("answers")
    if not isinstance(kinds, Mapping) or len(kinds) < 2:
        return []
    return [f"{kind} {_end(_figure(kinds, kind)[0], percent)}" for kind in sorted(kinds)]


def _end(value: object, write: Callable[[object], str]) -> str:
    """An end of an interval, as short as it can be."""
    return number(100 * value, 0) if write is percent and isinstance(value, (int, float)) else write(value)


def _figure(summary: dict, key: str) -> tuple[object, Sequence[float] | None]:
    """A summary's figure and its 95 % interval: a plain number has none."""
    value = summary.get(key)
    if not isinstance(value, Mapping):
        return value, None
    interval = value.get("low"), value.get("high")
    return value.get("mean"), None if None in interval else interval


def outcome(episode: dict) -> dict:
    """How an episode ended: `kind` (ok, near, miss) and a word for it."""
    if episode["success_1m"]:
        return {"kind": "ok", "word": "success"}
    if episode["success_3m"]:
        return {"kind": "near", "word": "within 3 m"}
    return {"kind": "miss", "word": "failure"}


def reason(episode: dict, max_steps: int | None) -> str:
    """Why an episode ended as it did, in a sentence."""
    if episode.get("error"):
        return f"Error: {episode['error']}"
    distance, steps = episode["ne_m"], number(episode["steps"], 0)
    if distance is None or math.isnan(distance):
        away = "at an unknown distance from the goal"
    elif math.isinf(distance):
        away = "where no way leads to the goal"
    else:
        away = f"{distance:.2f} m from the goal"
    if episode["success_1m"]:
        return f"Stopped {away}."
    passed = " It had been near enough on the way." if episode["oracle_success"] else ""
    if episode["stopped"]:
        return f"Stopped {away}, more than 1 m.{passed}"
    if isinstance(max_steps, int) and (episode["steps"] or 0) >= max_steps:
        return f"Never stopped: all {max_steps} steps were used, {away}.{passed}"
    return f"Never stopped: ended after {steps} steps, {away}.{passed}"


def question_rows(episode: dict, latencies_ms: Sequence[float | None]) -> list[dict]:
    """An episode's questions as text; one that was asked before is told by its number."""
    rows, first = [], {}
    for place, item in enumerate(episode["questions"]):
        latency = latencies_ms[place] if place < len(latencies_ms) else None
        asked = text(item.get("asked"))
        before = first.setdefault(asked, place + 1)
        options = item.get("options") or []
        rows.append(
            {
                "number": place + 1,
                "asked": asked if before == place + 1 else f"as question {before}",
                "options": " / ".join(map(text, options)) if isinstance(options, list) else text(options),
                "answer": text(item.get("answer")),
                "truth": text(item.get("truth")),
                "score": number(item.get("score")),
                "full": item.get("score") == 1,
                "early": item.get("seen_before_answer") is False,
                "seen": {True: "yes", False: "no"}.get(item.get("seen_before_answer"), NOTHING),
                "confidence": number(item.get("confidence")),
                "latency": number(latency, 0),
            }
        )
    return rows


def text(value: object) -> str:
    """Anything of a results file as text."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(text(item) for item in value)
    return str(value)
