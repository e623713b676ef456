"""The scenes VSI-Bench is built on, read and asked about; skipped where they are absent."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import pytest

from training.qa.readers import reader_of
from training.scans import vsi_scenes

PER_SCENE = {"object_counting": 565 / 288, "object_size_estimation": 953 / 288, "room_size_estimation": 1.0}


@pytest.fixture(scope="module")
def root(shared_dir) -> str:
    path = shared_dir / "data" / "vsi_scenes"
    if not path.is_dir():
        pytest.skip(f"no scenes at {path}")
    return str(path)


def test_all_scenes_are_listed_in_a_stable_order(root):
    scans = list(vsi_scenes.read_scans(root))
    assert Counter(scan.dataset for scan in scans) == {"arkitscenes": 144, "scannet": 82, "scannetpp": 44}
    assert [scan.name for scan in scans] == [scan.name for scan in vsi_scenes.read_scans(root)]
    assert reader_of(root) == "vsi_scenes"


def test_scans_open_in_another_process(root):
    scan = next(iter(vsi_scenes.read_scans(root)))
    there = pickle.loads(pickle.dumps(scan)).load(Path("unused")).graph
    here = scan.load(Path("unused")).graph
    assert (there.scene_id, there.counts) == (here.scene_id, here.counts)
    assert there.dataset == "arkitscenes"


def test_as_many_questions_a_scene_as_the_benchmark_has(root, tmp_path):
    pytest.importorskip("pyarrow", reason="the table of a question set needs pyarrow (extra `train`)")
    from training.make_qa import main

    tasks = ",".join(PER_SCENE)
    assert main(["--scans", root, "--out", str(tmp_path / "set"), "--tasks", tasks, "--pictures", "0"]) == 0
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["scenes"], manifest["skipped"]) == (270, 0)
    for task, expected in PER_SCENE.items():
        assert manifest["tasks"][task] / 270 == pytest.approx(expected, rel=0.06), task


def test_a_name_twice_in_a_file_is_listed_twice(tmp_path):
    (tmp_path / "a.json").write_text('{"s": {"object_counts": {}}, "s": {"object_counts": {}}}', encoding="utf-8")
    assert [scan.scene_id for scan in vsi_scenes.read_scans(str(tmp_path))] == ["s", "s"]


def test_other_json_is_not_taken_for_scenes(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2]", encoding="utf-8")
    assert not vsi_scenes.recognizes(str(tmp_path))
    assert not vsi_scenes.recognizes(str(tmp_path / "nothing"))
