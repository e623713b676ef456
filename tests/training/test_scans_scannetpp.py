"""ScanNet++'s reader on a small copy of its folder, whole and damaged."""

from __future__ import annotations

import json
import shutil
import struct

import av
import numpy as np
import pytest
from scan_copies import (
    FRAMES,
    PHONE,
    ROOM,
    THINGS,
    boxes_seen,
    intrinsics,
    mesh,
    pose,
    view,
    write_ply,
    write_scannetpp,
)

from training.scans import scannetpp
from training.scans.reading.cameras import camera_of, turned_camera, turned_pose, upright_turns
from training.scans.reading.depth_stream import read_depths
from training.scans.reading.labels import SCANNETPP, SCANNETPP_EXCLUDED, SCANNETPP_RENAMED
from training.scans.scannetpp import ScannetppSettings
from vlm3r_core.clip import open_clip

NAME = "0a5c013435"
SIZE = (64, 48)
SAMPLED = [0, 2, 5, 8, 11]


def settings(**changed) -> ScannetppSettings:
    return ScannetppSettings(**{"frames": 5, "width_px": SIZE[0], "height_px": SIZE[1], **changed})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("scannetpp")
    write_scannetpp(path)
    return path


@pytest.fixture
def copy(root, tmp_path):
    """The scan's folder in a copy that may be damaged."""
    shutil.copytree(root, tmp_path / "root")
    return tmp_path / "root" / "data" / NAME


def opened(scene, tmp_path, **changed):
    (scan,) = scannetpp.read_scans(str(scene.parents[1]), settings(**changed))
    folder = tmp_path / "out"
    folder.mkdir()
    return scan.load(folder)


@pytest.fixture(scope="module")
def content(root, tmp_path_factory):
    return opened(root / "data" / NAME, tmp_path_factory.mktemp("whole"))


def test_listing(root, tmp_path):
    assert scannetpp.recognizes(str(root))
    assert not scannetpp.recognizes(str(tmp_path))
    for where in (root, root / "data"):
        (scan,) = scannetpp.read_scans(str(where))
        assert (scan.dataset, scan.scene_id, scan.skipped) == ("scannetpp", NAME, "")
    (root / "splits" / "nvs_sem_val.txt").write_text("other\n")
    assert list(scannetpp.read_scans(str(root), settings(split="val"))) == []
    with pytest.raises(FileNotFoundError, match="holds no scan"):
        list(scannetpp.read_scans(str(tmp_path)))
    (root / "splits" / "nvs_sem_val.txt").unlink()
    with pytest.raises(FileNotFoundError, match="expected nvs_sem_val"):
        list(scannetpp.read_scans(str(root), settings(split="val")))


def test_objects_are_the_annotated_ones(content):
    graph = content.graph
    # the gizmo is a cabinet here, which VSI-Bench does not ask about
    assert graph.counts == {"sofa": 1, "table": 1, "printer": 1, "trash can": 1, "pillow": 1}
    for item in graph.objects:
        thing = THINGS[item.instance_id - 1]
        np.testing.assert_allclose(item.box.center_m, thing.center)
        np.testing.assert_allclose(item.box.lengths_m, thing.lengths)
        np.testing.assert_allclose(item.box.R_WB, thing.R, atol=1e-12)
        assert item.bounds_m.tolist() == [[0, 0, 0], [1, 1, 1]]
        assert item.extra == {"dominantNormal": [0, 0, 1]}
    assert graph.room_size_m2 == pytest.approx(ROOM[0] * ROOM[1], rel=0.02)
    assert "left_out" not in graph.extra


def test_frames_have_the_aligned_poses(content):
    frames = content.graph.frames
    assert [frame.frame_id for frame in frames] == SAMPLED
    for frame in frames:
        np.testing.assert_allclose(frame.T_WC, pose(frame.frame_id), atol=1e-12)
        assert frame.extra["stamp_ns"] == round(frame.frame_id * 1e9 / 60)
    np.testing.assert_allclose(content.graph.camera.K, intrinsics(SIZE))


