"""The node `sim_bridge`: one simulated robot as ROS sees a real one, camera out and commands in. Asks nothing.

It renders inside its timer on one thread: a picture takes milliseconds, no message waits longer than that, and clock,
poses and pictures stay in order. A second thread would share the same cores and the same world.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import Field, dataclass, fields

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock as NodeClock
from rclpy.clock import ClockType
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger
from vlm3r_interfaces.msg import SpatialState

from sim.env import Move
from sim.live import LiveSettings, LiveWorld, Moment, look_around
from sim.ros_bridge.client import SETTLE_S
from sim.ros_bridge.messages import (
    BASE_FRAME,
    CAMERA_FRAME,
    MAP_FRAME,
    NS_PER_S,
    base_under,
    camera_info_message,
    depth_message,
    jpeg_message,
    pose_message,
    progress,
    raw_message,
    to_stamp,
    transform_message,
)
from sim.worlds import open_env
from vlm3r_core.config import check_settings, setting

# how often is looked whether it is time for a picture; the shortest time between two
POLL_S = 0.005
EXIT_OK, EXIT_FAILED = 0, 1


@dataclass(frozen=True)
class BridgeSettings:
    """How the simulator appears on ROS."""

    realtime_factor: float = setting(1.0, "simulated seconds a second at most; 0: no limit", span=(0.0, 1000.0))
    reliability: str = setting(
        "reliable", "QoS of pictures; reliable serves every subscriber", choices=("reliable", "best_effort")
    )
    cmd_vel_stamped: bool = setting(False, "cmd_vel is a TwistStamped (Nav2 from Kilted on) instead of a Twist")
    idle_pictures: bool = setting(True, "publish pictures also while the robot stands still")
    wait_for_state: str = setting(
        "", "topic of a SpatialState: time stands still until the node has processed the picture before; empty: no"
    )
    questions_each: int = setting(1, "of these questions of a task at most", span=(1, 100))
    questions: str = setting("", "file for questions about what a walk shows, with true answers; empty: none")

    def __post_init__(self):
        check_settings(self)


class SimBridge(Node):
    """One simulated robot.

    Args:
        defaults: values by setting, of LiveSettings and BridgeSettings; ROS parameters win over them.

    Raises:
        ValueError: a parameter is wrong, or the world is none.
        FileNotFoundError: there is no such world.
    """

    def __init__(self, defaults: dict[str, object], **kwargs):
        super().__init__("sim_bridge", **kwargs)
        live = _parameters(self, LiveSettings, defaults)
        self.settings = _parameters(self, BridgeSettings, defaults)
        self.world = LiveWorld(open_env(live.world, live.world_settings), live)
        self._play_walk(live)
        self._state: SpatialState | None = None
        self._shown: tuple | None = None
        self._heard_s: float | None = None
        self._due_s = time.monotonic()
        self._offer(QoSProfile(depth=5, reliability=ReliabilityPolicy[self.settings.reliability.upper()]))
        self._listen()
        # not the node's clock: that may wait for the very /clock published here
        self.create_timer(POLL_S, self._tick, clock=NodeClock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f"{self.world.env.scene_id} on {self._image.topic_name}")

    def _play_walk(self, live: LiveSettings) -> None:
        if not live.walk_frames:
            return
        T_WC, stamps_ns = look_around(self.world.env, live)
        if self.settings.questions:
            # brings the search for routes along, which a camera does not need
            from sim.demo_questions import write_questions

            each = self.settings.questions_each
            write_questions(self.settings.questions, self.world.env, T_WC, live, each)
        self.world.play(T_WC, stamps_ns)

    def _offer(self, qos: QoSProfile) -> None:
        self._image = self.create_publisher(Image, "image_raw", qos)
        self._jpeg = self.create_publisher(CompressedImage, "image_raw/compressed", qos)
        self._depth = self.create_publisher(Image, "depth", qos)
        self._info = self.create_publisher(CameraInfo, "camera_info", qos)
        self._clock = self.create_publisher(Clock, "/clock", 10)
        self._base_pose = self.create_publisher(PoseStamped, "pose", 10)
        self._camera_pose = self.create_publisher(PoseStamped, "camera_pose", 10)
        self._reply = self.create_publisher(String, "command/reply", 10)
        self._tf, self._tf_type = None, tf_message_type()
        if self._tf_type is None:
            self.get_logger().warning("tf2_msgs is not installed: no /tf, poses are on pose and camera_pose only")
        else:
            self._tf = self.create_publisher(self._tf_type, "/tf", 100)

    def _listen(self) -> None:
        # one topic has one type: a second subscription of another type is refused
        if self.settings.cmd_vel_stamped:
            self.create_subscription(TwistStamped, "cmd_vel", lambda message: self._on_twist(message.twist), 10)
        else:
            self.create_subscription(Twist, "cmd_vel", self._on_twist, 10)
        self.create_subscription(String, "command", self._on_command, 100)
        self.create_service(Trigger, "~/reset", self._on_reset)
        if self.settings.wait_for_state:
            self.create_subscription(SpatialState, self.settings.wait_for_state, self._on_state, 10)

    def _on_twist(self, twist: Twist) -> None:
        try:
            self.world.drive(twist.linear.x, twist.angular.z)
        except ValueError as error:
            self.get_logger().error(f"cmd_vel ignored, the robot stops: {error}", throttle_duration_sec=5.0)

    def _on_command(self, message: String) -> None:
        word = message.data.strip().upper()
        try:
            self.world.command(word)
        except ValueError as error:
            self.get_logger().error(str(error), throttle_duration_sec=1.0)
            self._reply.publish(String(data=f"error: {error}"))
            return
        if word == Move.STOP:
            self._reply.publish(String(data=f"{word}: done"))

    def _on_reset(self, _, response: Trigger.Response) -> Trigger.Response:
        self.world.reset()
        response.success, response.message = True, "the robot is where it began; time goes on"
        return response

    def _on_state(self, state: SpatialState) -> None:
        self._state = state

    # time

    def _tick(self) -> None:
        now_s, before_ns = time.monotonic(), self.world.now.stamp_ns
        if now_s < self._due_s or self._waits(now_s):
            return
        moment = self.world.advance()
        if self.settings.realtime_factor:
            passed_s = (moment.stamp_ns - before_ns) / NS_PER_S / self.settings.realtime_factor
            # at most one picture is caught up: where rendering is slow, the simulated world is slower than the real one
            self._due_s = max(self._due_s, now_s - passed_s) + passed_s
        if moment.move:
            self._reply.publish(String(data=f"{moment.move}: {'collided' if moment.collided else 'done'}"))
        self._publish(moment)

    def _waits(self, now_s: float) -> bool:
        """Whether time stands still: a walk waits for somebody who looks, and wait_for_state for the node."""
        stepwise = bool(self.settings.wait_for_state)
        if not stepwise and not self.world.walking:
            return False
        ready = not stepwise or (self._state is not None and self._state.state == "ready")
        if not ready or not any(each.get_subscription_count() for each in (self._image, self._jpeg)):
            self._heard_s = None
            return True
        self._heard_s = self._heard_s or now_s
        return now_s < self._heard_s + SETTLE_S or (stepwise and progress(self._state) == self._shown)

    # what is published

    def _publish(self, moment: Moment) -> None:
        stamp = to_stamp(moment.stamp_ns)
        self._clock.publish(Clock(clock=stamp))
        self._publish_poses(moment.T_WC, stamp)
        if moment.moved or self.settings.idle_pictures:
            self._publish_pictures(stamp)
            self._shown = progress(self._state)

    def _publish_poses(self, T_WC: np.ndarray, stamp: Time) -> None:
        T_WB = base_under(T_WC, self.world.settings.camera_height_m)
        self._base_pose.publish(pose_message(T_WB, stamp))
        self._camera_pose.publish(pose_message(T_WC, stamp))
        if self._tf:
            links = ((MAP_FRAME, BASE_FRAME, T_WB), (BASE_FRAME, CAMERA_FRAME, np.linalg.inv(T_WB) @ T_WC))
            self._tf.publish(self._tf_type(transforms=[transform_message(*link, stamp) for link in links]))

    def _publish_pictures(self, stamp: Time) -> None:
        self._info.publish(camera_info_message(self.world.settings.camera, stamp))
        heard = {each for each in (self._image, self._jpeg, self._depth) if each.get_subscription_count()}
        if not heard:
            return
        seen = self.world.look()
        if self._image in heard:
            self._image.publish(raw_message(seen.frame.rgb, "rgb8", stamp))
        if self._jpeg in heard:
            self._jpeg.publish(jpeg_message(seen.frame.rgb, stamp))
        if self._depth in heard:
            self._depth.publish(depth_message(seen.depth_m, stamp))


def tf_message_type() -> type | None:
    """tf2_msgs/TFMessage, None where it is not installed: no index has a wheel of it."""
    try:
        from tf2_msgs.msg import TFMessage
    except ModuleNotFoundError:
        return None
    return TFMessage


def _parameters(node: Node, kind: type, defaults: dict[str, object]):
    """Declares a read-only parameter for every field of a settings class and reads them all."""
    values = {}
    for item in fields(kind):
        described = ParameterDescriptor(description=item.metadata["doc"], read_only=True)
        try:
            default = defaults.get(item.name, item.default)
            values[item.name] = node.declare_parameter(item.name, default, described).value
        except InvalidParameterTypeException as error:
            raise ValueError(f"{error}; expected {type(item.default).__name__} such as {item.default!r}") from None
    return kind(**values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.ros_bridge",
        description="One simulated robot on ROS 2: image_raw, image_raw/compressed, depth, camera_info, pose, "
        "camera_pose, /tf and /clock out; cmd_vel, command (FORWARD, TURN_LEFT, TURN_RIGHT, STOP) and ~/reset in.",
        epilog="Each option is a ROS parameter too; --ros-args -r __ns:=/vlm3r shows its camera to the node there.",
    )
    for item in (*fields(LiveSettings), *fields(BridgeSettings)):
        _add_option(parser, item)
    return parser


def _add_option(parser: argparse.ArgumentParser, item: Field) -> None:
    name, shown = f"--{item.name.replace('_', '-')}", f"{item.metadata['doc']} (default: {item.default})"
    if isinstance(item.default, bool):
        parser.add_argument(name, default=item.default, action=argparse.BooleanOptionalAction, help=shown)
    else:
        parser.add_argument(name, default=item.default, type=type(item.default), help=shown.replace("%", "%%"))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the robot until Ctrl-C or SIGTERM.

    Returns:
        0; 1 where a parameter is wrong, or the world cannot be opened or breaks down (the log says why).
    """
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s] [%(name)s]: %(message)s")
    argv = list(sys.argv[1:] if argv is None else argv)
    options = vars(_parser().parse_args(remove_ros_args(argv)))
    rclpy.init(args=argv)
    executor, bridge = SingleThreadedExecutor(), None
    try:
        bridge = SimBridge(options)
        executor.add_node(bridge)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        return EXIT_OK
    except (ValueError, OSError, RuntimeError) as error:
        # a signal invalidates the context at any moment, also while a callback publishes
        if not rclpy.ok():
            return EXIT_OK
        rclpy.logging.get_logger("sim_bridge").error(str(error))
        return EXIT_FAILED
    finally:
        if bridge:
            bridge.world.env.close()
        rclpy.try_shutdown()
    return EXIT_OK
