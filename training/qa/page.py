"""The statistics of a question set as one HTML page that carries everything with it. Computes no number."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from tqdm import tqdm

from training.qa import statistics
from training.qa.files import STATISTICS, write_bytes
from training.qa.parts import Part
from training.qa.pictures import as_data_uri, question_picture
from training.qa.settings import QaSettings
from vlm3r_core.scene.tasks import QaItem
from vlm3r_core.scene.tasks.draws import seeded

_log = logging.getLogger(__name__)
_WORDS_SHOWN, _SKIPPED_SHOWN = 12, 100
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; } td.text { white-space: normal; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: 0 0 1.5rem; } figcaption { font-size: .9em; }
figure img { max-width: 100%; height: auto; } .right { font-weight: 600; } .key { font-size: .9em; opacity: .8; }
"""
_BLIND_KEY = (
    "Scores in percent; accuracy, or mean relative accuracy for numbers. Blind: priors of questions and options "
    "learned on other scenes of the set, no frames. A task is worth asking as far as a model can beat it."
)
_PUBLISHED_KEY = (
    "The last columns are a scene's questions in the published training set (2,057 scenes for VSI-Bench's kinds, 1,201 "
    "for VSTI-Bench's, no appearance order) and in VSI-Bench (288 scenes)."
)


def write_page(
    out: Path,
    items: Sequence[QaItem],
    parts: Sequence[Part],
    rejected: Mapping,
    settings: QaSettings,
    summary: Mapping,
    *,
    progress: bool = True,
) -> None:
    """Writes the page; the same set gives the same bytes.

    Args:
        out: folder of the set, with its videos.
        items: the questions.
        parts: the scenes that were used.
        rejected: contents of rejected.json.
        settings: how the set was made.
        summary: questions, scenes, skipped.
        progress: show a bar while pictures are drawn.
    """
    by_task: dict[str, list[QaItem]] = defaultdict(list)
    for item in items:
        by_task[item.task].append(item)
    scenes = [part.scene_id for part in parts]
    body = [
        f"<p>{summary['questions']:,} questions about {summary['scenes']:,} scenes, "
        f"{summary['skipped']:,} scans skipped. Seed {settings.seed}, distances "
        f"{escape(settings.generator.truth)}, wording {escape(settings.generator.wording)}"
        f"{', with the published defects' if settings.generator.as_published else ''}.</p>",
        "<h2>Questions</h2>",
        _published(items, len(scenes)),
        _tasks(by_task, settings.tasks, items, scenes),
        "<h2>What is answered without frames</h2>",
        _blind(statistics.text_scores(items, settings.seed)),
        "<h2>Answers</h2>",
        '<div class="plots">' + "".join(_histogram(task, by_task[task]) for task in settings.tasks if by_task[task]),
        "</div>",
        "<h2>Letters</h2>",
        _letters(by_task, settings.tasks),
        "<h2>Rejected</h2>",
        _rejected(rejected, summary),
        "<h2>Samples</h2>",
        *_samples(out, by_task, parts, settings, progress),
    ]
    page = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Spatial questions</title>\n'
        f"<style>{_STYLE}</style>\n<h1>Spatial questions</h1>\n{chr(10).join(body)}\n</html>\n"
    )
    write_bytes(out / STATISTICS, page.encode("utf-8", "xmlcharrefreplace"))


def _published(items: Sequence[QaItem], scenes: int) -> str:
    rows = [
        [escape(name), f"{count:,}", *("" if value is None else f"{value:.1f}" for value in means)]
        for name, count, *means in statistics.published_rows(items, scenes)
    ]
    return (
        _table(["kind", "questions", "a scene", "training set", "VSI-Bench"], rows)
        + f'<p class="key">{_PUBLISHED_KEY}</p>'
    )


def _tasks(by_task: Mapping, tasks: Iterable[str], items: Sequence[QaItem], scenes: Sequence[str]) -> str:
    rows = []
    for task in tasks:
        mean, fewest, most = statistics.per_scene(by_task[task], scenes, task)
        rows.append([task, f"{len(by_task[task]):,}", f"{mean:.1f}", f"{fewest:,}", f"{most:,}"])
    rows.append(["all", f"{len(items):,}", f"{len(items) / len(scenes):.1f}", "", ""])
    return _table(["task", "questions", "a scene", "fewest", "most"], rows)


def _blind(scores: Mapping[str, Sequence[float]]) -> str:
    rows = [
        [task, f"{tried:,}", *(f"{100 * value:.1f}" for value in values)] for task, (*values, tried) in scores.items()
    ]
    return _table(["task", "questions", "random", "most frequent", "blind"], rows) + f'<p class="key">{_BLIND_KEY}</p>'


