"""Readers of benchmarks on small synthetic copies in their published layouts."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from benchmark_copies import (
    VSI_ROWS,
    VSTI_ROWS,
    picture,
    video_frames,
    vsi_rows,
    vsti_rows,
    write_lines,
    write_parquet,
    write_picture,
    write_question_set,
    write_video,
    write_vsi,
)

from training.benchmarks.catalogue import BENCHMARKS, cache_folder, read_questions
from training.benchmarks.options import letter_of, lettered, option_list, split_options
from training.benchmarks.pictures import StoredPicture, read_picture
from training.benchmarks.rows import read_rows
from training.benchmarks.vsti import label_version


def write_tsv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


# ---- VSI-Bench


def test_vsi_as_json_lines(tmp_path):
    questions = read_questions("vsi", write_vsi(tmp_path, scenes=2))
    assert len(questions) == 2 * len(VSI_ROWS)
    first, choice = questions[0], questions[3]
    assert (first.id, first.question_type, first.truth, first.options) == ("0", "object_counting", "4", ())
    assert first.video == tmp_path / "scannet/scene0000_00.mp4"
    assert first.video.is_file()
    assert choice.options == ("A. left", "B. right")
    assert (choice.truth, choice.is_choice, first.is_choice) == ("B", True, False)
    assert questions[6].scene == "arkitscenes/scene0001_00"
    # questions of one video share one view
    assert len({question.view for question in questions}) == 2


@pytest.mark.parametrize("place", ["", "data"])
def test_vsi_as_parquet_in_parts(tmp_path, place):
    rows = vsi_rows(2)
    for number in range(2):
        name = f"test-{number:05d}-of-00002.parquet"
        write_parquet(tmp_path / place / name, rows[number * 6 : number * 6 + 6])
    questions = read_questions("vsi", tmp_path)
    assert [question.id for question in questions] == [str(row["id"]) for row in rows]
    assert [question.options for question in questions] == [tuple(row["options"] or ()) for row in rows]


def test_vsi_debiased_and_pruned_are_its_parts(tmp_path):
    rows = vsi_rows(3)
    write_lines(tmp_path / "lines/test.jsonl", rows)
    for name, pruned in (("debiased", False), ("pruned", True)):
        part = [row for row in rows if row["pruned"] == pruned]
        write_parquet(tmp_path / f"parts/test_{name}.parquet", part)
    for folder in ("lines", "parts"):
        found = {name: read_questions(name, tmp_path / folder) for name in ("vsi", "vsi-debiased", "vsi-pruned")}
        ids = {name: [int(question.id) for question in questions] for name, questions in found.items()}
        assert ids["vsi"] == list(range(18))
        assert ids["vsi-debiased"] == [row["id"] for row in rows if not row["pruned"]]
        assert sorted([*ids["vsi-debiased"], *ids["vsi-pruned"]]) == ids["vsi"]


def test_vsi_numbers_keep_no_options(tmp_path):
    row = vsi_rows(1)[0] | {"options": ["A. 1", "B. 4"]}
    write_lines(tmp_path / "test.jsonl", [row])
    assert read_questions("vsi", tmp_path)[0].options == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_type": "object_color"}, "question type of vsi must be one of .*got 'object_color'"),
        ({"question_type": None}, "question type of vsi must be one of"),
        ({"ground_truth": "E"}, "needs options and the letter of the right one"),
        ({"options": None}, "needs options"),
    ],
)
def test_vsi_rows_that_are_wrong(tmp_path, change, message):
    write_lines(tmp_path / "test.jsonl", [vsi_rows(1)[3] | change])
    with pytest.raises(ValueError, match=message):
        read_questions("vsi", tmp_path)


def test_vsi_files_that_are_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no test.*--root must name a copy of .*nyu-visionx/VSI-Bench"):
        read_questions("vsi", tmp_path)
    row = vsi_rows(1)[0]
    del row["scene_name"]
    write_lines(tmp_path / "test.jsonl", [row])
    with pytest.raises(ValueError, match="a row needs the field 'scene_name', this one has id, dataset"):
        read_questions("vsi", tmp_path)
    (tmp_path / "test.jsonl").write_text('{"id": 1}\n{"id": 2')
    with pytest.raises(ValueError, match=r"test\.jsonl:2 is no JSON"):
        read_questions("vsi", tmp_path)
    (tmp_path / "test.jsonl").unlink()
    (tmp_path / "test.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match=r"test\.parquet cannot be read as Parquet"):
        read_questions("vsi", tmp_path)


def test_ids_differ(tmp_path):
    write_lines(tmp_path / "test.jsonl", [vsi_rows(1)[0], vsi_rows(1)[1] | {"id": 0}])
    with pytest.raises(ValueError, match="two questions of vsi have the id 0"):
        read_questions("vsi", tmp_path)
    write_lines(tmp_path / "test.jsonl", [])
    with pytest.raises(ValueError, match="has no questions"):
        read_questions("vsi", tmp_path)


# ---- VSTI-Bench


def test_vsti_with_both_versions_of_labels(tmp_path):
    old, new = vsti_rows(2), vsti_rows(2)[:-1]
    new[0]["ground_truth"] = "2.7"
    write_parquet(tmp_path / "test.parquet", old)
    write_parquet(tmp_path / "corrected/test-00000-of-00001.parquet", new)
    write_lines(tmp_path / "test_published.jsonl", old)
    plain, published, corrected = (
        read_questions(name, tmp_path) for name in ("vsti", "vsti-published", "vsti-corrected")
    )
    assert plain == published
    assert (len(published), len(corrected)) == (len(old), len(new))
    assert (published[0].truth, corrected[0].truth) == ("1.2", "2.7")
    assert published[1].truth == "B"
    assert published[2].truth == "A"
    assert published[0].video == corrected[0].video == tmp_path / "ScanNet/videos/val/scene0000_00.mp4"
    assert published[0].scene == "scene0000_00"
    assert [label_version(count) for count in (6042, 5736, 6000)] == ["published", "corrected", "unknown"]


def test_vsti_choice_without_its_letter(tmp_path):
    write_lines(tmp_path / "test.jsonl", [vsti_rows(1)[1] | {"mc_answer": None}])
    with pytest.raises(ValueError, match="the letter of the right one, got 2 options and the truth 'None'"):
        read_questions("vsti", tmp_path)


# ---- question sets


def test_question_set(tmp_path):
    questions = read_questions(str(write_question_set(tmp_path / "set")))
    per_scene = len(VSI_ROWS) + len(VSTI_ROWS)
    assert [question.id for question in questions] == [str(number) for number in range(2 * per_scene)]
    assert [question.benchmark for question in questions[:per_scene]] == ["vsi"] * len(VSI_ROWS) + ["vsti"] * len(
        VSTI_ROWS
    )
    assert {question.scene for question in questions} == {"flat-000000", "flat-000001"}
    assert questions[0].video == tmp_path / "set/videos/flat-000000.mp4"
    assert questions[len(VSI_ROWS) + 1].truth == "B"
    rows = [json.loads(line) for line in (tmp_path / "set/questions.jsonl").read_text().splitlines()]
    write_lines(tmp_path / "blind/questions.jsonl", [row | {"video": None} for row in rows])
    assert {question.video for question in read_questions(str(tmp_path / "blind"))} == {None}
    with pytest.raises(FileNotFoundError, match=r"has no questions\.jsonl; give a folder that training\.make_qa wrote"):
        read_questions(str(tmp_path))


# ---- CV-Bench


def cv_rows(part: str) -> list[dict]:
    tasks = {"2D": (("Count", "ADE20K"), ("Relation", "COCO")), "3D": (("Depth", "Omni3D"),)}[part]
    return [
        {
            "idx": number + 10 * (part == "3D"),
            "type": part,
            "task": task,
            "question": f"How many? {task}",
            "choices": ["1", "0", "2"],
            "answer": "(C)",
            "filename": f"{part}/{task}/{number}.png",
            "source": source,
        }
        for number, (task, source) in enumerate(tasks)
    ]


def test_cv_bench_as_parquet(tmp_path):
    for part in ("2D", "3D"):
        rows = [row | {"image": {"bytes": picture(row["idx"]), "path": row["filename"]}} for row in cv_rows(part)]
        write_parquet(tmp_path / f"test_{part.lower()}.parquet", rows)
    questions = read_questions("cv-bench", tmp_path)
    assert [(q.id, q.question_type, q.subset) for q in questions] == [
        ("0", "Count", "ADE20K"),
        ("1", "Relation", "COCO"),
        ("10", "Depth", "Omni3D"),
    ]
    assert questions[0].options == ("A. 1", "B. 0", "C. 2")
    assert questions[0].truth == "C"
    for question, seed in zip(questions, (0, 1, 10), strict=True):
        assert np.array_equal(read_picture(question.pictures[0]), video_frames(seed, 1)[0])


def test_cv_bench_as_json_lines(tmp_path):
    for part in ("2D", "3D"):
        write_lines(tmp_path / f"test_{part.lower()}.jsonl", cv_rows(part))
    write_picture(tmp_path / "img/2D/Count/0.png", 3)
    questions = read_questions("cv-bench", tmp_path)
    assert np.array_equal(read_picture(questions[0].pictures[0]), video_frames(3, 1)[0])
    with pytest.raises(FileNotFoundError, match="unpack the benchmark's images"):
        read_picture(questions[1].pictures[0])


# ---- MindCube


def mindcube_rows() -> list[dict]:
    ask = "Based on these views: what is behind me? A. TV B. Wooden dining table C. A. plant D. Nothing"
    return [
        {
            "id": f"{setting}_group{number:03d}_q0",
            "category": ["perspective"],
            "type": "2_frames",
            "question": ask,
            "images": [f"other_all_image/{setting}/{number}/{side}.jpg" for side in ("front", "left")],
            "gt_answer": "B",
        }
        for number, setting in enumerate(("among", "around", "rotation", "translation", "odd"))
    ]


@pytest.mark.parametrize("folder", ["", "raw", "data/raw"])
def test_mindcube(tmp_path, folder):
    rows = mindcube_rows()
    write_lines(tmp_path / folder / "MindCube_tinybench.jsonl", rows)
    images = tmp_path / "data" if folder.startswith("data") else tmp_path
    write_picture(images / rows[0]["images"][0], 5)
    questions = read_questions("mindcube-tiny", tmp_path)
    assert [question.question_type for question in questions] == ["among", "around", "rotation", "translation", "other"]
    assert questions[0].question == "Based on these views: what is behind me?"
    assert questions[0].options == ("A. TV", "B. Wooden dining table", "C. A. plant", "D. Nothing")
    assert questions[0].truth == "B"
    assert np.array_equal(read_picture(questions[0].pictures[0]), video_frames(5, 1)[0])
    with pytest.raises(FileNotFoundError, match=r"has no MindCube\.jsonl"):
        read_questions("mindcube", tmp_path)


def test_mindcube_questions_without_options_are_named(tmp_path, caplog):
    rows = mindcube_rows()
    rows[1]["question"], rows[2]["gt_answer"] = "What is behind me?", "F"
    write_lines(tmp_path / "MindCube.jsonl", rows)
    assert len(read_questions("mindcube", tmp_path)) == 3
    assert "around_group001_q0 has no options" in caplog.text
    assert "rotation_group002_q0" in caplog.text


# ---- MMSI-Bench


def test_mmsi(tmp_path):
    ask = "Which way do I walk?\nOptions: A: North, B: South-east, C: West, past the sofa, D: Back"
    rows = [
        {
            "id": n,
            "images": [picture(10 * n + k) for k in range(n + 1)],
            "question_type": "MSR",
            "question": ask,
            "answer": "C",
        }
        for n in range(5)
    ]
    rows.append({"id": 9, "images": None, "question_type": "MSR", "question": ask, "answer": "C"})
    write_parquet(tmp_path / "MMSI_Bench.parquet", rows, row_group_size=2)
    questions = read_questions("mmsi", tmp_path)
    assert questions[0].question == "Which way do I walk?"
    assert questions[0].options == ("A. North", "B. South-east", "C. West, past the sofa", "D. Back")
    assert questions[0].truth == "C"
    assert [len(question.pictures) for question in questions] == [1, 2, 3, 4, 5, 0]
    for number in range(5):
        for place, stored in enumerate(questions[number].pictures):
            assert np.array_equal(read_picture(stored), video_frames(10 * number + place, 1)[0])
    with pytest.raises(ValueError, match="row 1 has no picture 7"):
        StoredPicture(tmp_path / "MMSI_Bench.parquet", "images", 1, 7).data()


# ---- ViewSpatial-Bench


@pytest.mark.parametrize(("folder", "images"), [("", ""), ("eval", "ViewSpatial-Bench")])
def test_viewspatial(tmp_path, folder, images):
    name = "scannetv2_val/scene0011_00/original_images/280.jpg"
    row = {
        "question_type": "Camera perspective - Relative Direction",
        "image_path": [f"ViewSpatial-Bench/{name}"],
        "question": "Where is the counter?",
        "answer": "D. back-left",
        "choices": "A. right\nB. front-up\nC. above\nD. back-left",
    }
    path = tmp_path / folder / "ViewSpatial-Bench.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([row, row]))
    write_picture(tmp_path / images / name, 4)
    questions = read_questions("viewspatial", tmp_path)
    assert [question.id for question in questions] == ["0", "1"]
    assert questions[0].options == ("A. right", "B. front-up", "C. above", "D. back-left")
    assert questions[0].truth == "D"
    assert np.array_equal(read_picture(questions[0].pictures[0]), video_frames(4, 1)[0])


# ---- SITE-Bench and DSR-Bench, in the leaderboard's tables


def test_site(tmp_path):
    image = {
        "index": 3,
        "image_path": "['images/a.png', 'images/b.png']",
        "question": "Which of <image> and <image> is nearer?",
        "options": "['the first', 'the second', \"<image>'s\"]",
        "answer": "B",
        "category": "counting & existence",
    }
    video = {
        "index": 3,
        "video_path": "videos/v.mp4",
        "question": "What moves?",
        "candidates": "['cat', 'dog']",
        "answer": "A",
        "category": "movement prediction & navigation",
    }
    write_tsv(tmp_path / "SiteBenchImage.tsv", [image])
    write_tsv(tmp_path / "SiteBenchVideo.tsv", [video])
    one, other = read_questions("site", tmp_path)
    assert (one.id, other.id) == ("image-3", "video-3")
    assert one.question == "Which of image 1 and image 2 is nearer?"
    assert one.options == ("A. the first", "B. the second", "C. image 3's")
    assert one.pictures == (tmp_path / "images/a.png", tmp_path / "images/b.png")
    assert (other.video, other.options) == (tmp_path / "videos/v.mp4", ("A. cat", "B. dog"))
    (tmp_path / "SiteBenchVideo.tsv").unlink()
    assert len(read_questions("site", tmp_path)) == 1


def test_dsr(tmp_path):
    row = {
        "index": 7,
        "video": "v/1.mp4",
        "question": "How fast?",
        "options": json.dumps(["A. slow", "B. fast"]),
        "answer": "B",
        "task_type": "abs_spd",
    }
    write_tsv(tmp_path / "DSRBench.tsv", [row])
    assert read_questions("dsr", tmp_path)[0].video == tmp_path / "v/1.mp4"
    write_video(tmp_path / "dsr-bench/v/1.mp4", 0)
    question = read_questions("dsr", tmp_path)[0]
    assert question.video == tmp_path / "dsr-bench/v/1.mp4"
    assert (question.id, question.question_type, question.truth) == ("7", "abs_spd", "B")
    assert question.options == ("A. slow", "B. fast")


# ---- names and texts


def test_unknown_benchmark_and_missing_folder(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"unknown benchmark 'mindcub': expected one of .*did you mean 'mindcube'"):
        read_questions("mindcub")
    with pytest.raises(FileNotFoundError, match=r"is no folder; give --root, a copy of .*RunsenXu/MMSI-Bench"):
        read_questions("mmsi", tmp_path / "nowhere")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert cache_folder() == tmp_path / "hf"
    write_vsi(tmp_path / "hf/vsibench", scenes=1)
    assert len(read_questions("vsi")) == len(VSI_ROWS)


def test_every_benchmark_says_where_it_comes_from():
    assert all(benchmark.source and benchmark.folder for benchmark in BENCHMARKS.values())


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("Where? A. left B. right", "Where?", ["left", "right"]),
        ("Where?\nOptions:\nA. left\nB. right", "Where?", ["left", "right"]),
        ("Where? A) left, B) right;", "Where?", ["left", "right"]),
        ("Is it A. here", "Is it A. here", []),
        ("Where?", "Where?", []),
        ("USA. or not? A: yes, B: no", "USA. or not?", ["yes", "no"]),
    ],
)
def test_options_inside_a_question(text, question, options):
    assert split_options(text) == (question, options)


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("C", "C"), ("(c)", "C"), ("C. left", "C"), ("C: left", "C"), ("left", ""), ("", ""), (3, "")],
)
def test_letters_of_answers(answer, letter):
    assert letter_of(answer) == letter


def test_option_texts():
    assert lettered(["(A) left", "B. right", "C. A. Milne", "back"]) == (
        "A. left",
        "B. right",
        "C. A. Milne",
        "D. back",
    )
    assert option_list('["a", 2]') == ["a", "2"]
    with pytest.raises(ValueError, match="options must be a list of texts, got None"):
        option_list("left or right")
    with pytest.raises(ValueError, match="at most 26 options"):
        lettered(["x"] * 27)


def test_json_tables(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="must hold a JSON list of questions, got dict"):
        list(read_rows(path))
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"rows\.json\[0\] must be a JSON object"):
        list(read_rows(path))
