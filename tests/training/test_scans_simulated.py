"""Simulated walks as scans: what was not shown is not asked, routes and order included. Tiny frames, one flat."""

# ruff: noqa: E402 - what needs the simulator is imported after it is known to be there
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

for package in ("embreex", "trimesh", "pyarrow"):
    pytest.importorskip(package, reason=f"{package} is not installed (extras `sim` and `train`)")

from sim.env import FloorMap, Observation
from training.qa.readers import reader_of
from training.qa.rooms import simulated_generator, write_question_set
from training.qa.settings import QaSettings
from training.scans import simulated
from training.scans.simulated import Sight, SimulatedSettings, asked_graphs, read_scans
from vlm3r_core.clip import open_clip
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import CameraFrame, PinholeCamera, SceneGraph, SceneObject, VisibleObject
from vlm3r_core.types import Frame

TINY = SimulatedSettings(frames=8, size_px=64, lookouts=2, max_duration_s=15.0, routes=1)
CATEGORIES = ("bed", "chair", "chair", "lamp")


def room(settings: SimulatedSettings) -> SceneGraph:
    objects = tuple(
        SceneObject(name, OrientedBox([i, 0, 0], [0.5, 0.5, 0.5], np.eye(3)), i + 1)
        for i, name in enumerate(CATEGORIES)
    )
    visible = tuple(VisibleObject(i + 1, (0, 0, 5, 5)) for i in range(len(objects)))
    frames = tuple(CameraFrame(i, np.eye(4), visible) for i in range(2))
    edge = settings.size_px
    camera = PinholeCamera(edge / 2, edge / 2, edge / 2, edge / 2, edge, edge)
    return SceneGraph("r", objects, {"bed": 1, "chair": 2, "lamp": 1}, 12.0, camera=camera, frames=frames)


def sight(pixels: list[dict[int, int]], free: np.ndarray | None = None) -> Sight:
    seen = Sight(FloorMap(np.ones((4, 4), bool) if free is None else free, np.zeros(2), 0.5), 0.0)
    seen.pixels, seen.floor[:] = pixels, True
    return seen


def test_a_category_is_asked_about_only_if_all_of_it_was_seen():
    settings = SimulatedSettings(size_px=100)  # 20 pixels count as seen
    full = room(settings)
    graph, asked = asked_graphs(full, sight([{1: 50, 2: 50, 4: 50}, {3: 19}]), settings)
    assert graph.counts == {"bed": 1, "lamp": 1}
    assert [seen.instance_id for seen in graph.frames[0].visible] == [1, 4]
    graph, asked = asked_graphs(full, sight([{1: 50, 2: 50, 4: 50}, {3: 20}]), settings)
    assert graph.counts == full.counts
    assert "room_size_estimation" not in asked


def test_order_leaves_out_what_was_glimpsed_before_it_was_seen():
    settings = SimulatedSettings(size_px=100)
    pixels = [{1: 50, 2: 30, 3: 30, 4: 5}, {4: 50}]
    graph, asked = asked_graphs(room(settings), sight(pixels), settings)
    assert set(graph.counts) == {"bed", "chair", "lamp"}
    assert set(asked["obj_appearance_order"].counts) == {"bed", "chair"}


def test_a_room_is_not_measured_where_a_patch_of_its_floor_was_hidden():
    settings = SimulatedSettings(size_px=100)
    seen = sight([{1: 50, 2: 50, 3: 50, 4: 50}])
    assert seen.covers(1.0, 0.0)
    seen.floor[:2] = False
    assert seen.covers(0.75, 0.5)
    assert not seen.covers(0.75, 0.4)
    seen.floor[:5] = False
    graph, asked = asked_graphs(room(settings), seen, settings)
    assert graph.room_size_m2 == 12.0
    assert asked["room_size_estimation"].room_size_m2 == 0.0


def test_floor_behind_something_is_not_in_view():
    T_WC = np.eye(4)
    T_WC[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]  # looks along +X from 1.5 m up
    T_WC[2, 3] = 1.5
    K = np.array([[50.0, 0, 50], [0, 50, 50], [0, 0, 1]])
    rgb, ids = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.int32)
    plan = FloorMap(np.ones((12, 1), bool), np.array([-3.0, -0.25]), 0.5)
    clear, walled = Sight(plan, 0.0), Sight(plan, 0.0)
    for where, depth in ((clear, 50.0), (walled, 1.9)):
        seen = Observation(Frame(rgb, 1, "camera", K), np.full((100, 100), depth, np.float32), ids, T_WC, K)
        assert list(where.watch([seen])) == [seen]
    x = -3.0 + 0.5 * np.arange(12) + 0.25
    assert (clear.floor == (x > 1.5)).all()
    assert (walled.floor == ((x > 1.5) & (x < 2.25))).all()


@pytest.fixture(scope="module")
def rooms_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rooms") / "set"
    qa = QaSettings(generator=replace(simulated_generator(), per_scene=4), pictures=1)
    return write_question_set(folder, seed=11, rooms=1, settings=TINY, qa=qa, progress=False)


def test_a_set_of_a_flat_has_its_video_and_frames(rooms_set):
    frames = list(open_clip(rooms_set / "videos" / "flat-000011.mp4"))
    assert [frame.rgb.shape for frame in frames] == [(64, 64, 3)] * 8
    entry = json.loads((rooms_set / "frame_metadata.json").read_text(encoding="utf-8"))["flat-000011"]
    assert len(entry["frames"]) == 8
    rows = [json.loads(line) for line in (rooms_set / "questions.jsonl").open(encoding="utf-8")]
    assert {row["video"] for row in rows} == {"videos/flat-000011.mp4"}
    assert {"camera_obj_abs_dist", "object_counting"} <= {row["task"] for row in rows}


def test_questions_are_about_what_the_frames_show(rooms_set):
    entry = json.loads((rooms_set / "frame_metadata.json").read_text(encoding="utf-8"))["flat-000011"]
    shown = {box["instance_id"] for frame in entry["frames"] for box in frame["bboxes_2d"]}
    rows = [json.loads(line) for line in (rooms_set / "questions.jsonl").open(encoding="utf-8")]
    for row in rows:
        assert shown.issuperset(row["instance_ids"]), row["question"]
        boxes = {f["frame_id"]: {b["instance_id"] for b in f["bboxes_2d"]} for f in entry["frames"]}
        for frame in row["frame_indices"]:
            assert boxes[frame].issuperset(row["instance_ids"]), row["question"]


def test_a_whole_set_stays(rooms_set):
    qa = QaSettings(generator=replace(simulated_generator(), per_scene=4), pictures=1)
    before = (rooms_set / "manifest.json").stat().st_mtime_ns
    assert write_question_set(rooms_set, seed=11, rooms=1, settings=TINY, qa=qa) == rooms_set
    assert (rooms_set / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="made otherwise"):
        write_question_set(rooms_set, seed=12, rooms=1, settings=TINY, qa=qa)


def test_worlds_are_listed_without_opening_them():
    assert reader_of("flat:3..5") == "simulated"
    names = [scan.name for scan in read_scans("flat:3..5")]
    assert names == [f"simulated/flat-{number:06d}" for number in (3, 4, 5)]
    assert simulated.scene_name("/some/where/house.glb") == "house"
    with pytest.raises(ValueError, match="even"):
        list(read_scans("flat:0", size_px=63))
