"""The worker: one thread, newest frame wins, questions bounded and cancellable, nothing kills it by accident."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from vlm3r_core.config import StreamConfig
from vlm3r_core.stream.engine import StreamEngine
from vlm3r_core.stream.worker import Worker
from vlm3r_core.types import Busy, Cancelled, NoFrame, NotReady

TIMEOUT_S = 60
QUESTION = "How far is the door (in meters)?"


class Gate:
    """Holds the worker's thread inside a frame or question until opened, by hooks of the real model."""

    def __init__(self, module):
        self.entered, self.open = threading.Event(), threading.Event()
        self._handle = module.register_forward_pre_hook(self._wait)

    def _wait(self, *_):
        self.entered.set()
        assert self.open.wait(TIMEOUT_S)

    def release(self):
        self._handle.remove()
        self.open.set()


@pytest.fixture
def start(nano_model):
    workers = []

    def start_worker(**settings) -> Worker:
        done = threading.Semaphore(0)
        config = StreamConfig(**settings.pop("config", {}))
        worker = Worker(lambda: StreamEngine(nano_model, config), model="nano", on_frame=done.release, **settings)
        worker.frame_done = done
        worker.start()
        workers.append(worker)
        wait_for(lambda: worker.stats().state != "loading")
        return worker

    yield start_worker
    for worker in workers:
        assert worker.stop(TIMEOUT_S)


def wait_for(condition):
    tick = threading.Event()
    for _ in range(TIMEOUT_S * 100):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError("timed out")


def push_and_wait(worker, frames):
    for frame in frames:
        worker.push(frame)
        assert worker.frame_done.acquire(timeout=TIMEOUT_S)


def test_answers_equal_the_engines(start, make_engine, make_frames):
    frames = make_frames(4)
    worker, engine = start(), make_engine()
    push_and_wait(worker, frames)
    for frame in frames:
        engine.push(frame)
    parts = []
    answer = worker.ask(QUESTION, on_part=parts.append).result(TIMEOUT_S)
    assert answer.text == engine.ask(QUESTION).text
    assert parts[-1].answer == answer
    assert answer.latency_ms.queue <= answer.latency_ms.first_token <= answer.latency_ms.total
    route = worker.plan_route("bed", "door", "sofa", ["door"]).result(TIMEOUT_S)
    assert route.text == engine.plan_route("bed", "door", "sofa", ["door"]).text
    assert worker.stats().frames_seen == 4


def test_newest_frame_wins_and_the_rest_is_counted(start, nano_model, make_frames):
    worker = start()
    frames = make_frames(6)
    gate = Gate(nano_model.siglip)
    worker.push(frames[0])
    assert gate.entered.wait(TIMEOUT_S)
    for frame in frames[1:]:
        worker.push(frame)
    gate.release()
    assert worker.frame_done.acquire(timeout=TIMEOUT_S)
    assert worker.frame_done.acquire(timeout=TIMEOUT_S)
    stats = worker.stats()
    assert (stats.frames_seen, stats.frames_dropped) == (2, 4)
    assert stats.last_stamp_ns == frames[-1].stamp_ns


def test_a_question_waits_for_one_step_at_most(start, nano_model, make_frames):
    worker = start()
    frames = make_frames(3)
    gate = Gate(nano_model.siglip)
    worker.push(frames[0])
    assert gate.entered.wait(TIMEOUT_S)
    job = worker.ask(QUESTION)
    worker.push(frames[1])
    gate.release()
    assert job.result(TIMEOUT_S).frames_used == 1


def test_a_flood_of_questions_does_not_blind_the_stream(start, nano_model, make_frames):
    worker = start()
    push_and_wait(worker, make_frames(1))
    gate = Gate(nano_model.language.qwen.model)
    jobs = [worker.ask(QUESTION) for _ in range(20)]
    assert gate.entered.wait(TIMEOUT_S)
    worker.push(make_frames(1, start_s=9)[0])
    gate.release()
    used = [job.result(TIMEOUT_S).frames_used for job in jobs]
    assert used[0] == 1
    assert used[1:] == [2] * 19


def test_queue_is_bounded(start, nano_model, make_frames):
    worker = start(max_questions=3)
    push_and_wait(worker, make_frames(1))
    gate = Gate(nano_model.language.qwen.model)
    running = worker.ask(QUESTION)
    assert gate.entered.wait(TIMEOUT_S)
    waiting = [worker.ask(QUESTION) for _ in range(3)]
    with pytest.raises(Busy, match="at most 3"):
        worker.ask(QUESTION)
    gate.release()
    assert all(job.result(TIMEOUT_S).text for job in [running, *waiting])


