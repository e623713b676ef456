"""Small plots of one or several runs as numbers for an SVG: by scene, histograms, reliability. Writes no markup."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sim.reporting.run_data import RunData

_WIDTH, _HEIGHT = 440, 240
# Space around the axes, pixels: left, top, right, bottom; long labels below are slanted and need more.
_LEFT, _TOP, _RIGHT, _BOTTOM, _BOTTOM_SLANTED = 46, 12, 18, 42, 78
_BINS, _PER_DECADE = 10, 5
_LABEL_CHARS = 14
_NICE = (1, 2, 2.5, 5, 10)


def make_plots(runs: Sequence[RunData]) -> list[dict]:
    """Every plot the runs have numbers for."""
    plots = [
        _success_by_scene(runs),
        _histogram(runs, "spl", "SPL", "SPL (0 to 1)", np.linspace(0.0, 1.0, _BINS + 1)),
        _histogram(runs, "ne_m", "Distance to the goal at the end", "navigation error, m", None),
        _latency(runs),
        _reliability(runs),
    ]
    return [plot for plot in plots if plot is not None]


def _success_by_scene(runs: Sequence[RunData]) -> dict | None:
    scenes = sorted({entry["scene"] for run in runs for entry in run.episodes})
    if not scenes:
        return None
    values, tips = [], []
    for run in runs:
        done = [[entry["success_1m"] for entry in run.episodes if entry["scene"] == scene] for scene in scenes]
        done = [[flag for flag in flags if flag is not None] for flags in done]
        values.append([float(np.mean(flags)) if flags else 0.0 for flags in done])
        tips.append([f"{sum(flags)} of {len(flags)}" for flags in done])
    names = [scene if len(scene) <= _LABEL_CHARS else scene[: _LABEL_CHARS - 1] + "…" for scene in scenes]
    return _bars("Success by scene", "scene", "stopped within 1 m, %", names, values, tips, top=1.0)


def _histogram(runs: Sequence[RunData], field: str, title: str, x_label: str, edges: np.ndarray | None) -> dict | None:
    series = [_finite(entry[field] for entry in run.episodes) for run in runs]
    return _shares(title, x_label, "episodes", series, _edges_up_to(series) if edges is None else edges)


def _latency(runs: Sequence[RunData]) -> dict | None:
    """In bins that grow, as latencies spread over decades."""
    series = [_finite(value for entry in run.timings.values() for value in entry["latency_ms"]) for run in runs]
    every = np.concatenate(series) if series else np.zeros(0)
    every = every[every > 0]
    if not len(every):
        return None
    low, high = math.floor(math.log10(every.min())), math.ceil(math.log10(every.max()) + 1e-9)
    edges = 10.0 ** np.linspace(low, max(high, low + 1), _PER_DECADE * max(high - low, 1) + 1)
    series = [np.clip(values, edges[0], edges[-1]) for values in series]
    texts = _edge_texts(edges, _PER_DECADE)
    return _shares("Time to an answer", "latency, ms (logarithmic)", "questions", series, edges, texts)


def _reliability(runs: Sequence[RunData]) -> dict | None:
    """Mean score of the answers by the confidence they came with; the diagonal is what it should be."""
    edges, found = np.linspace(0.0, 1.0, _BINS + 1), False
    values, tips = [], []
    for run in runs:
        asked = [item for entry in run.episodes for item in entry["questions"]]
        pairs = [(item.get("confidence"), item.get("score")) for item in asked]
        pairs = [pair for pair in pairs if all(isinstance(v, (int, float)) and math.isfinite(v) for v in pair)]
        found = found or bool(pairs)
        bins = [min(int(min(max(confidence, 0.0), 1.0) * _BINS), _BINS - 1) for confidence, _ in pairs]
        scores = [[score for (_, score), at in zip(pairs, bins, strict=True) if at == i] for i in range(_BINS)]
        values.append([float(np.mean(part)) if part else 0.0 for part in scores])
        tips.append([f"{len(part)} answers" for part in scores])
    if not found:
        return None
    plot = _bars("Reliability", "confidence (0 to 1)", "mean score, %", _edge_texts(edges), values, tips, top=1.0)
    plot["diagonal"] = True
    return plot


def _shares(
    title: str, x_label: str, of: str, series: list[np.ndarray], edges: np.ndarray, texts: list[str] | None = None
) -> dict | None:
    """A histogram whose bars are shares of each run's own count; texts stand at the edges instead of their numbers."""
    if not any(len(values) for values in series):
        return None
    counts = [np.histogram(values, edges)[0] for values in series]
    shares = [(count / max(count.sum(), 1)).tolist() for count in counts]
    tips = [[f"{n} {of}" for n in count] for count in counts]
    top = max(max(share) for share in shares)
    return _bars(title, x_label, f"{of}, %", texts or _edge_texts(edges), shares, tips, top=math.ceil(top * 5) / 5)