def check_visible(graph):
    assert graph.frames_extra["visibility"] == "depth"
    for frame in graph.frames:
        expected = boxes_seen(view(pose(frame.frame_id), SIZE)[2])
        found = {item.instance_id - 1: item.bbox_px for item in frame.visible}
        assert 4 not in found
        for number, box in expected.items():
            if number < 5 and (box[2] - box[0]) * (box[3] - box[1]) > 20:
                np.testing.assert_allclose(found[number], box, atol=2)


def test_depth_says_what_is_visible(content):
    check_visible(content.graph)


def test_depth_as_one_stream(tmp_path):
    folder = write_scannetpp(tmp_path / "root", whole_stream=True)
    check_visible(opened(folder, tmp_path).graph)


def test_without_depth_nothing_is_said_to_be_visible(copy, tmp_path):
    (copy / "iphone" / "depth.bin").unlink()
    graph = opened(copy, tmp_path).graph
    assert graph.frames_extra["visibility"] == "none"
    assert all(frame.visible == () and frame.has_pose for frame in graph.frames)


def test_video_has_every_frame_in_order(content):
    clip = open_clip(content.video)
    assert clip.counter() == FRAMES
    views = [view(pose(index), SIZE)[0].astype(int) for index in range(FRAMES)]
    for index, frame in enumerate(clip):
        assert np.argmin([np.abs(frame.rgb - other).mean() for other in views]) == index
        assert frame.stamp_ns == pytest.approx(index * 1e9 / 60, abs=1e6)


def test_every_published_defect(root, tmp_path):
    published = ScannetppSettings.published(frames=5, width_px=SIZE[0], height_px=SIZE[1])
    (scan,) = scannetpp.read_scans(str(root), published)
    graph = scan.load(tmp_path).graph
    assert graph.counts["cabinet"] == 1
    assert all(item.instance_id is None for item in graph.objects)
    assert all(frame.visible == () for frame in graph.frames)


def test_names_are_those_of_the_benchmark(shared_dir):
    path = shared_dir / "data" / "vsi_scenes" / "scannetpp.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    benchmark = {name for scene in json.loads(path.read_text()).values() for name in scene["object_counts"]}
    ours = {SCANNETPP_RENAMED.get(name, name) for name in SCANNETPP if name not in SCANNETPP_EXCLUDED}
    assert benchmark <= ours
    # in no one of the benchmark's scenes
    assert ours - benchmark == {"file folder", "picture", "rack", "slippers", "stapler"}


