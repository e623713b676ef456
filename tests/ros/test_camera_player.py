"""camera_player, as a process of its own, plays clips as a camera would."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image as Picture
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from vlm3r_ros.convert import image_to_rgb, to_ns
from vlm3r_ros.interfaces import SpatialState

PATIENCE_S = 60.0


class Viewer:
    """Collects what a player publishes on /test/image_raw; can play the part of the node that reports its state."""

    def __init__(self, kind=Image, topic="/test/image_raw", reliability=ReliabilityPolicy.RELIABLE):
        self.images, self.times_s = [], []
        self.node = Node("viewer")
        self.node.create_subscription(kind, topic, self._on_image, QoSProfile(depth=50, reliability=reliability))
        self.states = self.node.create_publisher(SpatialState, "/test/state", 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def _on_image(self, image):
        self.images.append(image)
        self.times_s.append(time.monotonic())

    def report(self, frames_seen, state="ready", **fields):
        self.states.publish(SpatialState(state=state, frames_seen=frames_seen, session_id="a", **fields))

    def until(self, condition, patience_s=PATIENCE_S):
        deadline = time.monotonic() + patience_s
        while not condition() and time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.02)
        return condition()

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def viewer(ros):
    viewers = []

    def make(**options):
        viewers.append(Viewer(**options))
        return viewers[-1]

    yield make
    for each in viewers:
        each.close()


@pytest.fixture
def play():
    """Starts a player: play(clip=..., rate_hz=...) -> Popen whose stderr is its log."""
    players = []

    def start(**parameters):
        settings = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
        command = [sys.executable, "-m", "vlm3r_ros.camera_player", "--ros-args", "-r", "__ns:=/test", *settings]
        players.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return players[-1]

    yield start
    for each in players:
        each.kill()
        each.communicate()


@pytest.fixture
def walk(tmp_path):
    """Four flat images, 10, 20, 30 and 40 bright."""
    for index in range(4):
        Picture.fromarray(np.full((24, 32, 3), 10 * (index + 1), np.uint8)).save(tmp_path / f"{index}.png")
    return tmp_path


def brightness(images):
    return [int(image_to_rgb(image).mean().round()) for image in images]


def ended(player):
    """Exit code and log."""
    log, _ = player.communicate(timeout=PATIENCE_S)
    return player.returncode, log


def test_plays_every_frame_in_order_and_ends(viewer, play, walk):
    one = viewer()
    player = play(clip=walk, rate_hz=50.0)
    assert one.until(lambda: len(one.images) == 4)
    code, log = ended(player)
    assert code == 0
    assert "played 4 of 4 frames" in log
    assert brightness(one.images) == [10, 20, 30, 40]
    first = one.images[0]
    assert (first.encoding, first.width, first.height, first.step) == ("rgb8", 32, 24, 96)
    assert first.header.frame_id == "camera_optical_frame"
    stamps = [to_ns(image.header.stamp) for image in one.images]
    assert stamps == sorted(set(stamps))
    assert abs(stamps[-1] / 1e9 - time.time()) < PATIENCE_S


def test_waits_for_a_subscriber(viewer, play, walk):
    player = play(clip=walk, rate_hz=50.0)
    with pytest.raises(subprocess.TimeoutExpired):
        player.wait(timeout=2)
    one = viewer()
    assert one.until(lambda: len(one.images) == 4)
    assert ended(player)[0] == 0


def test_clip_timing_and_stamps(viewer, play, walk):
    one = viewer()
    play(clip=walk, fps=5.0, stamp="clip", frame_id="left_eye")
    assert one.until(lambda: len(one.images) == 4)
    # a stamp of 0 would mean "no stamp"
    assert [to_ns(image.header.stamp) for image in one.images] == [1, 200_000_000, 400_000_000, 600_000_000]
    assert {image.header.frame_id for image in one.images} == {"left_eye"}
    # three intervals of 0.2 s; a frame may be received late, never early
    assert one.times_s[-1] - one.times_s[0] > 0.5


def test_sampled_and_compressed(viewer, play, walk):
    one = viewer(kind=CompressedImage, topic="/test/image_raw/compressed", reliability=ReliabilityPolicy.BEST_EFFORT)
    player = play(clip=walk, rate_hz=20.0, compressed=True, max_frames=2, reliability="best_effort")
    assert one.until(lambda: len(one.images) == 2)
    assert ended(player)[0] == 0
    assert {image.format for image in one.images} == {"jpeg"}
    # JPEG keeps flat images within a few levels
    assert brightness(one.images) == pytest.approx([10, 40], abs=2)


def test_loops_until_interrupted(viewer, play, walk):
    one = viewer()
    player = play(clip=walk, rate_hz=100.0, loop=True)
    assert one.until(lambda: len(one.images) >= 9)
    player.send_signal(signal.SIGINT)
    assert ended(player)[0] == 0
    assert brightness(one.images)[:9] == [10, 20, 30, 40, 10, 20, 30, 40, 10]


def test_next_frame_waits_until_the_one_before_was_processed(viewer, play, walk):
    one = viewer()
    player = play(clip=walk, rate_hz=1000.0, wait_for_state="/test/state")
    assert one.until(lambda: one.states.get_subscription_count() == 1)
    one.report(0, state="loading")
    assert not one.until(lambda: one.images, 2)
    one.report(0)
    for seen in range(1, 5):
        assert one.until(lambda seen=seen: len(one.images) == seen)
        # the same state again says nothing new
        one.report(seen - 1)
        assert not one.until(lambda seen=seen: len(one.images) > seen, 0.3)
        one.report(seen)
    assert ended(player)[0] == 0


def test_frame_that_is_never_processed_is_an_error(viewer, play, walk):
    one = viewer()
    player = play(clip=walk, wait_for_state="/test/state", state_timeout_s=1.0)
    assert one.until(lambda: one.states.get_subscription_count() == 1)
    one.report(0)
    assert one.until(lambda: player.poll() is not None)
    code, log = ended(player)
    assert code == 1
    assert "frame 1 was not reported as processed on /test/state within 1 s" in log


def test_failed_model_ends_the_player(viewer, play, walk):
    one = viewer()
    player = play(clip=walk, wait_for_state="/test/state")
    assert one.until(lambda: one.states.get_subscription_count() == 1)
    one.report(0, state="failed", error="out of memory")
    assert one.until(lambda: player.poll() is not None)
    code, log = ended(player)
    assert code == 1
    assert "the model is failed: out of memory" in log


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({}, "parameter clip must name a video"),
        ({"clip": "/does/not/exist"}, "clip /does/not/exist does not exist"),
        ({"clip": "{walk}", "stamp": "yesterday"}, "PlayerConfig.stamp must be one of now, clip, got 'yesterday'"),
        ({"clip": "{walk}", "rate_hz": -1.0}, "rate_hz"),
        ({"clip": "{walk}", "rate_hz": 5}, "with a decimal point"),
    ],
)
def test_bad_parameters_end_the_player_with_the_reason(play, walk, parameters, reason):
    filled = {key: value.format(walk=walk) if isinstance(value, str) else value for key, value in parameters.items()}
    code, log = ended(play(**filled))
    assert code == 1
    assert reason in log
    assert "Traceback" not in log
