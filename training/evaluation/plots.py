"""A reliability plot as SVG: score by stated confidence, with how many answers each bin has. Computes no score."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_SIDE, _LEFT, _TOP, _COUNTS = 240, 44, 12, 56
_WIDTH, _HEIGHT = _LEFT + _SIDE + 12, _TOP + _SIDE + _COUNTS + 46
_SCORE_NAMES = {"choices": "accuracy", "numbers": "mean relative accuracy"}


def reliability_svg(part: Mapping, kind: str) -> str:
    """The plot.

    Args:
        part: of `reliability`, with bins.
        kind: `choices` or `numbers`.

    Returns:
        An SVG element: bars of the mean score in each bin of confidence, the diagonal where they should end, and
        below how many answers each bin has.
    """
    score_name = _SCORE_NAMES.get(kind, "score")
    most = max(entry["n"] for entry in part["bins"])
    pieces = [*_axes(), *(piece for entry in part["bins"] for piece in _bin(entry, most, score_name))]
    pieces.append(
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="currentColor" stroke-dasharray="4 3"/>'
    )
    pieces.append(_text(_x(0.5), _HEIGHT - 8, "stated confidence", "middle"))
    pieces.append(
        f'<text transform="translate(12 {_y(0.5)}) rotate(-90)" text-anchor="middle">{escape(score_name)}</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'font-family="sans-serif" font-size="11" fill="currentColor" role="img" '
        f'aria-label="reliability of {escape(kind)}">{"".join(pieces)}</svg>'
    )


def _bin(entry: Mapping, most: int, score_name: str) -> list[str]:
    left, right = _x(entry["low"]), _x(entry["high"])
    high, height, floor = _y(entry["score"]), 40 * entry["n"] / most, _TOP + _SIDE + _COUNTS
    tip = f"{entry['n']} answers, confidence {entry['confidence']:.2f}, {score_name} {entry['score']:.2f}"
    return [
        f'<rect x="{left + 1:.1f}" y="{high:.1f}" width="{right - left - 2:.1f}" height="{_y(0) - high:.1f}" '
        f'fill="#3b82c4" fill-opacity=".75"><title>{escape(tip)}</title></rect>',
        f'<circle cx="{_x(entry["confidence"]):.1f}" cy="{_y(entry["score"]):.1f}" r="3"/>',
        f'<rect x="{left + 1:.1f}" y="{floor - height:.1f}" width="{right - left - 2:.1f}" height="{height:.1f}" '
        f'fill="#888"><title>{entry["n"]} answers</title></rect>',
    ]


def _axes() -> list[str]:
    pieces = [
        f'<rect x="{_x(0)}" y="{_y(1)}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="currentColor"/>',
        _text(_LEFT - 5, _TOP + _SIDE + _COUNTS, "n", "end"),
    ]
    for step in range(0, 6):
        value = step / 5
        pieces.append(_text(_LEFT - 5, _y(value) + 4, f"{value:.1f}", "end"))
        pieces.append(_text(_x(value), _TOP + _SIDE + _COUNTS + 14, f"{value:.1f}", "middle"))
    return pieces


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _x(value: float) -> float:
    return _LEFT + _SIDE * value


def _y(value: float) -> float:
    return _TOP + _SIDE * (1 - value)
