"""Results of one or several runs as one HTML page with bars and reliability plots. Computes no score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from training.evaluation.plots import reliability_svg
from training.evaluation.tables import (
    BENCHMARK_TITLES,
    main_columns,
    method_rows,
    reason_lines,
    run_title,
    show,
    shown_benchmarks,
)

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr.average td { font-weight: 600; }
.bar { position: relative; width: 16rem; height: 1.05rem; background: var(--soft); border-radius: 2px; }
.bar i { position: absolute; inset: 0 auto 0 0; background: #3b82c4; border-radius: 2px; }
.bar b { position: absolute; top: 45%; height: 2px; background: currentColor; }
.bar u { position: absolute; top: 0; bottom: 0; width: 2px; background: #d9822b; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: 0; } figcaption { font-size: .9em; }
.key { font-size: .9em; opacity: .8; } .bad { color: #c0392b; }
"""
_KEY = (
    "Bars: score. Dark line: 95 % interval, whole scenes drawn. Orange mark: the best of the baselines (random, most "
    "frequent answer, blind). Balanced: every right answer of a task counts the same."
)


def html_page(runs: Sequence[dict]) -> str:
    """A page that carries everything with it; the same results give the same bytes.

    Args:
        runs: contents of results.json, all of the same questions.
    """
    title = "Evaluation of " + ", ".join(dict.fromkeys(run_title(run["settings"]) for run in runs))
    body = "\n".join(_section(runs, name) for name in shown_benchmarks(runs))
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n<h1>{escape(title)}</h1>\n{body}\n</html>\n"
    )


def _section(runs: Sequence[dict], benchmark: str) -> str:
    with_it = [run for run in runs if benchmark in run["benchmarks"]]
    first = with_it[0]["benchmarks"][benchmark]
    columns = main_columns(runs, benchmark)
    rows = [[title, *(show(scores.get(name)) for name in columns)] for title, scores in method_rows(runs, benchmark)]
    parts = [
        f"<h2>{escape(BENCHMARK_TITLES.get(benchmark, benchmark))}</h2>",
        f"<p>{first['questions']:,} questions about {first['scenes']:,} scenes.</p>",
        _table(["method", *columns.values()], rows),
    ]
    for run in with_it:
        own = run["benchmarks"][benchmark]
        if own["reliability"] is not None:
            parts.append(_run(run, own))
    return "\n".join(parts)


def _run(run: Mapping, summary: Mapping) -> str:
    rows = [
        f"<tr{' class=average' if entry['average'] else ''}>"
        + "".join(f"<td>{cell}</td>" for cell in (escape(entry["title"]), f"{entry['n']:,}", show(entry["score"])))
        + f"<td>{show(entry['low'])} to {show(entry['high'])}</td>"
        + f"<td>{show((entry.get('balanced') or {}).get('score'))}</td><td>{_bar(entry)}</td></tr>"
        for entry in summary["columns"].values()
    ]
    header = "".join(f"<th>{name}</th>" for name in ("task", "questions", "score", "95 % interval", "balanced", ""))
    plots = "".join(
        f"<figure>{reliability_svg(part, kind)}<figcaption>{escape(kind)}: calibration error "
        f"{100 * part['ece']:.1f} points, {part['n']:,} answers</figcaption></figure>"
        for kind, part in summary["reliability"].items()
    )
    failed = "".join(f"<li>{escape(line)}</li>" for line in reason_lines(summary["reasons"]))
    return (
        f"<h3>{escape(run_title(run['settings']))}</h3>\n<p class=key>{_KEY}</p>\n"
        f'<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>\n'
        f'<div class="plots">{plots}</div>\n'
        + (f'<p class="bad">Not answered, scored 0:</p><ul>{failed}</ul>\n' if failed else "")
    )


def _bar(entry: Mapping) -> str:
    """A score in 0..100 with its interval and the best baseline."""
    best = max((entry[name] for name in ("random", "frequent", "blind") if entry[name] == entry[name]), default=None)
    mark = f'<u style="left:{best:.2f}%"></u>' if best is not None else ""
    return (
        f'<div class="bar"><i style="width:{entry["score"]:.2f}%"></i>'
        f'<b style="left:{entry["low"]:.2f}%;width:{entry["high"] - entry["low"]:.2f}%"></b>{mark}</div>'
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
