"""Scans in, a question set out: resumed where it was stopped, the same bytes whoever did the work. Reads no scan.

While it is made, a set's folder has a subfolder `parts` with what each finished scan gave.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy
from tqdm import tqdm

import vlm3r_core
from training.qa import files, workers
from training.qa.balance import DROPPED, balance
from training.qa.blindproof import GIVEN_AWAY, blind_proof
from training.qa.page import write_page
from training.qa.parts import Part, part_from_bytes
from training.qa.rows import write_questions, write_table, write_training
from training.qa.settings import QaSettings
from training.scans.scan import Scan
from vlm3r_core.scene.tasks import QaItem

_log = logging.getLogger(__name__)
_SETTINGS = "settings.json"


@dataclass(frozen=True, eq=False)
class QuestionSet:
    """A finished set: its folder and its manifest."""

    folder: Path
    manifest: Mapping

    def __str__(self) -> str:
        made = self.manifest
        return (
            f"{made['questions']:,} questions about {made['scenes']:,} scenes, {made['skipped']:,} scans skipped, "
            f"in {self.folder}"
        )


def make_question_set(
    scans: Iterable[Scan],
    out: Path,
    settings: QaSettings,
    *,
    origin: Mapping[str, object],
    processes: int = 1,
    ray_address: str = "",
    progress: bool = True,
) -> QuestionSet:
    """Asks about every scan and writes the set.

    Args:
        scans: in the order the questions shall have.
        out: folder of the set; one that was begun with the same settings is gone on with, a finished one stays.
        settings: how.
        origin: where the scans are from and how they are read, for the manifest; must not differ between two runs.
        processes: local processes, 1: this one.
        ray_address: of a Ray cluster instead, see workers.run_ray.
        progress: show a bar.

    Raises:
        ValueError: the folder holds another set, there are no scans, or all were skipped.
        OSError: the disk is full, or the folder cannot be written.
    """
    made_with = {"origin": dict(origin), "settings": settings.to_json(), "versions": _versions()}
    finished = _finished(out, made_with)
    if finished:
        return QuestionSet(out, finished)
    _begin(out, made_with)
    listed = _unique(scans)
    if not listed:
        raise ValueError(f"no scan found, expected some under {origin.get('scans', 'the root')!r}")
    damaged = _make_parts(listed, out, settings, processes, ray_address, progress)
    return _merge(list(_parts(listed, out, damaged)), out, settings, made_with, progress)


def _versions() -> dict[str, str]:
    return {
        "vlm3r": vlm3r_core.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def _finished(out: Path, made_with: Mapping) -> dict | None:
    """The manifest of a finished set, None where there is none."""
    path = out / files.MANIFEST
    if not path.is_file():
        return None
    manifest = json.loads(path.read_text(encoding="utf-8"))
    _check_same(out, manifest, made_with)
    shutil.rmtree(out / files.PARTS, ignore_errors=True)  # left where a run ended just after the manifest
    return manifest


def _begin(out: Path, made_with: Mapping) -> None:
    path = out / files.PARTS / _SETTINGS
    if path.is_file():
        _check_same(out, json.loads(path.read_text(encoding="utf-8")), made_with)
        for left in [*out.glob(".*.partial"), *(out / files.VIDEOS).glob(".*.partial")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty and no question set; give another --out")
    files.write_json(path, made_with)


def _check_same(out: Path, there: Mapping, wanted: Mapping) -> None:
    there, wanted = _flat({key: there.get(key) for key in wanted}), _flat(json.loads(json.dumps(wanted)))
    different = sorted(key for key in there.keys() | wanted.keys() if there.get(key) != wanted.get(key))
    if different:
        told = "; ".join(f"{key} is {there.get(key)!r} there, {wanted.get(key)!r} was asked" for key in different)
        raise ValueError(f"{out} holds a question set made otherwise: {told}. Give another --out, or the same settings")


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        name: leaf
        for key, part in value.items()
        for name, leaf in _flat(part, f"{prefix}.{key}" if prefix else key).items()
    }


def _unique(scans: Iterable[Scan]) -> list[Scan]:
    """All scans; of those with the name of an earlier one that they are skipped."""
    listed, first = [], {}
    for scan in scans:
        if not scan.skipped and scan.scene_id in first:
            reason = f"the scene is there twice, {first[scan.scene_id]} came first"
            scan = replace(scan, open=None, skipped=reason)
        elif not scan.skipped:
            first[scan.scene_id] = scan.name
        listed.append(scan)
    return listed


def _part_path(out: Path, scan: Scan) -> Path:
    return out / files.PARTS / f"{files.file_name(scan.scene_id)}.part.json"


def _make_parts(
    scans: Sequence[Scan], out: Path, settings: QaSettings, processes: int, ray_address: str, progress: bool
) -> dict[str, Part]:
    """Makes what is missing.

    Returns:
        Parts of damaged scans by scene; no file keeps those, so that the next run tries again.
    """
    waiting = [scan for scan in scans if not scan.skipped and not _part_path(out, scan).is_file()]
    if ray_address:
        parts = workers.run_ray(waiting, out, settings, ray_address)
    elif processes > 1 and len(waiting) > 1:
        parts = workers.run_processes(waiting, out, settings, min(processes, len(waiting)))
    else:
        parts = workers.run_here(waiting, out, settings)
    done, damaged = len(scans) - len(waiting), {}
    with tqdm(total=len(scans), initial=done, desc="scans", unit="scan", disable=None if progress else True) as bar:
        for place, content in parts:
            part = part_from_bytes(content)
            if part.skipped:
                damaged[part.scene_id] = part
            else:
                files.write_bytes(_part_path(out, waiting[place]), content)
            bar.update()
    return damaged


def _parts(scans: Sequence[Scan], out: Path, damaged: Mapping[str, Part]) -> Iterator[Part]:
    """What became of each scan, in their order."""
    for scan in scans:
        if scan.skipped:
            yield Part(scan.dataset, scan.scene_id, scan.skipped)
        elif scan.scene_id in damaged:
            yield damaged[scan.scene_id]
        else:
            yield part_from_bytes(_part_path(out, scan).read_bytes())


def _merge(parts: Sequence[Part], out: Path, settings: QaSettings, made_with: Mapping, progress: bool) -> QuestionSet:
    """Writes the set's files out of its parts, the manifest last, then drops the parts."""
    used = [part for part in parts if not part.skipped]
    rejected = _rejected(parts)
    if not used:
        first = next(iter(rejected["scans"]), {})
        raise ValueError(f"all {len(parts)} scans were skipped, the first because: {first.get('reason')}")
    items: list[QaItem] = [item for part in used for item in part.items]
    for wanted, even_out, reason in (
        (settings.blind_proof, blind_proof, GIVEN_AWAY),
        (settings.balanced, balance, DROPPED),
    ):
        if wanted:
            items, dropped = even_out(items, settings.seed)
            for task, count in dropped.items():
                rejected["candidates"].setdefault(task, {})[reason] = count
    write_questions(out / files.QUESTIONS, items)
    write_table(out / files.TABLE, items)
    write_training(out / files.TRAIN, items, as_published=settings.generator.as_published)
    files.write_json(out / files.SCENES, {part.scene_id: part.scene for part in used})
    files.write_json(out / files.FRAMES, {part.scene_id: part.frames for part in used if part.frames is not None})
    files.write_json(out / files.REJECTED, rejected)
    counts = Counter(item.task for item in items)
    summary = {
        "questions": len(items),
        "scenes": len(used),
        "skipped": len(parts) - len(used),
        "tasks": {task: counts[task] for task in settings.tasks},
    }
    write_page(out, items, used, rejected, settings, summary, progress=progress)
    manifest = {**made_with, **summary, "sha256": _digests(out)}
    files.write_json(out / files.MANIFEST, manifest)
    shutil.rmtree(out / files.PARTS)
    return QuestionSet(out, manifest)


def _digests(out: Path) -> dict[str, str]:
    paths = sorted(path for path in out.rglob("*") if path.is_file() and path.relative_to(out).parts[0] != files.PARTS)
    return {path.relative_to(out).as_posix(): files.sha256(path) for path in paths}


def _rejected(parts: Sequence[Part]) -> dict:
    """Skipped scans with their reasons, and rejected candidates by task and reason."""
    candidates: dict[str, Counter[str]] = {}
    for part in parts:
        for task, reasons in (part.rejected or {}).items():
            candidates.setdefault(task, Counter()).update(reasons)
    return {
        "scans": [
            {"dataset": part.dataset, "scene_name": part.scene_id, "reason": part.skipped}
            for part in parts
            if part.skipped
        ],
        "candidates": {task: dict(sorted(reasons.items())) for task, reasons in candidates.items()},
    }
