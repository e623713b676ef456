"""The scene graph: lossless metadata files, boxes, and messages that name the field."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import (
    CameraFrame,
    PinholeCamera,
    SceneGraph,
    SceneObject,
    VisibleObject,
    count_categories,
)
from vlm3r_core.scene.metadata import frames_to_json, read_metadata, scene_from_json, scene_to_json, write_metadata

YAW = 0.3
# A box's axes are the rows: this box is turned by YAW about +Z.
AXES = [np.cos(YAW), np.sin(YAW), 0.0, -np.sin(YAW), np.cos(YAW), 0.0, 0.0, 0.0, 1.0]
SCENE = {
    "video_path": "ScanNet/videos/train/scene0000_00.mp4",
    "dataset": "scannet",
    "room_size": 21.5,
    "room_center": [0.1, -0.2, 1.2],
    "object_counts": {"chair": 2, "printer": 1},
    "object_bboxes": {
        "chair": [
            {
                "centroid": [1.0, 2.0, 0.5],
                "axesLengths": [0.4, 0.6, 1.0],
                "normalizedAxes": AXES,
                "min": [0.7, 1.6, 0.0],
                "max": [1.3, 2.4, 1.0],
                "instance_id": 7,
            },
            {"centroid": [0.0, 0.0, 0.0], "axesLengths": [1.0, 1.0, 1.0], "normalizedAxes": AXES, "label": "seat"},
        ],
        # the published data lists printers twice and counts them once
        "printer": [
            {"centroid": [3, 3, 3], "axesLengths": [1, 1, 1], "normalizedAxes": AXES, "instance_id": 9},
            {"centroid": [3, 3, 3], "axesLengths": [1, 1, 1], "normalizedAxes": AXES, "instance_id": 9},
        ],
    },
    "split": "train",
}
POSE = [[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, 1.0, -1.0], [0.0, -1.0, 0.0, 1.5], [0.0, 0.0, 0.0, 1.0]]
FRAMES = {
    "camera_intrinsics": {"fx": 577.5, "fy": 578.7, "cx": 318.9, "cy": 242.7},
    "img_width": 640,
    "img_height": 480,
    "frames": [
        {
            "frame_id": 12,
            "file_path_color": "color/train/scene0000_00/000012.jpg",
            "file_path_depth": "depth/train/scene0000_00/000012.png",
            "camera_pose_camera_to_world": POSE,
            "bboxes_2d": [{"instance_id": 7, "bbox_2d": [0, 3, 639, 479]}],
        },
        {"frame_id": "frame_000020", "camera_pose_camera_to_world": None, "bboxes_2d": [], "blur": 0.25},
    ],
    "sensor": "depth",
}


def scene(**changes) -> dict:
    return {**copy.deepcopy(SCENE), **changes}


def frames(**changes) -> dict:
    return {**copy.deepcopy(FRAMES), **changes}


def test_files_survive_reading_and_writing(tmp_path):
    source = {"scene0000_00": SCENE, "empty": scene(object_counts={}, object_bboxes={})}
    (tmp_path / "scene.json").write_text(json.dumps(source))
    (tmp_path / "frame.json").write_text(json.dumps({"scene0000_00": FRAMES}))
    graphs = read_metadata(tmp_path / "scene.json", tmp_path / "frame.json")
    write_metadata(graphs.values(), tmp_path / "out" / "scene.json", tmp_path / "out" / "frame.json")
    assert json.loads((tmp_path / "out" / "scene.json").read_text()) == source
    assert json.loads((tmp_path / "out" / "frame.json").read_text()) == {"scene0000_00": FRAMES}
    assert not list((tmp_path / "out").glob("*.partial"))


def test_lost_tracking_survives_as_nan(tmp_path):
    lost = np.array(POSE)
    lost[:3, 3] = np.nan
    listed = frames()
    listed["frames"][0]["camera_pose_camera_to_world"] = lost.tolist()
    (tmp_path / "scene.json").write_text(json.dumps({"s": SCENE}))
    (tmp_path / "frame.json").write_text(json.dumps({"s": listed}))
    graph = read_metadata(tmp_path / "scene.json", tmp_path / "frame.json")["s"]
    assert [frame.has_pose for frame in graph.frames] == [False, False]
    np.testing.assert_array_equal(frames_to_json(graph)["frames"][0]["camera_pose_camera_to_world"], lost)


@pytest.mark.parametrize(("name", "scenes"), [("scannet", 82), ("scannetpp", 44), ("arkitscenes", 144)])
def test_published_annotations_survive(shared_dir, tmp_path, name, scenes):
    path = shared_dir / "data" / "vsi_scenes" / f"{name}.json"
    graphs = read_metadata(path)
    write_metadata(graphs.values(), tmp_path / "again.json", boxes_key="object_bbox")
    assert len(graphs) == scenes
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(path.read_text())


@pytest.mark.parametrize("name", ["scannet", "scannetpp", "arkitscenes"])
def test_axes_mean_what_the_published_bounds_say(shared_dir, name):
    """The bounds the files state follow from centre, lengths and axes: the axes are read the right way round."""
    for graph in read_metadata(shared_dir / "data" / "vsi_scenes" / f"{name}.json").values():
        for item in graph.objects:
            # The files were written from the same numbers: only the order of additions differs.
            np.testing.assert_allclose(item.box.bounds(), item.bounds_m, atol=1e-9)


def test_fields_come_in_the_house_conventions():
    graph = scene_from_json("s", SCENE, FRAMES)
    chair = graph.object_by_id(7)
    assert (chair.category, chair.bounds_m.tolist()) == ("chair", [[0.7, 1.6, 0.0], [1.3, 2.4, 1.0]])
    np.testing.assert_array_equal(chair.box.R_WB[:, 0], AXES[:3])
    assert [len(graph.objects_of(name)) for name in ("chair", "printer", "sofa")] == [2, 2, 0]
    assert graph.counts["printer"] == 1
    assert graph.camera.K.tolist() == [[577.5, 0.0, 318.9], [0.0, 578.7, 242.7], [0.0, 0.0, 1.0]]
    assert graph.frames[0].visible == (VisibleObject(7, (0, 3, 639, 479)),)
    np.testing.assert_array_equal(graph.frames[0].T_WC, POSE)


def test_arrays_cannot_be_changed():
    box = scene_from_json("s", SCENE).objects[0].box
    with pytest.raises(ValueError, match="read-only"):
        box.center_m[0] = 0


def broken_box(**changes) -> dict:
    entry = scene()
    entry["object_bboxes"]["chair"][1] |= changes
    return entry


WHERE = r"scene 's': object_bboxes\['chair'\]\[1\]"
BROKEN = [
    ({k: v for k, v in SCENE.items() if k != "room_size"}, FRAMES, "scene 's': field 'room_size' is missing"),
    (scene(room_size=-1), FRAMES, "room_size_m2 must not be negative"),
    (scene(room_size="big"), FRAMES, "room_size_m2 must be numbers"),
    (scene(room_center=[0, 1]), FRAMES, r"room_center_m must have shape \(3,\)"),
    (scene(object_counts={"chair": 2}), FRAMES, r"same categories, they differ in \['printer'\]"),
    (scene(object_counts={"chair": 1.5, "printer": 1}), FRAMES, r"counts\['chair'\] must be a whole number"),
    (scene(object_counts=[]), FRAMES, "object_counts must be an object, got list"),
    (broken_box(centroid=[0, float("nan"), 0]), FRAMES, f"{WHERE}: OrientedBox.center_m must be finite"),
    (broken_box(axesLengths=[1, -1, 1]), FRAMES, f"{WHERE}: OrientedBox.lengths_m must not be negative"),
    (broken_box(normalizedAxes=[1.0] * 9), FRAMES, f"{WHERE}: OrientedBox.R_WB must have orthonormal columns"),
    (broken_box(normalizedAxes=[1.0] * 8), FRAMES, rf"{WHERE}: normalizedAxes must have shape \(9,\)"),
    (broken_box(instance_id="7"), FRAMES, f"{WHERE}: SceneObject.instance_id must be a whole number"),
    (broken_box(min=[0, 0, 0]), FRAMES, f"{WHERE}: min and max must come together"),
    (SCENE, frames(img_width=0), "width_px must be a whole number of at least 1"),
    (SCENE, frames(camera_intrinsics={"fx": 1, "fy": 1, "cx": 1}), "camera_intrinsics: field 'cy' is missing"),
    (SCENE, frames(camera_intrinsics={**FRAMES["camera_intrinsics"], "k1": 0}), "got also k1"),
    (SCENE, frames(camera_intrinsics={**FRAMES["camera_intrinsics"], "fx": -5}), "fx and fy must be positive"),
    (
        SCENE,
        frames(frames=[{"frame_id": 1, "camera_pose_camera_to_world": POSE}]),
        r"frames\[0\]: field 'bboxes_2d' is missing",
    ),
    (
        SCENE,
        frames(frames=[{"frame_id": 1, "camera_pose_camera_to_world": [1, 2], "bboxes_2d": []}]),
        r"frames\[0\]: CameraFrame.T_WC must have shape \(4, 4\)",
    ),
    (
        SCENE,
        frames(frames=[{**FRAMES["frames"][0], "bboxes_2d": [{"instance_id": 1, "bbox_2d": [5, 0, 1, 9]}]}]),
        r"frames\[0\]: bboxes_2d\[0\]: VisibleObject.bbox_px must be xmin",
    ),
    (
        SCENE,
        frames(frames=[{**FRAMES["frames"][0], "bboxes_2d": [{"instance_id": 1, "bbox_2d": [0, 0, 1, 1], "a": 0}]}]),
        "expected instance_id and bbox_2d only",
    ),
]


@pytest.mark.parametrize(("entry", "frame_entry", "message"), BROKEN)
def test_broken_field_is_named(entry, frame_entry, message):
    with pytest.raises(ValueError, match=message):
        scene_from_json("s", entry, frame_entry)


def test_broken_files_are_named(tmp_path):
    (tmp_path / "torn.json").write_text('{"s": ')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "scene.json").write_text(json.dumps({"s": SCENE}))
    (tmp_path / "other.json").write_text(json.dumps({"t": FRAMES}))
    with pytest.raises(ValueError, match=r"torn\.json is not JSON"):
        read_metadata(tmp_path / "torn.json")
    with pytest.raises(ValueError, match=r"list\.json must hold an object by scene id, got list"):
        read_metadata(tmp_path / "list.json")
    with pytest.raises(ValueError, match=r"scene 't' is not in .*scene\.json"):
        read_metadata(tmp_path / "scene.json", tmp_path / "other.json")
    with pytest.raises(FileNotFoundError):
        read_metadata(tmp_path / "absent.json")
    with pytest.raises(ValueError, match="boxes_key must be one of"):
        write_metadata([], tmp_path / "out.json", boxes_key="boxes")


def test_graph_checks_itself():
    box = OrientedBox.aligned([0, 0, 0], [1, 1, 1])
    objects = (SceneObject("sofa", box, 3), SceneObject("sofa", box), SceneObject("tv", box))
    graph = SceneGraph("s", objects, count_categories(objects), 10.0)
    assert graph.counts == {"sofa": 2, "tv": 1}
    with pytest.raises(KeyError, match=r"no object with instance_id 4; it has \[3\]"):
        graph.object_by_id(4)
    with pytest.raises(ValueError, match="counts must name every category, it lacks tv"):
        SceneGraph("s", objects, {"sofa": 2}, 10.0)
    with pytest.raises(ValueError, match="camera is None although there are 1 frames"):
        SceneGraph("s", objects, graph.counts, 10.0, frames=(CameraFrame(0, np.eye(4)),))
    with pytest.raises(ValueError, match="frame metadata needs the camera"):
        frames_to_json(graph)
    with pytest.raises(ValueError, match=r"SceneObject\.category must be a name"):
        SceneObject("", box)
    with pytest.raises(ValueError, match=r"CameraFrame\.frame_id must be"):
        CameraFrame(1.5, np.eye(4))
    with pytest.raises(ValueError, match=r"PinholeCamera\.cx must be finite"):
        PinholeCamera(1.0, 1.0, float("inf"), 0.0, 2, 2)


def test_scene_without_optional_fields_stays_without_them():
    entry = {"room_size": 0.0, "object_counts": {"tv": 0}, "object_bboxes": {"tv": []}}
    assert scene_to_json(scene_from_json("s", entry)) == entry


def test_box_geometry():
    box = OrientedBox([1.0, 2.0, 0.5], [2.0, 1.0, 1.0], np.array(AXES).reshape(3, 3).T)
    along = np.array(AXES[:3])
    points = np.array([box.center_m + 0.99 * along, box.center_m + 1.01 * along])
    assert box.contains(points).tolist() == [True, False]
    assert box.contains(points, margin_m=0.02).all()
    np.testing.assert_allclose(box.nearest_point(box.center_m + 3 * along), box.center_m + along, atol=1e-12)
    np.testing.assert_array_equal(box.nearest_point(points[0]), box.nearest_point(box.nearest_point(points[0])))
    again = OrientedBox.around(box.corners(), YAW)
    np.testing.assert_allclose(again.lengths_m, box.lengths_m, atol=1e-12)
    np.testing.assert_allclose(again.center_m, box.center_m, atol=1e-12)
    with pytest.raises(ValueError, match="at least one point"):
        OrientedBox.around(np.empty((0, 3)))
