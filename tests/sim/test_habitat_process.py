"""Habitat's server as a process: starting it or saying why not, its death, its silence, and what it leaves behind.

The server, sockets and client are the real ones; the backend answers with recordings (see habitat_replay.py).
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zmq
from worlds import from_habitat

from sim.camera import CameraSettings, camera_pose
from sim.env import Move
from sim.episode import Episode
from sim.habitat_client import (
    PYTHON_VARIABLE,
    HabitatClient,
    ServerDied,
    ServerSettings,
    find_interpreter,
)
from sim.habitat_env import HabitatEnv
from sim.habitat_server import MAX_REQUEST_BYTES, PROTOCOL, pack, unpack
from sim.mesh_env import WorldSettings

REPLAY = Path(__file__).with_name("habitat_replay.py")
LENS = CameraSettings(256, 256)
QUICK = ServerSettings(start_s=30, load_s=30, call_s=1)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended but was not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_soon(pid: int) -> bool:
    end = time.monotonic() + 10
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


def start(apartment_dir, server: ServerSettings = QUICK) -> HabitatEnv:
    return HabitatEnv.start(
        apartment_dir / "apartment.glb", WorldSettings(LENS), python=sys.executable, program=REPLAY, server=server
    )


@pytest.fixture
def env(apartment_dir):
    env = start(apartment_dir)
    yield env
    env.close()


@pytest.fixture
def walk(apartment_dir) -> dict:
    """The first recorded walk: its start as an episode, its actions and positions."""
    walk = json.loads((apartment_dir / "trajectories.json").read_text())["random_walks"][0]
    names = {"move_forward": Move.FORWARD, "turn_left": Move.TURN_LEFT, "turn_right": Move.TURN_RIGHT}
    wxyz = walk["start_rotation"]["wxyz"]
    pose = camera_pose(from_habitat(walk["start_position"]), 2 * np.arctan2(wxyz[2], wxyz[0]) + np.pi / 2, LENS)
    return {
        "episode": Episode("e", "find", "apartment", 0, pose),
        "actions": [names[step["action"]] for step in walk["steps"]],
        "positions": np.array([from_habitat(step["position"]) for step in walk["steps"]]),
    }


def test_killed_server_is_replaced_once_and_the_walk_goes_on(env, walk, caplog):
    first = env.client.pid
    env.reset(walk["episode"])
    positions = []
    for number, action in enumerate(walk["actions"]):
        if number == 30:
            os.kill(first, signal.SIGKILL)
        positions.append(env.step(action).position_m)
    np.testing.assert_allclose(positions, walk["positions"], atol=1e-5)
    assert env.client.pid != first
    assert "Starting it once more" in caplog.text
    os.kill(env.client.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"status -9 while asked for path(.|\n)*started again once already"):
        env.shortest_path(np.zeros(3), np.ones(3))
    with pytest.raises(RuntimeError, match="started again once already"):
        env.is_navigable(np.zeros(3))


def test_a_refusal_is_an_error_and_the_server_lives_on(env, walk):
    pid = env.client.pid
    with pytest.raises(RuntimeError, match="LookupError: no path was recorded"):
        env.shortest_path(np.array([100.0, 0, 0]), np.zeros(3))
    env.reset(walk["episode"])
    assert env.client.pid == pid


def test_silence_is_a_time_out(apartment_dir, walk, monkeypatch):
    monkeypatch.setenv("HABITAT_REPLAY_FAULT", "sleep on a path")
    env = start(apartment_dir)
    first = env.client.pid
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="did not answer path within 1 s"):
        env.shortest_path(np.zeros(3), np.ones(3))
    assert time.monotonic() - started < 10
    assert gone_soon(first)
    env.reset(walk["episode"])  # by the second server
    assert env.client.pid != first
    with pytest.raises(TimeoutError):
        env.shortest_path(np.zeros(3), np.ones(3))
    with pytest.raises(RuntimeError, match="started again once already"):
        env.reset(walk["episode"])
    env.close()


def test_slow_start_is_a_time_out(monkeypatch):
    monkeypatch.setenv("HABITAT_REPLAY_FAULT", "start slowly")
    with pytest.raises(TimeoutError, match=r"did not answer hello within 0\.5 s"):
        HabitatClient(sys.executable, ServerSettings(start_s=0.5), REPLAY)


def test_another_version_is_named(monkeypatch):
    monkeypatch.setenv("HABITAT_REPLAY_FAULT", "another version")
    with pytest.raises(
        RuntimeError, match=rf"speaks version {PROTOCOL + 1} of the protocol, this side {PROTOCOL}; use"
    ):
        HabitatClient(sys.executable, QUICK, REPLAY)


def test_pickled_replies_are_refused(monkeypatch):
    monkeypatch.setenv("HABITAT_REPLAY_FAULT", "pickled replies")
    with pytest.raises(RuntimeError, match=r"no proper reply to hello.*not a msgpack message"):
        HabitatClient(sys.executable, QUICK, REPLAY)


def test_death_while_loading_shows_its_last_words(apartment_dir, monkeypatch):
    monkeypatch.setenv("HABITAT_REPLAY_FAULT", "die while loading")
    with pytest.raises(
        ServerDied, match=r"status 1 while asked for load\n.*last words:\n  could not find a CUDA device"
    ):
        start(apartment_dir)


def test_missing_module_says_what_to_install(monkeypatch):
    monkeypatch.setenv("HABITAT_REPLAY_FAULT", "lack habitat_sim")
    with pytest.raises(ServerDied, match=r"has no habitat_sim_that_nobody_has; run .* -m pip install habitat_sim_that"):
        HabitatClient(sys.executable, QUICK, REPLAY)


def test_interpreter_without_habitat_is_told_so(tmp_path):
    """The real server in a Python that has messages but no Habitat, and in one that has nothing."""
    if subprocess.run([sys.executable, "-c", "import habitat_sim"], capture_output=True).returncode == 0:
        pytest.skip("this Python has habitat_sim")
    with pytest.raises(
        ServerDied, match=r"has no habitat_sim; docs/habitat\.md says how to install it, or name another"
    ):
        HabitatClient(sys.executable, QUICK)
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(ServerDied, match=r"has no msgpack; run .*python -m pip install msgpack, or name another"):
        HabitatClient(str(bare), QUICK)


def test_interpreter_is_found_or_named(monkeypatch):
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    assert find_interpreter() == sys.executable
    monkeypatch.setenv(PYTHON_VARIABLE, "/no/such/python")
    with pytest.raises(FileNotFoundError, match=r"'/no/such/python'; give the one habitat_sim is installed in"):
        find_interpreter()
    assert find_interpreter(sys.executable) == sys.executable


def test_nothing_is_left_behind(apartment_dir):
    before = sorted(path.name for path in apartment_dir.iterdir())
    env = start(apartment_dir)
    pid, folder = env.client.pid, env.client.folder
    assert alive(pid)
    # for nobody else's eyes
    assert folder.stat().st_mode & 0o077 == 0
    env.close()
    env.close()
    assert not alive(pid)
    assert not folder.exists()
    assert sorted(path.name for path in apartment_dir.iterdir()) == before
    with pytest.raises(RuntimeError, match="was closed"):
        env.is_navigable(np.zeros(3))
    env = start(apartment_dir)
    pid, folder = env.client.pid, env.client.folder
    del env
    gc.collect()
    assert gone_soon(pid)
    assert not folder.exists()


def test_server_ends_with_its_parent(tmp_path):
    """Also when that is killed and can clean nothing up."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom sim.habitat_client import HabitatClient\n"
        f"client = HabitatClient(sys.executable, None, Path({str(REPLAY)!r}))\n"
        "print(client.pid, flush=True)\ntime.sleep(60)"
    )
    root = REPLAY.parents[2]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root, env=environment
    )
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert gone_soon(pid)


