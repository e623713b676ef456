"""The simulated robot as a process: its camera, poses and clock come out, speeds and commands go in."""

import importlib.util
import io
import itertools
import signal
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import yaml
from geometry_msgs.msg import Twist
from PIL import Image as Picture
from rclpy.qos import ReliabilityPolicy
from scipy.spatial.transform import Rotation

pytest.importorskip("embreex", reason="the simulator (extra `sim`) is not installed")

from sim_world import CAMERA_TOPICS, SIZE_M, Driver, start_bridge, write_room

from sim.live import LiveSettings
from sim.ros_bridge.bridge import BridgeSettings

TURN_TOLERANCE_DEG = 1e-3
S = 10**9


def ns(stamp) -> int:
    return stamp.sec * S + stamp.nanosec


def position(message) -> np.ndarray:
    return np.array([getattr(message.pose.position, axis) for axis in "xyz"])


def rotation(message) -> Rotation:
    return Rotation.from_quat([getattr(message.pose.orientation, axis) for axis in "xyzw"])


def yaw_deg(message) -> float:
    return float(rotation(message).as_euler("ZYX", degrees=True)[0])


def pixels(message) -> np.ndarray:
    kind = {"rgb8": (np.uint8, 3), "32FC1": (np.float32, 1)}[message.encoding]
    return np.frombuffer(message.data, kind[0]).reshape(message.height, message.width, kind[1])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_room(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def run(ros, world, tmp_path_factory):
    """run(*arguments, reliability=..., stamped=...) -> Driver of a robot of its own."""
    drivers = []

    def start(*arguments, **options):
        log, namespace = tmp_path_factory.mktemp("bridge") / "log", f"/sim{len(drivers)}"
        process = start_bridge(world, log, *arguments, namespace=namespace)
        drivers.append(Driver(process, log, namespace, **options))
        drivers[-1].connect()
        return drivers[-1]

    yield start
    for each in drivers:
        each.process.kill()
        each.process.wait()
        each.close()


@pytest.fixture(scope="module")
def robot(run):
    # simulated time runs four times as fast, for the tests' sake; a velocity holds for 0.5 s
    return run("--fps", 20, "--realtime-factor", 4)


@pytest.fixture
def driver(robot):
    """The robot of this module, standing where it began."""
    assert robot.reset().success
    robot.fresh("pose")
    return robot


def test_all_sensors_of_one_moment_have_its_stamp_and_frame(driver):
    driver.pass_time(1.0)
    by_stamp = [{ns(m.header.stamp): m for m in driver.got[topic]} for topic in CAMERA_TOPICS]
    shared = set.intersection(*map(set, by_stamp))
    assert len(shared) > 2
    assert {m.header.frame_id for each in by_stamp for m in each.values()} == {"camera_optical_frame"}
    assert shared <= {ns(m.clock) for m in driver.got["/clock"]}
    assert shared <= {ns(m.header.stamp) for m in driver.got["pose"]}


def test_pictures_hold_what_the_camera_sees(driver):
    stamp = ns(driver.fresh("depth").header.stamp)
    last = {topic: {ns(m.header.stamp): m for m in driver.got[topic]} for topic in CAMERA_TOPICS}
    driver.until(lambda: stamp in {ns(m.header.stamp) for m in driver.got["image_raw/compressed"]}, "compressed")
    image, depth = last["image_raw"][stamp], last["depth"][stamp]
    rgb, depth_m = pixels(image), pixels(depth)
    assert (image.encoding, image.height, image.width, image.step) == ("rgb8", 48, 64, 192)
    assert (depth.encoding, depth.step) == ("32FC1", 256)
    assert rgb.std() > 5
    seen = depth_m[np.isfinite(depth_m)]
    assert len(seen) > 100
    assert (seen > 0).all()
    assert seen.max() < np.hypot(*SIZE_M)
    jpeg = driver.got["image_raw/compressed"][-1]
    assert jpeg.format == "jpeg"
    decoded = np.asarray(Picture.open(io.BytesIO(jpeg.data)), int)
    # the robot stands still; JPEG of such small pictures blurs edges
    assert np.abs(decoded - rgb).mean() < 4


def test_what_no_ray_hits_is_nan_in_the_depth(driver):
    # the room has no ceiling: what is above the walls is the sky
    depth_m = pixels(driver.fresh("depth"))[..., 0]
    rows_above = np.isnan(depth_m).any(axis=1)
    assert rows_above[0]
    assert not np.isnan(depth_m[-1]).any()


def test_camera_info_has_the_lens_with_pixels_counted_from_their_middle(driver):
    info = driver.fresh("camera_info")
    K = np.array(info.k).reshape(3, 3)
    # 90 degrees across 64 pixels
    np.testing.assert_allclose(K, [[32, 0, 31.5], [0, 32, 23.5], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(np.array(info.p).reshape(3, 4)[:, :3], K)
    assert (info.width, info.height, info.distortion_model, list(info.d)) == (64, 48, "plumb_bob", [0.0] * 5)


def test_depth_pose_and_lens_agree_on_where_the_floor_is(driver):
    depth = driver.fresh("depth")
    camera = driver.until(
        lambda: next((m for m in driver.got["camera_pose"] if m.header.stamp == depth.header.stamp), None), "pose"
    )
    K = np.array(driver.got["camera_info"][-1].k).reshape(3, 3)
    z = float(pixels(depth)[47, 31, 0])
    point_C = z * np.linalg.solve(K, [31, 47, 1])
    point_W = position(camera) + rotation(camera).apply(point_C)
    # the lowest row, aimed 36 degrees down from 1.2 m, meets the floor before any wall unless one is close
    if np.hypot(*(point_W - position(camera))[:2]) > 1.5:
        assert point_W[2] == pytest.approx(0.0, abs=1e-3)
    assert -1e-3 < point_W[2] < 1.2


def test_the_robot_stands_under_its_camera(driver):
    base = driver.fresh("pose")
    camera = driver.until(
        lambda: next((m for m in driver.got["camera_pose"] if m.header.stamp == base.header.stamp), None), "pose"
    )
    assert base.header.frame_id == camera.header.frame_id == "map"
    np.testing.assert_allclose(position(camera) - position(base), [0, 0, 1.2], atol=1e-9)
    assert abs(position(base)[2]) < 0.05
    forward = rotation(base).apply([1, 0, 0])
    # REP-103: optical z is the base's x, optical x (right) its -y, optical y (down) its -z
    np.testing.assert_allclose(rotation(camera).apply([0, 0, 1]), forward, atol=1e-9)
    np.testing.assert_allclose(rotation(camera).apply([1, 0, 0]), rotation(base).apply([0, -1, 0]), atol=1e-9)
    np.testing.assert_allclose(rotation(camera).apply([0, 1, 0]), [0, 0, -1], atol=1e-9)


def test_the_clock_only_grows_also_over_a_reset(driver):
    driver.order("FORWARD")
    driver.reset()
    driver.fresh("/clock")
    times = [ns(m.clock) for m in driver.got["/clock"]]
    assert len(times) > 10
    assert all(after > before for before, after in itertools.pairwise(times))


def test_a_turn_speed_turns_the_camera_left_for_as_long_as_it_is_held(driver):
    start = driver.fresh("pose")
    driver.drive(_twist(angular=1.0))
    driver.until(lambda: abs(yaw_deg(driver.got["pose"][-1]) - yaw_deg(start)) > 1, "turn")
    driver.pass_time(1.0)
    after = driver.fresh("pose")
    turned = (yaw_deg(after) - yaw_deg(start) + 180) % 360 - 180
    # 1 rad/s for 0.5 s of simulated time
    assert turned == pytest.approx(np.degrees(0.5), abs=TURN_TOLERANCE_DEG)
    driver.pass_time(1.0)
    assert yaw_deg(driver.fresh("pose")) == pytest.approx(yaw_deg(after), abs=TURN_TOLERANCE_DEG)


def test_a_forward_speed_moves_along_the_heading(driver):
    driver.order("TURN_LEFT")
    start = driver.fresh("pose")
    driver.drive(_twist(linear=0.2))
    driver.until(lambda: np.linalg.norm(position(driver.got["pose"][-1]) - position(start)) > 0, "move")
    driver.pass_time(1.0)
    moved = position(driver.fresh("pose")) - position(start)
    np.testing.assert_allclose(moved[:2], 0.1 * rotation(start).apply([1, 0, 0])[:2], atol=1e-6)


def test_a_speed_that_is_none_stops_the_robot_and_is_told(driver):
    driver.drive(_twist(angular=float("nan")))
    driver.until(lambda: "cmd_vel ignored" in driver.log.read_text(), "complaint")
    assert "Velocity.angular_rad_s must be in -20.0..20.0, got nan" in driver.log.read_text()
    assert driver.process.poll() is None


def test_commands_are_done_and_answered(driver):
    start = driver.fresh("pose")
    assert driver.order("TURN_LEFT") == "TURN_LEFT: done"
    left = driver.fresh("pose")
    assert (yaw_deg(left) - yaw_deg(start)) % 360 == pytest.approx(30, abs=TURN_TOLERANCE_DEG)
    assert driver.order(" forward ") in ("FORWARD: done", "FORWARD: collided")
    assert driver.order("STOP") == "STOP: done"


def test_a_bad_command_is_answered_with_what_was_expected(driver):
    reply = driver.order("JUMP")
    assert reply == "error: command must be one of FORWARD, TURN_LEFT, TURN_RIGHT, STOP, got 'JUMP'"
    driver.until(lambda: reply.removeprefix("error: ") in driver.log.read_text(), "log")


def test_reset_brings_the_robot_back(driver):
    start = driver.fresh("pose")
    for word in ("TURN_RIGHT", "FORWARD"):
        driver.order(word)
    reply = driver.reset()
    assert reply.success
    assert "where it began" in reply.message
    driver.fresh("pose")
    after = driver.fresh("pose")
    np.testing.assert_allclose(position(after), position(start), atol=1e-9)
    assert yaw_deg(after) == pytest.approx(yaw_deg(start), abs=TURN_TOLERANCE_DEG)


def test_a_walk_is_seen_whole_then_pictures_come_only_while_stamped_speeds_move_the_robot(run):
    robot = run(
        "--cmd-vel-stamped",
        "--no-idle-pictures",
        "--walk-frames",
        5,
        "--realtime-factor",
        0,
        reliability=ReliabilityPolicy.RELIABLE,
        stamped=True,
    )
    # the walk waited for somebody who looks
    robot.until(lambda: len(robot.got["image_raw"]) >= 5, "walk")
    robot.pass_time(1.0)
    count = len(robot.got["image_raw"])
    assert count == 5
    robot.fresh("/clock")
    assert len(robot.got["image_raw"]) == count
    start = robot.fresh("pose")
    robot.drive(_twist(angular=1.0))
    robot.until(lambda: len(robot.got["image_raw"]) > count, "picture of the turn")
    robot.pass_time(1.0)
    # 5 pictures of 0.1 s
    assert len(robot.got["image_raw"]) - count == 5
    assert abs(yaw_deg(robot.got["pose"][-1]) - yaw_deg(start)) > 1


def test_tf_joins_map_base_and_camera(run):
    pytest.importorskip("tf2_msgs", reason="tf2_msgs is on no package index; source a ROS 2 to test this")
    from tf2_msgs.msg import TFMessage

    robot = run("--fps", 20)
    messages = []
    robot.node.create_subscription(TFMessage, "/tf", messages.append, 100)
    robot.order("TURN_LEFT")
    camera = robot.fresh("camera_pose")

    def same_time():
        found = (m.transforms for m in messages if m.transforms[0].header.stamp == camera.header.stamp)
        return next(found, None)

    to_base, to_camera = robot.until(same_time, "tf")
    assert (to_base.header.frame_id, to_base.child_frame_id) == ("map", "base_link")
    assert (to_camera.header.frame_id, to_camera.child_frame_id) == ("base_link", "camera_optical_frame")
    (base_at, base_R), (camera_at, camera_R) = map(_rigid, (to_base, to_camera))
    np.testing.assert_allclose(base_at + base_R.apply(camera_at), position(camera), atol=1e-9)
    np.testing.assert_allclose((base_R * camera_R).as_matrix(), rotation(camera).as_matrix(), atol=1e-9)


def test_without_tf2_msgs_the_log_says_so(driver):
    said = "tf2_msgs is not installed: no /tf" in driver.log.read_text()
    assert said == (importlib.util.find_spec("tf2_msgs") is None)


def test_the_launch_file_s_parameters_are_the_simulator_s(repo_dir):
    file = yaml.safe_load((repo_dir / "launch" / "sim.yaml").read_text())
    given = dict(file["/**/sim_bridge"]["ros__parameters"])
    known = {item.name: item for item in (*fields(LiveSettings), *fields(BridgeSettings))}
    # questions are for the demo only
    assert set(given) == set(known) - {"questions", "questions_each"}
    assert all(type(value) is type(known[name].default) for name, value in given.items())
    LiveSettings(**{item.name: given[item.name] for item in fields(LiveSettings)})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(run, number):
    robot = run()
    robot.process.send_signal(number)
    assert robot.process.wait(60) == 0, robot.log.read_text()
    assert "Traceback" not in robot.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--world", "/nowhere.glb"], "no world at /nowhere.glb"),
        (["--world", "flat:many"], "a flat is flat:SEED"),
        (["--world", "{world}", "--fps", "0"], "LiveSettings.fps must be in 0.1..1000.0, got 0.0"),
        (["--world", "{world}", "--ros-args", "-p", "fps:=fast"], "fps"),
        (["--world", "{world}", "--ros-args", "-p", "reliability:=relaible"], "did you mean 'reliable'"),
    ],
)
def test_bad_settings_end_it_with_the_reason(world, arguments, reason):
    command = [sys.executable, "-m", "sim.ros_bridge", *(part.format(world=world) for part in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert reason in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def _twist(linear: float = 0.0, angular: float = 0.0) -> Twist:
    twist = Twist()
    twist.linear.x, twist.angular.z = linear, angular
    return twist


def _rigid(link) -> tuple[np.ndarray, Rotation]:
    offset, turn = link.transform.translation, link.transform.rotation
    return np.array([offset.x, offset.y, offset.z]), Rotation.from_quat([turn.x, turn.y, turn.z, turn.w])
