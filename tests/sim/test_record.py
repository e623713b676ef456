"""Recordings read back as what was rendered, with the truth beside them; what breaks off leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
from PIL import Image
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation
from worlds import box, painted, room

from sim.camera import CameraSettings, camera_pose
from sim.mesh_env import MeshEnv, WorldSettings
from sim.record import NOISY, RecordSettings, main, record, watch
from sim.recording.truth import visible_objects, walk_graph
from sim.walks import Walk, WalkSettings, make_walk
from sim.world.annotation import plain_graph
from sim.world.sensor import SensorSettings
from vlm3r_core.clip import open_clip
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import SceneObject
from vlm3r_core.scene.metadata import read_metadata

LENS = CameraSettings(width_px=64, height_px=48)
TABLE, LAMP, WALL_ID = 3, 7, 9
WALK = WalkSettings(fps=5.0, stops=1, turn_speed_deg_s=90.0, speed_m_s=1.0)


@cache
def world() -> MeshEnv:
    """A room with a table and, behind it, a lamp that is a little higher; the walls have an id but are no objects."""
    mesh = room(
        table=painted(box([3, 1.5, 0], [3.4, 2.5, 1.2]), (10, 200, 30)),
        lamp=painted(box([4.5, 1.9, 0], [4.7, 2.1, 1.3]), (200, 20, 220)),
    )
    ids = np.full(len(mesh.faces), WALL_ID, np.int32)
    for name, number in (("table", TABLE), ("lamp", LAMP)):
        ids[mesh.part_of_face == mesh.parts.index(name)] = number
    objects = (
        SceneObject("table", OrientedBox.aligned([3, 1.5, 0], [3.4, 2.5, 1.2]), TABLE),
        SceneObject("lamp", OrientedBox.aligned([4.5, 1.9, 0], [4.7, 2.1, 1.3]), LAMP),
    )
    return MeshEnv("room", mesh, ids, plain_graph("room", objects, 0.0, mesh), WorldSettings(LENS))


@cache
def short_walk() -> Walk:
    whole = make_walk(world(), np.random.default_rng(0), WALK)
    return Walk(whole.T_WC[:40], whole.stamps_ns[:40])


@cache
def rendered() -> tuple:
    return tuple(watch(world(), short_walk()))


def recorded(target, **options):
    record(world(), short_walk(), target, progress=False, **options)
    return list(open_clip(target, fps=WALK.fps))


FORMATS = [
    # Lossy ones change a pixel by a few levels on average; chroma at half size smears coloured edges.
    ("walk.mp4", RecordSettings(), 6.0, 0),
    ("walk.mcap", RecordSettings(), 2.0, 1_000_000_000),
    ("walk.mcap", RecordSettings(raw=True), 0.0, 1_000_000_000),
    ("walk", RecordSettings(), 2.0, 0),
    ("walk", RecordSettings(image_format="png"), 0.0, 0),
]


@pytest.mark.parametrize(("name", "settings", "largest_mean", "first_ns"), FORMATS)
def test_what_is_read_back_is_what_was_rendered(tmp_path, name, settings, largest_mean, first_ns):
    frames = recorded(tmp_path / name, settings=settings)
    assert len(frames) == len(short_walk()) == len(open_clip(tmp_path / name, fps=WALK.fps))
    stamps = np.array([frame.stamp_ns for frame in frames])
    # Containers and folders count from their first picture; an MP4 rounds to its own clock.
    np.testing.assert_allclose(stamps - first_ns, short_walk().stamps_ns - 1_000_000_000, atol=1e6 * ("mp4" in name))
    pictures = [seen.frame.rgb.astype(int) for seen in rendered()]
    for index, frame in enumerate(frames):
        error = np.abs(frame.rgb - pictures[index]).mean()
        assert error <= largest_mean
        for beside in (index - 1, index + 1):  # no picture is its neighbour's
            if 0 <= beside < len(frames) and (pictures[beside] != pictures[index]).any():
                assert np.abs(frame.rgb - pictures[beside]).mean() > error


def test_a_folder_has_poses_depth_and_ids(tmp_path):
    recorded(tmp_path / "walk", settings=RecordSettings(depth=True, ids=True))
    notes = json.loads((tmp_path / "walk" / "poses.json").read_text())
    assert (notes["width_px"], notes["height_px"]) == (64, 48)
    np.testing.assert_array_equal(notes["K"], rendered()[0].K)
    assert [frame["file"] for frame in notes["frames"]] == [f"{i:06d}.jpg" for i in range(40)]
    assert [frame["stamp_ns"] for frame in notes["frames"]] == short_walk().stamps_ns.tolist()
    np.testing.assert_array_equal([frame["T_WC"] for frame in notes["frames"]], short_walk().T_WC)
    for index in (0, 17, 39):
        depth_mm = np.array(Image.open(tmp_path / "walk" / "depth" / f"{index:06d}.png"))
        assert depth_mm.dtype == np.uint16
        np.testing.assert_allclose(depth_mm / 1000, rendered()[index].depth_m, atol=5.1e-4)
        ids = np.load(tmp_path / "walk" / "ids" / f"{index:06d}.npy")
        np.testing.assert_array_equal(ids, rendered()[index].semantic_ids)


def test_a_bag_has_intrinsics_and_poses(tmp_path):
    recorded(tmp_path / "walk.mcap")
    with AnyReader([tmp_path / "walk.mcap"], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        messages = [
            (link.topic, at_ns, reader.deserialize(data, link.msgtype)) for link, at_ns, data in reader.messages()
        ]
    by_topic = {topic: [(at_ns, m) for other, at_ns, m in messages if other == topic] for topic, _, _ in messages}
    assert sorted(by_topic) == ["/camera/camera_info", "/camera/image_raw/compressed", "/tf"]
    assert [at_ns for at_ns, _ in by_topic["/tf"]] == short_walk().stamps_ns.tolist()
    info = by_topic["/camera/camera_info"][5][1]
    np.testing.assert_array_equal(info.k.reshape(3, 3), rendered()[0].K)
    assert (info.width, info.height, info.distortion_model) == (64, 48, "plumb_bob")
    for index in (0, 20, 39):
        (tf,) = by_topic["/tf"][index][1].transforms
        assert (tf.header.frame_id, tf.child_frame_id) == ("map", "camera_optical_frame")
        place, turn = tf.transform.translation, tf.transform.rotation
        np.testing.assert_allclose([place.x, place.y, place.z], short_walk().T_WC[index, :3, 3])
        R_WC = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
        np.testing.assert_allclose(R_WC, short_walk().T_WC[index, :3, :3], atol=1e-12)


@pytest.mark.parametrize("name", ["walk.mp4", "walk"])
def test_the_truth_lies_beside(tmp_path, name):
    written = record(world(), short_walk(), tmp_path / name, progress=False)
    where = tmp_path / name if name == "walk" else tmp_path
    prefix = "" if name == "walk" else "walk_"
    graph = read_metadata(where / f"{prefix}scenes.json", where / f"{prefix}frames.json")["room"]
    assert (graph.dataset, graph.video_path) == ("simulated", name)
    assert graph.counts == {"table": 1, "lamp": 1}
    np.testing.assert_array_equal(graph.camera.K, rendered()[0].K)
    assert [frame.frame_id for frame in graph.frames] == list(range(40))
    assert [frame.extra["stamp_ns"] for frame in graph.frames] == short_walk().stamps_ns.tolist()
    np.testing.assert_array_equal([frame.T_WC for frame in graph.frames], short_walk().T_WC)
    assert [frame.visible for frame in graph.frames] == [frame.visible for frame in written.frames]
    assert {item.instance_id for frame in graph.frames for item in frame.visible} == {TABLE, LAMP}
    paths = {frame.color_path for frame in graph.frames}
    assert paths == ({f"{i:06d}.jpg" for i in range(40)} if name == "walk" else {None})


def look(x: float, height_m: float) -> Walk:
    """One pose that looks along +X over the table at the lamp."""
    pose = camera_pose(np.array([x, 2.0, 0.0]), 0.0, CameraSettings(height_m=height_m))
    return Walk(pose[None], np.array([1_000_000_000]))


def test_what_is_hidden_is_not_visible():
    env = world()
    seen_from = {}
    for height_m in (1.0, 1.6):
        walk = look(1.0, height_m)
        seen = list(watch(env, walk))
        (frame,) = walk_graph(env.scene_graph(), walk, seen, min_pixels=1).frames
        seen_from[height_m] = {item.instance_id: item.bbox_px for item in frame.visible}
        for number, (left, top, right, bottom) in seen_from[height_m].items():
            rows, columns = np.nonzero(seen[0].semantic_ids == number)
            assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max(), rows.max())
    assert set(seen_from[1.0]) == {TABLE}  # the lamp is in front of the camera, behind the table
    assert set(seen_from[1.6]) == {TABLE, LAMP}


def test_few_pixels_do_not_count():
    ids = np.zeros((10, 12), np.int32)
    ids[2:4, 3:8], ids[7, 5], ids[9] = 4, 5, 6
    assert [(v.instance_id, v.bbox_px) for v in visible_objects(ids, {4, 5}, 1)] == [
        (4, (3, 2, 7, 3)),
        (5, (5, 7, 5, 7)),
    ]
    assert [v.instance_id for v in visible_objects(ids, {4, 5}, 10)] == [4]
    assert visible_objects(ids, {4, 5}, 11) == ()
    with pytest.raises(ValueError, match="min_pixels must be at least 1, got 0"):
        walk_graph(world().scene_graph(), short_walk(), rendered(), min_pixels=0)
    with pytest.raises(ValueError, match="argument 3 is shorter"):
        walk_graph(world().scene_graph(), short_walk(), rendered()[:-1])


def test_noise_is_seeded_and_blurs_what_moves():
    clean, first, second, other = (
        list(watch(world(), short_walk(), sensor, seed))
        for sensor, seed in ((None, 0), (NOISY, 1), (NOISY, 1), (NOISY, 2))
    )
    for a, b, c, d in zip(clean, first, second, other, strict=True):
        np.testing.assert_array_equal(b.frame.rgb, c.frame.rgb)
        assert (b.frame.rgb != d.frame.rgb).any()
        assert 0.5 < np.abs(a.frame.rgb.astype(int) - b.frame.rgb).mean() < 12
        np.testing.assert_array_equal(a.semantic_ids, b.semantic_ids)
    blurred = list(watch(world(), short_walk(), SensorSettings(exposure_s=0.1)))
    moved = [not np.array_equal(a.frame.rgb, b.frame.rgb) for a, b in zip(clean, blurred, strict=True)]
    assert not moved[0]  # nothing is known of the time before
    assert np.mean(moved) > 0.8


def test_same_seed_same_files(tmp_path):
    for name in ("a", "b"):
        recorded(tmp_path / name, settings=RecordSettings(depth=True), sensor=NOISY, seed=4)
    files = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("a", "b")]
    assert len(files[0]) == len(files[1]) == 83
    for one, two in zip(*files, strict=True):
        # the truth names the recording it belongs to
        assert one.read_bytes().replace(b'"a"', b'"b"') == two.read_bytes()


def test_a_video_has_the_same_bytes_on_every_run(tmp_path):
    """x264 is not deterministic as it comes; an encoder that is not shows within a few runs."""
    for number in range(4):
        recorded(tmp_path / f"{number}.mp4")
    assert len({(tmp_path / f"{number}.mp4").read_bytes() for number in range(4)}) == 1


class Pulled(Exception):
    """Someone pulls the plug."""


class FailingEnv:
    """A world whose camera fails after some pictures, as a simulator's process may."""

    def __init__(self, env: MeshEnv, pictures: int):
        self._env, self._left = env, pictures

    def scene_graph(self):
        return self._env.scene_graph()

    def view(self, T_WC, stamp_ns=0):
        self._left -= 1
        if self._left < 0:
            raise Pulled
        return self._env.view(T_WC, stamp_ns)


