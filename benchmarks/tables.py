"""Rows of a benchmark as a Markdown table. Formats; it neither measures nor writes files."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> str:
    """A table whose columns line up as plain text too: first column left, the others right.

    Args:
        header: column names.
        rows: cells in the header's order; numbers are shown with three significant digits, None as a dash.
    """
    cells = [list(header), *[[show(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    rule = [":" + "-" * (widths[0] - 1), *["-" * (width - 1) + ":" for width in widths[1:]]]
    return "\n".join(_line(row, widths) for row in [cells[0], rule, *cells[1:]])


def show(value: str | float | None) -> str:
    """One cell: three significant digits for a number, no exponent."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or not value else f"{value:.4f}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [row[0].ljust(widths[0]), *[cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]]
    return "| " + " | ".join(padded) + " |"
