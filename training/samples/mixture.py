"""Reads training samples: published JSON, JSONL and YAML mixtures, Parquet, our question sets. Opens no video."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from training.benchmarks.question_set import QUESTIONS, read_question_set
from training.benchmarks.rows import read_rows
from training.samples.sample import Sample, sample_from_row
from vlm3r_core.labels import IMAGE_MARK
from vlm3r_core.scene.formatting import training_item

TRAINING_FILE = "train.json"
_SUFFIXES = (".json", ".jsonl", ".parquet")
_STRATEGY = re.compile(r"(first|end|random):(\d+(?:\.\d+)?)(%?)")
_UNSUPPORTED = ("is_spar", "with_depth")

_log = logging.getLogger(__name__)


def read_samples(data: Path, videos: Path | None = None, *, sampling: str = "all", seed: int = 0) -> list[Sample]:
    """Every sample of a data set, in the order of its files.

    Args:
        data: a question set folder of training.make_qa; a .json, .jsonl or .parquet file of conversations, or of
            questions with their answers; or a .yaml mixture of such files,
            `datasets: [{json_path, sampling_strategy}, ...]`.
        videos: folder the videos' paths are relative to; None: the folder of the file that names them.
        sampling: which of them, see `choose`.
        seed: of what `random:` chooses.

    Raises:
        FileNotFoundError: a file is missing; names all that are.
        ValueError: a file or a row in it is not as it should be, or there is no sample.
    """
    if not data.exists():
        raise FileNotFoundError(f"no data at {data}; give a question set folder, or a .json, .jsonl, .yaml or .parquet")
    if data.is_dir():
        samples = list(_question_set(data, videos))
    elif data.suffix in (".yaml", ".yml"):
        samples = _mixture(data, videos, seed)
    else:
        samples = _file(data, videos)
    samples = choose(samples, sampling, seed)
    if not samples:
        raise ValueError(f"{data} holds no sample (sampling {sampling!r}); there is nothing to train on")
    if nameless := sum(not sample.question_type for sample in samples):
        _log.warning(
            "%d of %d samples of %s name no question type; they are used all the same", nameless, len(samples), data
        )
    return samples


def choose(samples: list[Sample], strategy: str, seed: int = 0) -> list[Sample]:
    """Some of the samples.

    Args:
        samples: of one file.
        strategy: `all`, `first:N`, `end:N` or `random:N`; N is a number, or a percentage rounded up.
        seed: of `random:`.

    Raises:
        ValueError: unknown strategy.

    Source: the mixture files of LLaVA's training code, described in words.
    """
    if strategy == "all":
        return samples
    match = _STRATEGY.fullmatch(strategy)
    if match is None or (not match[3] and "." in match[2]):
        raise ValueError(
            f"sampling must be all, first:N, end:N or random:N with N a number or a percentage, got {strategy!r}"
        )
    count = math.ceil(float(match[2]) * len(samples) / 100) if match[3] else int(match[2])
    count = min(count, len(samples))
    if match[1] == "random":
        kept = np.random.default_rng((seed, len(samples))).choice(len(samples), count, replace=False)
        return [samples[index] for index in sorted(kept)]
    return samples[:count] if match[1] == "first" else samples[len(samples) - count :]


def _file(path: Path, videos: Path | None) -> list[Sample]:
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"{path} must end in {', '.join(_SUFFIXES)} or .yaml, or be a question set folder")
    root = videos or path.parent
    return [_sample(row, root, f"{path}[{index}]") for index, row in enumerate(read_rows(path))]


def _sample(row: dict[str, Any], root: Path, place: str) -> Sample:
    """Of a conversation, or of a question with its answer as generators write it, which is put into words first."""
    if "conversations" not in row and "question" in row:
        try:
            row = training_item(row) | {"id": row.get("id"), "video": row.get("video") or row.get("video_path")}
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
    return sample_from_row(row, root, place)


def _question_set(folder: Path, videos: Path | None) -> Iterator[Sample]:
    """The training file of a question set; where it has none, its questions, worded as the evaluation words them."""
    if (folder / TRAINING_FILE).is_file():
        yield from _file(folder / TRAINING_FILE, videos)
        return
    if not (folder / QUESTIONS).is_file():
        raise FileNotFoundError(f"{folder} has neither {TRAINING_FILE} nor {QUESTIONS}; make one with training.make_qa")
    for question in read_question_set(folder):
        if question.video is None:
            raise ValueError(f"question {question.id} of {folder} has no video; it can be evaluated, not trained on")
        root, video = videos or folder, question.video.relative_to(folder).as_posix()
        turns = (f"{IMAGE_MARK}\n{question.prompt}", question.truth)
        yield Sample(question.id, root, video, turns, question.question_type)


def _mixture(path: Path, videos: Path | None, seed: int) -> list[Sample]:
    entries = _entries(path)
    files = [_located(path, entry["json_path"]) for entry in entries]
    if missing := [str(entry["json_path"]) for entry, file in zip(entries, files, strict=True) if file is None]:
        raise FileNotFoundError(f"{path} names files that are not there: {', '.join(missing)}")
    samples = []
    for number, (entry, file) in enumerate(zip(entries, files, strict=True)):
        samples += choose(_file(file, videos), str(entry.get("sampling_strategy", "all")), seed + number)
    return samples


def _entries(path: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML ({error})") from error
    entries = content.get("datasets") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(item, dict) and item.get("json_path") for item in entries):
        raise ValueError(f"{path} must hold `datasets`, a list of {{json_path, sampling_strategy}}")
    if odd := sorted({name for item in entries for name in _UNSUPPORTED if item.get(name)}):
        raise ValueError(f"{path} asks for {', '.join(odd)}, which is not built here; leave these data sets out")
    return entries


def _located(path: Path, named: str) -> Path | None:
    """A file as it is named, or beside the mixture."""
    return next((place for place in (Path(named), path.parent / named) if place.is_file()), None)
