"""The spatial_qa node as a closed-loop agent uses it: frames in, answers out, over ROS only. Starts nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from vlm3r_interfaces.msg import RouteStep as RouteStepMessage
from vlm3r_interfaces.msg import SpatialState
from vlm3r_interfaces.srv import AskSpatial, PlanRoute

from sim.ros_bridge.messages import NS_PER_S, raw_message, to_ns, to_stamp
from vlm3r_core.types import (
    Answer,
    Busy,
    Cancelled,
    Frame,
    LatencyMs,
    NoFrame,
    NotReady,
    Route,
    RouteAlternative,
    RouteStep,
    RouteStepKind,
    StaleView,
)

DEFAULT_TARGET = "/vlm3r/spatial_qa"
# one side of a connection may know of it earlier than the other; what is sent in between is lost
SETTLE_S = 0.5
POLL_S = 0.05
# the view is as old as the agent's last frame, whatever the clock of the node says
NO_AGE_LIMIT = float("inf")
_CODES = AskSpatial.Response
_ERRORS = {
    _CODES.MODEL_NOT_READY: NotReady,
    _CODES.INACTIVE: NotReady,
    _CODES.NO_FRAME: NoFrame,
    _CODES.STALE_VIEW: StaleView,
    _CODES.BAD_REQUEST: ValueError,
    _CODES.QUEUE_FULL: Busy,
    _CODES.CANCELED: Cancelled,
    _CODES.TIMEOUT: TimeoutError,
}
_KINDS = {getattr(RouteStepMessage, kind.value): kind for kind in RouteStepKind}


class NodeClient:
    """Talks to one spatial_qa node; needs no rclpy.init and leaves that of others alone.

    Where the node was started with use_sim_time, it publishes /clock with the frames' time: no one else may then.

    Args:
        target: full name of the node.
        timeout_s: how long the node may take to appear with a loaded model, and for each frame and reply, seconds.
        camera: topic the node takes images from; empty: image_raw beside the node.

    Raises:
        TimeoutError: there is no such node, or its model was not ready in time.
        RuntimeError: its model failed.
    """

    def __init__(self, target: str = DEFAULT_TARGET, timeout_s: float = 60.0, camera: str = ""):
        self.target, self.timeout_s = target, timeout_s
        self.state: SpatialState | None = None
        self._shift_ns = self._newest_ns = 0
        self._sim_time = False
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = Node("sim_client", context=self._context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        topic = camera or f"{target.rpartition('/')[0]}/image_raw"
        self._camera = self._node.create_publisher(
            Image, topic, QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        )
        self._clock = self._node.create_publisher(Clock, "/clock", 10)
        self._node.create_subscription(SpatialState, f"{target}/state", self._on_state, 10)
        self._ask = self._node.create_client(AskSpatial, f"{target}/ask")
        self._plan_route = self._node.create_client(PlanRoute, f"{target}/plan_route")
        self._reset = self._node.create_client(Trigger, f"{target}/reset")
        self._parameters = self._node.create_client(GetParameters, f"{target}/get_parameters")
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnects; a second time does nothing."""
        if self._context.ok():
            self._executor.shutdown()
            self._node.destroy_node()
            self._context.try_shutdown()

    def __enter__(self) -> NodeClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def push(self, frame: Frame) -> None:
        """Shows the node a frame and waits until it was processed.

        Its time may go back from one frame to the next, as it does between episodes: the node gets later stamps then.

        Raises:
            TimeoutError: the frame was not processed in time.
            RuntimeError: the node dropped it, or its model failed.
        """
        self._newest_ns = max(self._newest_ns, to_ns(self.state.last_stamp))
        if frame.stamp_ns + self._shift_ns <= self._newest_ns:
            self._shift_ns = self._newest_ns + NS_PER_S - frame.stamp_ns
        self._newest_ns = stamp_ns = frame.stamp_ns + self._shift_ns
        dropped = self.state.frames_dropped
        if self._sim_time:
            self._clock.publish(Clock(clock=to_stamp(stamp_ns)))
        self._camera.publish(raw_message(frame.rgb, "rgb8", to_stamp(stamp_ns)))
        self._until(
            lambda: (
                self._is_ready() and (to_ns(self.state.last_stamp) >= stamp_ns or self.state.frames_dropped > dropped)
            ),
            f"sign that the frame of {stamp_ns / NS_PER_S:.3f} s was processed; check that the node is active "
            f"and takes all images (max_fps 0) of {self._camera.topic_name}",
        )
        if to_ns(self.state.last_stamp) < stamp_ns:
            raise RuntimeError(
                f"{self.target} dropped the frame of {stamp_ns / NS_PER_S:.3f} s; its log says why "
                f"({self.state.frames_dropped} dropped so far)"
            )

    def ask(self, question: str, options: Sequence[str] = (), answer_type: str = "auto") -> Answer:
        """Asks about what was pushed.

        Args:
            question: plain text.
            options: to choose from, without letters; empty for an open question.
            answer_type: auto, choice, number or text.

        Raises:
            TimeoutError: no reply in time.
            ValueError, NoFrame, StaleView, Busy, NotReady, Cancelled, RuntimeError: the node refused, with its reason.
        """
        request = AskSpatial.Request(
            question=question, options=list(options), answer_type=answer_type, max_frame_age_s=NO_AGE_LIMIT
        )
        return self._to_answer(self._call(self._ask, request))

    def plan_route(self, start: str, facing: str, goal: str, via: Sequence[str] = ()) -> Route:
        """Asks for the turns along a way; empty start and facing mean the current view.

        Raises:
            As ask.
        """
        request = PlanRoute.Request(start=start, facing=facing, goal=goal, via=list(via), max_frame_age_s=NO_AGE_LIMIT)
        return self._to_route(self._call(self._plan_route, request))

    def reset(self) -> None:
        """Lets the node forget all it saw.

        Raises:
            TimeoutError: no reply in time.
            RuntimeError: the node refused, with its reason.
        """
        reply = self._call(self._reset, Trigger.Request())
        if not reply.success:
            raise RuntimeError(f"{self.target} was not reset: {reply.message}")

    # inside

    def _connect(self) -> None:
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        missing = (
            f"{self.target} with a loaded model (ROS_DOMAIN_ID {domain}); start the node there, for example with "
            f"`python -m vlm3r_ros.spatial_qa_node --ros-args -r __ns:={self.target.rpartition('/')[0] or '/'}`"
        )
        self._until(self._is_ready, missing)
        for client in (self._ask, self._plan_route, self._reset, self._parameters):
            self._until(client.service_is_ready, missing)
        self._sim_time = (
            self._call(self._parameters, GetParameters.Request(names=["use_sim_time"])).values[0].bool_value
        )
        if self._sim_time:
            # the node's time is then that of the frames, and must not go back either
            self._newest_ns = to_ns(self.state.stamp)
        self._until(lambda: self._camera.get_subscription_count() > 0, f"subscriber of {self._camera.topic_name}")
        settled_s = time.monotonic() + SETTLE_S
        self._until(lambda: time.monotonic() > settled_s, "quiet")

    def _on_state(self, state: SpatialState) -> None:
        self.state = state

    def _is_ready(self) -> bool:
        if self.state is not None and self.state.state in ("failed", "stopped"):
            reason = self.state.error or "its log says why"
            raise RuntimeError(f"the model of {self.target} is {self.state.state}: {reason}")
        return self.state is not None and self.state.state == "ready"

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        until_s = time.monotonic() + self.timeout_s
        while not condition():
            if time.monotonic() > until_s:
                raise TimeoutError(f"within {self.timeout_s:g} s there was no {what}")
            self._executor.spin_once(timeout_sec=POLL_S)

    def _call(self, client, request):
        future = client.call_async(request)
        self._until(future.done, f"reply of {client.srv_name}")
        reply = future.result()
        code = getattr(reply, "error_code", _CODES.NONE)
        if code != _CODES.NONE:
            raise _ERRORS.get(code, RuntimeError)(reply.error_msg)
        return reply

    def _to_answer(self, reply: AskSpatial.Response) -> Answer:
        names = ("text", "kind", "choice_idx", "value", "unit", "seen")
        return Answer(**{name: getattr(reply, name) for name in names}, **self._bookkeeping(reply))

    def _to_route(self, reply: PlanRoute.Response) -> Route:
        steps = tuple(
            RouteStep(_KINDS[step.kind], step.landmark, step.angle_rad, step.distance_m, step.confidence)
            for step in reply.steps
        )
        pairs = zip(reply.alternatives, reply.alternative_probabilities, strict=True)
        alternatives = tuple(RouteAlternative(text, float(probability)) for text, probability in pairs)
        return Route(steps=steps, text=reply.text, alternatives=alternatives, **self._bookkeeping(reply))

    def _bookkeeping(self, reply) -> dict[str, object]:
        """The fields that answers and routes share, with times as the agent's frames have them."""
        return {
            "confidence": reply.confidence,
            "confidence_meaning": reply.confidence_meaning,
            "supporting_stamps_ns": tuple(to_ns(stamp) - self._shift_ns for stamp in reply.supporting_stamps),
            "frames_used": reply.frames_used,
            "state_stamp_ns": to_ns(reply.state_stamp) - self._shift_ns,
            "session_id": reply.session_id,
            "latency_ms": LatencyMs(reply.latency_queue_ms, reply.latency_first_token_ms, reply.latency_total_ms),
            "trained": reply.trained,
        }