def test_strange_messages_on_the_socket(env):
    """Anybody's bytes get an error reply, and the server goes on."""
    strange = [
        b"",
        b"hello",
        pickle.dumps({"id": 1, "call": "hello", "args": {}}),
        pack({"id": 1, "call": "unknown", "args": {}}),
        b"\x00" * (MAX_REQUEST_BYTES + 1),
        [b"two", b"parts"],
    ]
    with zmq.Context() as context:
        with context.socket(zmq.REQ) as door:
            door.setsockopt(zmq.LINGER, 0)
            door.connect(f"ipc://{env.client.folder}/socket0")
            for message in strange:
                door.send_multipart(message if isinstance(message, list) else [message])
                assert door.poll(5000)
                reply = unpack(door.recv())
                assert (reply["ok"], reply["error"]["kind"]) == (False, "bad_request")
        # zmq itself drops who sends far too much
        with context.socket(zmq.REQ) as door:
            door.setsockopt(zmq.LINGER, 0)
            door.connect(f"ipc://{env.client.folder}/socket0")
            door.send(b"\x00" * (17 * MAX_REQUEST_BYTES))
            assert not door.poll(300)
    assert env.client.call("objects")["objects"]
    with pytest.raises(ValueError, match="a request has at most"):
        env.client.call("snap", points=np.zeros((100_000, 3)))


def test_scene_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no mesh file"):
        HabitatEnv.start(tmp_path / "a.glb", program=REPLAY)
    with pytest.raises(ValueError, match="kind of mesh file"):
        HabitatEnv.start(tmp_path / "a.txt", program=REPLAY)
