"""ARKitScenes' reader on small copies of its folders, whole and damaged, with and without the recorded film."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
from scan_copies import (
    ARKIT_LABELS,
    FRAMES,
    PERIOD_S,
    STARTS_S,
    TABLET,
    THINGS,
    boxes_seen,
    intrinsics,
    png,
    pose,
    rolled,
    view,
    write_arkit,
    write_film,
    write_ply,
)

from training.scans import arkitscenes
from training.scans.arkitscenes import ArkitSettings
from training.scans.reading.arkit import read_trajectory
from vlm3r_core.clip import open_clip

NAME = "47333462"
SAMPLED = [0, 2, 5, 8, 11]


def settings(**changed) -> ArkitSettings:
    return ArkitSettings(**{"frames": 5, **changed})


def opened(scene, tmp_path, **changed):
    (scan,) = arkitscenes.read_scans(str(scene.parents[2]), settings(**changed))
    folder = tmp_path / "out"
    folder.mkdir()
    return scan.load(folder)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_arkit(tmp_path_factory.mktemp("arkit"))


@pytest.fixture
def copy(scene, tmp_path):
    """The scan's folder in a copy that may be damaged."""
    shutil.copytree(scene.parents[2], tmp_path / "root")
    return tmp_path / "root" / "3dod" / "Training" / NAME


@pytest.fixture(scope="module")
def content(scene, tmp_path_factory):
    return opened(scene, tmp_path_factory.mktemp("whole"))


def test_listing(scene, tmp_path):
    root = scene.parents[2]
    assert not arkitscenes.recognizes(str(tmp_path))
    for where in (root, root / "3dod", root / "3dod" / "Training"):
        assert arkitscenes.recognizes(str(where))
        (scan,) = arkitscenes.read_scans(str(where))
        assert (scan.dataset, scan.scene_id, scan.skipped) == ("arkitscenes", NAME, "")
    with pytest.raises(FileNotFoundError, match="ARKitScenes in Validation"):
        list(arkitscenes.read_scans(str(root), settings(split="val")))


def test_one_scan_of_each_visit(tmp_path):
    names = [f"4000000{n}" for n in range(6)]
    for name in names:
        folder = tmp_path / "raw" / "Training" / name
        folder.mkdir(parents=True)
        (folder / f"{name}_3dod_mesh.ply").touch()
    rows = [f"{name},{'7.0' if name < '40000003' else '8.0'},Training" for name in names[:5]]
    (tmp_path / "raw" / "metadata.csv").write_text("\n".join(["video_id,visit_id,fold", *rows]))

    def listed(**changed):
        return [scan.scene_id for scan in arkitscenes.read_scans(str(tmp_path), settings(**changed))]

    chosen = listed()
    assert len(chosen) == 3
    assert chosen[0] in names[:3]
    assert chosen[1] in names[3:5]
    assert chosen[2] == names[5]
    assert listed() == chosen
    assert len({tuple(listed(seed=seed)) for seed in range(12)}) > 2
    assert listed(one_per_visit=False) == names
    (scan, *_) = arkitscenes.read_scans(str(tmp_path), settings())
    assert "_3dod_annotation.json" in scan.skipped


def test_objects_are_the_annotated_ones(content):
    graph = content.graph
    # the cabinet is not asked about, the gizmo is no name of 3DOD
    assert graph.counts == {"sofa": 1, "table": 1, "tv": 1, "stool": 1}
    for item in graph.objects:
        thing = THINGS[item.instance_id]
        np.testing.assert_allclose(item.box.center_m, thing.center)
        np.testing.assert_allclose(item.box.lengths_m, thing.lengths)
        np.testing.assert_allclose(item.box.R_WB, thing.R, atol=1e-12)
        np.testing.assert_allclose(item.bounds_m, item.box.bounds())
        assert item.extra == {"uid": f"u{item.instance_id}"}
    assert graph.extra["left_out"] == {"label 'gizmo' is not one of 3DOD": 1}
    assert graph.room_size_m2 == pytest.approx(20, rel=0.02)


def check_upright(content, size, count=5):
    """Poses, camera and visible objects are those of the upright pictures."""
    graph = content.graph
    assert (graph.camera.width_px, graph.camera.height_px) == size
    seen_ever = set()
    for frame in graph.frames:
        _, _, ids = view(frame.T_WC, size, graph.camera.K)
        expected = boxes_seen(ids)
        found = {item.instance_id: item.bbox_px for item in frame.visible}
        for number, box in expected.items():
            if number in (0, 1) and min(box[:2]) > 0 and box[2] < size[0] - 1 and box[3] < size[1] - 1:
                np.testing.assert_allclose(found[number], box, atol=0.05 * max(size))
        seen_ever |= set(found)
    assert seen_ever >= {0, 1}
    assert 4 not in seen_ever
    assert len(graph.frames) == count
    assert graph.frames_extra["visibility"] == "depth"