def test_cancel_while_waiting_and_between_tokens(start, nano_model, make_frames):
    worker = start(config={"max_new_tokens": 50})
    push_and_wait(worker, make_frames(1))
    plain = worker.ask(QUESTION).result(TIMEOUT_S).text
    seen = []

    def on_part(part):
        seen.append(part)
        if part.tokens == 3:
            running.request_cancel()

    gate = Gate(nano_model.language.qwen.model)
    running = worker.ask(QUESTION, on_part=on_part)
    waiting = worker.ask(QUESTION)
    waiting.request_cancel()
    gate.release()
    for job in (running, waiting):
        with pytest.raises(Cancelled):
            job.result(TIMEOUT_S)
    assert max(part.tokens for part in seen) == 3
    assert worker.ask(QUESTION).result(TIMEOUT_S).text == plain


def test_errors_of_a_question_reach_only_its_asker(start, make_frames):
    worker = start()
    with pytest.raises(NoFrame):
        worker.ask(QUESTION).result(TIMEOUT_S)
    push_and_wait(worker, make_frames(1))
    with pytest.raises(ValueError, match="is empty"):
        worker.ask("").result(TIMEOUT_S)

    def broken(part):
        raise OSError("the listener is gone")

    with pytest.raises(OSError, match="listener"):
        worker.ask(QUESTION, on_part=broken).result(TIMEOUT_S)
    assert worker.ask(QUESTION).result(TIMEOUT_S).text


def test_a_frame_that_fails_is_dropped_and_counted(start, nano_model, make_frames, caplog):
    worker = start()
    push_and_wait(worker, make_frames(1))

    def fail(*_):
        raise RuntimeError("out of memory")

    handle = nano_model.siglip.register_forward_pre_hook(fail)
    push_and_wait(worker, make_frames(1, start_s=5))
    handle.remove()
    assert "dropped a frame" in caplog.text
    push_and_wait(worker, make_frames(1, start_s=6))
    stats = worker.stats()
    assert (stats.frames_seen, stats.frames_dropped, stats.state) == (2, 1, "ready")


def test_frames_that_never_work_fail_the_worker(start, nano_model, make_frames):
    worker = start()
    handle = nano_model.siglip.register_forward_pre_hook(lambda *_: 1 / 0)
    frames = iter(make_frames(30))

    def failed():
        worker.push(next(frames))
        return worker.stats().state == "failed"

    for _ in range(30):
        if failed():
            break
        threading.Event().wait(0.1)
    handle.remove()
    assert "ZeroDivisionError" in worker.stats().error
    with pytest.raises(NotReady, match="ZeroDivisionError"):
        worker.ask(QUESTION)


def test_a_model_that_does_not_load_says_why():
    def make_engine():
        raise ValueError("unknown model 'nanoo'")

    worker = Worker(make_engine, model="nanoo")
    with pytest.raises(NotReady, match="loading"):
        worker.ask(QUESTION)
    worker.start()
    wait_for(lambda: worker.stats().state == "failed")
    assert "unknown model" in worker.stats().error
    assert worker.stop(TIMEOUT_S)


def test_reset_drops_the_waiting_frame(start, make_frames):
    worker = start()
    push_and_wait(worker, make_frames(3))
    session = worker.stats().session_id
    worker.reset().result(TIMEOUT_S)
    wait_for(lambda: worker.stats().frames_seen == 0)
    assert worker.stats().session_id != session


def test_save_and_load(start, make_frames, tmp_path):
    worker = start()
    push_and_wait(worker, make_frames(3))
    worker.save(tmp_path / "s").result(TIMEOUT_S)
    worker.reset().result(TIMEOUT_S)
    worker.load(tmp_path / "s").result(TIMEOUT_S)
    wait_for(lambda: worker.stats().frames_seen == 3)
    with pytest.raises(FileNotFoundError):
        worker.load(tmp_path / "none").result(TIMEOUT_S)


def test_stop_cancels_what_waits(start, nano_model, make_frames):
    worker = start()
    push_and_wait(worker, make_frames(1))
    gate = Gate(nano_model.language.qwen.model)
    jobs = [worker.ask(QUESTION) for _ in range(4)]
    assert gate.entered.wait(TIMEOUT_S)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    gate.release()
    stopper.join(TIMEOUT_S)
    for job in jobs:
        with pytest.raises(Cancelled):
            job.result(TIMEOUT_S)
    assert worker.stats().state == "stopped"


def test_count_dropped(start):
    worker = start()
    worker.count_dropped(3)
    assert worker.stats().frames_dropped == 3
    assert replace(worker.stats(), frames_dropped=0).frames_seen == 0
