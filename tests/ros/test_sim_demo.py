"""`python -m vlm3r_ros.demo_sim` with real processes: a flat is walked through, answers stand beside what is true."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("embreex", reason="the simulator (extra `sim`) is not installed")

from sim_world import write_room

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
    code, output = demo("--walk-frames", 8)
    assert code == 0, output
    # the walk and a full turn by commands
    assert "frames seen: 20," in output
    rows = [line for line in output.splitlines() if line.count(" | ") == 4]
    truths = [line.split(" | ")[2].strip() for line in rows]
    assert truths[0] == "truth"
    assert any(truth.endswith(" m") for truth in truths)
    assert any(truth.endswith(" cm") for truth in truths)
    assert any(truth.endswith(" m^2") for truth in truths)
    assert any(truth in ("Turn Left", "Turn Right", "Turn Back") for truth in truths)
    assert "Go forward until" in " ".join(output.split())
    assert "truth: of flat-000007" in output
    assert not list((tmp_path / "tmp").glob("vlm3r_demo_*"))


def test_a_world_of_one_s_own_without_routes(demo, tmp_path):
    code, output = demo("--walk-frames", 6, "--world", write_room(tmp_path))
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
