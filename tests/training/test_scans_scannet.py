"""ScanNet's reader on a small copy of its folder, whole and damaged; the .sens stream; what readers share."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
import zlib
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image
from scan_copies import (
    FRAMES,
    ROOM,
    SCANNET_COLOR,
    SCANNET_DEPTH,
    T_ALIGNED,
    THINGS,
    boxes_seen,
    intrinsics,
    mesh,
    moved,
    png,
    pose,
    sens_bytes,
    view,
    write_ply,
    write_scannet,
)
from scipy.spatial import ConvexHull

from training.make_qa import main as make_qa
from training.scans import scannet
from training.scans.arkitscenes import ArkitSettings
from training.scans.reading.mesh import box_around, read_vertices
from training.scans.reading.sens import open_sens
from training.scans.scannet import ScannetSettings
from training.scans.scannetpp import ScannetppSettings
from vlm3r_core.clip import open_clip, sample_uniform
from vlm3r_core.scene.metadata import frames_to_json, scene_from_json, scene_to_json

SIZE = SCANNET_DEPTH
NAME = "scene0000_00"


def settings(**changed) -> ScannetSettings:
    return ScannetSettings(**{"frames": 5, "width_px": SIZE[0], "height_px": SIZE[1], "min_pixels": 4, **changed})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("scannet")
    write_scannet(path, lost=(5,))
    return path


@pytest.fixture(scope="module")
def content(root, tmp_path_factory):
    (scan,) = scannet.read_scans(str(root), settings())
    return pickle.loads(pickle.dumps(scan)).load(tmp_path_factory.mktemp("out"))


@pytest.fixture
def copy(root, tmp_path):
    """The scan's folder in a copy that may be damaged."""
    shutil.copytree(root, tmp_path / "root")
    return tmp_path / "root" / "scans" / NAME


def opened(copy, tmp_path, **changed):
    (scan,) = scannet.read_scans(str(copy.parents[1]), settings(**changed))
    folder = tmp_path / "out"
    folder.mkdir()
    return scan.load(folder)


def test_listing(root, tmp_path):
    assert scannet.recognizes(str(root))
    assert not scannet.recognizes(str(tmp_path))
    assert not scannet.recognizes(str(tmp_path / "nowhere"))
    for where in (root, root / "scans"):
        (scan,) = scannet.read_scans(str(where))
        assert (scan.dataset, scan.scene_id, scan.skipped) == ("scannet", NAME, "")
    with pytest.raises(FileNotFoundError, match="expected scannetv2_val"):
        list(scannet.read_scans(str(root), settings(split="val")))
    with pytest.raises(FileNotFoundError, match="no scan of ScanNet"):
        list(scannet.read_scans(str(tmp_path)))


def test_objects_are_where_they_are(content):
    graph = content.graph
    assert graph.counts == {"sofa": 1, "table": 1, "printer": 1, "trash bin": 1, "pillow": 1}
    for item in graph.objects:
        thing = THINGS[item.instance_id]
        np.testing.assert_allclose(item.box.center_m, thing.center, atol=2e-5)
        np.testing.assert_allclose(sorted(item.box.lengths_m), sorted(thing.lengths), atol=5e-5)
        corners = {tuple(np.round(corner, 3) + 0.0) for corner in item.box.corners()}
        half = np.array(thing.lengths) / 2
        signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
        np.testing.assert_allclose(
            sorted(corners), sorted(map(tuple, np.round((signs * half) @ thing.R.T + thing.center, 3))), atol=2e-3
        )
    assert graph.extra["left_out"] == {"label 'gizmo' is not in the label map": 1}
    assert graph.room_size_m2 == pytest.approx(ROOM[0] * ROOM[1], rel=0.02)
    np.testing.assert_allclose(graph.room_center_m, ROOM / 2, atol=1e-3)


def test_frames_are_those_the_model_samples(content):
    frames = content.graph.frames
    assert [frame.frame_id for frame in frames] == sample_uniform(FRAMES, 5) == [0, 2, 5, 8, 11]
    assert frames[2].T_WC is None
    assert [frame.extra["stamp_ns"] for frame in frames] == [round(i * 1e9 / 24) for i in (0, 2, 5, 8, 11)]
    for frame in frames:
        if frame.has_pose:
            np.testing.assert_allclose(frame.T_WC, pose(frame.frame_id), atol=1e-5)
    K = intrinsics(SIZE)
    camera = content.graph.camera
    np.testing.assert_allclose(camera.K, K, atol=1e-4)
    assert (camera.width_px, camera.height_px) == SIZE