def _bars(
    title: str,
    x_label: str,
    y_label: str,
    labels: list[str],
    values: list[list[float]],
    tips: list[list[str]],
    *,
    top: float,
) -> dict:
    """Groups of bars, one bar a run.

    Args:
        labels: one for each group, set under it; or one more than groups, set at the groups' edges.
        values: shares in 0..1, by run and group.
        tips: what a pointer over a bar shows, by run and group.
        top: the share at the upper end of the axis.
    """
    groups = len(values[0])
    at_edges = len(labels) == groups + 1
    slanted = not at_edges and max(map(len, labels)) * groups > 42
    bottom = _BOTTOM_SLANTED if slanted else _BOTTOM
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - bottom
    pitch = width / groups
    wide = min(pitch * 0.84 / len(values), 60.0)
    bars = []
    for series, (shares, notes) in enumerate(zip(values, tips, strict=True)):
        for group, (share, note) in enumerate(zip(shares, notes, strict=True)):
            x = _LEFT + pitch * (group + 0.5) + wide * (series - len(values) / 2)
            tall = height * share / top
            place = {"x": round(x, 1), "y": round(_TOP + height - tall, 1), "width": round(wide, 1)}
            tip = f"{100 * share:.0f} % ({note})"
            bars.append(place | {"height": round(tall, 1), "series": series, "tip": tip})
    return {
        "title": title,
        "x_label": x_label,
        "y_label": y_label,
        "width": _WIDTH,
        "height": _HEIGHT,
        "axes": {"left": _LEFT, "top": _TOP, "right": _WIDTH - _RIGHT, "bottom": _HEIGHT - bottom},
        "bars": bars,
        "slanted": slanted,
        "x_ticks": [
            {"x": round(_LEFT + pitch * (i if at_edges else i + 0.5), 1), "text": text} for i, text in enumerate(labels)
        ],
        "y_ticks": [
            {"y": round(_TOP + height * (1 - part / 4), 1), "text": f"{100 * top * part / 4:.0f}"} for part in range(5)
        ],
        "diagonal": False,
    }


def _finite(values) -> np.ndarray:
    return np.array([value for value in values if value is not None and math.isfinite(value)], np.float64)


def _edges_up_to(series: list[np.ndarray]) -> np.ndarray:
    """Edges of bins from 0 to a round number above all values, 1 at least."""
    step = max([1.0, *(float(values.max()) for values in series if len(values))]) / _BINS
    decade = 10.0 ** math.floor(math.log10(step))
    return np.arange(_BINS + 1) * next(n for n in _NICE if n * decade >= step * (1 - 1e-9)) * decade


def _edge_texts(edges: np.ndarray, every: int = 1) -> list[str]:
    """Texts of edges, of every so many."""
    return [f"{edge:.10g}" if i % every == 0 else "" for i, edge in enumerate(edges)]
