"""Questions from small scenes whose answers are known by construction: truth, balance, seeds, damage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy", reason="sampled distances search with scipy")

from vlm3r_core.prompt import question_message
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.formatting import (
    answer_kind,
    benchmark_item,
    item_from_json,
    item_to_json,
    prompt_text,
    training_item,
)
from vlm3r_core.scene.graph import CameraFrame, PinholeCamera, SceneGraph, SceneObject, VisibleObject
from vlm3r_core.scene.questions import question_text
from vlm3r_core.scene.tasks import (
    TASKS,
    VSTI_TASKS,
    GeneratorSettings,
    SceneTruth,
    balance_answers,
    balance_letters,
    candidates,
    expand_tasks,
    generate,
)
from vlm3r_core.scene.tasks.draws import draw_combinations, draw_with_first, seeded
from vlm3r_core.scene.tasks.options import number_options, place_answer

EXACT = GeneratorSettings(truth="exact")
CAMERA = PinholeCamera(300.0, 300.0, 160.0, 120.0, 320, 240)
# the camera looks along world +y: its right is +x, its down is -z
LEVEL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def pose(x: float, y: float, z: float = 1.4, R: np.ndarray = LEVEL) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, (x, y, z)
    return T


def cube(category: str, x: float, y: float, number: int | None, side: float = 0.5, z: float = 0.25) -> SceneObject:
    return SceneObject(category, OrientedBox(np.array([x, y, z]), np.full(3, side), np.eye(3)), number)


def frame(number, T_WC, ids=(), **extra) -> CameraFrame:
    boxes = tuple(VisibleObject(i, (10 * i, 0, 10 * i + 8, 9)) for i in ids)
    return CameraFrame(number, T_WC, boxes, extra=extra)


def scene(objects, frames=(), name="hall", room_size_m2=25.0, dataset="scannet", counts=None) -> SceneGraph:
    found = Counter(item.category for item in objects)
    return SceneGraph(
        name, tuple(objects), counts or dict(found), room_size_m2, None, dataset, f"{name}.mp4", CAMERA, tuple(frames)
    )


def wide_scene(seed: int = 0, categories: int = 14, name: str = "hall") -> SceneGraph:
    """Cubes on a loose grid, every third category twice, and a walk of 32 frames that sees all of them."""
    rng, objects = np.random.default_rng(seed), []
    for number in range(categories):
        for _ in range(1 + (number % 3 == 0)):
            x, y, side, z = *rng.uniform(0, 7, 2), rng.uniform(0.2, 0.8), rng.uniform(0.2, 2.0)
            objects.append(cube(f"thing{number}", x, y, len(objects), side, z))
    frames = []
    for step in range(32):
        angle = step / 31 * 4 * np.pi
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        place = pose(3.5 + 3 * np.cos(angle / 2), 3.5 + 3 * np.sin(angle / 2), R=turn @ LEVEL)
        seen = rng.permutation(min(len(objects), 2 * step + 2))[:8]
        frames.append(frame(40 * step, place, seen.tolist()))
    return scene(objects, frames, name)


def items_of(graph, task, settings=EXACT, seed=0):
    return generate(graph, task, settings, seed).items


# --- truth by construction ---------------------------------------------------------------------------------------


def test_counts_sizes_and_the_room():
    graph = scene(
        [cube("chair", 0, 0, 1), cube("chair", 2, 0, 2), cube("bed", 5, 5, 3, side=1.234)], room_size_m2=21.46
    )
    (count,) = items_of(graph, "object_counting")
    assert (count.question, count.ground_truth) == ("How many chair(s) are in this room?", 2)
    (size,) = items_of(graph, "object_size_estimation")
    assert (size.names["category"], size.ground_truth, size.value) == ("bed", 123, pytest.approx(123.4))
    (room,) = items_of(graph, "room_size_estimation")
    assert room.ground_truth == 21.5
    assert room.options is None
    assert generate(graph, "object_counting", EXACT).rejected == {"count_below_2": 1}


def test_distances_between_faces():
    graph = scene(
        [cube("a", 0, 0, 1), cube("b", 2, 0, 2), cube("c", 0.6, 0, 3), cube("d", 5, 0, 4), cube("d", 0, 5, 5)]
    )
    found = {frozenset(item.names.values()): item.ground_truth for item in items_of(graph, "object_abs_distance")}
    # a to c is 0.1 m, below what can be asked; d is not the only one of its kind
    assert found == {frozenset("ab"): 1.5, frozenset("bc"): 0.9}
    closest = items_of(graph, "object_rel_distance_v3")
    truths = {(item.names["primary"], frozenset(item.choices)): item.ground_truth for item in closest}
    assert truths["b", frozenset("ac")] == "c"
    assert truths["b", frozenset("ad")] == "a"
    assert all(
        f"({', '.join(item.choices)}) is the closest to the {item.names['primary']}?" in item.question
        for item in closest
    )


def test_directions_seen_from_above():
    graph = scene([cube("stand", 0, 0, 1), cube("face", 0, 3, 2), cube("query", -2, 1.5, 3)])
    asked = {"stand": "stand", "face": "face", "query": "query"}
    found = {
        v: next(i for i in items_of(graph, f"object_rel_direction_{v}") if i.names == asked) for v in ("v1", "v2", "v3")
    }
    assert [found[v].ground_truth for v in ("v1", "v2", "v3")] == ["front-left", "left", "left"]
    assert found["v1"].value == pytest.approx(np.degrees(np.arctan2(2, 1.5)))
    behind = scene([cube("stand", 0, 0, 1), cube("face", 0, 3, 2), cube("query", 0.2, -1.5, 3)])
    backs = [i for i in items_of(behind, "object_rel_direction_v2") if i.names == asked]
    assert [item.ground_truth for item in backs] == ["back"]
    rejected = [
        c for c in candidates(SceneTruth(behind, EXACT), "object_rel_direction_v3", seeded(0)) if c.names == asked
    ]
    assert [one.reason for one in rejected] == ["query_is_back"]


def test_the_published_quadrant_filter_looks_at_one_side_only():
    # 5 degrees past the edge between front and left
    graph = scene([cube("stand", 0, 0, 1), cube("face", 0, 3, 2), cube("query", -4, -0.35, 3, side=0.1)])
    asked = {"stand": "stand", "face": "face", "query": "query"}
    for as_published, reason in ((True, None), (False, "within_10deg_above_quadrant_edge")):
        truth = SceneTruth(graph, replace(EXACT, as_published=as_published))
        (found,) = [c for c in candidates(truth, "object_rel_direction_v1", seeded(0)) if c.names == asked]
        assert found.reason == reason


def test_order_of_first_appearance():
    objects = [cube(name, n, 0, n) for n, name in enumerate("abcd")]
    frames = [frame(24 * 2 * step, pose(0, 0), [step]) for step in (2, 0, 3, 1)]
    graph = scene(objects, frames)
    (item,) = items_of(graph, "obj_appearance_order")
    assert item.ground_truth == "a, b, c, d"
    assert len(set(item.choices)) == 4
    assert sorted(item.question.rpartition(": ")[2].rstrip("?").split(", ")) == list("abcd")
    together = scene(objects, [frame(0, pose(0, 0), [0, 1, 2, 3])])
    assert generate(together, "obj_appearance_order", EXACT).rejected == {"times_within_1s": 1}
    stamped = [frame(f"f{step}", pose(0, 0), [step], stamp_ns=step * 2 * 10**9) for step in range(4)]
    assert len(items_of(scene(objects, stamped, dataset="house"), "obj_appearance_order")) == 1
    with pytest.raises(ValueError, match=r"of dataset 'house' was taken is not known; set GeneratorSettings.fps"):
        generate(scene(objects, frames, dataset="house"), "obj_appearance_order", EXACT)


def camera_scene():
    """A walk straight ahead past a lost frame: lamp to the left and near, sofa to the right and far."""
    objects = [
        cube("lamp", -1.0, 3, 1, z=2.4),
        cube("sofa", 1.0, 6, 2),
        cube("stool", 0.0, 9, 3),
        cube("stool", 3, 9, 4),
    ]
    frames = [frame(step, None if step == 2 else pose(0, 0.1 * step), (1, 2, 3, 4)) for step in range(10)]
    return scene(objects, frames)


def test_distance_from_the_camera_and_the_frames_number():
    task = "camera_obj_abs_dist"
    truth = SceneTruth(camera_scene(), EXACT)
    found = {(c.names["object"], c.frame_ids[0]): c for c in candidates(truth, task, seeded(0)) if c.reason is None}
    assert {name for name, _ in found} == {"lamp", "sofa"}
    lamp = found["lamp", 5]
    assert lamp.value == pytest.approx(np.hypot(np.hypot(0.75, 2.75 - 0.5), 2.15 - 1.4))
    assert lamp.frame_numbers == (6,)
    assert "the lamp in frame 6 of 10?" in question_text(task, lamp.names)
    published = SceneTruth(camera_scene(), replace(EXACT, as_published=True))
    numbers = {c.frame_ids[0]: c.frame_numbers[0] for c in candidates(published, task, seeded(0)) if c.reason is None}
    assert numbers[5] == 5
    values = [
        c.value for c in candidates(published, task, seeded(0)) if c.names["object"] == "lamp" and c.frame_ids == (5,)
    ]
    assert abs(values[0] - lamp.value) > 0.5


def test_closest_to_the_camera():
    (first, *_) = items_of(camera_scene(), "camera_obj_rel_dist_v3", replace(EXACT, per_scene=20))
    assert first.ground_truth == "lamp"
    assert set(first.choices) == {"lamp", "sofa"}
    rejected = generate(camera_scene(), "camera_obj_rel_dist_v1", EXACT).rejected
    assert rejected == {"fewer_than_4_objects_at_0.5m_or_more": 9}


def test_a_set_of_options_is_found_wherever_there_is_one():
    # thirteen plates 4 cm apart: four of them are 15 cm apart in one way only
    plates = [cube(f"plate{n}", 0, 2 + 0.04 * n, n, z=1.4) for n in range(13)]
    graph = scene(plates, [frame(0, pose(0, 0), range(13))])
    (item,) = items_of(graph, "camera_obj_rel_dist_v1")
    assert (item.ground_truth, set(item.choices)) == ("plate0", {"plate0", "plate4", "plate8", "plate12"})
    missed = generate(graph, "camera_obj_rel_dist_v1", replace(EXACT, as_published=True))
    assert missed.rejected == {"no_unambiguous_option_set": 1}  # one order was tried


def test_moved_how_far_and_where():
    moved = items_of(camera_scene(), "camera_displacement", replace(EXACT, per_scene=100))
    assert {item.ground_truth for item in moved} <= {0.5, 0.6, 0.7, 0.8, 0.9}
    for item in moved:
        start, end = item.frame_ids
        assert item.value == pytest.approx(0.1 * (end - start))
        assert item.question.endswith(f"between frame {start + 1} and frame {end + 1} of 10?")
    (where,) = items_of(camera_scene(), "camera_movement_direction_v2")
    assert where.ground_truth == "Forward"
    assert where.question_type == "camera_movement_direction"
    assert where.question.endswith(f"The options are {where.choices[0]}, {where.choices[1]}, and {where.choices[2]}.")


def test_two_objects_in_a_frame():
    for version, wanted in (("nf", "Near"), ("lr", "Left"), ("ud", "Up")):
        items = items_of(camera_scene(), f"obj_obj_relative_pos_{version}", replace(EXACT, per_scene=100))
        assert items
        for item in items:
            assert (item.ground_truth == wanted) == (item.names["A"] == "lamp")
            assert set(item.names.values()) == {"lamp", "sofa", item.names["frame"]}
    # the 2-D boxes here stand in the order of the ids, lamp left of sofa; heights are all alike
    clear = replace(EXACT, clear_in_image=True)
    assert items_of(camera_scene(), "obj_obj_relative_pos_lr", clear)


# --- options, letters, balance ------------------------------------------------------------------------------------


def test_numbers_lost_as_published_are_kept():
    rng = seeded(1)
    for answer in (0.1, 0.2, 0.3, 0.6):
        assert not any(number_options("object_abs_distance", answer, rng, as_published=True) for _ in range(200))
        options = number_options("object_abs_distance", answer, rng, as_published=False)
        assert options[0] == answer
        assert len(set(options)) == 4
    assert not any(number_options("object_size_estimation", 1, rng, as_published=True) for _ in range(200))
    lasting = sum(bool(number_options("object_abs_distance", 1.5, rng, as_published=True)) for _ in range(2000)) / 2000
    assert lasting == pytest.approx(0.980, abs=0.015)
    small = sum(bool(number_options("object_size_estimation", 2, rng, as_published=True)) for _ in range(2000)) / 2000
    assert small == pytest.approx(0.836, abs=0.03)
    for count in (2, 3, 9):
        options = number_options("object_counting", count, rng, as_published=True)
        assert len(set(options)) == 4
        assert min(options) >= 1
        assert max(abs(option - count) for option in options) <= 5


def test_a_short_distance_is_asked_but_lost_as_published():
    graph = scene([cube("a", 0, 0, 1), cube("b", 1.1, 0, 2)])
    assert [item.ground_truth for item in items_of(graph, "object_abs_distance")] == [0.6]
    lost = generate(graph, "object_abs_distance", replace(EXACT, as_published=True))
    assert (lost.items, lost.rejected) == ((), {"option_generation_failed": 1})


def test_numbers_can_have_options():
    (item,) = items_of(
        scene([cube("a", 0, 0, 1), cube("b", 1.1, 0, 2)]), "object_abs_distance", replace(EXACT, numeric_options=True)
    )
    assert item.options["ABCD".index(item.mc_answer)] == f"{item.mc_answer}. 0.6"
    assert not item.is_choice
    assert training_item(item)["conversations"][1]["value"] == "0.6"


@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_every_item_holds_together(task, as_published):
    settings = replace(EXACT, as_published=as_published, per_scene=30)
    items = items_of(wide_scene(), task, settings)
    assert items, task
    assert len({item.id for item in items}) == len(items)
    for item in items:
        assert item.question_type == ("camera_movement_direction" if "movement" in task else task)
        assert answer_kind(item.question_type, "training") == ("choice" if item.is_choice else "number")
        if item.is_choice:
            assert item.choices["ABCD".index(item.mc_answer)] == item.ground_truth
            assert item.choices.count(item.ground_truth) == 1
            assert item.options == tuple(
                f"{letter}. {text}" for letter, text in zip("ABCD", item.choices, strict=False)
            )
        assert (item.num_frames == 32) == (task in VSTI_TASKS)
        assert item_from_json(item_to_json(item)) == item


def test_letters_are_even_over_a_set_and_questions_follow():
    graphs = [wide_scene(seed, name=f"hall{seed}") for seed in range(4)]
    for task in ("object_rel_distance_v2", "object_rel_direction_v1", "obj_appearance_order", "camera_obj_rel_dist_v3"):
        items = [item for graph in graphs for item in items_of(graph, task)]
        balanced = balance_letters(items, 7)
        counts = Counter(item.mc_answer for item in balanced)
        assert max(counts.values()) - min(counts.values()) <= 1
        assert len(counts) == len(items[0].choices)
        for before, after in zip(items, balanced, strict=True):
            assert (after.id, after.ground_truth, set(after.choices)) == (
                before.id,
                before.ground_truth,
                set(before.choices),
            )
            assert after.choices["ABCD".index(after.mc_answer)] == after.ground_truth
            assert after.question == question_text(task, after.names, after.choices)
        assert balance_letters(items, 7) == balanced
        assert balance_letters(items, 8) != balanced
        for answer in {item.ground_truth for item in items}:
            letters = Counter(item.mc_answer for item in balanced if item.ground_truth == answer)
            assert max(letters.values()) - (min(letters.values()) if len(letters) == len(counts) else 0) <= 2
    numbers = items_of(graphs[0], "object_abs_distance")
    assert balance_letters(numbers, 7) == list(numbers)


def test_answers_of_few_words_are_even_in_a_scene_and_over_a_set():
    task = "object_rel_direction_v2"
    items = [item for seed in range(4) for item in items_of(wide_scene(seed, name=f"hall{seed}"), task)]
    plain = replace(EXACT, balance_answers=False)
    skewed = [item for seed in range(4) for item in items_of(wide_scene(seed, name=f"hall{seed}"), task, plain)]
    share = lambda found: Counter(i.ground_truth for i in found)["back"] / len(found)  # noqa: E731
    assert share(items) > share(skewed)
    # twenty questions, three answers: none has more than seven, however rare the others are
    assert max(Counter((item.scene, item.ground_truth) for item in items).values()) == 7
    assert max(Counter((item.scene, item.ground_truth) for item in skewed).values()) > 7
    # a camera that only goes ahead gives its share of eight and no more
    assert len(items_of(camera_scene(), "camera_movement_direction_v2", replace(EXACT, per_scene=8))) == 2
    assert len(items_of(camera_scene(), "camera_movement_direction_v2", replace(plain, per_scene=8))) == 8
    even = balance_answers(items, 0, fixed=[task])
    assert len(set(Counter(item.ground_truth for item in even).values())) == 1
    assert [item for item in items if item in even] == even
    pairs = [i for seed in range(6) for i in items_of(wide_scene(seed, name=f"h{seed}"), "obj_obj_relative_pos_nf")]
    counts = Counter(item.ground_truth for item in pairs)
    assert counts["Near"] == counts["Far"] == 18


def test_place_answer_wants_the_answer_among_the_choices():
    assert place_answer(("a", "b"), "b", 0, seeded(0)) == ("b", "a")
    with pytest.raises(ValueError, match="'c' must be among the options"):
        place_answer(("a", "b"), "c", 0, seeded(0))


# --- seeds --------------------------------------------------------------------------------------------------------


def test_same_seed_same_questions_and_another_seed_others():
    graph = wide_scene()
    for task in ("object_rel_distance_v1", "camera_displacement", "obj_appearance_order"):
        assert items_of(graph, task, seed=3) == items_of(graph, task, seed=3)
        assert items_of(graph, task, seed=3) != items_of(graph, task, seed=4)
    # what was measured for other tasks before changes nothing
    shared = SceneTruth(graph, EXACT)
    for task in reversed(TASKS):
        assert generate(shared, task, seed=3).items == items_of(graph, task, seed=3)


def test_questions_do_not_depend_on_python_hash_seed():
    code = (
        "from test_questions import wide_scene, EXACT; "
        "from vlm3r_core.scene.tasks import TASKS, generate; "
        "print([item.question for task in TASKS for item in generate(wide_scene(), task, EXACT, 1).items])"
    )
    here = os.path.dirname(os.path.abspath(__file__))
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([here, os.getcwd()])},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1]


def test_draws_are_different_combinations_however_many_there_are():
    few = list(draw_combinations(6, 3, None, seeded(0)))
    assert len(set(few)) == 20
    many = list(draw_combinations(5000, 4, 300, seeded(0)))
    assert len(set(many)) == 300
    assert all(list(row) == sorted(set(row)) for row in many)
    firsts = list(draw_with_first(40, 39, 4, 500, seeded(0)))
    assert len(set(firsts)) == 500
    assert {row[0] for row in firsts} == set(range(40))


# --- wording ------------------------------------------------------------------------------------------------------


def test_the_benchmarks_own_wording():
    settings = replace(EXACT, wording="vsibench")
    (far,) = items_of(scene([cube("a", 0, 0, 1), cube("b", 2, 0, 2)]), "object_abs_distance", settings)
    assert "what is the distance between" in far.question
    item = items_of(wide_scene(), "object_rel_distance_v1", settings)[0]
    assert item.question_type == "object_rel_distance"
    assert "\n" not in item.question
    assert items_of(wide_scene(), "object_rel_direction_v1", settings)[0].question_type == "object_rel_direction_hard"
    assert benchmark_item(item)["ground_truth"] == item.mc_answer
    moved = items_of(wide_scene(), "camera_movement_direction_v1", settings)[0]
    assert benchmark_item(moved)["ground_truth"] == moved.ground_truth
    assert benchmark_item(far)["options"] is None


def test_the_prompt_is_the_engines():
    item = items_of(wide_scene(), "object_rel_distance_v1")[0]
    assert prompt_text(item.question, item.options, "choice") == question_message(item.question, item.choices)
    assert prompt_text("How many?", None, "number") == question_message("How many?")


def test_training_items_keep_a_zero_and_refuse_no_answer():
    row = {"id": "x", "question_type": "room_size_estimation", "question": "?", "ground_truth": 0.0}
    assert training_item(row)["conversations"][1]["value"] == "0.0"
    assert training_item(row, as_published=True)["conversations"][1]["value"] == ""
    assert training_item(row)["id"] == training_item(row)["id"] != training_item({**row, "id": "y"})["id"]
    with pytest.raises(ValueError, match="item 'x' has no answer; expected ground_truth"):
        training_item({**row, "ground_truth": None})
    with pytest.raises(ValueError, match=r"did you mean 'object_rel_direction_v1'"):
        training_item({**row, "question_type": "object_rel_direction_v11"})


def test_names_of_tasks():
    assert expand_tasks(["all"]) == TASKS
    assert expand_tasks(["object_rel_distance"]) == tuple(f"object_rel_distance_v{n}" for n in (1, 2, 3))
    assert "camera_displacement" not in expand_tasks(["no_frames"])
    with pytest.raises(ValueError, match="did you mean 'object_counting'"):
        expand_tasks(["object_countng"])
    with pytest.raises(ValueError, match="task must be one of"):
        generate(wide_scene(), "nothing", EXACT)
    capped = replace(EXACT, per_scene=4, caps=(("obj_appearance_order", 0), ("object_rel_direction_v1", 9)))
    counts = {task: len(items_of(wide_scene(), task, capped)) for task in TASKS}
    assert (counts["obj_appearance_order"], counts["object_rel_direction_v1"], counts["object_abs_distance"]) == (
        0,
        9,
        4,
    )
    with pytest.raises(ValueError, match=r"caps of object_counting must be at least 0, got -1"):
        GeneratorSettings(caps=(("object_counting", -1),))
    with pytest.raises(ValueError, match=r"truth must be one of benchmark, exact, got 'exakt'"):
        GeneratorSettings(truth="exakt")
    with pytest.raises(ValueError, match="settings that differ"):
        generate(SceneTruth(wide_scene(), EXACT), "object_counting", GeneratorSettings())


# --- damage -------------------------------------------------------------------------------------------------------


def test_frames_with_nan_poses_are_skipped_and_counted():
    graph = camera_scene()
    lost = [replace(f, T_WC=np.full((4, 4), np.nan)) if f.frame_id in (0, 7) else f for f in graph.frames]
    broken = replace(graph, frames=tuple(lost))
    for task in VSTI_TASKS:
        result = generate(broken, task, replace(EXACT, per_scene=1000))
        assert result.rejected.get("no_pose"), task
        for item in result.items:
            assert {0, 2, 7}.isdisjoint(item.frame_ids)
            assert all(
                number == frame_id + 1 for number, frame_id in zip(item.frame_numbers, item.frame_ids, strict=True)
            )
    gone = replace(graph, frames=tuple(replace(f, T_WC=None) for f in graph.frames))
    assert {str(generate(gone, task, EXACT)) for task in VSTI_TASKS} == {
        "TaskResult(items=(), rejected={'no_pose': 1})"
    }


@pytest.mark.parametrize("lengths", [(0.0, 0.0, 0.0), (0.5, 0.0, 0.5)])
def test_boxes_without_extent(lengths):
    flat = SceneObject("flat", OrientedBox(np.array([2.0, 0, 0.25]), np.array(lengths), np.eye(3)), 9)
    frames = [frame(step, pose(1, -3 + 0.1 * step), (1, 2, 9)) for step in range(3)]
    graph = scene([cube("a", 0, 0, 1), cube("b", 4, 0, 2), flat], frames)
    # exact distances need no extent; the published grid does, and its sampler fails
    assert len(items_of(graph, "object_abs_distance")) == 3
    sampled = generate(graph, "object_abs_distance", GeneratorSettings())
    assert sampled.rejected == {"box_without_extent": 2}
    assert len(sampled.items) == 1
    assert generate(graph, "object_rel_direction_v2", GeneratorSettings()).rejected == {"box_without_extent": 1}
    assert generate(graph, "object_rel_distance_v3", GeneratorSettings()).rejected["box_without_extent"] == 3
    sizes = generate(graph, "object_size_estimation", EXACT)
    assert sizes.rejected == ({"size_below_1cm": 1} if not any(lengths) else {})
    near = generate(graph, "camera_obj_abs_dist", GeneratorSettings(per_scene=50))
    assert near.rejected == {"box_without_extent": 3}


def test_rooms_with_one_object_or_none():
    one = scene([cube("bed", 0, 0, 1)], [frame(step, pose(0, -3 + 0.1 * step), (1,)) for step in range(8)])
    kept = {task: len(generate(one, task, EXACT).items) for task in TASKS}
    expected = {
        "object_size_estimation": 1,
        "room_size_estimation": 1,
        "camera_obj_abs_dist": 3,
        "camera_displacement": 3,
    }
    assert {task: count for task, count in kept.items() if count} == {
        **expected, **{f"camera_movement_direction_{v}": 1 for v in ("v2", "v3")}
    }  # fmt: skip
    assert generate(one, "object_abs_distance", EXACT).rejected == {"fewer_than_2_categories": 1}
    assert generate(one, "object_rel_distance_v1", EXACT).rejected == {"fewer_than_5_categories": 1}
    assert generate(one, "object_rel_direction_v1", EXACT).rejected == {"fewer_than_3_categories": 1}
    empty = scene([], name="empty")
    reasons = {task: generate(empty, task, EXACT).rejected for task in TASKS}
    assert reasons["camera_displacement"] == reasons["obj_obj_relative_pos_nf"] == {"no_frames": 1}
    assert sum(len(generate(empty, task, EXACT).items) for task in TASKS) == 1  # the room's size


def test_missing_instance_ids():
    graph = camera_scene()
    nameless = replace(graph, objects=tuple(replace(item, instance_id=None) for item in graph.objects))
    for task in ("camera_obj_abs_dist", "camera_obj_rel_dist_v1", "obj_obj_relative_pos_lr"):
        assert generate(nameless, task, EXACT).rejected == {"no_instance_id": 1}
    assert generate(nameless, "obj_appearance_order", EXACT).rejected == {"fewer_than_4_categories_seen": 1}
    assert items_of(nameless, "camera_displacement")
    assert items_of(nameless, "object_abs_distance")
    # a 2-D box of an object that the scene does not have is no object
    stray = replace(graph, frames=tuple(frame(f.frame_id, f.T_WC, (1, 77)) for f in graph.frames))
    assert {item.names["object"] for item in items_of(stray, "camera_obj_abs_dist")} == {"lamp"}


def test_ten_thousand_objects():
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 60, (10_000, 2))
    names = [f"kind{n % 900}" if n < 9_990 else f"rare{n}" for n in range(10_000)]
    graph = scene([cube(name, x, y, n, 0.3) for n, (name, (x, y)) in enumerate(zip(names, places, strict=True))])
    for settings in (EXACT, GeneratorSettings()):
        truth = SceneTruth(graph, replace(settings, per_scene=10))
        for task in expand_tasks(["no_frames"]):
            result = generate(truth, task)
            assert result.items or result.rejected, task
            assert task in ("object_counting", "object_size_estimation") or len(result.items) <= 10
    unique = scene([cube(f"kind{n}", x, y, n, 0.3) for n, (x, y) in enumerate(places)])
    assert len(items_of(unique, "object_abs_distance")) == 50


def test_names_outside_ascii():
    names = ["Stuhl für Gäste", "椅子", "окно", "lámpara {big}", "🪴 plant"]
    graph = scene([cube(name, 2.5 * n, (n * n) % 4, n) for n, name in enumerate(names)], name="raum-ä")
    items = items_of(graph, "object_rel_distance_v1") + items_of(graph, "object_abs_distance")
    assert {name for item in items for name in item.names.values()} == set(names)
    for item in items:
        assert all(name in item.question for name in item.names.values())
        assert item_from_json(item_to_json(item)) == item
    assert items_of(graph, "object_rel_distance_v1") == items_of(graph, "object_rel_distance_v1")


def test_a_room_of_negative_or_unknown_size():
    with pytest.raises(ValueError, match="room_size_m2 must not be negative, got -3"):
        scene([cube("a", 0, 0, 1)], room_size_m2=-3.0)
    unknown = scene([cube("a", 0, 0, 1)], room_size_m2=0.0)
    assert generate(unknown, "room_size_estimation", EXACT).rejected == {"room_size_unknown": 1}
    (published,) = items_of(unknown, "room_size_estimation", replace(EXACT, as_published=True))
    assert published.options == ("A. 0.0", "B. 0.0", "C. 0.0", "D. 0.0")


def test_a_category_counted_once_with_two_places_is_not_unique():
    objects = [
        cube("printer", 0, 0, 1),
        cube("printer", 3, 0, 2),
        cube("bed", 6, 0, 3),
        cube("lamp", 9, 0, 4),
        cube("lamp", 9, 0, 4),
    ]
    graph = scene(objects, counts={"printer": 1, "bed": 1, "lamp": 1})
    asked = [item.names["category"] for item in items_of(graph, "object_size_estimation")]
    assert asked == ["bed", "lamp"]  # the lamp is listed twice, it is the same one
    published = items_of(graph, "object_size_estimation", replace(EXACT, as_published=True))
    assert [item.names["category"] for item in published] == ["printer", "bed", "lamp"]