@pytest.mark.parametrize("roll_deg", [0, 90, 180, 270])
def test_pictures_are_turned_upright_with_camera_and_poses(tmp_path, roll_deg):
    scene = write_arkit(tmp_path / "root", roll_deg=roll_deg)
    content = opened(scene, tmp_path)
    size = TABLET if roll_deg % 180 == 0 else TABLET[::-1]
    check_upright(content, size)
    assert [frame.frame_id for frame in content.graph.frames] == SAMPLED
    for frame in content.graph.frames:
        np.testing.assert_allclose(frame.T_WC, pose(frame.frame_id), atol=1e-6)
        assert frame.extra["stamp_ns"] == pytest.approx(frame.frame_id * PERIOD_S * 1e9, abs=1e6)
    clip = open_clip(content.video)
    assert clip.counter() == FRAMES
    views = [view(pose(i), size, content.graph.camera.K)[0].astype(int) for i in range(FRAMES)]
    for index, frame in enumerate(clip):
        assert frame.rgb.shape[1::-1] == size
        assert np.argmin([np.abs(frame.rgb - other).mean() for other in views]) == index


def test_every_published_defect(scene, tmp_path):
    (scan,) = arkitscenes.read_scans(str(scene.parents[2]), ArkitSettings.published(frames=5))
    graph = scan.load(tmp_path).graph
    assert graph.counts == {"sofa": 1, "table": 1, "tv_monitor": 1, "cabinet": 1, "stool": 1}
    assert all(item.instance_id is None for item in graph.objects)
    assert all(frame.visible == () for frame in graph.frames)
    assert (graph.camera.width_px, graph.camera.height_px) == TABLET
    for frame in graph.frames:
        np.testing.assert_allclose(frame.T_WC, rolled(pose(frame.frame_id), 90), atol=1e-6)


FILM = (128, 96)
FILM_FPS, FILM_LATE_S = 20.0, 0.4


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A raw scan of 25 small pictures; a function gives what the tablet's camera saw at a time since the first."""
    scene = write_arkit(tmp_path_factory.mktemp("raw"), kind="raw", frames=25)

    def sensor_at(seconds: float):
        return rolled(pose(seconds / PERIOD_S * (FRAMES - 1) / 24), 90)

    return scene, sensor_at


@pytest.mark.parametrize("stored", ["upright", "as held"])
def test_film_is_placed_in_time_and_turned(filmed, tmp_path, stored):
    source, sensor_at = filmed
    shutil.copytree(source.parents[2], tmp_path / "root")
    scene = tmp_path / "root" / "raw" / "Training" / NAME
    times = FILM_LATE_S + np.arange(30) / FILM_FPS
    pictures = [view(sensor_at(time), FILM)[0] for time in times]
    # a sensor on its right side: a quarter turn clockwise stands it up
    write_film(scene / f"{NAME}.mov", [np.rot90(p, 3) for p in pictures] if stored == "upright" else pictures, FILM_FPS)
    content = opened(scene, tmp_path)
    if stored == "upright":
        assert content.video == scene / f"{NAME}.mov"
    else:
        assert content.video == tmp_path / "out" / f"{NAME}.mp4"
    clip = open_clip(content.video)
    assert clip.counter() == 30
    assert next(iter(clip)).rgb.shape[1::-1] == FILM[::-1]
    check_upright(content, FILM[::-1])
    for frame in content.graph.frames:
        expected = pose((FILM_LATE_S + frame.frame_id / FILM_FPS) / PERIOD_S * (FRAMES - 1) / 24)
        # a sixtieth of a second is 1.4 cm of this walk
        np.testing.assert_allclose(frame.T_WC[:3, 3], expected[:3, 3], atol=0.03)
        np.testing.assert_allclose(frame.T_WC[:3, :3], expected[:3, :3], atol=0.02)
        assert frame.extra["stamp_ns"] == pytest.approx(frame.frame_id / FILM_FPS * 1e9, abs=1e6)


def test_film_of_something_else_gives_way_to_the_small_pictures(copy, tmp_path, caplog):
    rng = np.random.default_rng(0)
    write_film(copy / f"{NAME}.mov", [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(12)], 10)
    with caplog.at_level(logging.WARNING):
        content = opened(copy, tmp_path)
    assert "looks like the pictures at no time" in caplog.text
    assert content.video.suffix == ".mp4"
    check_upright(content, TABLET[::-1])
    with pytest.raises(ValueError, match="at no time"):
        next(arkitscenes.read_scans(str(copy.parents[2]), settings(film="mov"))).load(tmp_path)


def test_film_alone_has_no_frames(copy, tmp_path):
    shutil.rmtree(copy / f"{NAME}_frames")
    write_film(copy / f"{NAME}.mov", [view(pose(0), FILM)[0]] * 3, 10)
    content = opened(copy, tmp_path)
    assert content.video == copy / f"{NAME}.mov"
    assert content.graph.camera is None
    assert content.graph.frames == ()
    assert content.graph.counts["sofa"] == 1


def home(copy):
    return copy / f"{NAME}_frames"


def traj(copy):
    return home(copy) / "lowres_wide.traj"