def test_masks_say_what_is_visible(content):
    assert content.graph.frames_extra["visibility"] == "masks"
    seen_ever = set()
    for frame in content.graph.frames:
        boxes = boxes_seen(view(pose(frame.frame_id), SIZE)[2])
        boxes.pop(5, None)  # the gizmo is no known object
        found = {item.instance_id: item.bbox_px for item in frame.visible}
        assert set(found) <= set(boxes)
        for number, box in boxes.items():
            if (box[2] - box[0]) * (box[3] - box[1]) > 20:
                np.testing.assert_allclose(found[number], box, atol=1)
        seen_ever |= set(found)
    assert seen_ever == {0, 1, 2, 3}


def test_depth_says_the_same_without_masks(copy, tmp_path, content):
    (copy / f"{NAME}_2d-instance-filt.zip").unlink()
    frames = opened(copy, tmp_path).graph
    assert frames.frames_extra["visibility"] == "depth"
    for frame, masked in zip(frames.frames, content.graph.frames, strict=True):
        if not masked.has_pose:
            assert frame.visible == ()
            continue
        found = {item.instance_id: item.bbox_px for item in frame.visible}
        assert 4 not in found
        for item in masked.visible:
            if item.instance_id != 3 or item.instance_id in found:
                np.testing.assert_allclose(found[item.instance_id], item.bbox_px, atol=3)
    with pytest.raises(FileNotFoundError, match="2d-instance-filt"):
        next(scannet.read_scans(str(copy.parents[1]), settings(visibility="masks"))).load(tmp_path)


def test_video_has_every_frame_in_order(content):
    clip = open_clip(content.video)
    assert clip.counter() == FRAMES
    for index, frame in enumerate(clip):
        shown = [np.abs(frame.rgb.astype(int) - view(pose(other), SIZE)[0]).mean() for other in range(FRAMES)]
        assert np.argmin(shown) == index
        assert frame.stamp_ns == pytest.approx(index * 1e9 / 24, abs=1e6)
        assert frame.rgb.shape == (SIZE[1], SIZE[0], 3)


def test_graph_survives_its_files(content):
    graph = content.graph
    again = scene_from_json(graph.scene_id, *json.loads(json.dumps([scene_to_json(graph), frames_to_json(graph)])))
    assert scene_to_json(again) == scene_to_json(graph)
    assert frames_to_json(again) == frames_to_json(graph)


def test_same_seed_same_graph_and_video(root, content, tmp_path):
    (scan,) = scannet.read_scans(str(root), settings())
    again = scan.load(tmp_path)
    assert scene_to_json(again.graph) == scene_to_json(content.graph)
    assert frames_to_json(again.graph) == frames_to_json(content.graph)
    assert again.video.read_bytes() == content.video.read_bytes()


def test_every_published_defect(root, content, tmp_path):
    published = ScannetSettings.published(frames=5, width_px=SIZE[0], height_px=SIZE[1], split="all")
    (scan,) = scannet.read_scans(str(root), published)
    graph = scan.load(tmp_path).graph
    # couches are lost, desks stay, printers come twice but count once
    assert graph.counts == {"desk": 1, "printer": 1, "trash bin": 1, "pillow": 1}
    first, second = graph.objects_of("printer")
    assert first.box is second.box
    assert np.isnan(graph.frames[2].T_WC).any()
    assert graph.camera.K[0].tolist() == [50.5, 0.0, 47.5]
    assert "left_out" in content.graph.extra


def test_upright_boxes(root, tmp_path):
    (scan,) = scannet.read_scans(str(root), settings(boxes="upright", video=False))
    content = scan.load(tmp_path)
    assert content.video is None
    assert content.graph.camera is None
    assert all(item.box.R_WB[2, 2] == 1 for item in content.graph.objects)
    np.testing.assert_allclose(sorted(content.graph.object_by_id(0).box.lengths_m), [0.8, 0.8, 1.8], atol=1e-4)


