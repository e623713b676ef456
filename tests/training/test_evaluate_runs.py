"""Runs as folders: resumed, refused, sharded over processes, merged, ablated, with videos that are broken."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_copies import VSI_ROWS, write_question_set, write_video, write_vsi

from training import evaluate
from training.benchmarks.catalogue import read_questions
from training.evaluation.frames import View, read_view
from training.evaluation.merge import compare, merge
from training.evaluation.records import RecordFile
from training.evaluation.report import read_results, write_results
from training.evaluation.rooms import write_summary
from training.evaluation.run import ask_all
from training.evaluation.said import Said
from training.evaluation.settings import EvalSettings, fingerprint
from training.evaluation.variants import Job
from training.evaluation.variants import evaluate as evaluate_variants
from vlm3r_core import bundled
from vlm3r_core.bundled import BLIND, BUNDLED

ROOT = Path(__file__).resolve().parents[2]
PER_SCENE = len(VSI_ROWS)
TABLES = ("results.json", "table.md", "report.html", "answers.jsonl")


class Parrot:
    """Says the letter or number that the frames spell: different for every video, the same every time."""

    def __init__(self, fail_at: int = -1):
        self.views: list[int] = []
        self.fail_at = fail_at

    def __call__(self, view: View, questions):
        seen = int(sum(int(image.astype(int).sum()) for image in view.images))
        self.views.append(seen)
        if len(self.views) == self.fail_at:
            raise RuntimeError("the power went out")
        for place, question in enumerate(questions):
            number = (seen + place) % 4
            letters = tuple(0.5 if n == number else 0.25 for n in range(len(question.options)))
            yield Said(
                "ABCD"[number] if question.is_choice else str(number + 1), letters=letters, fluency=0.5, tokens=1
            )


@pytest.fixture
def vsi(tmp_path):
    return write_vsi(tmp_path / "vsi", scenes=4)


def settings(questions, **changes) -> EvalSettings:
    return EvalSettings(benchmark="vsi", model="parrot", frames=3, questions=fingerprint(questions), **changes)


def run(questions, folder, answers=None, **options):
    own = options.pop("settings", None) or settings(questions)
    return ask_all(questions, own, answers or Parrot(), folder, progress=False, **options)


def test_each_video_is_read_once(vsi, tmp_path):
    questions = read_questions("vsi", vsi)
    # questions of a video need not stand together
    mixed = questions[::2] + questions[1::2]
    parrot = Parrot()
    records = run(mixed, tmp_path / "run", parrot)
    assert len(parrot.views) == 4
    assert [record.id for record in records] == [question.id for question in mixed]
    assert [record.index for record in records] == list(range(len(mixed)))


def test_broken_run_goes_on_and_ends_the_same(vsi, tmp_path):
    questions = read_questions("vsi", vsi)
    whole = run(questions, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power"):
        run(questions, tmp_path / "run", Parrot(fail_at=3))
    kept = RecordFile(tmp_path / "run/answers.jsonl").read()
    assert len(kept) == 2 * PER_SCENE
    # a line that a crash cut off, and one that it left without its end
    with (tmp_path / "run/answers.jsonl").open("a") as file:
        file.write('{"index": 12, "id": "1')
    parrot = Parrot()
    resumed = run(questions, tmp_path / "run", parrot)
    assert len(parrot.views) == 2
    assert [record_facts(record) for record in resumed] == [record_facts(record) for record in whole]
    for name, records in (("run", resumed), ("whole", whole)):
        write_results(tmp_path / name, settings(questions), records)
    assert_same_tables(tmp_path / "run", tmp_path / "whole", TABLES[:3])
    parrot = Parrot()
    run(questions, tmp_path / "run", parrot)
    assert parrot.views == []


def record_facts(record):
    return replace(record, latency_ms=0.0)


def assert_same_tables(one: Path, other: Path, names=TABLES):
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_full_disk_ends_a_run_that_goes_on_later(vsi, tmp_path):
    questions = read_questions("vsi", vsi)
    whole = run(questions, tmp_path / "whole")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
    try:
        with pytest.raises(OSError, match="make room and run the same command again"):
            run(questions, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "run/answers.jsonl").stat().st_size == 8000
    parrot = Parrot()
    resumed = run(questions, tmp_path / "run", parrot)
    assert len(parrot.views) < 4
    assert [record_facts(record) for record in resumed] == [record_facts(record) for record in whole]


def test_a_line_broken_in_the_middle_is_named(vsi, tmp_path):
    questions = read_questions("vsi", vsi)
    run(questions, tmp_path / "run")
    path = tmp_path / "run/answers.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "{}\n", *lines[2:]]))
    with pytest.raises(ValueError, match=r"answers\.jsonl:2 is no record of an answer \(it lacks index, id"):
        run(questions, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 4}, "frames: 3 there, 4 here"),
        ({"parser": "robust"}, "parser: 'published' there, 'robust' here"),
        ({"model": "other"}, "model: 'parrot' there, 'other' here"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(vsi, tmp_path, change, message):
    questions = read_questions("vsi", vsi)
    run(questions, tmp_path / "run")
    with pytest.raises(ValueError, match=rf"holds a run with other settings \({message}\); give another --out"):
        run(questions, tmp_path / "run", settings=replace(settings(questions), **change))


def test_other_questions_in_the_same_folder_are_refused(vsi, tmp_path):
    questions = read_questions("vsi", vsi)
    run(questions, tmp_path / "run")
    with pytest.raises(ValueError, match=r"holds a run with other settings \(questions: "):
        run([replace(questions[0], truth="5"), *questions[1:]], tmp_path / "run")


def test_broken_videos_score_nothing_and_are_counted(vsi, tmp_path, caplog):
    questions = read_questions("vsi", vsi)
    videos = list(dict.fromkeys(question.video for question in questions))
    videos[0].unlink()
    videos[1].write_bytes(b"this is no video")
    videos[2].write_bytes(videos[2].read_bytes()[:400])
    records = run(questions, tmp_path / "run")
    result = write_results(tmp_path / "run", settings(questions), records)
    failed = [record for record in records if record.error]
    assert {record.scene for record in failed} == {question.scene for question in questions[: 3 * PER_SCENE]}
    assert all((record.score, record.prediction, record.confidence) == (0.0, None, None) for record in failed)
    assert "does not exist" in failed[0].error
    assert "cannot be read as a video" in failed[PER_SCENE].error
    summary = result["benchmarks"]["vsi"]
    assert summary["failed"] == 3 * PER_SCENE
    assert sum(summary["reasons"].values()) == 3 * PER_SCENE
    assert "18 questions were not answered and score 0" in (tmp_path / "run/table.md").read_text()
    assert "does not exist" in caplog.text
    # reliability speaks of answers only
    answered = len(questions) - len(failed)
    assert sum(part["n"] for part in summary["reliability"].values()) == answered


def test_frames_of_another_scene_and_none(vsi, tmp_path):
    questions = read_questions("vsi", vsi)
    own, other, none = Parrot(), Parrot(), Parrot()
    run(questions, tmp_path / "own", own)
    run(questions, tmp_path / "other", other, settings=settings(questions, view="other"))
    run(questions, tmp_path / "none", none, settings=settings(questions, view="none"))
    assert sorted(other.views) == sorted(own.views)
    assert all(one != two for one, two in zip(own.views, other.views, strict=True))
    assert none.views == [0] * 4
    with pytest.raises(ValueError, match="frames of another scene need questions about two scenes"):
        run(questions[:3], tmp_path / "one", settings=settings(questions[:3], view="other"))


def test_another_scene_is_not_another_video_of_the_same(vsi, tmp_path):
    """The video half the benchmark away is of the same flat here."""
    questions = read_questions("vsi", vsi)
    names = dict(zip(dict.fromkeys(question.scene for question in questions), "abab", strict=True))
    paired = [replace(question, scene=names[question.scene]) for question in questions]
    own, other = Parrot(), Parrot()
    run(paired, tmp_path / "own", own)
    run(paired, tmp_path / "other", other, settings=settings(paired, view="other"))
    scene_of = dict(zip(own.views, "abab", strict=True))
    assert [scene_of[view] for view in other.views] == list("baba")


# ---- shards


def test_shards_share_videos_out(vsi, tmp_path):
    questions = read_questions("vsi", vsi)
    parts = [run(questions, tmp_path / str(number), shard=(number, 3)) for number in range(3)]
    assert sorted(record.index for part in parts for record in part) == list(range(len(questions)))
    scenes = [{record.scene for record in part} for part in parts]
    assert [len(names) for names in scenes] == [2, 1, 1]
    merge([tmp_path / str(number) for number in range(3)], tmp_path / "merged")
    whole = run(questions, tmp_path / "whole")
    write_results(tmp_path / "whole", settings(questions), whole)
    assert_same_tables(tmp_path / "merged", tmp_path / "whole", TABLES[:3])


def test_merging_what_does_not_belong_together(vsi, tmp_path):
    questions = read_questions("vsi", vsi)
    for number in range(2):
        run(questions, tmp_path / str(number), shard=(number, 2))
    run(questions, tmp_path / "other", shard=(1, 2), settings=settings(questions, limit=7))
    first, second = tmp_path / "0", tmp_path / "1"
    with pytest.raises(ValueError, match="are shards of different runs"):
        merge([first, tmp_path / "other"], tmp_path / "merged")
    with pytest.raises(ValueError, match="12 of 24 questions have no answer yet, the first at place 6"):
        merge([first], tmp_path / "merged")
    with pytest.raises(ValueError, match="again; give each shard once"):
        merge([first, second, second], tmp_path / "merged")
    with pytest.raises(FileNotFoundError, match="give the folders that --shard wrote"):
        merge([first, tmp_path / "nowhere"], tmp_path / "merged")
    with pytest.raises(ValueError, match="holds another run; give another --out"):
        merge([first, second], first)
    with pytest.raises(ValueError, match=r"shard: \[0, 2\] there, \[1, 2\] here"):
        run(questions, first, shard=(1, 2))
    assert merge([first, second], tmp_path / "merged") == merge([second, first], tmp_path / "merged")


def command(vsi: Path, out: Path, *more: str) -> list[str]:
    fixed = ["--benchmark", "vsi", "--root", str(vsi), "--model", "tiny-random", "--frames", "1", "--out", str(out)]
    return [*fixed, "--max-new-tokens", "2", "--quiet", "--device", "cpu", *more]


def process(arguments: list[str]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", "training.evaluate", *arguments], cwd=ROOT, env=environment, **pipes)


def test_two_processes_give_the_bytes_of_one(tmp_path, capsys):
    """And a process that is killed is started again."""
    vsi = write_vsi(tmp_path / "vsi", scenes=3)
    started = [process(command(vsi, tmp_path / str(number), "--shard", f"{number}/2")) for number in range(2)]
    answers = tmp_path / "1/answers.jsonl"
    deadline = time.monotonic() + 120
    while not answers.exists() and started[1].poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    started[1].send_signal(signal.SIGKILL)
    outputs = [one.communicate(timeout=300)[0] for one in started]
    assert started[0].returncode == 0, outputs[0]
    assert "merge the shards for the tables" in outputs[0]
    assert evaluate.main(command(vsi, tmp_path / "1", "--shard", "1/2")) == 0
    assert evaluate.main(["merge", str(tmp_path / "0"), str(tmp_path / "1"), "--out", str(tmp_path / "merged")]) == 0
    capsys.readouterr()
    assert evaluate.main(command(vsi, tmp_path / "whole")) == 0
    assert "| tiny-random |" in capsys.readouterr().out
    assert_same_tables(tmp_path / "merged", tmp_path / "whole", TABLES[:3])


# ---- the command


def test_ablations_make_the_paper_s_third_table(tmp_path, capsys):
    folder = write_question_set(tmp_path / "set", scenes=2)
    arguments = ["--benchmark", str(folder), "--model", "tiny-random", "--out", str(tmp_path / "run"), "--frames", "1"]
    arguments += ["--max-new-tokens", "1", "--quiet", "--device", "cpu", "--json", str(tmp_path / "out.json")]
    assert evaluate.main([*arguments, "--ablate", "all"]) == 0
    table = capsys.readouterr().out
    names = ["", ", without camera tokens", ", without geometry tokens", ", without camera and geometry tokens"]
    places = [table.index(f"| tiny-random{name} |") for name in names]
    assert places == sorted(places)
    selections = {
        "full": "",
        "without-camera": "patch_tokens",
        "without-geometry": "camera_tokens",
        "without-both": "none",
    }
    for variant, selection in selections.items():
        assert read_results(tmp_path / "run" / variant)["settings"]["token_selection"] == selection
    confidences = [
        [record.confidence for record in RecordFile(tmp_path / "run" / variant / "answers.jsonl").read()]
        for variant in selections
    ]
    assert all(one != other for place, one in enumerate(confidences) for other in confidences[place + 1 :])
    summary = json.loads((tmp_path / "out.json").read_text())
    assert sorted(summary["ablations"]) == sorted(list(selections)[1:])


def test_the_package_s_model_is_held_against_its_blind_twin(nano_folder, tmp_path, capsys, monkeypatch):
    for name in (BUNDLED, BLIND):
        shutil.copytree(nano_folder, tmp_path / "assets" / name)
    monkeypatch.setattr(bundled, "bundled_folder", lambda name=BUNDLED: tmp_path / "assets" / name)
    folder = write_question_set(tmp_path / "set", scenes=2)
    arguments = ["--benchmark", str(folder), "--model", "tiny", "--out", str(tmp_path / "run"), "--frames", "1"]
    arguments += ["--quiet", "--device", "cpu", "--json", str(tmp_path / "out.json")]
    assert evaluate.main([*arguments, "--ablate", "camera"]) == 0
    assert "who sees nothing" in capsys.readouterr().out
    twin = read_results(tmp_path / "run" / "blind")
    assert (twin["settings"]["model"], twin["settings"]["view"]) == ("tiny-blind", "none")
    summary = json.loads((tmp_path / "out.json").read_text())
    assert summary["baselines"]["blind"]
    for benchmark, part in (("vsi", summary), ("vsti", summary["vsti_tasks"])):
        for task, score in part.get("baselines", {}).get("blind", {}).items():
            assert score == twin["benchmarks"][benchmark]["columns"][task]["score"]


def test_shards_of_ablations_merge(vsi, tmp_path):
    questions = read_questions("vsi", vsi)
    job = Job(questions, tmp_path / "whole", progress=False)
    results = evaluate_variants(job, settings(questions), lambda own: Parrot(), ["camera"])
    assert [result["settings"]["token_selection"] for result in results] == ["", "patch_tokens"]
    for number in range(2):
        share = replace(job, out=tmp_path / str(number), shard=(number, 2))
        assert evaluate_variants(share, settings(questions), lambda own: Parrot(), ["camera"]) == []
    merge([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    for folder in ("", "full", "without-camera"):
        names = TABLES[1:3] if not folder else TABLES[:3]
        assert_same_tables(tmp_path / "merged" / folder, tmp_path / "whole" / folder, names)


def test_summary_of_the_simulated_rooms(tmp_path):
    questions = read_questions(str(write_question_set(tmp_path / "set", scenes=3)))
    records = run(questions, tmp_path / "run")
    result = write_results(tmp_path / "run", settings(questions), records)
    write_summary(tmp_path / "out.json", result)
    summary = json.loads((tmp_path / "out.json").read_text())
    tasks = {"object_counting", "object_size_estimation", "room_size_estimation"}
    tasks |= {"object_rel_direction", "object_rel_distance"}
    assert set(summary["tasks"]) == tasks
    assert set(summary["tasks"]["object_counting"]) == {"score", "n", "low", "high"}
    assert set(summary["tasks"]["object_rel_direction"]) == {"score", "n", "low", "high", "balanced"}
    assert summary["tasks"]["object_rel_direction"]["n"] == 6
    assert {name: set(scores) for name, scores in summary["baselines"].items()} == dict.fromkeys(
        ("random", "frequent", "blind"), tasks
    )
    assert {"model", "random", "frequent", "blind"} <= set(summary["average"])
    mean = sum(task["score"] for task in summary["tasks"].values()) / len(tasks)
    assert summary["average"]["model"] == pytest.approx(mean)
    assert "camera_obj_abs_dist" in summary["vsti_tasks"]["tasks"]
    # a model that never saw frames may stand for the blind baseline
    own = settings(questions, view="none")
    blind = write_results(tmp_path / "blind", own, run(questions, tmp_path / "blind", settings=own))
    write_summary(tmp_path / "blind.json", result, blind=blind)
    other = json.loads((tmp_path / "blind.json").read_text())
    assert other["baselines"]["blind"] == {name: blind_score(blind, name) for name in tasks}
    assert other["average"]["blind"] == blind_score(blind, "overall")
    assert other["tasks"] == summary["tasks"]
    with pytest.raises(ValueError, match="the blind model asked other questions"):
        write_summary(tmp_path / "x.json", result, blind={"settings": {"questions": "others"}})
    assert set(summary["vsti_tasks"]["average"]) >= {"model", "blind"}


def blind_score(results: dict, name: str) -> float:
    return results["benchmarks"]["vsi"]["columns"][name]["score"]


def test_baselines_alone_need_no_model_and_no_video(vsi, tmp_path, capsys):
    for path in vsi.rglob("*.mp4"):
        path.unlink()
    out = tmp_path / "run"
    assert evaluate.main(["--benchmark", "vsi", "--root", str(vsi), "--baselines-only", "--out", str(out)]) == 0
    table = capsys.readouterr().out
    assert "| Chance (most frequent answer) | 100.0 |" in table
    assert "not answered" not in table
    results = read_results(out)["benchmarks"]["vsi"]
    assert results["columns"]["overall"]["score"] is None
    assert results["columns"]["object_rel_distance"]["random"] == pytest.approx(100 / 3)
    assert results["reliability"] is None


def test_limit_asks_the_first_questions(vsi, tmp_path, capsys):
    arguments = ["--benchmark", "vsi", "--root", str(vsi), "--out", str(tmp_path / "run")]
    assert evaluate.main([*arguments, "--baselines-only", "--limit", "7"]) == 0
    assert read_results(tmp_path / "run")["benchmarks"]["vsi"]["questions"] == 7
    assert "7 questions about 2 scenes" in capsys.readouterr().out


def test_several_models_in_one_table(vsi, tmp_path):
    questions = read_questions("vsi", vsi)
    for name in ("one", "two"):
        own = replace(settings(questions), model=name)
        write_results(tmp_path / name, own, run(questions, tmp_path / name, settings=own))
    table = compare([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert table.index("| one |") < table.index("| two |")
    assert (tmp_path / "both/report.html").is_file()
    own = replace(settings(questions), questions="others")
    write_results(tmp_path / "three", own, run(questions, tmp_path / "three", settings=own))
    with pytest.raises(ValueError, match="asked different questions"):
        compare([tmp_path / "one", tmp_path / "three"], tmp_path / "all")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "vsy", "--model", "tiny-random"], "unknown benchmark 'vsy'"),
        (["--benchmark", "vsi", "--root", "VSI"], "give either --model SPEC or --endpoint URL"),
        (["--benchmark", "vsi", "--root", "VSI", "--endpoint", "http://x/v1"], "needs both --endpoint URL and"),
        (["--benchmark", "vsi", "--root", "VSI", "--model", "tiny-rando"], "did you mean 'tiny-random'"),
        (
            ["--benchmark", "vsi", "--root", "VSI", "--model", "tiny-random", "--shard", "2/2"],
            "expected i/n with 0 <= i",
        ),
        (
            ["--benchmark", "vsi", "--root", "VSI", "--model", "tiny-random", "--frames", "0"],
            "frames must be in 1..1024",
        ),
        (["--benchmark", "vsi", "--root", "/nowhere", "--model", "tiny-random"], "is no folder; give --root"),
        (["merge", "/nowhere", "--out", "/nowhere/out"], "give the folders that --shard wrote"),
        (["table", "/nowhere", "--out", "/nowhere/out"], "finish the run first"),
    ],
)
def test_what_cannot_be_done_is_said(vsi, tmp_path, capsys, arguments, message):
    arguments = [str(vsi) if part == "VSI" else part for part in arguments]
    if arguments[0].startswith("--"):
        arguments += ["--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_damaged_video_is_asked_with_what_is_left(tmp_path):
    question = read_questions("vsi", write_vsi(tmp_path, scenes=1))[0]
    path = write_video(question.video, 3, count=40)
    data = path.read_bytes()
    assert len(read_view(question, 32).images) == 32
    # damage in the pictures' data, the table behind it stays whole
    path.write_bytes(data[:1000] + bytes(300) + data[1300:])
    assert 1 <= len(read_view(question, 32).images) <= 32
