"""Reads SITE-Bench in the tables of the EASI leaderboard; its original annotation files are not read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.benchmarks.options import letter_of, lettered, option_list
from training.benchmarks.question import BenchmarkQuestion
from training.benchmarks.rows import field, find_tables, number_rows, require_tables

SOURCE = "SiteBenchImage.tsv and SiteBenchVideo.tsv with the files of franky-veteran/SITE-Bench unpacked beside them"


def read_site(root: Path) -> Iterator[BenchmarkQuestion]:
    """Questions about pictures and about videos; either table may be missing.

    Args:
        root: the folder with the tables; the paths in them are relative to it.

    Raises:
        FileNotFoundError: neither table is there.
        ValueError: a row lacks a field or its options are no list.

    Source: readers of these tables in VLMEvalKit. Differs: marks of pictures inside a text become `image 1`, `image 2`,
    as all pictures stand before the question.
    """
    tables = [*find_tables(root, "SiteBenchImage"), *find_tables(root, "SiteBenchVideo")]
    for path, number, row in number_rows(tables or require_tables(root, "SiteBenchImage", source=SOURCE)):
        is_video = path.stem.startswith("SiteBenchVideo")
        names = _names(field(row, "video_path" if is_video else "image_path", path))
        files = tuple(root / name.lstrip("/") for name in names)
        options = option_list(field(row, "candidates" if is_video else "options", path))
        texts = _numbered([str(field(row, "question", path)), *options])
        yield BenchmarkQuestion(
            id=f"{'video' if is_video else 'image'}-{row.get('index', number)}",
            benchmark="site",
            question_type=str(field(row, "category", path)),
            question=texts[0],
            options=lettered(texts[1:]),
            truth=letter_of(field(row, "answer", path)),
            scene=str(files[0]) if files else str(number),
            video=files[0] if is_video and files else None,
            pictures=() if is_video else files,
        )


def _names(value: object) -> list[str]:
    """One path, or the text of a list of them."""
    text = str(value).strip()
    return option_list(text) if text.startswith("[") else [text]


def _numbered(texts: list[str]) -> list[str]:
    """Each mark of a picture by its number, counted through question and options."""
    count, numbered = 0, []
    for text in texts:
        first, *others = text.split("<image>")
        for piece in others:
            count += 1
            first += f"image {count}{piece}"
        numbered.append(first)
    return numbered