@pytest.mark.parametrize("name", ["walk.mp4", "walk.mcap", "walk"])
def test_what_breaks_off_leaves_nothing(tmp_path, name):
    with pytest.raises(Pulled):
        record(FailingEnv(world(), 10), short_walk(), tmp_path / name, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["walk.mp4", "walk.mcap", "walk"])
def test_what_is_there_is_only_replaced_on_request_and_whole(tmp_path, name):
    recorded(tmp_path / name)
    files = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="exists already; give another name, or ask to overwrite"):
        recorded(tmp_path / name)
    with pytest.raises(Pulled):
        record(FailingEnv(world(), 10), short_walk(), tmp_path / name, RecordSettings(overwrite=True), progress=False)
    assert sorted(path.name for path in tmp_path.rglob("*")) == files
    assert len(list(open_clip(tmp_path / name))) == 40
    assert len(recorded(tmp_path / name, settings=RecordSettings(overwrite=True))) == 40
    assert sorted(path.name for path in tmp_path.rglob("*")) == files


def test_what_it_refuses(tmp_path):
    with pytest.raises(
        ValueError, match=r"name must end in \.mp4 or \.mcap, or have no ending for a folder, got '\.avi'"
    ):
        recorded(tmp_path / "walk.avi")
    with pytest.raises(ValueError, match=r"RecordSettings\.image_format must be one of jpg, png, got 'gif'"):
        RecordSettings(image_format="gif")


