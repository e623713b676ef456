"""Puts the shards of a run together, and several runs into one table. Asks and scores nothing anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.evaluation.files import read_json, write_json, write_text
from training.evaluation.records import Record, RecordFile
from training.evaluation.report import TABLE, read_results, write_results, write_tables
from training.evaluation.run import ANSWERS, SETTINGS
from training.evaluation.settings import VARIANTS, EvalSettings


def merge(folders: Sequence[Path], out: Path) -> str:
    """Makes one run of shards; the tables are those of one process that asked everything.

    Args:
        folders: one for each shard.
        out: folder of the whole run; an earlier merge of the same run in it is replaced.

    Returns:
        The table in Markdown.

    Raises:
        FileNotFoundError: a folder holds no run.
        ValueError: the shards do not belong together, questions are missing, or the folder holds another run.
    """
    variants = [name for name in VARIANTS if all((folder / name / SETTINGS).is_file() for folder in folders)]
    if not variants:
        return _merge_one(folders, out)
    for name in variants:
        _merge_one([folder / name for folder in folders], out / name)
    return write_tables(out, [read_results(out / name) for name in variants])


def compare(folders: Sequence[Path], out: Path) -> str:
    """One table of several runs of the same questions.

    Raises:
        FileNotFoundError: a folder holds no results.
        ValueError: the runs asked different questions.
    """
    runs = [read_results(folder) for folder in folders]
    asked = {run["settings"]["questions"]: folder for run, folder in zip(runs, folders, strict=True)}
    if len(asked) > 1:
        raise ValueError(
            f"{' and '.join(map(str, asked.values()))} asked different questions; compare runs of the same"
        )
    return write_tables(out, runs)


def _merge_one(folders: Sequence[Path], out: Path) -> str:
    advice = "give the folders that --shard wrote"
    facts = [read_json(folder / SETTINGS, advice) for folder in folders]
    first = facts[0]
    for folder, fact in zip(folders, facts, strict=True):
        if [fact["settings"], fact["count"], fact["shard"][1]] != [
            first["settings"],
            first["count"],
            first["shard"][1],
        ]:
            raise ValueError(f"{folder} and {folders[0]} are shards of different runs; merge those of one run")
    records = _whole([RecordFile(folder / ANSWERS).read() for folder in folders], folders, first["count"])
    settings, whole = EvalSettings(**first["settings"]), first | {"shard": [0, 1]}
    if (out / SETTINGS).is_file() and read_json(out / SETTINGS, "give another --out") != whole:
        raise ValueError(f"{out} holds another run; give another --out")
    write_json(out / SETTINGS, whole)
    write_text(out / ANSWERS, "".join(record.line for record in records))
    write_results(out, settings, records)
    return (out / TABLE).read_text(encoding="utf-8")


def _whole(shards: Sequence[list[Record]], folders: Sequence[Path], count: int) -> list[Record]:
    """Records of all shards in the benchmark's order, each question once."""
    found: dict[int, Record] = {}
    for folder, records in zip(folders, shards, strict=True):
        for record in records:
            if record.index in found:
                raise ValueError(f"{folder} answers question {record.id} again; give each shard once")
            found[record.index] = record
    missing = [index for index in range(count) if index not in found]
    if missing:
        raise ValueError(
            f"{len(missing)} of {count} questions have no answer yet, the first at place {missing[0]}; give every "
            "shard, finished"
        )
    return [found[index] for index in range(count)]