def _histogram(task: str, items: Sequence[QaItem]) -> str:
    counts = statistics.answer_counts(items)
    shown = counts[:_WORDS_SHOWN] if items[0].is_choice else counts
    most, height, width = max(count for _, count in shown), 15, 340
    bars = [
        f'<text x="116" y="{15 * row + 11}" text-anchor="end">{escape(name[:22])}</text>'
        f'<rect x="120" y="{15 * row + 2}" width="{170 * count / most:.1f}" height="11" fill="#3b82c4"/>'
        f'<text x="{124 + 170 * count / most:.1f}" y="{15 * row + 11}">{count:,}</text>'
        for row, (name, count) in enumerate(shown)
    ]
    left_out = f", {len(counts) - len(shown):,} rarer answers not shown" if len(counts) > len(shown) else ""
    return (
        f'<figure><svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height * len(shown) + 4}" '
        f'font-family="sans-serif" font-size="10" fill="currentColor" role="img" '
        f'aria-label="answers of {escape(task)}">{"".join(bars)}</svg>'
        f"<figcaption>{escape(task)}{left_out}</figcaption></figure>"
    )


def _letters(by_task: Mapping[str, Sequence[QaItem]], tasks: Iterable[str]) -> str:
    rows, total = [], Counter()
    for task in tasks:
        counts = statistics.letter_counts(by_task[task])
        total += counts
        if counts:
            rows.append([task, *(f"{counts[letter]:,}" if counts[letter] else "" for letter in "ABCD")])
    if not rows:
        return "<p>No task with options.</p>"
    rows.append(["all", *(f"{total[letter]:,}" for letter in "ABCD")])
    return _table(["task", *"ABCD"], rows)


def _rejected(rejected: Mapping, summary: Mapping) -> str:
    rows = [
        [task, f'<span class="text">{escape(reason)}</span>', f"{count:,}"]
        for task, reasons in rejected["candidates"].items()
        for reason, count in reasons.items()
    ]
    parts = [_table(["task", "reason", "candidates"], rows) if rows else "<p>No candidate was rejected.</p>"]
    scans = rejected["scans"]
    if scans:
        shown = [[escape(f"{s['dataset']}/{s['scene_name']}"), escape(s["reason"])] for s in scans[:_SKIPPED_SHOWN]]
        parts.append(f"<h3>{len(scans):,} scans skipped</h3>" + _table(["scan", "reason"], shown, text=True))
        if len(scans) > len(shown):
            parts.append(f"<p>{len(scans) - len(shown):,} more are in rejected.json.</p>")
    else:
        parts.append(f"<p>None of {summary['scenes']:,} scans was skipped.</p>")
    return "".join(parts)


def _samples(
    out: Path, by_task: Mapping[str, Sequence[QaItem]], parts: Sequence[Part], settings: QaSettings, progress: bool
) -> Iterable[str]:
    part_of = {part.scene_id: part for part in parts}
    chosen = []
    for task in settings.tasks:
        rng = seeded(settings.seed, "samples", task)
        places = rng.permutation(len(by_task[task]))[: settings.pictures]
        chosen += [by_task[task][place] for place in sorted(places.tolist())]
    for item in tqdm(chosen, desc="pictures", unit="picture", disable=None if progress else True):
        yield _sample(out, item, part_of[item.scene])


def _sample(out: Path, item: QaItem, part: Part) -> str:
    try:
        picture = question_picture(item, part.graph(), out / part.video if part.video else None)
        image = f'<img src="{as_data_uri(picture)}" width="{picture.width}" height="{picture.height}" alt="">'
    except (ValueError, OSError) as error:
        _log.warning("no picture of %s: %s", item.id, error)
        image = f"<p>No picture: {escape(str(error))}</p>"
    options = "".join(
        f"<br><span{' class=right' if str(option)[:1] == item.mc_answer else ''}>{escape(str(option))}</span>"
        for option in (item.options or () if item.is_choice else ())
    )
    answer = "" if item.is_choice else f'<br><span class="right">{escape(str(item.ground_truth))}</span>'
    text = escape(item.question).replace("\n", "<br>")
    return f"<h3>{escape(item.id)}</h3><figure>{image}<figcaption>{text}{options}{answer}</figcaption></figure>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, text: bool = False) -> str:
    head = "".join(f"<th>{name}</th>" for name in header)
    cell = '<td class="text">' if text else "<td>"
    lines = "".join("<tr>" + "".join(f"{cell}{value}</td>" for value in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
