"""The node as a real process: a stranger's program uses it, signals end it, bad surroundings are explained."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

NODE = [sys.executable, "-m", "vlm3r_ros.spatial_qa_node", "--ros-args", "-r", "__ns:=/vlm3r"]
CLIENT = Path(__file__).with_name("client_process.py")
PATIENCE_S = 500


@pytest.fixture
def start(tmp_path):
    """start(*ros_arguments) -> (process, log file); whatever still runs at the end is killed."""
    running = []

    def run(*arguments):
        log = tmp_path / f"node{len(running)}.log"
        with log.open("wb") as file:
            running.append(subprocess.Popen([*NODE, *arguments], stdout=file, stderr=subprocess.STDOUT))
        return running[-1], log

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for(log: Path, word: str, process) -> None:
    while word not in log.read_text():
        if process.poll() is not None:
            pytest.fail(f"the node ended with {process.returncode}:\n{log.read_text()}")
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue


def test_a_stranger_gets_what_the_interfaces_promise(start, tmp_path):
    # random weights: what is said means nothing, and goes on for as long as it may
    unhurried = ("-p", "answer_timeout_s:=600.0", "-p", "max_frame_age_s:=600.0")
    node, log = start("-p", "model:=tiny-random", *unhurried)
    client = subprocess.run(
        [sys.executable, str(CLIENT), "/vlm3r", str(tmp_path / "stream.state")],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert client.returncode == 0, f"{client.stdout}\n{client.stderr}\nnode:\n{log.read_text()}"
    assert node.poll() is None
    node.send_signal(signal.SIGINT)
    assert node.wait(PATIENCE_S) == 0, log.read_text()


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT] * 20], ids=["sigterm", "ctrl-c-again-and-again"])
def test_signals_while_the_model_loads_end_the_node_cleanly(start, signals):
    node, log = start()
    wait_for(log, "configured", node)
    for number in signals:
        node.send_signal(number)
    assert node.wait(PATIENCE_S) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def test_without_autostart_the_node_waits_unconfigured(start):
    node, log = start("-p", "autostart:=false", "-p", "model:=no-such-model")
    wait_for(log, "waiting for a lifecycle manager", node)
    node.send_signal(signal.SIGINT)
    assert node.wait(PATIENCE_S) == 0


def test_a_failed_model_ends_the_process_if_asked_to(start):
    node, log = start("-p", "exit_on_failure:=true", "-p", "max_frames:=1024", "-p", "max_pool_frames:=1024")
    assert node.wait(PATIENCE_S) == 1
    assert "lower max_frames" in log.read_text()


def test_missing_interfaces_are_explained():
    code = "import sys; sys.modules['vlm3r_interfaces'] = None; from vlm3r_ros.spatial_qa_node import main"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 1
    assert "colcon build --packages-select vlm3r_interfaces" in done.stderr


def test_the_client_knows_nothing_of_our_code():
    source = CLIENT.read_text()
    assert "vlm3r_ros" not in source
    assert "vlm3r_core" not in source
