"""What a question set's videos show of each category, for losses beside the answers. Asks nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from training.qa.files import FRAMES, SCENES

Mention = tuple[float, float, float, float, float, float]


def read_mentions(set_folder: Path) -> dict[str, dict[str, Mention]]:
    """The truth about everything that a set's questions may name, read from its scene and frame metadata.

    Args:
        set_folder: a question set as make_question_set writes it.

    Returns:
        By a video as questions.jsonl names it, by category: (how many, x, y, z of the centre in the axes of the first
        frame's camera, metres, longest side, metres, where in the video it is first seen, 0 the first frame and 1 the
        last). NaN where it is not known; place and size are where there is more than one.

    Raises:
        FileNotFoundError: the folder has no scene metadata.
    """
    scenes = json.loads((set_folder / SCENES).read_text(encoding="utf-8"))
    path = set_folder / FRAMES
    frames = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {
        scene["video_path"]: _mentions(scene, frames.get(name, {}).get("frames", ()))
        for name, scene in scenes.items()
        if scene.get("video_path")
    }


def _mentions(scene: Mapping, frames: list[Mapping]) -> dict[str, Mention]:
    first: dict[int, int] = {}
    for place, frame in enumerate(frames):
        for seen in frame["bboxes_2d"]:
            first.setdefault(seen["instance_id"], place)
    pose = frames[0]["camera_pose_camera_to_world"] if frames else None
    T_CW = np.linalg.inv(pose) if pose is not None and np.isfinite(pose).all() else np.full((4, 4), math.nan)
    found = {}
    for category, boxes in scene["object_bboxes"].items():
        count = scene["object_counts"][category]
        places = [first[box["instance_id"]] for box in boxes if box.get("instance_id") in first]
        share = min(places) / max(1, len(frames) - 1) if places else math.nan
        center, longest = [math.nan] * 3, math.nan
        if count == 1 and boxes:
            center = (T_CW[:3, :3] @ boxes[0]["centroid"] + T_CW[:3, 3]).tolist()
            longest = max(boxes[0]["axesLengths"])
        found[category] = (float(count), *center, longest, share)
    return found
