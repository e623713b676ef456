"""Looks around in flats of one room: the clips of pre-training, asked only what they show. Tiny frames, two flats."""

# ruff: noqa: E402 - what needs the simulator is imported after it is known to be there
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

for package in ("embreex", "trimesh", "pyarrow"):
    pytest.importorskip(package, reason=f"{package} is not installed (extras `sim` and `train`)")

from sim.camera import CameraSettings, camera_pose
from sim.env import FloorMap, Observation
from sim.rooms import FlatSettings, export_flat, make_flat
from training.make_qa import main
from training.qa.mentions import read_mentions
from training.qa.rooms import write_question_set
from training.scans.simulated import read_scans
from training.scans.simulated_clips import ClipSettings, film_flat
from training.scans.simulated_settings import settings_for
from training.scans.simulated_sight import Sight
from vlm3r_core.clip import open_clip
from vlm3r_core.scene.tasks import GeneratorSettings, generate
from vlm3r_core.types import Frame

SEED, ROOMS = 100010, 2
SMALL = settings_for("look_around", size_px=64, routes=1, patience=5)


@pytest.fixture(scope="module")
def looks(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("looks") / "set"
    return write_question_set(folder, seed=SEED, rooms=ROOMS, settings=SMALL, progress=False)


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "questions.jsonl").open(encoding="utf-8")]


def test_the_video_is_the_first_clip_of_pre_training(looks):
    clip = next(film_flat(SEED, ClipSettings(size_px=64, truth_px=4, clips_per_flat=1)))
    frames = np.stack([frame.rgb for frame in open_clip(looks / "videos" / f"room-{SEED}.mp4")])
    assert frames.shape == clip.rgb.shape == (16, 64, 64, 3)
    assert np.abs(frames.astype(int) - clip.rgb).mean() < 8  # what a video loses
    entry = json.loads((looks / "frame_metadata.json").read_text(encoding="utf-8"))[f"room-{SEED}"]
    poses = [frame["camera_pose_camera_to_world"] for frame in entry["frames"]]
    assert np.array_equal(poses, clip.T_WC)


def test_questions_are_about_what_is_shown(looks):
    frames = json.loads((looks / "frame_metadata.json").read_text(encoding="utf-8"))
    rows = rows_of(looks)
    assert {"object_rel_direction_v3", "obj_appearance_order"} <= {row["task"] for row in rows}
    for row in rows:
        seen = {box["instance_id"] for f in frames[row["scene_name"]]["frames"] for box in f["bboxes_2d"]}
        assert seen.issuperset(row["instance_ids"]), row["question"]


def test_mentions_are_what_the_flat_holds(looks):
    mentions = read_mentions(looks)
    assert sorted(mentions) == [f"videos/room-{SEED + number}.mp4" for number in range(ROOMS)]
    flat = make_flat(SEED, FlatSettings(max_rooms=1))
    clip = next(film_flat(SEED, ClipSettings(size_px=64, truth_px=64, clips_per_flat=1)))
    found = mentions[f"videos/room-{SEED}.mp4"]
    single = {name for name, (count, *_) in found.items() if count == 1}
    assert single
    for name in found:
        items = flat.graph.objects_of(name)
        count, *center, longest, first, x_now, z_now = found[name]
        assert count == len(items)
        assert 0 <= first <= 1
        if name in single:
            X_W = clip.T_WC[0] @ [*center, 1.0]
            assert np.allclose(X_W[:3], items[0].box.center_m)
            assert longest == max(items[0].box.lengths_m)
            now = np.linalg.inv(clip.T_WC[-1]) @ [*items[0].box.center_m, 1.0]
            assert np.allclose((x_now, z_now), now[[0, 2]])
        else:
            assert np.isnan([*center, longest, x_now, z_now]).all()


def test_a_scan_is_the_same_every_time(tmp_path):
    graphs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (scan,) = read_scans(f"room:{SEED}", **vars(settings_for("look_around", size_px=32, routes=0)))
        graphs.append(scan.load(tmp_path / name).graph)
    videos = [(tmp_path / name / f"room-{SEED}.mp4").read_bytes() for name in ("one", "two")]
    assert videos[0] == videos[1]
    items = [generate(graph, "object_abs_distance", GeneratorSettings(truth="exact")).items for graph in graphs]
    assert items[0] == items[1]


def test_a_world_has_as_many_scans_as_places(tmp_path):
    settings = settings_for("look_around", size_px=32, places=2, routes=0)
    first, second = read_scans("room:7", **vars(settings))
    assert (first.scene_id, second.scene_id) == ("room-000007", "room-000007-001")
    poses = [scan.load(tmp_path).graph.frames[0].T_WC for scan in (first, second)]
    assert not np.allclose(*poses)


def test_in_a_mesh_what_is_not_in_sight_is_not_talked_of(tmp_path):
    flat = make_flat(3, FlatSettings(min_rooms=3, max_rooms=3))
    mesh, _ = export_flat(flat, tmp_path)
    settings = settings_for("look_around", size_px=64, places=2, routes=0)
    contents = [scan.load(tmp_path) for scan in read_scans(str(mesh), **vars(settings))]
    assert [content.graph.scene_id for content in contents] == [mesh.stem, f"{mesh.stem}-001"]
    for content in contents:
        seen = {box.instance_id for frame in content.graph.frames for box in frame.visible}
        assert {item.instance_id for item in content.graph.objects} == seen
        assert content.graph.room_size_m2 == 0
        counted = content.asked["object_counting"].counts
        assert all(count == len(flat.graph.objects_of(name)) for name, count in counted.items())


def test_who_looks_around_wants_one_room(tmp_path):
    (scan,) = read_scans("flat:7", **vars(settings_for("look_around", size_px=32)))
    with pytest.raises(ValueError, match="room:SEED or a mesh"):
        scan.load(tmp_path)


@pytest.mark.parametrize(("turns", "known"), [(range(0, 360, 30), True), (range(0, 150, 30), False)])
def test_the_size_of_a_room_is_known_when_all_corners_were_in_a_picture(turns, known):
    corners = np.array([[-2.0, -2], [2, -2], [2, 2], [-2, 2]])
    sight = Sight(FloorMap(np.zeros((0, 0), bool), np.zeros(2), 1.0), 0.0, corners)
    camera, K = CameraSettings(32, 32, pitch_deg=-8.0), CameraSettings(32, 32).pinhole.K
    ids, depth, rgb = np.zeros((32, 32), np.int32), np.ones((32, 32), np.float32), np.zeros((32, 32, 3), np.uint8)
    poses = [camera_pose(np.array([0.2, 0.1, 0]), np.radians(turn), camera) for turn in turns]
    list(sight.watch(Observation(Frame(rgb, 1, "camera", K), depth, ids, pose, K) for pose in poses))
    assert sight.covers(0.75, 1.0) is known


def test_the_command_line_looks_around(tmp_path, looks):
    arguments = ["--scans", f"room:{SEED}", "--walk", "look_around", "--caps-for", "learning", "--blind-proof"]
    arguments += ["--size", "32", "--routes", "0", "--pictures", "0", "--out", str(tmp_path / "set")]
    assert main(arguments) == 0
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["origin"]["frames"] == 16
    assert dict(manifest["settings"]["generator"]["caps"])["object_abs_distance"] == 12
    assert manifest["settings"]["blind_proof"]