def test_options_are_settings_by_name(root):
    (scan,) = scannet.read_scans(str(root), as_published=True, frames="7", fps=30, video="no")
    assert scan.open.args[-1] == ScannetSettings.published(frames=7, fps=30.0, video=False)
    for wrong, reason in (
        ({"frame": 3}, "did you mean 'frames'"),
        ({"frames": "many"}, "must be of type int, got 'many'"),
        ({"video": "perhaps"}, "must be of type bool"),
        ({"frames": 0}, "in 1"),
        ({"split": "test"}, "one of train, val, all"),
        ({"settings": settings(), "frames": 3}, "not both"),
    ):
        with pytest.raises(ValueError, match=reason):
            list(scannet.read_scans(str(root), **wrong))


def test_every_option_is_described(repo_dir):
    text = (repo_dir / "docs" / "scans.md").read_text()
    for kind in (ScannetSettings, ScannetppSettings, ArkitSettings):
        assert [item.name for item in fields(kind) if f"`{item.name}`" not in text] == []


def test_question_set_of_a_whole_and_a_damaged_scan(copy, tmp_path):
    root, other = copy.parents[1], "scene0001_00"
    shutil.copytree(copy, copy.parent / other)
    for path in (copy.parent / other).iterdir():
        path.rename(path.with_name(path.name.replace(NAME, other)))
    cut(copy.parent / other / f"{other}.sens")
    (root / "scannetv2_train.txt").write_text(f"{NAME}\n{other}\n")
    sizes = [f"--scan-option={name}={value}" for name, value in zip(("width_px", "height_px"), SIZE, strict=True)]
    tasks = "--tasks=object_size_estimation,room_size_estimation,camera_obj_abs_dist"
    out = tmp_path / "set"
    assert make_qa(["--scans", str(root), "--out", str(out), "--frames=5", "--pictures=0", tasks, *sizes]) == 0
    (skipped,) = json.loads((out / "rejected.json").read_text())["scans"]
    assert skipped["scene_name"] == other
    assert "cut off" in skipped["reason"]
    items = [json.loads(line) for line in (out / "questions.jsonl").read_text().splitlines()]
    sizes = {item["question"]: item["ground_truth"] for item in items if item["question_type"].endswith("estimation")}
    assert [truth for question, truth in sizes.items() if "of the sofa" in question] == ["180"]
    assert {item["question_type"] for item in items} == set(tasks.split("=")[1].split(","))
    assert {item["scene_name"] for item in items} == {NAME}
    assert open_clip(out / items[0]["video"]).counter() == FRAMES


MISSING = (".txt", ".aggregation.json", "_vh_clean_2.ply", "_vh_clean_2.0.010000.segs.json", ".sens")


@pytest.mark.parametrize("ending", MISSING)
def test_missing_files_are_told_before_opening(copy, ending):
    (copy / f"{NAME}{ending}").unlink()
    (scan,) = scannet.read_scans(str(copy.parents[1]), settings())
    assert f"no {NAME}{ending}" in scan.skipped


def test_missing_label_map(copy):
    (copy.parents[1] / "scannetv2-labels.combined.tsv").unlink()
    with pytest.raises(FileNotFoundError, match="expected scannetv2-labels"):
        list(scannet.read_scans(str(copy.parents[1]), settings()))


