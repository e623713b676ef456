"""`python -m vlm3r_ros.demo` with real processes: answers come, failures are named, nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from vlm3r_ros.demo import QUESTIONS, warn_elsewhere
from vlm3r_ros.demo_room import camera_walk, render, write_walk

PATIENCE_S = 240.0


def children(pid: int) -> dict[int, str]:
    """Running processes started by pid, with their command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (entry / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(parent) == pid and state != "Z":
            found[int(entry.name)] = command
    return found


def are_gone(pids) -> bool:
    stats = [Path(f"/proc/{pid}/stat") for pid in pids]
    return all(not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z" for stat in stats)


@pytest.fixture
def demo(tmp_path):
    """Starts a demo whose temporary files go to tmp_path/tmp: demo("--clip", PATH) -> Popen."""
    started = []
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    def start(*arguments):
        if "--model" not in arguments:
            # the default is the package's model where it has one
            arguments = (*arguments, "--model", "tiny-random")
        command = [sys.executable, "-m", "vlm3r_ros.demo", *map(str, arguments)]
        env = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "2"}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=env))
        return started[-1]

    yield start
    for each in started:
        each.terminate()
        each.communicate()


@pytest.fixture
def long_clip(tmp_path):
    """A clip that takes the node long enough to be interrupted."""
    folder = tmp_path / "long"
    folder.mkdir()
    for index in range(1000):
        Picture.new("RGB", (8, 8), (index % 256, 0, 0)).save(folder / f"{index}.png")
    return folder


def ended(process):
    """Exit code and output."""
    output, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, output


def wait_for_child(process, name: str) -> dict[int, str]:
    """The children of a demo once one of them is the named module."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        running = children(process.pid)
        if any(name in command for command in running.values()):
            return running
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"{name} never started")


def test_generated_room_is_seen_whole_and_every_answer_comes(demo, tmp_path):
    code, output = ended(demo("--room-frames", 6))
    assert code == 0, output
    assert "frames seen: 6," in output
    rows = [line for line in output.splitlines() if line.count(" | ") == 4]
    answered = [line for line in rows if "6 of 6" in line]
    # six questions, one action, one route
    assert len(answered) == len(QUESTIONS) + 2
    assert "Go forward until" in " ".join(output.split())
    assert "weights of tiny-random are random: these answers mean nothing" in output
    assert not list((tmp_path / "tmp").glob("vlm3r_demo_*"))


def test_long_clip_is_sampled_with_a_notice(demo, tmp_path):
    clip = write_walk(tmp_path / "walk", 6)
    (clip / "frame_00002.jpg").write_bytes(b"broken")
    code, output = ended(demo("--clip", clip, "--max-clip-frames", 3))
    assert code == 0, output
    assert "the clip has 6 frames, 3 of them are played" in output
    # frames 0, 2 and 5 are chosen, and 2 cannot be read
    assert "1 of 3 frames of the clip could not be read" in output
    assert "frames seen: 2," in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_half_way_leaves_no_process(demo, long_clip, tmp_path, number):
    process = demo("--clip", long_clip, "--max-clip-frames", 1000)
    running = wait_for_child(process, "vlm3r_ros.camera_player")
    assert any("vlm3r_ros.spatial_qa_node" in command for command in running.values())
    process.send_signal(number)
    code, output = ended(process)
    assert code == 130, output
    assert "demo: interrupted" in output
    assert are_gone(running)
    assert not list((tmp_path / "tmp").glob("vlm3r_demo_*"))


def test_node_that_dies_ends_the_demo_with_its_log(demo, long_clip, tmp_path):
    process = demo("--clip", long_clip, "--max-clip-frames", 1000)
    running = wait_for_child(process, "vlm3r_ros.camera_player")
    node = next(pid for pid, command in running.items() if "vlm3r_ros.spatial_qa_node" in command)
    os.kill(node, signal.SIGKILL)
    code, output = ended(process)
    assert code == 1, output
    assert "the node ended (exit code -9)" in output
    (logs,) = (tmp_path / "tmp").glob("vlm3r_demo_*")
    assert f"logs of all processes: {logs}" in output
    assert "active" in (logs / "node.log").read_text()
    assert are_gone(running)


def test_unknown_model_is_told_at_once(demo, tmp_path):
    code, output = ended(demo("--room-frames", 2, "--model", "tyni-random"))
    assert code == 1
    assert "did you mean 'tiny-random'" in output
    assert "Traceback" not in output


def test_a_model_says_what_it_never_saw(tmp_path, capsys):
    (tmp_path / "record.json").write_text(json.dumps({"trained_on": "simulated flats"}))
    warn_elsewhere(str(tmp_path), "a real clip")
    assert "was trained on simulated flats only. It has never seen anything like a real clip" in capsys.readouterr().out
    warn_elsewhere("tiny-random", "a real clip")
    assert capsys.readouterr().out == ""


def test_clip_that_cannot_be_read(demo, tmp_path):
    code, output = ended(demo("--clip", tmp_path / "nowhere.mp4"))
    assert code == 2
    assert "nowhere.mp4 does not exist" in output
    assert "Traceback" not in output


def test_clip_without_a_readable_frame(demo, tmp_path):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "0.jpg").write_bytes(b"broken")
    code, output = ended(demo("--clip", tmp_path / "clip"))
    assert code == 1
    assert "no readable frame" in output


def test_walk_looks_around_a_textured_room():
    poses = camera_walk(8)
    views = [render(T_WC) for T_WC in poses]
    assert {view.shape for view in views} == {(240, 320, 3)}
    for T_WC, view in zip(poses, views, strict=True):
        # a rotation, up to rounding of float64
        np.testing.assert_allclose(T_WC[:3, :3].T @ T_WC[:3, :3], np.eye(3), atol=1e-12)
        assert np.linalg.det(T_WC[:3, :3]) > 0
        assert view.std() > 20
    headings = [np.arctan2(T_WC[1, 2], T_WC[0, 2]) for T_WC in poses]
    assert len({int(heading // (np.pi / 2)) for heading in headings}) == 4


def test_render_puts_furniture_where_it_stands():
    # upright camera in the middle, looking along +x: the wardrobe (small y) is on the right, the desk on the left
    T_WC = np.array([[0, 0, 1, 1.0], [-1, 0, 0, 2.1], [0, -1, 0, 1.0], [0, 0, 0, 1]])
    view = render(T_WC).astype(int)
    red, green, blue = view[120, 215:250].mean(axis=0)
    assert red > green > blue  # wardrobe, cream
    picture = view[100, 150]
    assert picture[0] > 1.5 * picture[2]  # picture on the far wall, yellow
    assert view[80:140, :120].min(axis=2).min() < 60  # monitor, nearly black
    assert view[80:140, 200:300].min(axis=2).min() >= 60