@pytest.fixture
def room_file(tmp_path):
    """The room as a file with a name for each thing."""
    scene = box([0, 0, -0.1], [6, 4, 0])
    path = tmp_path / "room.ply"
    scene.export(path)
    return path


def test_command_line(room_file, tmp_path, capsys):
    options = "--seed 2 --fps 2 --stops 1 --size 33x32 --height 0.5".split()
    assert main([str(room_file), str(tmp_path / "out" / "walk"), *options]) == 0
    said = capsys.readouterr().out
    assert "frames of 33 x 32" in said
    assert "0 of 0 objects seen" in said
    notes = json.loads((tmp_path / "out" / "walk" / "poses.json").read_text())
    assert {frame["T_WC"][2][3] for frame in notes["frames"]} == {0.5}
    assert notes["frames"][1]["stamp_ns"] - notes["frames"][0]["stamp_ns"] == 500_000_000
    assert main([str(room_file), str(tmp_path / "walk.mp4"), *options]) == 2
    assert "an MP4 needs an even width and height, got 33 x 32" in capsys.readouterr().err
    assert main([str(tmp_path / "absent.glb"), str(tmp_path / "walk.mp4")]) == 2
    assert "no world at" in capsys.readouterr().err


def test_interrupting_the_command_leaves_nothing(room_file, tmp_path):
    target = tmp_path / "out" / "walk.mp4"
    command = [sys.executable, "-m", "sim.record", room_file, target, "--fps", "60", "--size", "640x480"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 120
        while not (target.parent.is_dir() and any(target.parent.glob(".*.partial/*"))) and time.monotonic() < until:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted, nothing was written" in errors
    assert list(target.parent.iterdir()) == []
