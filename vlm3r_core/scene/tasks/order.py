"""Questions about the order in which categories first appear in the video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np

from vlm3r_core.scene.graph import CameraFrame
from vlm3r_core.scene.items import Candidate
from vlm3r_core.scene.relations import first_seen
from vlm3r_core.scene.tasks.draws import draw_combinations
from vlm3r_core.scene.tasks.truth import SceneTruth

# frames a second of the raw streams that frame ids count
FPS = {"scannet": 24.0, "scannetpp": 30.0, "arkitscenes": 10.0}
_APART_S = 1.0
_SIZE = 4
_BATCH = 64


def order_candidates(truth: SceneTruth, task: str, rng: np.random.Generator, limit: int | None) -> Iterator[Candidate]:
    """Four categories each, in random order, with three wrong orders beside the right one."""
    times_s = first_times_s(truth)
    if len(times_s) < _SIZE:
        yield Candidate(task, {}, f"fewer_than_{_SIZE}_categories_seen")
    categories = list(times_s)
    drawn = draw_combinations(len(categories), _SIZE, limit, rng)
    while batch := list(islice(drawn, _BATCH)):
        for row in batch:
            yield judge_order(truth, task, [categories[place] for place in row], times_s, rng)


def judge_order(
    truth: SceneTruth, task: str, categories: Sequence[str], times_s: Mapping[str, float], rng: np.random.Generator
) -> Candidate:
    """Whether four categories appear clearly one after the other; the mention and the wrong orders are random."""
    ordered = sorted(categories, key=times_s.__getitem__)
    mentioned = [categories[place] for place in rng.permutation(_SIZE)]
    answer = ", ".join(ordered)
    apart = all(times_s[after] - times_s[before] > _APART_S for before, after in pairwise(ordered))
    found = Candidate(task, {"mentioned": ", ".join(mentioned)}, None if apart else "times_within_1s", None, answer)
    if not apart:
        return found
    choices = [answer]
    while len(choices) < _SIZE:
        order = ", ".join(ordered[place] for place in rng.permutation(_SIZE))
        if order not in choices:
            choices.append(order)
    return replace(found, choices=tuple(choices), details={name: times_s[name] for name in ordered})


def first_times_s(truth: SceneTruth) -> dict[str, float]:
    """When each category is first seen, seconds from frame id 0 or by the frames' own stamps.

    Raises:
        ValueError: the frames have neither stamps nor a known rate.
    """
    groups = {
        category: {item.instance_id for item in truth.objects[category] if item.instance_id is not None}
        for category in truth.categories
    }
    found = first_seen((_large_only(truth, frame) for frame in truth.frames), groups)
    times_s = {category: _time_s(truth, frame) for category, frame in found.items()}
    return {name: float(round(time)) for name, time in times_s.items()} if truth.settings.as_published else times_s


def _large_only(truth: SceneTruth, frame: CameraFrame) -> CameraFrame:
    least = truth.settings.min_box_px
    if not least:
        return frame
    boxes = [(item, item.bbox_px) for item in frame.visible]
    large = tuple(item for item, box in boxes if (box[2] - box[0] + 1) * (box[3] - box[1] + 1) >= least)
    return replace(frame, visible=large)


def _time_s(truth: SceneTruth, frame: CameraFrame) -> float:
    if "stamp_ns" in frame.extra:
        return int(frame.extra["stamp_ns"]) / 1e9
    dataset = truth.graph.dataset or ""
    fps = truth.settings.fps or FPS.get(dataset.lower(), 0.0)
    if not fps or isinstance(frame.frame_id, str):
        raise ValueError(
            f"scene {truth.graph.scene_id!r}: when frame {frame.frame_id!r} of dataset {dataset!r} was taken is not "
            f"known; set GeneratorSettings.fps (known are {FPS}), or give the frames a stamp_ns"
        )
    return frame.frame_id / fps
