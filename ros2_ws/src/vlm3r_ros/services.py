"""The node's services: ask, plan_route, reset, enable, save, load. The action is in action.py; no model work here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from math import inf, isnan

from rclpy.callback_groups import CallbackGroup
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_srvs.srv import SetBool, Trigger

from vlm3r_core.types import Busy, NoFrame, NotReady, StaleView
from vlm3r_ros.convert import CODES, NS_PER_S, error_code, error_text, fill_answer, fill_error, fill_route
from vlm3r_ros.interfaces import AskSpatial, FilePath, PlanRoute

# rclpy's default keeps 10 requests: of 50 sent at once some would be lost without a word
REQUEST_QOS = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
REFUSALS = (NotReady, Busy, NoFrame, StaleView, ValueError)
"""What submitting a question may raise at once; everything else arrives through its Job."""


def oldest_view_ns(last_stamp_ns: int, now_ns: int, limit_s: float) -> int:
    """The oldest stamp the newest frame may have.

    Args:
        last_stamp_ns: the newest processed frame, 0 before the first.
        now_ns: the node's time.
        limit_s: seconds; 0 and inf: no limit.

    Returns:
        The stamp in nanoseconds; 0 where there is no limit.

    Raises:
        ValueError: limit_s is negative or not a number.
        StaleView: the newest frame is older than that.
    """
    if isnan(limit_s) or limit_s < 0:
        raise ValueError(f"max_frame_age_s must be at least 0, got {limit_s}; 0 means the node's parameter")
    if limit_s in (0, inf):
        return 0
    age_s = (now_ns - last_stamp_ns) / NS_PER_S
    if last_stamp_ns and age_s > limit_s:
        hint = "check the camera, or allow an older view"
        if age_s > 3600:
            hint = "for a recording or a camera with its own clock set use_sim_time, or max_frame_age_s to 0.0"
        raise StaleView(f"the newest frame is {age_s:.1f} s old, older than max_frame_age_s {limit_s:g} s; {hint}")
    return max(0, now_ns - int(limit_s * NS_PER_S))


def submit_question(node, request, on_part: Callable | None = None) -> Future:
    """Hands a question to the node's worker.

    Args:
        node: active SpatialQaNode.
        request: AskSpatial.Request or AnswerQuestion.Goal, which share their fields.
        on_part: receives AnswerParts on the worker's thread.

    Raises:
        NotReady, Busy, NoFrame, StaleView, ValueError: the question was not taken.
    """
    return node.worker.ask(
        request.question,
        tuple(request.options),
        request.answer_type or "auto",
        max_new_tokens=request.max_new_tokens or None,
        not_before_ns=node.oldest_view_ns(request.max_frame_age_s),
        on_part=on_part,
    )


async def settle(node, submit: Callable[[], Future], fill: Callable, reply):
    """Submits a question, waits, and writes what came of it into the reply.

    Args:
        node: SpatialQaNode.
        submit: starts the job; may raise REFUSALS.
        fill: writes the job's result into the reply.
        reply: a message with error_code and error_msg.

    Returns:
        The reply.
    """
    if not node.active:
        return fill_error(CODES.INACTIVE, node.inactive_reason(), reply)
    try:
        job = submit()
    except REFUSALS as error:
        return fill_error(error_code(error), error_text(error), reply)
    error = await outcome(node, job)
    if error is None:
        return fill(job.result(), reply)
    return fill_error(error_code(error), error_text(error), reply)


async def outcome(node, job: Future) -> BaseException | None:
    """Waits for a job at most answer_timeout_s; returns what went wrong, None where its result is there."""
    timeout_s = node.config.answer_timeout_s
    if not await node.bridge.wait(job, timeout_s):
        job.request_cancel()
        return TimeoutError(f"not done within {timeout_s:g} s and given up; parameter answer_timeout_s sets this limit")
    error = job.exception()
    if error is not None and error_code(error) == CODES.UNKNOWN:
        node.get_logger().error(f"request failed: {error_text(error)}")
    return error


class Services:
    """Made once with the node and kept as long as it lives, so that no reply is lost to a lifecycle change."""

    def __init__(self, node, group: CallbackGroup):
        """Creates the services; their coroutines wait, so the group must be reentrant."""
        self._node = node
        for kind, name, callback in (
            (AskSpatial, "ask", self._ask),
            (PlanRoute, "plan_route", self._plan_route),
            (Trigger, "reset", self._reset),
            (SetBool, "enable", self._enable),
            (FilePath, "save", self._save),
            (FilePath, "load", self._load),
        ):
            node.create_service(kind, f"~/{name}", callback, qos_profile=REQUEST_QOS, callback_group=group)

    async def _ask(self, request, response):
        return await settle(self._node, lambda: submit_question(self._node, request), fill_answer, response)

    async def _plan_route(self, request, response):
        node = self._node

        def submit() -> Future:
            return node.worker.plan_route(
                request.start,
                request.facing,
                request.goal,
                tuple(request.via),
                not_before_ns=node.oldest_view_ns(request.max_frame_age_s),
            )

        return await settle(node, submit, fill_route, response)

    async def _reset(self, _, response):
        return await self._control(lambda worker: worker.reset(), "the stream starts anew", response)

    async def _save(self, request, response):
        return await self._control(lambda worker: worker.save(_path(request)), f"saved {request.path}", response)

    async def _load(self, request, response):
        return await self._control(lambda worker: worker.load(_path(request)), f"loaded {request.path}", response)

    def _enable(self, request, response):
        self._node.enable(request.data)
        response.success, response.message = True, "frames are taken" if request.data else "frames are ignored"
        return response

    async def _control(self, submit: Callable, done: str, response):
        response.success = False
        if self._node.worker is None:
            response.message = self._node.inactive_reason()
            return response
        try:
            job = submit(self._node.worker)
        except REFUSALS as error:
            response.message = error_text(error)
            return response
        error = await outcome(self._node, job)
        response.success = error is None
        response.message = done if error is None else error_text(error)
        return response


def _path(request) -> str:
    if not request.path:
        raise ValueError("path must name a file on the node's machine, got an empty one")
    return request.path