def test_lost_tracking_leaves_frames_without_pose(tmp_path):
    def lose(lines):
        broken = " ".join([lines[0].split()[0], *["nan"] * 6])
        return [broken, lines[1], *lines[4:5], *lines[7:]]

    scene = write_arkit(tmp_path / "root", edit=lose)
    frames = opened(scene, tmp_path).graph.frames
    assert [frame.frame_id for frame in frames] == SAMPLED
    # the pose at 0 s is not finite, those at 0.2 and 0.5 s are not there and their neighbours too far
    assert [frame.has_pose for frame in frames] == [False, False, False, True, True]
    assert all(frame.visible == () for frame in frames[:3])


def test_poses_in_between_are_interpolated(scene):
    track = read_trajectory(home(scene) / "lowres_wide.traj")
    assert len(track.times_s) == FRAMES
    T = track.at(STARTS_S + 3.5 * PERIOD_S)
    np.testing.assert_allclose(T, rolled(pose(3.5), 90), atol=2e-3)
    assert track.at(STARTS_S - 1) is None
    assert track.at(STARTS_S + 99) is None


def test_without_depth_nothing_is_said_to_be_visible(copy, tmp_path):
    shutil.rmtree(home(copy) / "lowres_depth")
    graph = opened(copy, tmp_path).graph
    assert graph.frames_extra["visibility"] == "none"
    assert all(frame.visible == () and frame.has_pose for frame in graph.frames)


def test_camera_is_that_of_the_files(content):
    height = TABLET[1]
    K = intrinsics(TABLET)
    camera = content.graph.camera
    # a quarter turn clockwise: u of the turned picture is the height minus v, v is u
    np.testing.assert_allclose((camera.fx, camera.fy), (K[1, 1], K[0, 0]))
    np.testing.assert_allclose((camera.cx, camera.cy), (height - K[1, 2], K[0, 2]))


def annotation(copy):
    return copy / f"{NAME}_3dod_annotation.json"


def test_damaged_objects_are_left_out(copy, tmp_path):
    data = json.loads(annotation(copy).read_text())["data"]
    data[0]["segments"] = {}
    data[1]["segments"]["obbAligned"]["normalizedAxes"] = [0] * 9
    data[2] = "printer"
    data.append({"segments": None})
    annotation(copy).write_text(json.dumps({"data": data}))
    graph = opened(copy, tmp_path, video=False).graph
    assert graph.counts == {"stool": 1}
    assert sum(graph.extra["left_out"].values()) == 5


def first(folder):
    return sorted(folder.iterdir())[0]


DAMAGED = {
    "nothing annotated": (lambda c: annotation(c).write_text('{"data": []}'), "no object is annotated"),
    "annotation is no JSON": (lambda c: annotation(c).write_text("{"), "is not JSON"),
    "mesh is text": (lambda c: (c / f"{NAME}_3dod_mesh.ply").write_text("ply\n"), "no readable PLY"),
    "mesh of two points": (lambda c: write_ply(c / f"{NAME}_3dod_mesh.ply", np.eye(3)[:2]), "three points|readable"),
    "trajectory of words": (lambda c: traj(c).write_text("1 2 three"), "line 1: expected seven numbers"),
    "trajectory is empty": (lambda c: traj(c).write_text("\n"), "has no pose"),
    "no trajectory": (lambda c: traj(c).unlink(), r"neither a \.mov nor lowres_wide"),
    "no intrinsics": (lambda c: shutil.rmtree(home(c) / "lowres_wide_intrinsics"), "no intrinsics"),
    "intrinsics of words": (
        lambda c: first(home(c) / "lowres_wide_intrinsics").write_text("64 48 f"),
        "must be width, height",
    ),
    "picture cut off": (
        lambda c: first(home(c) / "lowres_wide").write_bytes(first(home(c) / "lowres_wide").read_bytes()[:500]),
        "cut off or damaged",
    ),
    "pictures of two sizes": (
        lambda c: first(home(c) / "lowres_wide").write_bytes(png(np.zeros((32, 32, 3), np.uint8))),
        "picture 1 is 48 x 64, the first was 32 x 32",
    ),
    "depth is no picture": (lambda c: first(home(c) / "lowres_depth").write_text("hello"), "cannot be read"),
    "depth in colour": (
        lambda c: first(home(c) / "lowres_depth").write_bytes(png(np.zeros((48, 64, 3), np.uint8))),
        "grey picture of millimetres",
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damage_is_named(copy, tmp_path, what):
    damage, reason = DAMAGED[what]
    damage(copy)
    with pytest.raises((ValueError, OSError, KeyError), match=reason):
        opened(copy, tmp_path)


def test_names_are_those_of_the_benchmark(shared_dir):
    path = shared_dir / "data" / "vsi_scenes" / "arkitscenes.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    from training.scans.reading.labels import ARKIT, ARKIT_EXCLUDED, ARKIT_RENAMED

    benchmark = {name for scene in json.loads(path.read_text()).values() for name in scene["object_counts"]}
    assert {ARKIT_RENAMED.get(name, name) for name in ARKIT if name not in ARKIT_EXCLUDED} == benchmark
    assert set(ARKIT_LABELS.values()) <= set(ARKIT)
