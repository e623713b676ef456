"""Scene graphs as JSON: the scene and frame metadata files of the data pipeline. Reads and writes, computes nothing.

Source: facts of the published pipeline; VSI-Bench's own files, which spell `object_bbox`, are read and written too.
Differs: unknown fields are kept, and what is missing or malformed is named instead of failing later.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from vlm3r_core.files import write_text
from vlm3r_core.scene.box import OrientedBox, frozen_array
from vlm3r_core.scene.graph import CameraFrame, PinholeCamera, SceneGraph, SceneObject, VisibleObject

BOXES_KEYS = ("object_bboxes", "object_bbox")  # this pipeline's spelling, VSI-Bench's spelling
_SCENE_KEYS = ("video_path", "dataset", "room_size", "room_center", "object_counts", *BOXES_KEYS)
_BOX_KEYS = ("centroid", "axesLengths", "normalizedAxes", "min", "max", "instance_id")
_FRAMES_KEYS = ("camera_intrinsics", "img_width", "img_height", "frames")
_FRAME_KEYS = ("frame_id", "file_path_color", "file_path_depth", "camera_pose_camera_to_world", "bboxes_2d")


def read_metadata(scene_path: Path | str, frame_path: Path | str | None = None) -> dict[str, SceneGraph]:
    """Reads a scene metadata file and, where given, its frame metadata file.

    Args:
        scene_path: JSON, a dict by scene id.
        frame_path: JSON, a dict by scene id; a scene without an entry has no frames.

    Returns:
        Scene graphs by scene id, in the file's order.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is no JSON dict, or a field is missing or malformed; the message names file and field.
    """
    scenes, frames = _read_dict(scene_path), _read_dict(frame_path) if frame_path else {}
    unknown = sorted(set(frames) - set(scenes))
    if unknown:
        raise ValueError(f"{frame_path}: scene {unknown[0]!r} is not in {scene_path}; use files of the same split")
    with _naming(str(scene_path)):
        return {name: scene_from_json(name, entry, frames.get(name)) for name, entry in scenes.items()}


def write_metadata(
    graphs: Iterable[SceneGraph],
    scene_path: Path | str,
    frame_path: Path | str | None = None,
    *,
    boxes_key: str = BOXES_KEYS[0],
) -> None:
    """Writes what read_metadata reads back without loss; each file whole or not at all.

    Args:
        graphs: the scenes.
        scene_path: JSON file to write.
        frame_path: JSON file for the frames of the scenes that have a camera, None to leave them out.
        boxes_key: one of BOXES_KEYS, how the scene file spells its boxes.

    Raises:
        ValueError: boxes_key is none of BOXES_KEYS.
    """
    if boxes_key not in BOXES_KEYS:
        raise ValueError(f"boxes_key must be one of {', '.join(BOXES_KEYS)}, got {boxes_key!r}")
    graphs = list(graphs)
    scenes = {graph.scene_id: scene_to_json(graph, boxes_key) for graph in graphs}
    write_text(scene_path, json.dumps(scenes, indent=1))
    if frame_path:
        frames = {g.scene_id: frames_to_json(g) for g in graphs if g.camera is not None}
        write_text(frame_path, json.dumps(frames, indent=1))


def scene_from_json(scene_id: str, entry: Mapping, frame_entry: Mapping | None = None) -> SceneGraph:
    """One scene's entries as a graph.

    Raises:
        ValueError: a field is missing or malformed; the message names scene and field.
    """
    with _naming(f"scene {scene_id!r}"):
        boxes_key = BOXES_KEYS[1] if BOXES_KEYS[1] in entry else BOXES_KEYS[0]
        counts, boxes = _dict_field(entry, "object_counts"), _dict_field(entry, boxes_key)
        if set(counts) != set(boxes):
            odd = sorted(set(counts) ^ set(boxes))
            raise ValueError(f"object_counts and {boxes_key} must name the same categories, they differ in {odd}")
        objects = tuple(
            _object_from_json(category, item, f"{boxes_key}[{category!r}][{index}]")
            for category, items in boxes.items()
            for index, item in enumerate(items)
        )
        return SceneGraph(
            scene_id,
            objects,
            dict(counts),
            _field(entry, "room_size"),
            entry.get("room_center"),
            entry.get("dataset"),
            entry.get("video_path"),
            extra={key: value for key, value in entry.items() if key not in _SCENE_KEYS},
            **(_frames_from_json(frame_entry) if frame_entry is not None else {}),
        )


def scene_to_json(graph: SceneGraph, boxes_key: str = BOXES_KEYS[0]) -> dict:
    """A graph's entry in the scene metadata file, with its boxes under one of BOXES_KEYS."""
    boxes: dict[str, list] = {category: [] for category in graph.counts}
    for item in graph.objects:
        boxes[item.category].append(_object_to_json(item))
    entry = {
        "video_path": graph.video_path,
        "dataset": graph.dataset,
        "room_size": graph.room_size_m2,
        "room_center": None if graph.room_center_m is None else graph.room_center_m.tolist(),
        "object_counts": dict(graph.counts),
        boxes_key: boxes,
    }
    return {key: value for key, value in entry.items() if value is not None} | dict(graph.extra)


