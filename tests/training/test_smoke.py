"""The whole way from flats to a table of scores, at its smallest, as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "training.smoke", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


def test_from_flats_to_scores(tmp_path):
    out = tmp_path / "smoke"
    done = run("--out", str(out), "--flats", "1", "--frames", "6", "--steps", "1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "smoke: all steps in" in done.stdout
    assert (out / "train/questions.jsonl").stat().st_size > 1000
    assert (out / "run/model/vlm3r.json").is_file()
    assert "without camera and geometry tokens" in done.stdout
    for variant in ("full", "without-camera", "without-geometry", "without-both"):
        assert json.loads((out / "scores" / variant / "results.json").read_text())


def test_a_step_that_fails_is_named(tmp_path):
    (tmp_path / "smoke").write_text("in the way")
    done = run("--out", str(tmp_path / "smoke"), "--flats", "1")
    assert done.returncode == 1
    assert "smoke: questions about train flats failed" in done.stderr
