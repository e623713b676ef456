"""Which stamps are believed, which frames are taken, how old a view may be. test_lifecycle.py has the subscription."""

from math import inf, nan

import pytest
from rclpy.node import Node
from vlm3r_ros.camera import Pace, camera_topic, checked_stamp
from vlm3r_ros.params import NodeConfig
from vlm3r_ros.services import oldest_view_ns

from vlm3r_core.types import StaleView

S = 10**9
NOW = 1_000 * S


@pytest.mark.parametrize(
    ("settings", "remap", "topic"),
    [
        ({}, None, "/robot/image_raw"),
        ({}, "image_raw:=/front/image", "/front/image"),
        ({"camera": "left/image"}, None, "/robot/left/image"),
        ({"camera": "/left/image"}, None, "/left/image"),
        ({"image_transport": "compressed"}, None, "/robot/image_raw/compressed"),
        ({"image_transport": "compressed"}, "image_raw:=/front/image", "/front/image/compressed"),
        ({"image_transport": "compressed", "camera": "/left/image/compressed"}, None, "/left/image/compressed"),
    ],
)
def test_the_camera_topic_follows_parameters_and_remappings(ros, settings, remap, topic):
    arguments = ["--ros-args", "-r", remap] if remap else None
    node = Node("camera_topic", namespace="/robot", cli_args=arguments)
    assert camera_topic(node, NodeConfig(**settings)) == topic
    node.destroy_node()


NOW = 1_000 * S


@pytest.mark.parametrize("stamp_ns", [1, NOW - 900 * S, NOW, NOW + 5 * S])
def test_a_sensible_stamp_is_believed(stamp_ns):
    assert checked_stamp(stamp_ns, NOW) == (stamp_ns, "")


@pytest.mark.parametrize(("stamp_ns", "word"), [(0, "unset"), (-5, "unset"), (NOW + 6 * S, "6.0 s in the future")])
def test_a_wrong_stamp_becomes_now(stamp_ns, word):
    used, complaint = checked_stamp(stamp_ns, NOW)
    assert used == NOW
    assert word in complaint


def test_before_the_first_clock_message_only_the_header_counts():
    assert checked_stamp(NOW, 0) == (NOW, "")
    with pytest.raises(ValueError, match="/clock"):
        checked_stamp(0, 0)


def taken(rate_hz: float, max_fps: float, seconds: int = 10, jitter_s: float = 0.0) -> int:
    pace = Pace()
    stamps = [int((n / rate_hz + jitter_s * (n % 2)) * S) + S for n in range(int(rate_hz * seconds))]
    return sum(pace.takes(stamp, max_fps) for stamp in stamps)


@pytest.mark.parametrize(
    ("rate_hz", "max_fps", "expected"), [(30, 0, 300), (30, 10, 100), (30, 25, 250), (30, 60, 300), (30, 0.5, 5)]
)
def test_the_pace_is_kept_on_average(rate_hz, max_fps, expected):
    # the first frame is taken at once: one more than the rate says
    assert expected <= taken(rate_hz, max_fps) <= expected + 1


def test_jitter_costs_no_frames_at_the_cameras_own_rate():
    assert taken(30, 30, jitter_s=0.004) == 300


def test_the_pace_starts_anew_after_a_gap_or_a_step_back():
    pace = Pace()
    assert [pace.takes(t, 1.0) for t in (10 * S, 10 * S + 1, 60 * S, 60 * S + 1, 5 * S, 5 * S + 1)] == [
        True,
        False,
        True,
        False,
        True,
        False,
    ]


def test_a_fresh_view_may_be_as_old_as_the_limit():
    assert oldest_view_ns(NOW - 10 * S, NOW, 10.0) == NOW - 10 * S
    assert oldest_view_ns(0, NOW, 10.0) == NOW - 10 * S
    assert oldest_view_ns(1, 2, 10.0) == 0


@pytest.mark.parametrize("limit_s", [0, inf])
def test_without_a_limit_any_view_will_do(limit_s):
    assert oldest_view_ns(1, NOW, limit_s) == 0


def test_a_stale_view_is_refused_with_its_age():
    with pytest.raises(StaleView, match=r"10\.5 s old, older than max_frame_age_s 10 s; check the camera"):
        oldest_view_ns(NOW - 10 * S - S // 2, NOW, 10.0)
    with pytest.raises(StaleView, match="use_sim_time"):
        oldest_view_ns(1, 7200 * S, 10.0)


@pytest.mark.parametrize("limit_s", [-1.0, nan])
def test_a_limit_must_be_a_number_of_seconds(limit_s):
    with pytest.raises(ValueError, match="at least 0"):
        oldest_view_ns(1, NOW, limit_s)