def change_json(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_lost_poses_stay_frames_without_pose(copy, tmp_path):
    path = copy / "iphone" / "pose_intrinsic_imu.json"
    entries = json.loads(path.read_text())
    entries["frame_000000"]["aligned_pose"][0][3] = float("nan")
    entries["frame_000002"]["aligned_pose"] = [[0] * 4] * 4
    del entries["frame_000005"]
    entries["frame_000008"]["aligned_pose"] = "lost"
    path.write_text(json.dumps(entries))
    frames = opened(copy, tmp_path).graph.frames
    assert [frame.frame_id for frame in frames] == SAMPLED
    assert [frame.has_pose for frame in frames] == [False] * 4 + [True]


def test_damaged_boxes_are_left_out(copy, tmp_path):
    path = copy / "scans" / "segments_anno.json"
    groups = json.loads(path.read_text())["segGroups"]
    groups[0]["obb"]["normalizedAxes"] = [1, 1, 0] * 3
    groups[1]["obb"]["axesLengths"][0] = -1
    del groups[2]["obb"]
    groups[3]["obb"]["min"] = [float("nan")] * 3
    change_json(path, segGroups=groups)
    graph = opened(copy, tmp_path, video=False).graph
    assert graph.counts == {"pillow": 1}
    assert sum(graph.extra["left_out"].values()) == 4
    assert any("axesLengths" in reason for reason in graph.extra["left_out"])


@pytest.mark.parametrize(
    "name",
    ["scans/mesh_aligned_0.05.ply", "scans/segments.json", "iphone/pose_intrinsic_imu.json", "iphone/rgb.mp4"],
)
def test_missing_files_are_told_before_opening(copy, name):
    (copy / name).unlink()
    (scan,) = scannetpp.read_scans(str(copy.parents[1]), settings())
    assert f"there is no {name}" in scan.skipped


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def without_intrinsics(copy):
    path = copy / "iphone" / "pose_intrinsic_imu.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps({name: {"aligned_pose": entry["aligned_pose"]} for name, entry in entries.items()}))


def too_many_poses(copy):
    entry = {"aligned_pose": np.eye(4).tolist()}
    change_json(copy / "iphone" / "pose_intrinsic_imu.json", frame_000012=entry, frame_000013=entry)


DAMAGED = {
    "video cut off": (lambda c: cut(c / "iphone" / "rgb.mp4"), "cannot be read as a video|damaged|no readable"),
    "video is no video": (lambda c: (c / "iphone" / "rgb.mp4").write_text("hello"), "video"),
    "video is empty": (lambda c: (c / "iphone" / "rgb.mp4").write_bytes(b""), "video"),
    "more poses than frames": (too_many_poses, "the video is cut off: it has 12 frames"),
    "no intrinsics": (without_intrinsics, "none of 5 frames has intrinsics"),
    "poses are no JSON": (lambda c: cut(c / "iphone" / "pose_intrinsic_imu.json"), "is not JSON"),
    "depth cut off": (lambda c: cut(c / "iphone" / "depth.bin"), "no readable depth stream"),
    "depth is text": (lambda c: (c / "iphone" / "depth.bin").write_text("hello, depth"), "no readable depth stream"),
    "mesh of another scan": (
        lambda c: write_ply(c / "scans" / "mesh_aligned_0.05.ply", mesh()[0][:-5]),
        "do not belong together",
    ),
    "nothing annotated": (lambda c: change_json(c / "scans" / "segments_anno.json", segGroups=[]), "no object"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damage_is_named(copy, tmp_path, what):
    damage, reason = DAMAGED[what]
    damage(copy)
    with pytest.raises((ValueError, OSError, KeyError), match=reason):
        opened(copy, tmp_path)


def test_depth_beyond_the_end_is_missing(copy):
    path = copy / "iphone" / "depth.bin"
    assert sorted(read_depths(path, [3, 11, 12, 99])) == [3, 11]
    for index in (3, 8):
        truth = view(pose(index), (256, 192))[1]
        np.testing.assert_allclose(read_depths(path, [index])[index], truth, atol=1.1e-3)
    content = path.read_bytes()
    path.write_bytes(content + struct.pack("<I", 4) + b"oops")
    with pytest.raises(ValueError, match="no readable depth stream"):
        read_depths(path, [12])


@pytest.mark.skipif(
    not hasattr(av.video.stream.VideoStream, "set_display_rotation"), reason="this PyAV cannot write it"
)
def test_film_that_players_turn(tmp_path):
    """The phone was held upright: its sensor lay on its side, and its film says by how much to turn it."""
    folder = write_scannetpp(tmp_path / "root", roll_deg=90, rotation=-90)
    content = opened(folder, tmp_path)
    graph, shown = content.graph, SIZE[::-1]
    assert (graph.camera.width_px, graph.camera.height_px) == shown
    for frame, picture in zip(graph.frames, (f.rgb for f in open_clip(content.video).sampled(5)), strict=True):
        np.testing.assert_allclose(frame.T_WC, pose(frame.frame_id), atol=1e-9)
        rgb, _, ids = view(frame.T_WC, shown, graph.camera.K)
        assert np.abs(picture - rgb.astype(int)).mean() < 15
        found = {item.instance_id - 1: item.bbox_px for item in frame.visible}
        assert 1 in found
        np.testing.assert_allclose(found[1], boxes_seen(ids)[1], atol=2)


@pytest.mark.parametrize("turns", range(4))
def test_turned_cameras_see_turned_pictures(turns):
    camera = camera_of(intrinsics(PHONE), PHONE, PHONE)
    T_WC, turned = turned_pose(pose(4), turns), turned_camera(camera, turns)
    size = (turned.width_px, turned.height_px)
    expected = np.rot90(view(pose(4), PHONE)[0], turns)
    assert size == expected.shape[1::-1]
    np.testing.assert_array_equal(view(T_WC, size, turned.K)[0], expected)
    assert upright_turns([T_WC]) == -turns % 4
