"""A spatial_qa node spinning in a thread, and a plain client that talks to it only through ROS. No assertions here."""

import itertools
import threading
import time

import numpy as np
from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger
from vlm3r_ros.interfaces import AnswerQuestion, AskSpatial, FilePath, PlanRoute, SpatialState
from vlm3r_ros.spatial_qa_node import SpatialQaNode

# long enough for a machine that does much else; nothing here measures time
PATIENCE_S = 300.0
UNHURRIED = {"model": "tiny-random", "answer_timeout_s": 600.0, "max_frame_age_s": 600.0}
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}
_names = itertools.count()


def stamp(ns: int) -> Time:
    return Time(sec=ns // 10**9, nanosec=ns % 10**9)


def picture(stamp_ns: int, seed: int = 0) -> Image:
    """A valid rgb8 image of 80 x 60 pixels."""
    pixels = np.random.default_rng(seed).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    image = Image(height=60, width=80, step=240, encoding="rgb8", data=pixels.tobytes())
    image.header.stamp, image.header.frame_id = stamp(stamp_ns), "camera_optical"
    return image


class Robot:
    """Node under test and client, each with its own single-threaded executor."""

    def __init__(self, *, reliability=ReliabilityPolicy.RELIABLE, **parameters):
        namespace = f"/robot{next(_names)}"
        overrides = [Parameter(name, value=value) for name, value in (UNHURRIED | parameters).items()]
        self.node = SpatialQaNode(namespace=namespace, parameter_overrides=overrides)
        self._node_executor = SingleThreadedExecutor()
        self._node_executor.add_node(self.node)
        self._thread = threading.Thread(target=self._node_executor.spin, daemon=True)
        self._thread.start()
        self.client = Node("client", namespace=namespace)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.client)
        self._services = {}
        self._seed = itertools.count()
        self.states: list[SpatialState] = []
        self.client.create_subscription(SpatialState, "spatial_qa/state", self.states.append, 10)
        self.action = ActionClient(self.client, AnswerQuestion, "spatial_qa/answer")
        self.camera = self.publisher(Image, "image_raw", reliability)

    def close(self):
        self._node_executor.shutdown()
        self._thread.join(PATIENCE_S)
        self.node.close()
        self.node.destroy_node()
        self.action.destroy()
        self._executor.shutdown()
        self.client.destroy_node()

    # ---- waiting

    def until(self, condition, patience_s: float = PATIENCE_S):
        """Spins the client until condition() is true; returns what it returned."""
        deadline = time.monotonic() + patience_s
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true within {patience_s} s")
            self._executor.spin_once(timeout_sec=0.02)
        return value

    def spin(self, seconds: float):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.02)

    def result(self, future, patience_s: float = PATIENCE_S):
        self.until(future.done, patience_s)
        return future.result()

    # ---- services

    def send(self, kind, name: str, **fields):
        """Calls a service of the node; returns the future."""
        if name not in self._services:
            # rclpy's default keeps 10 replies: a burst of refusals would overrun a client that is busy
            self._services[name] = self.client.create_client(
                kind, f"spatial_qa/{name}", qos_profile=QoSProfile(depth=100)
            )
            assert self._services[name].wait_for_service(PATIENCE_S)
        return self._services[name].call_async(kind.Request(**fields))

    def call(self, kind, name: str, **fields):
        return self.result(self.send(kind, name, **fields))

    def ask(self, question: str = "How many chairs are in the room?", **fields):
        return self.call(AskSpatial, "ask", question=question, **fields)

    def plan_route(self, **fields):
        return self.call(PlanRoute, "plan_route", **fields)

    def reset(self):
        return self.call(Trigger, "reset")

    def enable(self, data: bool):
        return self.call(SetBool, "enable", data=data)

    def file(self, name: str, path) -> FilePath.Response:
        return self.call(FilePath, name, path=str(path))

    def set(self, **values) -> list:
        """Sets parameters one by one; returns the verdicts."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(SetParameters, "set_parameters", parameters=parameters).results

    # ---- lifecycle

    def change(self, label: str) -> bool:
        return self.call(ChangeState, "change_state", transition=Transition(id=TRANSITIONS[label])).success

    @property
    def lifecycle(self) -> str:
        return self.call(GetState, "get_state").current_state.label

    def start(self):
        """Configures, activates, and waits for model and camera connection."""
        assert self.change("configure")
        self.activate()
        self.until(lambda: self.stats.state == "ready")

    def activate(self):
        # a subscription that is gone may still be listed, and an image sent to it alone is lost
        self.until(lambda: self.camera.get_subscription_count() == 0)
        assert self.change("activate")
        self.connect(self.camera)

    @property
    def stats(self):
        return self.node.worker.stats()

    # ---- camera

    def publisher(self, kind, topic: str, reliability=ReliabilityPolicy.RELIABLE):
        return self.client.create_publisher(kind, topic, QoSProfile(depth=10, reliability=reliability))

    def connect(self, publisher):
        self.until(lambda: publisher.get_subscription_count() > 0)

    def now_ns(self) -> int:
        return self.client.get_clock().now().nanoseconds

    def show(self, image: Image | None = None) -> int:
        """Publishes one image (default: a valid one of now) and waits until it was processed or dropped.

        Returns:
            Its stamp in nanoseconds.
        """
        image = image or picture(self.now_ns(), next(self._seed))
        before = self.stats
        self.camera.publish(image)
        self.until(lambda: self._settled(before))
        return image.header.stamp.sec * 10**9 + image.header.stamp.nanosec

    def _settled(self, before) -> bool:
        now = self.stats
        return (now.session_id, now.frames_seen, now.frames_dropped) != (
            before.session_id,
            before.frames_seen,
            before.frames_dropped,
        )
