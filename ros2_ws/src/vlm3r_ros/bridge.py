"""Carries calls from other threads to the executor thread, and lets coroutines wait for jobs. No work of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from queue import SimpleQueue

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future


class Bridge:
    """The only way from the worker's thread into a node."""

    def __init__(self, node: Node, group: CallbackGroup):
        """The group must be reentrant: coroutines of the same group wait while calls run."""
        self._node = node
        self._group = group
        self._calls: SimpleQueue = SimpleQueue()
        # a coroutine that awaits a future completed elsewhere sleeps until something wakes the executor: this does
        self._guard = node.create_guard_condition(self._run, group)
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)

    def post(self, call: Callable, *arguments) -> None:
        """Runs call(*arguments) on the executor thread soon, in the order of posting; may be used from any thread."""
        self._calls.put((call, arguments))
        self._guard.trigger()

    def _run(self) -> None:
        while not self._calls.empty():
            call, arguments = self._calls.get_nowait()
            call(*arguments)

    async def wait(self, job: futures.Future, timeout_s: float) -> bool:
        """Waits for a job without holding the executor.

        Args:
            job: completed on another thread.
            timeout_s: seconds of real time, also under use_sim_time.

        Returns:
            False: the time ran out first; the job may still be running.
        """
        over = Future()

        def finish() -> None:
            if not over.done():
                over.set_result(None)

        job.add_done_callback(lambda _: self.post(finish))
        timer = self._node.create_timer(timeout_s, finish, callback_group=self._group, clock=self._clock)
        try:
            await over
        finally:
            self._node.destroy_timer(timer)
        return job.done()
