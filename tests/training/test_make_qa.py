"""Question sets from made-up scenes: files, balance, the same bytes whoever works, resuming, damage, a full disk."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.benchmarks.question_set import read_question_set
from training.make_qa import main
from training.qa.files import REJECTED, STATISTICS, disk_full, file_name
from training.qa.make import make_question_set
from training.qa.settings import QaSettings
from training.scans.scan import Content, Scan
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import CameraFrame, PinholeCamera, SceneGraph, SceneObject, VisibleObject
from vlm3r_core.scene.scoring import is_choice
from vlm3r_core.scene.tasks import GeneratorSettings

pytest.importorskip("pyarrow", reason="the table of a question set needs pyarrow (extra `train`)")

NAMES = ("bed", "chair", "desk", "door", "lamp", "plant", "sofa", "table", "tv", "window")


def make_scene(seed: int) -> dict:
    """A scene's entry: ten categories, one of them twice, each a box of its own place in a room of 8 by 8 metres."""
    rng = np.random.default_rng(seed)
    spots = rng.permutation(16)[: len(NAMES) + 1]
    boxes: dict[str, list] = {}
    for name, spot in zip((*NAMES, "chair"), spots, strict=True):
        center = [2.0 * (spot % 4) + rng.uniform(0.6, 1.4), 2.0 * (spot // 4) + rng.uniform(0.6, 1.4), 0.5]
        box = {"centroid": center, "axesLengths": rng.uniform(0.2, 0.9, 3).tolist()}
        boxes.setdefault(name, []).append(box | {"normalizedAxes": np.eye(3).reshape(-1).tolist()})
    counts = {name: len(items) for name, items in boxes.items()}
    return {"dataset": "made", "room_size": 30.0 + seed, "object_counts": counts, "object_bbox": boxes}


def write_scenes(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    scenes = {f"scene{number:02d}": make_scene(number) for number in range(count)}
    (folder / "made.json").write_text(json.dumps(scenes), encoding="utf-8")
    return folder


def run(scans: Path, out: Path, *more: str) -> int:
    return main(["--scans", str(scans), "--out", str(out), "--truth", "exact", "--pictures", "1", *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scans"), 4)


@pytest.fixture(scope="module")
def made(scenes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sets") / "set"
    assert run(scenes, out) == 0
    return out


@pytest.fixture(scope="module")
def rows(made) -> list[dict]:
    return [json.loads(line) for line in (made / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_rows_have_the_benchmarks_fields_and_stable_ids(rows):
    assert [row["id"] for row in rows] == list(range(len(rows)))
    assert len({row["uid"] for row in rows}) == len(rows)
    assert {row["dataset"] for row in rows} == {"made"}
    for row in rows:
        choice = is_choice("vsi", row["question_type"])
        assert row["video"] is None
        assert (row["options"] is not None) == choice
        assert row["mc_answer"] == (row["ground_truth"] if choice else None)
    assert [row["scene_name"] for row in rows] == sorted(row["scene_name"] for row in rows)


def test_every_task_that_needs_no_frames_is_asked(rows):
    asked = {row["question_type"] for row in rows}
    directions = {f"object_rel_direction_{level}" for level in ("easy", "medium", "hard")}
    sizes = {"object_size_estimation", "room_size_estimation", "object_counting"}
    assert asked == directions | sizes | {"object_abs_distance", "object_rel_distance"}


def test_the_evaluator_reads_the_set(made, rows):
    questions = list(read_question_set(made))
    assert [question.question for question in questions] == [row["question"] for row in rows]
    assert [question.truth for question in questions] == [row["ground_truth"] for row in rows]


def test_letters_and_fixed_answers_are_even_over_the_set(rows):
    for task in {row["task"] for row in rows if row["options"]}:
        letters = Counter(row["mc_answer"] for row in rows if row["task"] == task)
        assert max(letters.values()) - min(letters.values()) <= 1, task
    for task in ("object_rel_direction_v1", "object_rel_direction_v2", "object_rel_direction_v3"):
        answers = Counter(row["options"]["ABCD".index(row["mc_answer"])][3:] for row in rows if row["task"] == task)
        assert len(set(answers.values())) == 1, answers


def test_counts_and_rooms_are_true(rows):
    counted = {(r["scene_name"], r["names"]["category"]): r["ground_truth"] for r in rows if "counting" in r["task"]}
    assert counted == {(f"scene{number:02d}", "chair"): "2" for number in range(4)}
    assert [r["ground_truth"] for r in rows if r["task"] == "room_size_estimation"] == ["30.0", "31.0", "32.0", "33.0"]


def test_training_file_is_in_the_published_format(made, rows):
    items = json.loads((made / "train.json").read_text(encoding="utf-8"))
    assert len(items) == len(rows)
    for item, row in zip(items, rows, strict=True):
        (asked, said) = item["conversations"]
        assert asked["from"] == "human"
        assert asked["value"].startswith("<image>\nThese are frames of a video.\n" + row["question"])
        assert said == {"from": "gpt", "value": row["ground_truth"]}


def test_table_holds_the_same_rows(made, rows):
    from pyarrow.parquet import read_table

    table = read_table(made / "questions.parquet").to_pylist()
    for name in ("id", "question", "options", "ground_truth", "mc_answer", "value", "instance_ids"):
        assert [row[name] for row in table] == [row[name] for row in rows], name


def test_page_needs_nothing_else_and_shows_every_task(made, rows):
    page = (made / STATISTICS).read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert page.count("data:image/jpeg;base64,") == len({row["task"] for row in rows})
    assert f"{len(rows):,} questions about 4 scenes" in page


def test_manifest_tells_settings_counts_and_digests(made, rows):
    manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["questions"], manifest["scenes"], manifest["skipped"]) == (len(rows), 4, 0)
    assert sum(manifest["tasks"].values()) == len(rows)
    assert manifest["settings"]["generator"]["truth"] == "exact"
    assert set(manifest["sha256"]) == set(contents(made)) - {"manifest.json"}


def test_two_workers_make_the_same_bytes(scenes, made, tmp_path):
    assert run(scenes, tmp_path / "set", "--workers", "2") == 0
    assert contents(tmp_path / "set") == contents(made)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra `ray`)")
def test_ray_makes_the_same_bytes(scenes, made, tmp_path):
    assert run(scenes, tmp_path / "set", "--ray", "local") == 0
    assert contents(tmp_path / "set") == contents(made)


def test_a_killed_run_is_gone_on_with(tmp_path):
    scans = write_scenes(tmp_path / "scans", 12)
    command = [sys.executable, "-m", "training.make_qa", "--scans", str(scans), "--tasks", "object_rel_direction"]
    command += ["--truth", "exact", "--pictures", "0", "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
    parts, until = tmp_path / "killed" / "parts", time.monotonic() + 60
    while not (parts.is_dir() and len(list(parts.glob("*.part.json"))) >= 3):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    assert subprocess.run([*command, str(tmp_path / "killed")], capture_output=True, check=False).returncode == 0
    assert subprocess.run([*command, str(tmp_path / "straight")], capture_output=True, check=False).returncode == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "straight")


def test_a_finished_set_stays_and_other_settings_are_refused(scenes, made, capsys):
    before = contents(made)
    assert run(scenes, made) == 0
    assert run(scenes, made, "--seed", "1") == 2
    assert "settings.seed is 0 there, 1 was asked" in capsys.readouterr().err
    assert contents(made) == before


def test_another_seed_asks_otherwise(scenes, rows, tmp_path):
    assert run(scenes, tmp_path / "set", "--seed", "7") == 0
    other = [json.loads(line)["question"] for line in (tmp_path / "set" / "questions.jsonl").open(encoding="utf-8")]
    assert other != [row["question"] for row in rows]


def test_damaged_scans_are_skipped_with_their_reason(scenes, tmp_path):
    root = tmp_path / "scans"
    shutil.copytree(scenes, root)
    entries = {name: make_scene(50 + number) for number, name in enumerate(("good", "nan", "flat", "negative"))}
    entries["nan"]["object_bbox"]["bed"][0]["centroid"][0] = float("nan")
    entries["flat"]["object_bbox"]["bed"][0]["axesLengths"] = [0.0, 0.0, 0.0]
    entries["negative"]["room_size"] = -3.0
    entries["scene01"] = make_scene(1)
    (root / "more.json").write_text(json.dumps(entries | {"no_scene": []}), encoding="utf-8")
    (root / "broken.json").write_text('{"scene', encoding="utf-8")
    assert run(root, tmp_path / "set", "--tasks", "no_frames") == 0
    told = json.loads((tmp_path / "set" / REJECTED).read_text(encoding="utf-8"))["scans"]
    reasons = {entry["scene_name"]: entry["reason"] for entry in told}
    assert set(reasons) == {"*", "nan", "negative", "scene01", "no_scene"}
    assert "broken.json" in reasons["*"]
    assert "object_bbox['bed'][0]" in reasons["nan"]
    assert "must be finite" in reasons["nan"]
    assert "room_size_m2 must not be negative" in reasons["negative"]
    assert reasons["scene01"] == "the scene is there twice, made/scene01 came first"
    assert all(reason in (tmp_path / "set" / STATISTICS).read_text(encoding="utf-8") for reason in ("there twice",))


def filmed_scan(folder: Path) -> Scan:
    """A scan with eight frames in a folder of images; tracking was lost in two of them."""
    objects = tuple(
        SceneObject(name, OrientedBox([2.0 + 0.7 * place, 1.5 - place, 0.4], [0.3, 0.4, 0.5], np.eye(3)), place)
        for place, name in enumerate(("bed", "chair", "lamp", "sofa"))
    )
    frames = []
    for number in range(8):
        T_WC = np.eye(4)
        T_WC[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
        T_WC[:3, 3] = [-0.4 * number, 0.0, 1.0]
        visible = tuple(VisibleObject(place, (place * 10, 10, place * 10 + 8, 30)) for place in range(4))
        lost = None if number == 2 else np.full((4, 4), np.nan)
        frames.append(CameraFrame(number, lost if number in (2, 5) else T_WC, visible))
        Image.fromarray(np.full((48, 64, 3), 20 * number, np.uint8)).save(folder / f"{number:02d}.png")
    camera = PinholeCamera(32.0, 32.0, 32.0, 24.0, 64, 48)
    counts = dict.fromkeys(("bed", "chair", "lamp", "sofa"), 1)
    graph = SceneGraph("film", objects, counts, 9.0, dataset="scannet", camera=camera, frames=tuple(frames))
    return Scan("scannet", "film", lambda work: Content(graph, folder))


def test_frames_without_a_pose_are_never_asked_about(tmp_path):
    (tmp_path / "images").mkdir()
    settings = QaSettings(generator=GeneratorSettings(truth="exact", per_scene=6), balance=False, pictures=1)
    out, origin = tmp_path / "set", {"scans": "film", "reader": "made"}
    scans = [filmed_scan(tmp_path / "images")]
    made = make_question_set(scans, out, settings, origin=origin, progress=False)
    rows = [json.loads(line) for line in (out / "questions.jsonl").open(encoding="utf-8")]
    asked = {number for row in rows for number in row["frame_indices"]}
    assert asked
    assert not asked & {2, 5}
    assert {"camera_obj_abs_dist", "camera_displacement", "obj_obj_relative_pos_nf"} <= {row["task"] for row in rows}
    assert "NaN" not in (out / "questions.jsonl").read_text(encoding="utf-8")
    rejected = json.loads((out / REJECTED).read_text(encoding="utf-8"))["candidates"]
    assert rejected["camera_obj_abs_dist"]["no_pose"] == 1
    # the images stay where they were, and are in the set
    assert contents(out / "videos" / "film") == contents(tmp_path / "images")
    assert made.manifest["scenes"] == 1
    assert len(list(read_question_set(out))) == len(rows)


def test_an_empty_root_is_refused(tmp_path, capsys):
    assert run(tmp_path, tmp_path / "set", "--reader", "vsi_scenes") == 2
    assert "has no metadata file" in capsys.readouterr().err
    assert run(tmp_path, tmp_path / "set") == 2
    assert "no reader knows what is there" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(scenes, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    assert run(scenes, tmp_path) == 2
    assert "is not empty and no question set" in capsys.readouterr().err
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_a_full_disk_is_told_and_the_run_can_go_on(scenes, made, tmp_path, monkeypatch, capsys):
    replace, left = os.replace, [3]

    def full(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert run(scenes, tmp_path / "set") == 2
    told = capsys.readouterr().err
    assert "the disk is full" in told
    assert "same command again" in told
    assert run(scenes, tmp_path / "set") == 0
    assert contents(tmp_path / "set") == contents(made)


def test_published_form_keeps_letters_as_they_came(scenes, tmp_path):
    assert run(scenes, tmp_path / "set", "--as-published", "--tasks", "object_counting,object_size_estimation") == 0
    rows = [json.loads(line) for line in (tmp_path / "set" / "questions.jsonl").open(encoding="utf-8")]
    assert {row["task"] for row in rows} == {"object_counting", "object_size_estimation"}


def test_caps_and_unknown_tasks(scenes, tmp_path, capsys):
    assert run(scenes, tmp_path / "few", "--per-scene-caps", "object_rel_distance=2,object_abs_distance=1") == 0
    manifest = json.loads((tmp_path / "few" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["tasks"]["object_rel_distance_v3"] == 8
    assert manifest["tasks"]["object_abs_distance"] == 4
    assert run(scenes, tmp_path / "none", "--tasks", "object_counts") == 2
    assert "did you mean" in capsys.readouterr().err
    assert run(scenes, tmp_path / "none", "--per-scene-caps", "object_counting:3") == 2
    assert "TASK=NUMBER" in capsys.readouterr().err


def test_training_caps_are_the_published_ones(scenes, tmp_path):
    assert run(scenes, tmp_path / "set", "--train-caps", "--tasks", "object_counting", "--pictures", "0") == 0
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text(encoding="utf-8"))
    assert ["obj_obj_relative_pos_nf", 120] in manifest["settings"]["generator"]["caps"]


def test_routes_belong_to_all_and_vsi_only():
    assert "route_planning" in QaSettings(("all",)).tasks
    assert QaSettings(("route_planning",)).generated == ()
    assert "route_planning" not in QaSettings(("vsti",)).tasks


@pytest.mark.parametrize(("scene_id", "name"), [("scene0000_00", "scene0000_00"), ("a/b", "a%2Fb"), ("..", "%2E%2E")])
def test_scene_ids_become_safe_file_names(scene_id, name):
    assert file_name(scene_id) == name


def test_disk_full_names_the_file():
    assert "there/questions.jsonl" in str(disk_full(Path("there/questions.jsonl")))
