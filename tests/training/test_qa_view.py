"""What is asked about the current view: right sides and distances, in the words the live questions have."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sim.camera import CameraSettings, camera_pose
from training.qa import files
from training.qa.view import DIRECTION, DISTANCE, VIEW_TRAIN, main, view_items, write_view_questions
from training.samples.mixture import read_samples
from vlm3r_core.prompt import question_message
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import CameraFrame, SceneGraph, SceneObject, VisibleObject, count_categories
from vlm3r_core.scene.metadata import write_metadata
from vlm3r_core.scene.questions import view_direction_text

# from a camera at the origin that looks along +y: (name, place)
THINGS = (("bed", (-2.0, 3.0)), ("sofa", (2.0, 3.0)), ("lamp", (-2.0, -3.0)), ("desk", (2.0, -1.0)), ("chair", (1, 1)))
SIDES = {"bed": "front-left", "sofa": "front-right", "lamp": "back-left", "desk": "back-right", "chair": "front-right"}


@pytest.fixture
def graph():
    lens = CameraSettings(width_px=144, height_px=144, height_m=1.5)
    boxes = [OrientedBox(np.array([x, y, 0.5]), np.full(3, 0.4), np.eye(3)) for _, (x, y) in THINGS]
    names = [name for name, _ in THINGS]
    items = [SceneObject(name, box, number) for number, (name, box) in enumerate(zip(names, boxes, strict=True), 1)]
    # of two plants nobody can say which is meant
    items += [SceneObject("plant", OrientedBox(np.array([x, 2.0, 0.5]), np.ones(3), np.eye(3)), 8 + x) for x in (0, 1)]
    seen = tuple(VisibleObject(item.instance_id, (10, 10, 60, 60)) for item in items if item.category != "chair")
    frames = [
        CameraFrame(number, camera_pose(np.zeros(3), yaw, lens), visible=seen)
        for number, yaw in enumerate((0.0, np.pi / 2))
    ]
    return SceneGraph(
        "room-1", tuple(items), count_categories(tuple(items)), 20.0, camera=lens.pinhole, frames=tuple(frames)
    )


def test_sides_and_distances_from_the_last_frame(graph):
    items = view_items(graph, "videos/room-1.mp4", np.random.default_rng(0), most=10)
    sides = {item.names["object"]: item.ground_truth for item in items if item.question_type == DIRECTION}
    # the chair was in no frame
    assert sides == {name: SIDES[name] for name in ("bed", "sofa", "lamp", "desk")}
    apart = {item.names["object"]: item.ground_truth for item in items if item.question_type == DISTANCE}
    # nearest corner of the desk: 1.8 and 0.8 m away, 0.8 m below
    assert apart["desk"] == pytest.approx(np.round(np.sqrt(1.8**2 + 0.8**2 + 0.8**2), 1))


def test_sides_take_turns(graph):
    items = view_items(graph, "x.mp4", np.random.default_rng(1), most=4)
    assert len({item.ground_truth for item in items if item.question_type == DIRECTION}) == 4


def test_the_file_beside_a_set(graph, tmp_path):
    write_metadata([graph], tmp_path / files.SCENES, tmp_path / files.FRAMES)
    row = {"id": 0, "scene_name": "room-1", "video": "videos/room-1.mp4"}
    (tmp_path / files.QUESTIONS).write_text(json.dumps(row) + "\n")
    assert main([str(tmp_path), "--most", "3"]) == 0
    first = (tmp_path / VIEW_TRAIN).read_bytes()
    assert write_view_questions(tmp_path, most=3, progress=False) == 6
    assert (tmp_path / VIEW_TRAIN).read_bytes() == first
    samples = read_samples(tmp_path / VIEW_TRAIN)
    assert {sample.video for sample in samples} == {"videos/room-1.mp4"}
    sample = next(sample for sample in samples if sample.question_type == DIRECTION)
    offered = [line.partition(". ")[2] for line in sample.turns[0].splitlines() if line[1:3] == ". "]
    thing = next(name for name in SIDES if f"is the {name} to" in sample.turns[0])
    # word for word what StreamEngine.ask puts behind the video
    assert sample.turns[0] == "<image>\n" + question_message(view_direction_text(thing), offered)
    assert offered["ABCD".index(sample.turns[1])] == SIDES[thing]


def test_a_set_without_videos(graph, tmp_path, capsys):
    write_metadata([graph], tmp_path / files.SCENES, tmp_path / files.FRAMES)
    (tmp_path / files.QUESTIONS).write_text(json.dumps({"id": 0, "scene_name": "room-1", "video": None}) + "\n")
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "nothing can be asked about a view" in capsys.readouterr().err
