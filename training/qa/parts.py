"""The part of a question set that one scan gives: made in any process, kept as JSON. Balances and numbers nothing."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from training.qa.files import FULL, VIDEOS, disk_full, file_name, place_video
from training.qa.settings import QaSettings
from training.scans.scan import ROUTE_TASK, Content, Scan
from vlm3r_core.scene.formatting import item_from_json, item_to_json
from vlm3r_core.scene.graph import SceneGraph
from vlm3r_core.scene.metadata import frames_to_json, scene_from_json, scene_to_json
from vlm3r_core.scene.tasks import QaItem, SceneTruth, TaskResult, generate

_DAMAGE = (ValueError, KeyError, OSError, EOFError)


@dataclass(frozen=True, eq=False)
class Part:
    """What a scan gave.

    Args:
        dataset, scene_id: of the scan.
        skipped: why nothing came of it, "" where something did.
        items: its questions, video paths relative to the set.
        rejected: how many candidates fell for which reason, by task.
        scene: its entry in the scene metadata; frames its entry in the frame metadata, None without frames.
        video: relative to the set, None without.
    """

    dataset: str
    scene_id: str
    skipped: str = ""
    items: tuple[QaItem, ...] = ()
    rejected: Mapping[str, Mapping[str, int]] | None = None
    scene: Mapping | None = None
    frames: Mapping | None = None
    video: str | None = None

    def graph(self) -> SceneGraph:
        """Its scene graph."""
        return scene_from_json(self.scene_id, self.scene, self.frames)

    def to_bytes(self) -> bytes:
        """As a JSON file holds it."""
        values = dict(vars(self))
        values["items"] = [item_to_json(item) for item in self.items]
        return json.dumps(values, separators=(",", ":")).encode("ascii")


def part_from_bytes(content: bytes) -> Part:
    """Reads what to_bytes made.

    Raises:
        ValueError: it is no part.
    """
    try:
        values = json.loads(content)
        return Part(**values | {"items": tuple(map(item_from_json, values["items"]))})
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected a part of a question set, got something without {error}") from None


def make_part(scan: Scan, out: Path, settings: QaSettings) -> Part:
    """Opens a scan and asks about it; its video is in the set's folder afterwards.

    A damaged scan gives a part that says so.

    Raises:
        OSError: the disk is full.
    """
    if scan.skipped:
        return Part(scan.dataset, scan.scene_id, scan.skipped)
    work = Path(tempfile.mkdtemp(dir=out, prefix=f".{file_name(scan.scene_id)[:80]}.", suffix=".partial"))
    try:
        content = scan.load(work)
        results = _ask(content, settings)
        video = _keep_video(content, work, out, scan.scene_id)
        return _part(scan, content, results, video)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise disk_full(out) if error.errno == errno.ENOSPC else error from None
        return Part(scan.dataset, scan.scene_id, _reason(error))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _ask(content: Content, settings: QaSettings) -> dict[str, TaskResult]:
    truths: dict[int, SceneTruth] = {}
    results = {}
    for task in settings.generated:
        graph = content.asked.get(task, content.graph)
        truth = truths.setdefault(id(graph), SceneTruth(graph, settings.generator))
        results[task] = generate(truth, task, seed=settings.seed)
    if ROUTE_TASK in settings.tasks:
        results[ROUTE_TASK] = TaskResult(content.items, content.rejected)
    return results


def _part(scan: Scan, content: Content, results: Mapping[str, TaskResult], video: str | None) -> Part:
    graph = replace(content.graph, video_path=video)
    return Part(
        scan.dataset,
        scan.scene_id,
        items=tuple(replace(item, video_path=video) for result in results.values() for item in result.items),
        rejected={task: dict(result.rejected) for task, result in results.items()},
        scene=scene_to_json(graph),
        frames=frames_to_json(graph) if graph.camera is not None else None,
        video=video,
    )


def _keep_video(content: Content, work: Path, out: Path, scene_id: str) -> str | None:
    if content.video is None:
        return None
    suffix = "" if content.video.is_dir() else content.video.suffix.lower()
    name = f"{VIDEOS}/{file_name(scene_id)}{suffix}"
    place_video(content.video, out / name, move=content.video.is_relative_to(work))
    return name


def _reason(error: Exception) -> str:
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"