def frames_to_json(graph: SceneGraph) -> dict:
    """A graph's entry in the frame metadata file.

    Raises:
        ValueError: the graph has no camera.
    """
    camera = graph.camera
    if camera is None:
        raise ValueError(f"scene {graph.scene_id!r}: frame metadata needs the camera's intrinsics, camera is None")
    return {
        "camera_intrinsics": {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy},
        "img_width": camera.width_px,
        "img_height": camera.height_px,
        "frames": [_frame_to_json(frame) for frame in graph.frames],
        **graph.frames_extra,
    }


def _object_from_json(category: str, item: Mapping, where: str) -> SceneObject:
    with _naming(where):
        axes = frozen_array("normalizedAxes", _field(item, "normalizedAxes"), (9,)).reshape(3, 3)
        box = OrientedBox(_field(item, "centroid"), _field(item, "axesLengths"), axes.T)
        if ("min" in item) != ("max" in item):
            raise ValueError("min and max must come together")
        bounds = [item["min"], item["max"]] if "min" in item else None
        extra = {key: value for key, value in item.items() if key not in _BOX_KEYS}
        return SceneObject(category, box, item.get("instance_id"), bounds, extra)


def _object_to_json(item: SceneObject) -> dict:
    entry = {
        "centroid": item.box.center_m.tolist(),
        "axesLengths": item.box.lengths_m.tolist(),
        "normalizedAxes": item.box.R_WB.T.reshape(-1).tolist(),
    }
    if item.bounds_m is not None:
        entry |= {"min": item.bounds_m[0].tolist(), "max": item.bounds_m[1].tolist()}
    if item.instance_id is not None:
        entry["instance_id"] = int(item.instance_id)
    return entry | dict(item.extra)


def _frames_from_json(entry: Mapping) -> dict:
    """SceneGraph's frame fields by name."""
    intrinsics = _dict_field(entry, "camera_intrinsics")
    with _naming("camera_intrinsics"):
        odd = sorted(set(intrinsics) - {"fx", "fy", "cx", "cy"})
        if odd:
            raise ValueError(f"expected fx, fy, cx, cy, got also {', '.join(odd)}; other camera models are not known")
        focal = [_field(intrinsics, name) for name in ("fx", "fy", "cx", "cy")]
    camera = PinholeCamera(*focal, _field(entry, "img_width"), _field(entry, "img_height"))
    frames = tuple(_frame_from_json(item, index) for index, item in enumerate(_field(entry, "frames")))
    extra = {key: value for key, value in entry.items() if key not in _FRAMES_KEYS}
    return {"camera": camera, "frames": frames, "frames_extra": extra}


def _frame_from_json(item: Mapping, index: int) -> CameraFrame:
    with _naming(f"frames[{index}]"):
        boxes = _field(item, "bboxes_2d")
        visible = tuple(_visible_from_json(box, f"bboxes_2d[{place}]") for place, box in enumerate(boxes))
        return CameraFrame(
            _field(item, "frame_id"),
            _field(item, "camera_pose_camera_to_world"),
            visible,
            item.get("file_path_color"),
            item.get("file_path_depth"),
            {key: value for key, value in item.items() if key not in _FRAME_KEYS},
        )


def _visible_from_json(box: Mapping, where: str) -> VisibleObject:
    with _naming(where):
        visible = VisibleObject(_field(box, "instance_id"), tuple(_field(box, "bbox_2d")))
        if len(box) != 2:
            raise ValueError(f"expected instance_id and bbox_2d only, got {', '.join(box)}")
        return visible


def _frame_to_json(frame: CameraFrame) -> dict:
    paths = {"file_path_color": frame.color_path, "file_path_depth": frame.depth_path}
    return {
        "frame_id": frame.frame_id,
        **{key: value for key, value in paths.items() if value is not None},
        "camera_pose_camera_to_world": None if frame.T_WC is None else np.asarray(frame.T_WC).tolist(),
        "bboxes_2d": [{"instance_id": v.instance_id, "bbox_2d": list(v.bbox_px)} for v in frame.visible],
        **frame.extra,
    }


def _field(entry: Mapping, key: str) -> object:
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected an object with the field {key!r}, got {type(entry).__name__}")
    if key not in entry:
        raise ValueError(f"field {key!r} is missing; there are {', '.join(map(str, entry)) or 'none'}")
    return entry[key]


def _dict_field(entry: Mapping, key: str) -> Mapping:
    value = _field(entry, key)
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} must be an object, got {type(value).__name__}")
    return value


@contextlib.contextmanager
def _naming(where: str):
    """Puts the place in front of the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _read_dict(path: Path | str) -> dict:
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object by scene id, got {type(value).__name__}")
    return value
