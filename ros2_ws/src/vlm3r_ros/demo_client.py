"""The demo's client of the spatial_qa node: asks over service and action, watches ~/state. Starts nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from vlm3r_ros.interfaces import AnswerQuestion, AskSpatial, PlanRoute, SpatialState


class RequestFailed(RuntimeError):
    """The node did not answer, or answered with an error."""


class DemoClient(Node):
    """Talks to one spatial_qa node.

    Args:
        target: full name of that node, such as /vlm3r/spatial_qa.
        check: called while waiting; raises where waiting has become pointless.
        timeout_s: seconds a reply may take.
    """

    def __init__(self, target: str, check: Callable[[], None], timeout_s: float):
        super().__init__("vlm3r_demo")
        self.state: SpatialState | None = None
        self._target, self._check, self._timeout_s = target, check, timeout_s
        self._ask = self.create_client(AskSpatial, f"{target}/ask")
        self._plan_route = self.create_client(PlanRoute, f"{target}/plan_route")
        self._answer = ActionClient(self, AnswerQuestion, f"{target}/answer")
        self.create_subscription(SpatialState, f"{target}/state", self._on_state, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def destroy(self) -> None:
        """Frees the client; the context may shut down afterwards."""
        self._executor.shutdown()
        self._answer.destroy()
        self.destroy_node()

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float | None = None) -> None:
        """Serves callbacks until the condition holds.

        Raises:
            RequestFailed: it did not within timeout_s seconds (default: the client's).
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        until_s = time.monotonic() + limit_s
        while not condition():
            self._check()
            if time.monotonic() > until_s:
                raise RequestFailed(f"no {what} within {limit_s:g} s")
            self._executor.spin_once(timeout_sec=0.05)

    def wait_for_model(self, timeout_s: float) -> None:
        """Waits until the node is there and its model is loaded.

        Raises:
            RequestFailed: the model failed to load, or was not there in time.
        """

        def is_ready() -> bool:
            if self.state and self.state.state in ("failed", "stopped"):
                raise RequestFailed(f"the model is {self.state.state}: {self.state.error}")
            return self.state is not None and self.state.state == "ready"

        self.wait_for(is_ready, f"model on {self._target}", timeout_s)
        for server in (self._ask.service_is_ready, self._plan_route.service_is_ready, self._answer.server_is_ready):
            self.wait_for(server, f"services and action of {self._target}")

    def ask(self, question: str, options: Sequence[str] = (), answer_type: str = "auto") -> AskSpatial.Response:
        """Asks over ~/ask.

        Raises:
            RequestFailed: no reply in time, or an error in it.
        """
        request = AskSpatial.Request(question=question, options=list(options), answer_type=answer_type)
        return self._checked(self._done(self._ask.call_async(request), "reply"), question)

    def plan_route(self, start: str, facing: str, goal: str, via: Sequence[str]) -> PlanRoute.Response:
        """Asks over ~/plan_route.

        Raises:
            RequestFailed: no reply in time, or an error in it.
        """
        request = PlanRoute.Request(start=start, facing=facing, goal=goal, via=list(via))
        return self._checked(self._done(self._plan_route.call_async(request), "route"), f"route to {goal}")

    def stream(self, question: str, on_text: Callable[[str], None]) -> AnswerQuestion.Result:
        """Asks over the action ~/answer; on_text gets all text so far, again and again.

        Raises:
            RequestFailed: the goal was rejected, no result in time, or an error in it.
        """
        goal = AnswerQuestion.Goal(question=question, answer_type="text")
        sent = self._answer.send_goal_async(goal, lambda message: on_text(message.feedback.partial_text))
        handle = self._done(sent, "reply to the goal")
        if not handle.accepted:
            raise RequestFailed(f"{question!r}: the goal was rejected")
        result = self._done(handle.get_result_async(), "result").result
        on_text(result.text)
        return self._checked(result, question)

    def _on_state(self, state: SpatialState) -> None:
        self.state = state

    def _done(self, future, what: str):
        self.wait_for(future.done, what)
        return future.result()

    @staticmethod
    def _checked(reply, question: str):
        if reply.error_code:
            raise RequestFailed(f"{question!r}: error {reply.error_code}: {reply.error_msg}")
        return reply