def change_json(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def cut(path, share=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def rezip(path, entry, content):
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, old in (kept | {entry: content}).items():
            archive.writestr(name, old)


def damage_alignment(copy):
    path = copy / f"{NAME}.txt"
    path.write_text(path.read_text().replace("axisAlignment = 0.8", "axisAlignment = nan 0.8"))


DAMAGED = {
    "sens cut off": (lambda c: cut(c / f"{NAME}.sens"), "cut off: it ends in frame"),
    "sens of another version": (lambda c: (c / f"{NAME}.sens").write_bytes(b"\x03" + b"\0" * 999), "version"),
    "empty sens": (lambda c: (c / f"{NAME}.sens").write_bytes(b""), "cut off: it ends in its version"),
    "sens without frames": (lambda c: (c / f"{NAME}.sens").write_bytes(sens_bytes([])), "has no frame"),
    "colour is no picture": (
        lambda c: (c / f"{NAME}.sens").write_bytes(sens_bytes([(np.eye(4), b"nothing", b"")])),
        "colour of frame 0",
    ),
    "ply cut off": (lambda c: cut(c / f"{NAME}_vh_clean_2.ply"), "no readable PLY"),
    "ply is text": (lambda c: (c / f"{NAME}_vh_clean_2.ply").write_text("hello"), "no readable PLY"),
    "ply of another mesh": (
        lambda c: write_ply(c / f"{NAME}_vh_clean_2.ply", mesh()[0][:-3]),
        "do not belong together",
    ),
    "ply with NaN": (
        lambda c: write_ply(c / f"{NAME}_vh_clean_2.ply", np.where(mesh()[0] == 0, np.nan, mesh()[0])),
        "not finite",
    ),
    "nothing annotated": (
        lambda c: change_json(c / f"{NAME}.aggregation.json", segGroups=[]),
        "no object is annotated",
    ),
    "aggregation is no JSON": (lambda c: cut(c / f"{NAME}.aggregation.json"), "is not JSON"),
    "number twice": (
        lambda c: change_json(
            c / f"{NAME}.aggregation.json", segGroups=[{"objectId": 1, "label": "desk", "segments": [100]}] * 2
        ),
        "objectId 1 to more than one",
    ),
    "group without label": (
        lambda c: change_json(c / f"{NAME}.aggregation.json", segGroups=[{"objectId": 1}]),
        r"segGroups\[0\] needs objectId",
    ),
    "segments are words": (
        lambda c: change_json(c / f"{NAME}_vh_clean_2.0.010000.segs.json", segIndices=["a"]),
        "no list segIndices",
    ),
    "axis alignment": (damage_alignment, "axisAlignment must be 16 numbers"),
    "mask of wrong size": (
        lambda c: rezip(c / f"{NAME}_2d-instance-filt.zip", "instance-filt/8.png", png(np.ones((50, 70), np.uint8))),
        "8.png is 70 x 50, expected 96 x 72 or 192 x 144",
    ),
    "mask of colours": (
        lambda c: rezip(
            c / f"{NAME}_2d-instance-filt.zip", "instance-filt/8.png", png(np.ones((144, 192, 3), np.uint8))
        ),
        "must be a grey picture",
    ),
    "mask is no picture": (
        lambda c: rezip(c / f"{NAME}_2d-instance-filt.zip", "instance-filt/8.png", b"nothing"),
        "8.png cannot be read",
    ),
    "masks cut off": (lambda c: cut(c / f"{NAME}_2d-instance-filt.zip"), "cannot be read"),
    "masks lack a frame": (
        lambda c: zipfile.ZipFile(c / f"{NAME}_2d-instance-filt.zip", "w").close(),
        "has no instance-filt/0.png",
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damage_is_named(copy, tmp_path, what):
    damage, reason = DAMAGED[what]
    damage(copy)
    with pytest.raises((ValueError, OSError, KeyError), match=reason):
        opened(copy, tmp_path)


def test_objects_without_vertices_are_left_out(copy, tmp_path):
    groups = [
        {"objectId": 0, "label": "desk", "segments": [102, 103]},
        {"objectId": 9, "label": "desk", "segments": [7]},
    ]
    change_json(copy / f"{NAME}.aggregation.json", segGroups=groups)
    graph = opened(copy, tmp_path, video=False).graph
    assert graph.counts == {"table": 1}
    assert graph.extra["left_out"] == {"no vertex of the mesh belongs to it": 1}


def test_scan_without_alignment_keeps_its_world(copy, tmp_path):
    path = copy / f"{NAME}.txt"
    path.write_text("\n".join(path.read_text().splitlines()[1:]))
    graph = opened(copy, tmp_path).graph
    raw = moved(np.array([THINGS[1].center]), np.linalg.inv(T_ALIGNED))[0]
    np.testing.assert_allclose(graph.object_by_id(1).box.center_m, raw, atol=1e-4)
    np.testing.assert_allclose(graph.frames[0].T_WC, np.linalg.inv(T_ALIGNED) @ pose(0), atol=1e-5)


@pytest.mark.parametrize(("color_coding", "depth_coding"), [(0, 0), (1, 1), (2, 1)])
def test_sens_codings(tmp_path, color_coding, depth_coding):
    rgb = view(pose(3), SCANNET_COLOR)[0]
    steps = (view(pose(3), SCANNET_DEPTH)[1] * 1000).astype("<u2")
    jpeg = io.BytesIO()
    Image.fromarray(rgb).save(jpeg, "JPEG", quality=95)
    color = {0: rgb.tobytes(), 1: png(rgb), 2: jpeg.getvalue()}[color_coding]
    content = zlib.compress(steps.tobytes()) if depth_coding else steps.tobytes()
    path = tmp_path / "a.sens"
    path.write_bytes(
        sens_bytes([(pose(i), color, content) for i in (3, 4)], color_coding=color_coding, depth_coding=depth_coding)
    )
    sens = open_sens(path)
    assert (len(sens.frames), sens.color_size, sens.depth_size) == (2, SCANNET_COLOR, SCANNET_DEPTH)
    np.testing.assert_allclose(sens.frames[1].T_WC, pose(4), atol=1e-6)
    off = np.abs(sens.color(1).astype(int) - rgb)
    assert off.mean() < 3 if color_coding == 2 else not off.any()
    np.testing.assert_allclose(sens.depth_m(1), steps / 1000, rtol=1e-6)
    whole = path.read_bytes()
    for size in range(0, len(whole) - 9, max(1, len(whole) // 40)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut off|cannot hold"):
            open_sens(path)


def test_unknown_codings_of_sens(tmp_path):
    path = tmp_path / "a.sens"
    path.write_bytes(sens_bytes([(np.eye(4), b"", b"")], depth_coding=2))
    with pytest.raises(ValueError, match="depth coding 2 is not known"):
        open_sens(path)
    path.write_bytes(sens_bytes([(np.eye(4), b"", b"x")]))
    with pytest.raises(ValueError, match="depth of frame 0"):
        open_sens(path).depth_m(0)


@pytest.mark.parametrize("kind", ["minimal", "upright"])
def test_boxes_of_flat_and_single_points(kind):
    rng = np.random.default_rng(0)
    plane = np.column_stack([rng.random((50, 2)), np.zeros(50)])
    line = np.outer(np.linspace(0, 2, 9), (0.6, 0.8, 0))
    for points, lengths in ((plane, None), (line, [0, 0, 2]), (line[:1], [0, 0, 0]), (line[[0, 8]], [0, 0, 2])):
        box = box_around(points, kind)
        assert box.contains(points, 1e-6).all()
        if lengths is not None:
            np.testing.assert_allclose(sorted(box.lengths_m), lengths, atol=1e-9)
    with pytest.raises(ValueError, match="at least one point"):
        box_around(np.empty((0, 3)), kind)


def test_minimal_box_is_no_larger_than_upright_and_holds_everything():
    rng = np.random.default_rng(1)
    for _ in range(5):
        points = rng.normal(size=(200, 3)) * (1.0, 0.4, 0.2) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        minimal, upright = box_around(points), box_around(points, "upright")
        assert minimal.contains(points, 1e-6).all()
        assert upright.contains(points, 1e-6).all()
        assert minimal.lengths_m.prod() < upright.lengths_m.prod()


def test_minimal_box_is_no_larger_than_with_one_side_of_each_triangle():
    """One side of each triangle of the hull is what Open3D tries."""
    rng = np.random.default_rng(2)
    for _ in range(5):
        points = rng.normal(size=(60, 3)) * rng.random(3)
        sizes = []
        for a, b, c in points[ConvexHull(points).simplices]:
            normal = np.cross(b - a, c - a)
            R = np.stack([v / np.linalg.norm(v) for v in (b - a, np.cross(normal, b - a), normal)], axis=1)
            sizes.append(np.ptp(points @ R, axis=0).prod())
        volume = box_around(points).lengths_m.prod()
        assert min(sizes) * 0.8 < volume <= min(sizes) * (1 + 1e-9)


def test_vertices_keep_their_order_though_some_coincide(tmp_path):
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0.5]])
    write_ply(tmp_path / "a.ply", points)
    np.testing.assert_array_equal(read_vertices(tmp_path / "a.ply"), points)
