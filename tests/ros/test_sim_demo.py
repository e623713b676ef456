"""`python -m vlm3r_ros.demo_sim` with real processes: a flat is walked through, answers stand beside what is true."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("embreex", reason="the simulator (extra `sim`) is not installed")

from sim_world import write_room
from vlm3r_ros.demo_sim import judge

from vlm3r_core.loading import load
from vlm3r_core.weights.convert import save_model

PATIENCE_S = 300.0


@pytest.fixture
def demo(tmp_path, repo_dir):
    """demo(*arguments, cwd=...) -> exit code and output; its temporary files go to tmp_path/tmp."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    def run(*arguments, cwd=repo_dir):
        command = [sys.executable, "-m", "vlm3r_ros.demo_sim", *map(str, arguments)]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env={**os.environ, "TMPDIR": str(temporary)},
            timeout=PATIENCE_S,
            check=False,
        )
        return done.returncode, done.stdout

    return run


def test_a_flat_is_walked_through_and_asked_about(demo, tmp_path):
    code, output = demo("--model", "tiny-random", "--walk-frames", 8)
    assert code == 0, output
    # the walk and a full turn by commands
    assert "frames seen: 20," in output
    rows = [line for line in output.splitlines() if line.count(" | ") == 5]
    truths = [line.split(" | ")[2].strip() for line in rows]
    assert truths[0] == "truth"
    assert any(truth.endswith(" m") for truth in truths)
    assert any(truth.endswith(" cm") for truth in truths)
    assert any(truth.endswith(" m^2") for truth in truths)
    assert any(truth in ("Turn Left", "Turn Right", "Turn Back") for truth in truths)
    assert "Go forward until" in " ".join(output.split())
    verdicts = {line.split(" | ")[3].strip().split(",")[0] for line in rows[1:]}
    assert verdicts <= {"", "right", "WRONG"}
    assert verdicts & {"right", "WRONG"}
    assert "truth: of flat-000007" in output
    assert "frames/s, median answer latency" in output
    assert "these answers mean nothing" in output
    assert not list((tmp_path / "tmp").glob("vlm3r_demo_*"))


def test_a_model_that_was_trained_to_look_around_does_just_that(demo, tmp_path):
    folder = tmp_path / "small"
    model = load("tiny-random", "cpu", "float32")
    config = replace(model.config, name="small", random_seed=None, trained_frames=4)
    save_model(model.named_parameters(), config, "tiny-random", folder, dtype="bfloat16")
    record = {"trained_on": "simulated flats", "at_chance": ["room_size_estimation", "camera_displacement"]}
    (folder / "record.json").write_text(json.dumps(record))
    code, output = demo("--model", folder)
    assert code == 0, output
    # no turns by command follow
    assert "frames seen: 4," in output
    assert "truth: of room-900000" in output
    # of the tasks that were asked
    assert output.count("at chance on unseen flats") == 1


@pytest.mark.parametrize(
    ("reply", "truth", "right", "verdict"),
    [
        (SimpleNamespace(kind="choice", text="left"), "left", True, "right"),
        (SimpleNamespace(kind="choice", text="left"), "right", False, "WRONG"),
        (SimpleNamespace(kind="number", value=2.6), "2.0 m", True, "right, 30 % off"),
        (SimpleNamespace(kind="number", value=2.7), "2.0 m", False, "WRONG, 35 % off"),
        (SimpleNamespace(kind="number", value=float("nan")), "3", False, "WRONG"),
    ],
)
def test_what_counts_as_right(reply, truth, right, verdict):
    assert judge(reply, truth) == (right, verdict)


def test_a_world_of_one_s_own_without_routes(demo, tmp_path):
    code, output = demo("--model", "tiny-random", "--walk-frames", 6, "--world", write_room(tmp_path))
    assert code == 0, output
    # what stands between the sofa (x up to 0.9 m, y up to 3 m) and the table (x from 5.5 m, y up to 1 m)
    assert "| 4.6 m " in output
    assert "Route by" not in output


def test_a_world_that_is_none_is_told_by_the_simulator(demo, tmp_path):
    code, output = demo("--world", "flat:many")
    assert code == 1
    assert "the simulator ended (exit code 1)" in output
    assert "a flat is flat:SEED" in output
    assert "Traceback" not in output


def test_outside_a_checkout_the_demo_says_where_to_start_it(demo, tmp_path):
    code, output = demo(cwd=tmp_path)
    assert code == 2
    assert "the simulator runs from a checkout" in output


def test_no_pictures_are_no_walk(demo):
    code, output = demo("--walk-frames", 0)
    assert code == 2
    assert "--walk-frames must be at least 1, got 0" in output
