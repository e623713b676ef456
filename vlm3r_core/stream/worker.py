"""One thread owns the engine and so all GPU work; frames and questions are handed to it. Knows no ROS."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from vlm3r_core.stream.engine import StreamEngine
from vlm3r_core.types import Answer, AnswerPart, Busy, Cancelled, Frame, LatencyMs, NotReady, Route, StreamStats

logger = logging.getLogger(__name__)

# So many frames failing in a row are not the frames' fault.
_MAX_FAILED_FRAMES = 10
_IDLE_S = 0.5


class Job(Future):
    """Something asked of the worker; a Future that can be cancelled while it runs.

    Args:
        action: what to do with the engine; asks `cancel_requested` between tokens.
    """

    def __init__(self, action: Callable[[StreamEngine, Job], Any]):
        super().__init__()
        self._action = action
        self._cancel_requested = threading.Event()
        self.submitted = time.perf_counter()

    def request_cancel(self) -> None:
        """Ends the job before its next token; its result then raises Cancelled."""
        self._cancel_requested.set()

    @property
    def cancel_requested(self) -> bool:
        """True once request_cancel was called."""
        return self._cancel_requested.is_set()

    def check_cancelled(self) -> None:
        """Raises Cancelled once request_cancel was called."""
        if self.cancel_requested:
            raise Cancelled("the question was cancelled")

    def run(self, engine: StreamEngine) -> None:
        """Does the job on the calling thread; every outcome lands in the Future."""
        if not self.set_running_or_notify_cancel():
            return
        try:
            self.check_cancelled()
            result = self._action(engine, self)
        except Exception as error:
            self.set_exception(error)
        else:
            self.set_result(result)


class Worker:
    """Serves one engine from one thread.

    The newest frame wins: a frame that was not begun when the next one comes is dropped and counted. Questions queue
    up to a bound. Frames and questions alternate when both wait, so a question waits for one frame's step at most, and
    a flood of questions does not blind the stream.

    Args:
        make_engine: builds the engine; runs on the worker's thread.
        max_questions: questions waiting at most.
        model: name for stats while the engine does not exist yet.
        on_frame: called on the worker's thread after every processed frame.
    """

    def __init__(
        self,
        make_engine: Callable[[], StreamEngine],
        *,
        max_questions: int = 64,
        model: str = "",
        on_frame: Callable[[], None] | None = None,
    ):
        self._make_engine = make_engine
        self._max_questions = max_questions
        self._on_frame = on_frame
        self._wake = threading.Condition()
        self._frame: Frame | None = None
        self._jobs: deque[Job] = deque()
        self._running: Job | None = None
        self._stopping = False
        self._dropped = 0
        self._failed_frames = 0
        self._stats = StreamStats(model=model)
        self._thread = threading.Thread(target=self._main, name="vlm3r-worker", daemon=True)

    def start(self) -> None:
        """Starts the thread: it builds the engine, then serves."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Ends the thread after its current step; waiting questions are cancelled.

        Returns:
            False if it was still busy after timeout_s seconds.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self.cancel_pending()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def push(self, frame: Frame) -> None:
        """Hands over the newest frame; returns at once."""
        with self._wake:
            if self._frame is not None:
                self._dropped += 1
            self._frame = frame
            self._wake.notify()

    def count_dropped(self, count: int = 1) -> None:
        """Counts frames that never came this far."""
        with self._wake:
            self._dropped += count

    def ask(
        self,
        question: str,
        options: Sequence[str] = (),
        answer_type: str = "auto",
        *,
        max_new_tokens: int | None = None,
        not_before_ns: int = 0,
        on_part: Callable[[AnswerPart], None] | None = None,
    ) -> Job:
        """Queues a question; the arguments are StreamEngine.ask's.

        Args:
            on_part: gets each AnswerPart on the worker's thread.

        Returns:
            A Job whose result is the Answer.

        Raises:
            NotReady: no engine yet, or none any more.
            Busy: too many questions wait.
        """

        def action(engine: StreamEngine, job: Job) -> Answer:
            queue_ms = _ms_since(job.submitted)
            parts = engine.ask_stream(
                question, options, answer_type, max_new_tokens=max_new_tokens, not_before_ns=not_before_ns
            )
            try:
                for part in parts:
                    job.check_cancelled()
                    if part.answer is not None:
                        part = replace(part, answer=_add_queue(part.answer, queue_ms))
                    if on_part is not None:
                        on_part(part)
            finally:
                parts.close()
            return part.answer

        return self._submit(Job(action))

    def plan_route(
        self, start: str = "", facing: str = "", goal: str = "", via: Sequence[str] = (), *, not_before_ns: int = 0
    ) -> Job:
        """Queues a route question; the arguments are StreamEngine.plan_route's. The Job's result is the Route."""

        def action(engine: StreamEngine, job: Job) -> Route:
            queue_ms = _ms_since(job.submitted)
            return _add_queue(engine.plan_route(start, facing, goal, via, not_before_ns=not_before_ns), queue_ms)

        return self._submit(Job(action))

    def reset(self) -> Job:
        """Queues a new session; a frame that still waits belongs to the old one and is dropped."""

        def action(engine: StreamEngine, job: Job) -> None:
            with self._wake:
                self._dropped += self._frame is not None
                self._frame = None
            engine.reset()

        return self._submit(Job(action))

    def use_adapter(self, name: str) -> Job:
        """Queues switching the model to another of its adapters, with which a new session starts."""
        return self._submit(Job(lambda engine, job: engine.use_adapter(name)))

    def save(self, path: str | os.PathLike) -> Job:
        """Queues writing the session to a file."""
        return self._submit(Job(lambda engine, job: engine.save(path)))

    def load(self, path: str | os.PathLike) -> Job:
        """Queues continuing a saved session."""
        return self._submit(Job(lambda engine, job: engine.load(path)))

    def cancel_pending(self) -> int:
        """Cancels every waiting and running job; returns how many."""
        with self._wake:
            jobs = [*self._jobs, *([self._running] if self._running else [])]
        for job in jobs:
            job.request_cancel()
        return len(jobs)

    def stats(self) -> StreamStats:
        """What the stream held after the last step; safe to call from any thread."""
        with self._wake:
            return replace(self._stats, frames_dropped=self._stats.frames_dropped + self._dropped)

    def _submit(self, job: Job) -> Job:
        with self._wake:
            if self._stats.state != "ready":
                raise NotReady(f"the model is {self._stats.state}{self._reason()}; wait for state ready in ~/state")
            if len(self._jobs) >= self._max_questions:
                raise Busy(
                    f"{len(self._jobs)} questions wait already, at most {self._max_questions} may; ask again later"
                )
            self._jobs.append(job)
            self._wake.notify()
        return job

    def _reason(self) -> str:
        return f" ({self._stats.error})" if self._stats.error else ""

    # ---- on the worker's thread

    def _main(self) -> None:
        try:
            engine = self._make_engine()
            self._refresh(engine)
            self._serve(engine)
        except Exception as error:
            logger.exception("the worker stopped")
            self._end("failed", f"{type(error).__name__}: {error}")
        else:
            self._end("stopped", "")

    def _serve(self, engine: StreamEngine) -> None:
        frame_last = True
        while True:
            job, frame = self._take(prefer_frame=not frame_last)
            if self._stopping:
                if job is not None:
                    job.request_cancel()
                    job.run(engine)
                return
            frame_last = frame is not None
            if job is not None:
                job.run(engine)
                self._running = None
            elif frame is not None:
                self._push(engine, frame)
            self._refresh(engine)
            if frame is not None and self._on_frame is not None:
                self._on_frame()

    def _take(self, *, prefer_frame: bool) -> tuple[Job | None, Frame | None]:
        """The next job or the newest frame; neither after an idle while, so that rates stay true."""
        with self._wake:
            if not (self._jobs or self._frame or self._stopping):
                self._wake.wait(_IDLE_S)
            if self._frame is not None and (prefer_frame or not self._jobs):
                frame, self._frame = self._frame, None
                return None, frame
            self._running = self._jobs.popleft() if self._jobs else None
            return self._running, None

    def _push(self, engine: StreamEngine, frame: Frame) -> None:
        try:
            engine.push(frame)
            self._failed_frames = 0
        except Exception:
            self._failed_frames += 1
            self.count_dropped()
            if self._failed_frames >= _MAX_FAILED_FRAMES:
                raise
            logger.exception("dropped a frame of shape %s stamped %d ns", frame.rgb.shape, frame.stamp_ns)

    def _refresh(self, engine: StreamEngine) -> None:
        stats = engine.stats()
        with self._wake:
            self._stats = stats

    def _end(self, state: str, error: str) -> None:
        with self._wake:
            self._stats = replace(self._stats, state=state, error=error)
            waiting, self._jobs = list(self._jobs), deque()
        for job in waiting:
            if job.set_running_or_notify_cancel():
                job.set_exception(Cancelled("the worker stopped") if state == "stopped" else NotReady(error))


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3


def _add_queue(reply: Any, queue_ms: float) -> Any:
    latency = reply.latency_ms
    return replace(
        reply,
        latency_ms=LatencyMs(
            queue=queue_ms, first_token=latency.first_token + queue_ms, total=latency.total + queue_ms
        ),
    )
