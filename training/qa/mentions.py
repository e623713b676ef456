"""What a question set's videos show of each category, for losses beside the answers. Asks nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from training.qa.files import FRAMES, SCENES

Mention = tuple[float, ...]
_UNKNOWN = np.full((4, 4), math.nan)


def read_mentions(set_folder: Path) -> dict[str, dict[str, Mention]]:
    """The truth about everything that a set's questions may name, read from its scene and frame metadata.

    Args:
        set_folder: a question set as make_question_set writes it.

    Returns:
        By a video as questions.jsonl names it, by category: (how many, x, y, z of the centre in the axes of the first
        frame's camera, metres, longest side, metres, where in the video it is first seen, 0 the first frame and 1 the
        last, x and z of the centre in the axes of the last frame's camera, metres). NaN where it is not known; place
        and size are where there is more than one.

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
    first_T_CW, last_T_CW = (_from_world(frames[end]) if frames else _UNKNOWN for end in (0, -1))
    found = {}
    for category, boxes in scene["object_bboxes"].items():
        count = scene["object_counts"][category]
        places = [first[box["instance_id"]] for box in boxes if box.get("instance_id") in first]
        share = min(places) / max(1, len(frames) - 1) if places else math.nan
        at, now, longest = [math.nan] * 3, [math.nan] * 3, math.nan
        if count == 1 and boxes:
            center = [*boxes[0]["centroid"], 1.0]
            at, now = ((T_CW @ center)[:3].tolist() for T_CW in (first_T_CW, last_T_CW))
            longest = max(boxes[0]["axesLengths"])
        found[category] = (float(count), *at, longest, share, now[0], now[2])
    return found


def _from_world(frame: Mapping) -> np.ndarray:
    """T_CW [4, 4] of a frame, NaN where it has no pose."""
    pose = frame["camera_pose_camera_to_world"]
    return np.linalg.inv(pose) if pose is not None and np.isfinite(pose).all() else _UNKNOWN
