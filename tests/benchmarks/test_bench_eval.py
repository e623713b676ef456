"""The evaluation's benchmark runs and counts what it says it counts."""

from __future__ import annotations

import json

from benchmarks import bench_eval, eval_steps


def test_short_run_writes_its_numbers(tmp_path, capsys):
    out = tmp_path / "deep" / "result.json"
    short = ["--counts", "2", "--frames", "1", "--tokens", "2", "--repeats", "1", "--device", "cpu"]
    assert bench_eval.main([*short, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert [row["count"] for row in result["rows"]] == [2]
    assert all(value > 0 for row in result["rows"] for value in row.values())
    for row in result["rows"]:
        # what must be computed for every question anew is never less
        assert row["together_floor_per_s"] >= row["one_by_one_floor_per_s"] > row["from_frames_floor_per_s"]
    printed = capsys.readouterr().out
    assert "| questions a video" in printed


def test_target_is_told_where_it_was_measured():
    row = {
        f"{way}{kind}_per_s": speed
        for way, speed in zip(eval_steps.WAYS, (9.0, 3.0, 1.0), strict=True)
        for kind in ("", "_floor")
    }
    machine = {"cpu": "c", "cpu_cores": 1, "ram_gib": 1, "threads": 1, "python": "3", "torch": "2", "peak_gflops": 1.0}
    machine |= {"load_average_before": 0, "load_average_after": 0}
    facts = {"model": "m", "dtype": "d", "device": "cpu", "frames": 1, "visual_tokens": 1, "answer_tokens": 1}
    told = eval_steps.markdown(facts | {"machine": machine, "rows": [row | {"count": 18}]})
    assert told.endswith("together / from frames at 18: 9.0, wanted 8: met")


def test_questions_differ():
    prompts = {question.prompt for question in eval_steps._questions(18)}
    assert len(prompts) == 18
