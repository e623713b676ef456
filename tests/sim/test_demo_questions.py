"""The demo's questions: about what was seen only, true by a second reckoning, the same for the same seed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sim.camera import yaw_of
from sim.demo_questions import seen_ids, true_questions, write_questions
from sim.live import LiveSettings, LiveWorld, look_around
from sim.worlds import open_env
from vlm3r_core.scene.distances import box_distance

SETTINGS = LiveSettings(world="flat:7", walk_frames=12, width_px=96, height_px=96)


@pytest.fixture(scope="module")
def flat():
    return open_env(SETTINGS.world, SETTINGS.world_settings)


@pytest.fixture(scope="module")
def walk(flat):
    return look_around(flat, SETTINGS)[0]


def only(graph, category: str):
    (item,) = graph.objects_of(category)
    return item


def test_what_was_seen_is_in_the_pictures(flat, walk):
    seen = seen_ids(flat, walk)
    assert 0 not in seen
    known = {item.instance_id for item in flat.scene_graph().objects}
    shown = set().union(*(np.unique(flat.view(pose).semantic_ids).tolist() for pose in walk))
    assert seen & known
    assert seen <= shown


def test_truths_agree_with_the_scene_graph(flat):
    graph = flat.scene_graph()
    questions = true_questions(graph, {item.instance_id for item in graph.objects}, 0)
    assert len(questions) == 6
    for item in questions:
        assert (item.answer_type == "choice") == bool(item.options)
        if item.options:
            assert item.truth in item.options
    distance = next(item for item in questions if "direct distance" in item.text)
    names = distance.text.partition("between the ")[2].partition(" (in meters)")[0].split(" and the ")
    boxes = [only(graph, name).box for name in names]
    # the truth has one decimal
    assert float(distance.truth.removesuffix(" m")) == pytest.approx(box_distance(*boxes), abs=0.051)
    size = next(item for item in questions if "longest dimension" in item.text)
    name = size.text.partition("height) of the ")[2].partition(",")[0]
    longest_cm = 100 * only(graph, name).box.lengths_m.max()
    assert float(size.truth.removesuffix(" cm")) == pytest.approx(longest_cm, abs=0.51)
    room = next(item for item in questions if "size of this room" in item.text)
    assert float(room.truth.removesuffix(" m^2")) == pytest.approx(graph.room_size_m2, abs=0.051)


def test_nothing_is_asked_about_what_was_not_seen(flat):
    graph = flat.scene_graph()
    assert [item.text.partition("?")[0] for item in true_questions(graph, set(), 0)] == [
        "What is the size of this room (in square meters)"
    ]
    seen = {item.instance_id for item in graph.objects[::2]}
    unseen = {item.category for item in graph.objects} - {graph.object_by_id(number).category for number in seen}
    for question in true_questions(graph, seen, 0):
        assert not any(f"the {name}" in question.text for name in unseen), question.text


def test_several_of_a_task_and_the_order_of_appearance(flat, walk, tmp_path):
    write_questions(str(tmp_path / "few"), flat, walk, SETTINGS)
    write_questions(str(tmp_path / "many"), flat, walk, SETTINGS, each=3)
    few, many = (json.loads((tmp_path / name).read_text())["questions"] for name in ("few", "many"))
    tasks = [item["task"] for item in many]
    assert max(tasks.count(task) for task in tasks) <= 3
    assert len(many) > len(few)
    order = next(item for item in many if item["task"] == "obj_appearance_order")
    assert order["truth"] in order["options"]


def test_a_look_around_on_the_spot(flat):
    settings = replace(SETTINGS, spin_deg=20.0, pitch_deg=-8.0, walk_frames=16)
    T_WC, stamps_ns = look_around(flat, settings)
    assert len(T_WC) == len(stamps_ns) == 16
    np.testing.assert_allclose(T_WC[:, :3, 3], np.tile(T_WC[0, :3, 3], (16, 1)))
    turns = np.diff(np.unwrap([yaw_of(pose) for pose in T_WC]))
    np.testing.assert_allclose(np.degrees(turns), 20.0)
    # forward looks down
    np.testing.assert_allclose(np.degrees(np.arcsin(T_WC[:, 2, 2])), -8.0)


def test_the_file_is_the_same_for_the_same_seed(flat, walk, tmp_path):
    for name in ("one", "two"):
        write_questions(str(tmp_path / name), flat, walk, SETTINGS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    content = json.loads((tmp_path / "one").read_text())
    assert content["scene"] == "flat-000007"
    assert content["frames"] == 12
    assert content["route"]["truth"] in ("Turn Left", "Turn Right", "Turn Back")
    # the walk that was looked at is the one that is shown
    live = LiveWorld(flat, SETTINGS)
    live.play(*look_around(flat, SETTINGS))
    np.testing.assert_allclose(live.advance().T_WC, walk[0])
