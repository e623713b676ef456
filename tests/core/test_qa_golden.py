"""Questions and truths against the published generator's, run on real scenes; skipped where its output is absent.

Compared exactly: status, reason, truth, wording. Not compared: which options are drawn and where they stand, which is
random there. Items marked unstable depend on the order of float operations; their truth may lie one decimal off.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from vlm3r_core.scene.formatting import PRESETS, PromptPreset, benchmark_prompt, chat_text, training_item
from vlm3r_core.scene.metadata import read_metadata
from vlm3r_core.scene.questions import question_text, question_type
from vlm3r_core.scene.relations import camera_movement, camera_position, movement_direction
from vlm3r_core.scene.tasks import GeneratorSettings, SceneTruth, camera, candidates
from vlm3r_core.scene.tasks.direction import judge_direction, judge_triple
from vlm3r_core.scene.tasks.distance import judge_closest
from vlm3r_core.scene.tasks.options import number_options
from vlm3r_core.scene.tasks.pairs import judge_pair

DATASETS = ("scannet", "scannetpp", "arkitscenes")
LOST = "option_generation_failed"
PUBLISHED = GeneratorSettings(truth="benchmark", as_published=True)
RIGHT = GeneratorSettings(truth="benchmark")
EXACT = GeneratorSettings(truth="exact", as_published=True)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="session")
def qa_dir(shared_dir):
    path = shared_dir / "golden/qa"
    if not path.is_dir():
        pytest.skip(f"golden data not found: {path}")
    return path


@pytest.fixture(scope="session")
def scenes(qa_dir):
    """(dataset, scene, settings) -> SceneTruth, measured once for all tests."""
    folder, graphs, truths = qa_dir / "inputs/metadata/val", {}, {}
    for dataset in DATASETS:
        found = read_metadata(folder / f"{dataset}_metadata_val.json", folder / f"{dataset}_frame_metadata_val.json")
        graphs |= {(dataset, name): graph for name, graph in found.items()}

    def truth(dataset: str, scene: str, settings: GeneratorSettings) -> SceneTruth:
        key = (dataset, scene, settings)
        if key not in truths:
            truths[key] = SceneTruth(graphs[dataset, scene], settings)
            # category distances know nothing of the defects: measure them once
            truths[key]._distances = truth(dataset, scene, PUBLISHED)._distances if settings == RIGHT else {}
        return truths[key]

    return truth


@pytest.fixture(scope="session")
def golden(qa_dir):
    def read(name: str):
        return json.loads((qa_dir / f"{name}.json").read_text(encoding="utf-8"))

    return read


def number_survives(task: str, answer) -> bool:
    """Whether the published option making ever succeeds; its chance is above 0.8 where it is not 0."""
    return any(number_options(task, answer, RNG, as_published=True) for _ in range(40))


def outcome(candidate, *, published: bool) -> tuple[str | None, object]:
    """(reason, truth) with the loss in option making that numbers suffer as published."""
    numeric = not isinstance(candidate.answer, str)
    if published and candidate.reason is None and numeric and not number_survives(candidate.task, candidate.answer):
        return LOST, None
    return candidate.reason, candidate.answer if candidate.reason is None else None


def wanted(item: dict, *, published: bool) -> tuple[str | None, object]:
    if published or "right" not in item:
        return item["reason"], item.get("ground_truth")
    right = item["right"]
    # the closest object is named there even where the frame is filtered, or where a set of options was missed by luck
    kept = right["status"] == "kept" or (right.get("success_rate") or 0) > 0
    return (None, right["ground_truth"]) if kept else (right["reason"], None)


def check(item: dict, judged: dict[GeneratorSettings, object], differing: list) -> int:
    """Compares one item under both settings; returns how many comparisons were exact ones."""
    exact = 0
    for settings, candidate in judged.items():
        published = settings.as_published
        ours, theirs = outcome(candidate, published=published), wanted(item, published=published)
        stable = (
            item.get("stable", True) if published else item.get("right", item).get("stable", item.get("stable", True))
        )
        chance = 0 < item.get("option_survival", 0) < 1
        if stable and not chance:
            exact += 1
            if ours != theirs:
                differing.append((item, published, ours, theirs))
        elif not (ours == theirs or close(ours[1], theirs[1]) or None in (ours[1], theirs[1])):
            differing.append((item, published, ours, theirs))
    candidate = judged[PUBLISHED]
    if item["status"] == "kept":
        choices = [text.partition(". ")[2] if isinstance(text, str) else text for text in item["options"]]
        if question_text(candidate.task, candidate.names, choices) != item["question"]:
            differing.append((item, "question", question_text(candidate.task, candidate.names, choices)))
        if question_type(candidate.task) != item["question_type"]:
            differing.append((item, "type", question_type(candidate.task)))
    if "right_question" in item:
        choices = [text.partition(". ")[2] if isinstance(text, str) else text for text in item["options"]]
        if question_text(candidate.task, judged[RIGHT].names, choices) != item["right_question"]:
            differing.append((item, "right_question", judged[RIGHT].names))
    if "frame_ranks" in item:
        numbers = tuple(rank + 1 for rank in item["frame_ranks"])
        right = tuple(rank + 1 for rank in item.get("right_frame_ranks", item["frame_ranks"]))
        if (candidate.frame_numbers, judged[RIGHT].frame_numbers) != (numbers, right):
            differing.append((item, "frame numbers", candidate.frame_numbers, judged[RIGHT].frame_numbers))
    return exact


def close(ours, theirs) -> bool:
    return isinstance(ours, float) and isinstance(theirs, float) and abs(ours - theirs) < 0.1 + 1e-9


def both(scenes, dataset, item, judge) -> dict:
    return {settings: judge(scenes(dataset, item["scene"], settings)) for settings in (PUBLISHED, RIGHT)}


def report(differing: list, compared: int, expected: int) -> None:
    assert not differing, f"{len(differing)} of {compared} differ, the first: {differing[0]}"
    assert compared >= expected


@pytest.mark.parametrize("dataset", DATASETS)
def test_category_distances_in_both_forms(golden, scenes, dataset):
    rows = [(scene, *row) for scene, rows in golden(f"vsi/{dataset}_pair_distances")["scenes"].items() for row in rows]
    for scene, first, second, official, low, high, _, _ in rows:
        sampled = scenes(dataset, scene, PUBLISHED).distance(first, second)
        # equal bit for bit, but for processors whose matrix product rounds otherwise
        assert sampled == official or low - 1e-9 <= sampled <= high + 1e-9
    for scene in {row[0] for row in rows}:
        truth = scenes(dataset, scene, EXACT)
        pairs = [row for row in rows if row[0] == scene]
        ours = [truth.distance(row[1], row[2]) for row in pairs]
        np.testing.assert_allclose(ours, [row[-1] for row in pairs], atol=1e-9)


COMPLETE = {
    "object_counting": lambda names: names["category"],
    "object_size_estimation": lambda names: names["category"],
    "room_size_estimation": lambda names: "",
    "object_abs_distance": lambda names: (names["object1"], names["object2"]),
}


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("task", COMPLETE)
def test_tasks_without_draws(golden, scenes, dataset, task):
    items, key = golden(f"vsi/{dataset}_{task}")["items"], COMPLETE[task]
    ours: dict = {}
    for scene in {item["scene"] for item in items}:
        for settings in (PUBLISHED, RIGHT):
            for found in candidates(scenes(dataset, scene, settings), task, np.random.default_rng(0)):
                ours.setdefault((scene, key(found.names)), {})[settings] = found
    differing: list = []
    compared = sum(check(item, ours.pop((item["scene"], key(item["objects"]))), differing) for item in items)
    report(differing, compared, 1.9 * len(items))
    if task == "object_abs_distance":
        exact = {
            (scene, key(found.names)): found.answer
            for scene in {item["scene"] for item in items}
            for found in candidates(scenes(dataset, scene, EXACT), task, np.random.default_rng(0))
        }
        assert exact == {(item["scene"], key(item["objects"])): item["exact_ground_truth"] for item in items}
    assert not ours, f"questions that the published generator does not have: {list(ours)[:3]}"


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_relative_distance(golden, scenes, dataset, version):
    task, differing, compared, wrong_in_exact = f"object_rel_distance_{version}", [], 0, 0
    items = golden(f"vsi/{dataset}_{task}")["items"]
    for item in items:
        named = item["objects"]
        judged = both(scenes, dataset, item, lambda t, n=named: judge_closest(t, task, n["primary"], n["candidates"]))
        if version == "v1" and item["reason"] == "two_options_within_0.15" and item["raw"]["room_size"] > 40:
            # what is too close for 0.15 in a large room is so for the 0.30 that is right there
            item["right"] = {"status": "filtered", "reason": "two_options_within_0.30"}
        exact = outcome(judge_closest(scenes(dataset, item["scene"], EXACT), task, *named.values()), published=False)
        wrong_in_exact += (exact[0] is None, exact[1]) != (item["exact_status"] == "kept", item["exact_ground_truth"])
        compared += check(item, judged, differing)
    report(differing, compared, 1.9 * len(items))
    assert wrong_in_exact == 0


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_relative_direction(golden, scenes, dataset, version):
    task, differing, compared = f"object_rel_direction_{version}", [], 0
    items = golden(f"vsi/{dataset}_{task}")["items"]
    for item in items:
        named = item["objects"]
        if "triple" in named:
            judged = both(scenes, dataset, item, lambda t, n=named: next(judge_triple(t, task, n["triple"])))
        else:
            names = named["stand"], named["face"], named["query"]
            judged = both(scenes, dataset, item, lambda t, n=names: judge_direction(t, task, *n))
            assert judged[PUBLISHED].value == pytest.approx(item["raw"]["angle_ccw_deg"], abs=1e-6)
            for found in judged.values():
                assert found.details["corners_in_other_sector"] == item["raw"]["corners_in_other_bin"]
        compared += check(item, judged, differing)
    report(differing, compared, 1.9 * len(items))
    turned = [(item["scene"], tuple(item["objects"].values())) for item in items if "triple" not in item["objects"]]
    asked = set()
    for scene, names in turned:
        truth = scenes(dataset, scene, PUBLISHED)
        triple = sorted(names, key=truth.unique.index)
        asked |= {(scene, tuple(found.names.values())) for found in judge_triple(truth, task, triple)}
    assert asked == set(turned)


@pytest.mark.parametrize("dataset", DATASETS)
def test_camera_object_distance(golden, scenes, dataset):
    task, ours, differing = "camera_obj_abs_dist", {}, []
    items = golden(f"vsti/{dataset}_{task}")["items"]
    for scene in {item["scene"] for item in items}:
        for settings in (PUBLISHED, RIGHT):
            for found in candidates(scenes(dataset, scene, settings), task, np.random.default_rng(0)):
                if found.reason != camera.NO_POSE:
                    key = scene, found.frame_ids, found.instance_ids
                    ours.setdefault(key, {})[settings] = found
    compared = 0
    for item in items:
        judged = ours.pop((item["scene"], tuple(item["frames"]), tuple(item["instance_ids"])))
        compared += check(item, judged, differing)
    report(differing, compared, 1.9 * len(items))
    assert not ours


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_camera_closest_object(golden, scenes, dataset, version):
    task, differing, compared = f"camera_obj_rel_dist_{version}", [], 0
    items = golden(f"vsti/{dataset}_{task}")["items"]
    for item in items:

        def judge(truth, item=item, lucky=item["raw"]["success_rate"]):
            place = [frame.frame_id for frame in truth.frames].index(item["frames"][0])
            # as published one order of the others is tried, so a set may be missed: try again where it was found there
            tries = 60 if truth.settings.as_published and item["status"] == "kept" and lucky < 1 else 1
            found = [camera.judge_closest_to_camera(truth, task, place, RNG) for _ in range(tries)]
            return next((one for one in found if one.reason is None), found[0])

        judged = both(scenes, dataset, item, judge)
        compared += check(item, judged, differing)
        if judged[PUBLISHED].reason is None:
            assert set(judged[PUBLISHED].choices) <= {entry["category"] for entry in item["raw"]["objects"]}
    report(differing, compared, 1.9 * len(items))


@pytest.mark.parametrize("dataset", DATASETS)
def test_camera_displacement(golden, scenes, dataset):
    task, differing, compared = "camera_displacement", [], 0
    items = golden(f"vsti/{dataset}_{task}")["items"]
    for item in items:
        judged = both(scenes, dataset, item, lambda t, i=item: camera.judge_displacement(t, task, *places(t, i)))
        assert judged[PUBLISHED].value == pytest.approx(item["raw"]["displacement"], abs=1e-9)
        compared += check(item, judged, differing)
    report(differing, compared, 1.9 * len(items))


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_camera_movement(golden, scenes, dataset, version):
    task, differing, compared = f"camera_movement_direction_{version}", [], 0
    items = golden(f"vsti/{dataset}_{task}")["items"]
    for item in items:
        judged = both(scenes, dataset, item, lambda t, i=item: camera.judge_movement(t, task, *places(t, i), RNG))
        compared += check(item, judged, differing)
        if item["status"] == "kept":
            assert len(judged[PUBLISHED].choices) == len(item["options"])
    report(differing, compared, 1.9 * len(items))


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("version", ["nf", "lr", "ud"])
def test_object_pairs_in_a_frame(golden, scenes, dataset, version):
    task, differing, compared = f"obj_obj_relative_pos_{version}", [], 0
    items = golden(f"vsti/{dataset}_{task}")["items"]
    for item in items:

        def judge(truth, item=item):
            return judge_pair(truth, task, *places(truth, item), *(truth.by_id[i] for i in item["instance_ids"]))

        judged = both(scenes, dataset, item, judge)
        assert judged[PUBLISHED].value == pytest.approx(item["raw"]["gap"], abs=1e-9)
        compared += check(item, judged, differing)
    report(differing, compared, 1.9 * len(items))


def places(truth: SceneTruth, item: dict) -> list[int]:
    ids = [frame.frame_id for frame in truth.frames]
    return [ids.index(number) for number in item["frames"]]


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_pair_of_frames(golden, scenes, dataset):
    for scene, table in golden(f"vsti/{dataset}_frame_tables")["scenes"].items():
        truth = scenes(dataset, scene, RIGHT)
        frames = {frame.frame_id: frame.T_WC for frame in truth.frames}
        for frame_id, positions in table["camera_positions"].items():
            T_WC = frames[int(frame_id)]
            np.testing.assert_allclose(camera_position(T_WC), positions["right"], atol=1e-9)
            np.testing.assert_allclose(camera_position(T_WC, as_published=True), positions["official"], atol=1e-9)
        rows = table["displacement_pairs"]
        for published, column in ((True, 2), (False, 3)):
            at = {k: camera_position(T, as_published=published) for k, T in frames.items() if T is not None}
            ours = [np.linalg.norm(at[row[1]] - at[row[0]]) for row in rows]
            np.testing.assert_allclose(ours, [row[column] for row in rows], atol=1e-6)
        listed = [frame.T_WC for frame in truth.frames]
        for i, j, *moved, far, near in table["movement_pairs"]:
            ours = camera_movement(listed[i], listed[j])
            np.testing.assert_allclose(ours, moved, atol=1e-6)
            assert (movement_direction(ours, 1.0), movement_direction(ours, 0.5)) == (far, near)


def test_answers_of_the_published_benchmark(golden, scenes):
    """Answers that VSI-Bench publishes, quoted in a study of two of the scenes."""
    items = golden("real_vsibench_check")["items"]
    kinds = {"hard": "v1", "medium": "v2", "easy": "v3"}
    options = {4: "v1", 3: "v2", 2: "v3"}
    equal = 0
    for item in items:
        truth, named = scenes("scannet", item["scene"], PUBLISHED), item["objects"]
        task = item["question_type"]
        if task == "object_rel_distance":
            found = judge_closest(truth, f"{task}_{options[len(item['options'])]}", named[0], item["options"])
        elif task.startswith("object_rel_direction"):
            stem, _, kind = task.rpartition("_")
            found = judge_direction(truth, f"{stem}_{kinds[kind]}", *named)
        else:
            every = candidates(truth, task, np.random.default_rng(0))
            found = next(one for one in every if sorted(one.names.values()) == sorted(named))
        assert found.reason is None, item
        equal += found.answer == item["published"]
    assert equal == len(items) == 86


def without_id(item: dict) -> dict:
    return {key: value for key, value in item.items() if key != "id"}


@pytest.mark.parametrize("benchmark", ["vsi", "vsti"])
def test_prompts_are_equal_to_the_letter(golden, benchmark):
    file = golden(f"prompts/{benchmark}_prompts")
    custom = PromptPreset("PRE", "MPOST", "NPOST")
    for name, words in file["presets"].items():
        assert PRESETS[name] == PromptPreset(**words)
    compared = 0
    for item in file["items"]:
        doc = item["doc"]
        prompts = {key: value for key, value in item.items() if key.startswith("prompt")}
        prompts.pop("prompt_kwargs_none", None)
        for key, expected in prompts.items():
            preset = custom if key == "prompt_custom_kwargs" else PRESETS[key.partition("_")[2] or "default"]
            if isinstance(expected, dict):
                with pytest.raises(ValueError, match=r"question_type must be one of|needs options|needs the field"):
                    benchmark_prompt(doc, benchmark, preset)
            else:
                assert benchmark_prompt(doc, benchmark, preset) == expected
            compared += 1
        if "chat_prompt" in item:
            assert chat_text(benchmark_prompt(doc, benchmark)) == item["chat_prompt"]
    assert compared > 250


def test_training_items_are_equal_to_the_letter(golden):
    items = golden("prompts/training_format")["items"]
    assert len(items) == 178
    for item in items:
        if "raises" in item["result"]:
            with pytest.raises(ValueError, match=r"question_type must be one of|needs the field"):
                training_item(item["qa"], as_published=True)
        else:
            assert without_id(training_item(item["qa"], as_published=True)) == item["result"], item.get("tag")
            if item.get("tag") in (None, "na_string"):
                assert without_id(training_item(item["qa"])) == item["result"]
