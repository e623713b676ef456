"""The action ~/answer: a question whose text streams back and that can be cancelled. Answers as ~/ask does."""

from __future__ import annotations

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import CallbackGroup

from vlm3r_core.types import AnswerPart
from vlm3r_ros.convert import CODES, fill_answer
from vlm3r_ros.interfaces import AnswerQuestion
from vlm3r_ros.services import REQUEST_QOS, settle, submit_question


class AnswerAction:
    """The action server, made once with the node."""

    def __init__(self, node, group: CallbackGroup):
        """Creates the server; its coroutines wait, so the group must be reentrant."""
        self._node = node
        self._jobs = {}
        self._server = ActionServer(
            node,
            AnswerQuestion,
            "~/answer",
            self._execute,
            callback_group=group,
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
            goal_service_qos_profile=REQUEST_QOS,
            result_service_qos_profile=REQUEST_QOS,
            cancel_service_qos_profile=REQUEST_QOS,
        )

    def destroy(self) -> None:
        """Frees the server; a node does not do this by itself."""
        self._server.destroy()

    def _on_goal(self, goal: AnswerQuestion.Goal) -> GoalResponse:
        if goal.question.strip():
            return GoalResponse.ACCEPT
        self._node.get_logger().warning("answer goal rejected: question must hold text, got an empty one")
        return GoalResponse.REJECT

    def _on_cancel(self, goal_handle: ServerGoalHandle) -> CancelResponse:
        job = self._jobs.get(bytes(goal_handle.goal_id.uuid))
        if job is not None:
            job.request_cancel()
        return CancelResponse.ACCEPT

    async def _execute(self, goal_handle: ServerGoalHandle) -> AnswerQuestion.Result:
        key = bytes(goal_handle.goal_id.uuid)
        self._publish(goal_handle, AnswerPart("", "queued", 0))

        def submit():
            job = submit_question(self._node, goal_handle.request, self._on_part(goal_handle))
            self._jobs[key] = job
            if goal_handle.is_cancel_requested:
                job.request_cancel()
            return job

        result = await settle(self._node, submit, fill_answer, AnswerQuestion.Result())
        self._jobs.pop(key, None)
        if result.error_code == CODES.NONE:
            goal_handle.succeed()
        elif goal_handle.is_cancel_requested:
            goal_handle.canceled()
        else:
            goal_handle.abort()
        return result

    def _on_part(self, goal_handle: ServerGoalHandle):
        """What the worker calls with each part: publishing happens on the executor thread."""
        return lambda part: self._node.bridge.post(self._publish, goal_handle, part)

    def _publish(self, goal_handle: ServerGoalHandle, part: AnswerPart) -> None:
        if goal_handle.is_active:
            feedback = AnswerQuestion.Feedback(partial_text=part.text, stage=part.stage, tokens=part.tokens)
            goal_handle.publish_feedback(feedback)
