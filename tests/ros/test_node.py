"""An active node, through ROS only: frames in, answers out, and everything that can go wrong on the way."""

import math

import pytest
from action_msgs.msg import GoalStatus
from harness import picture
from vlm3r_ros.convert import CODES, to_ns
from vlm3r_ros.interfaces import AnswerQuestion, AskSpatial, RouteStep
from vlm3r_ros.params import NodeConfig

OPTIONS = ["left", "right", "behind"]


def code(reply) -> str:
    return next(name for name in dir(CODES) if name.isupper() and getattr(CODES, name) == reply.error_code)


def test_without_a_frame_every_question_is_refused_with_no_frame(live):
    live.reset()
    for reply in (live.ask(), live.plan_route(goal="door")):
        assert code(reply) == "NO_FRAME"
        assert "camera" in reply.error_msg
        assert not reply.trained


def test_by_default_the_trained_model_answers(robot):
    one = robot(model=NodeConfig().model)
    one.start()
    one.show()
    reply = one.ask("How many chairs are in the room?", answer_type="number")
    assert (code(reply), reply.kind, reply.trained) == ("NONE", "number", True)
    assert one.ask("Where is the door?", options=OPTIONS).trained


def test_frames_in_answer_out(live):
    live.reset()
    stamps = [live.show() for _ in range(3)]
    reply = live.ask("Where is the door?", options=OPTIONS)
    assert code(reply) == "NONE"
    assert reply.error_msg == ""
    assert reply.kind == "choice"
    assert reply.text == OPTIONS[reply.choice_idx]
    assert 0 < reply.confidence <= 1
    assert reply.confidence_meaning
    assert [to_ns(s) for s in reply.supporting_stamps] == stamps
    assert reply.frames_used == 3
    assert to_ns(reply.state_stamp) == stamps[-1]
    assert reply.session_id == live.stats.session_id
    assert 0 < reply.latency_first_token_ms <= reply.latency_total_ms
    assert reply.trained is False


def test_open_and_number_questions(live):
    live.show()
    number = live.ask("How many chairs are there?", answer_type="number")
    assert (code(number), number.kind, number.choice_idx) == ("NONE", "number", -1)
    text = live.ask("Describe the room.", answer_type="text", max_new_tokens=3)
    assert (code(text), text.kind) == ("NONE", "text")
    assert math.isnan(text.value)


@pytest.mark.parametrize("question", ["", "   ", "x" * 100_000], ids=["empty", "blank", "100kB"])
def test_a_bad_question_is_a_bad_request_with_a_reason(live, question):
    live.show()
    reply = live.ask(question)
    assert code(reply) == "BAD_REQUEST"
    assert reply.error_msg
    assert reply.choice_idx == -1
    assert code(live.ask(options=OPTIONS)) == "NONE"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"answer_type": "nmber"}, "number"),
        ({"options": ["one"]}, "2 to"),
        ({"max_frame_age_s": -1.0}, "at least 0"),
        ({"max_frame_age_s": math.nan}, "at least 0"),
        ({"max_new_tokens": 2**32 - 1}, "room"),
    ],
)
def test_bad_fields_are_bad_requests(live, fields, word):
    live.show()
    reply = live.ask(**fields)
    assert code(reply) == "BAD_REQUEST"
    assert word in reply.error_msg


def test_fifty_questions_at_once_are_all_answered(live):
    live.show()
    futures = [live.send(AskSpatial, "ask", question=f"Where is chair {n}?", options=OPTIONS) for n in range(50)]
    replies = [live.result(future) for future in futures]
    assert {code(reply) for reply in replies} == {"NONE"}


def test_a_caller_that_goes_away_does_no_harm(live):
    live.show()
    caller = live.client.create_client(AskSpatial, "spatial_qa/ask")
    assert caller.wait_for_service(60)
    caller.call_async(AskSpatial.Request(question="Describe the room.", answer_type="text", max_new_tokens=30))
    live.spin(0.1)
    live.client.destroy_client(caller)
    assert code(live.ask(options=OPTIONS)) == "NONE"


def test_a_route_has_its_turns_and_all_alternatives(live):
    live.show()
    reply = live.plan_route(start="the bed", facing="the window", goal="the door", via=["the window", "the desk"])
    assert code(reply) == "NONE"
    assert len(reply.alternatives) == len(reply.alternative_probabilities) == 9
    # float32 on the wire: nine roundings of 6e-8 each
    assert sum(reply.alternative_probabilities) == pytest.approx(1, abs=1e-6)
    assert reply.confidence == max(reply.alternative_probabilities)
    turns = [s for s in reply.steps if s.kind in (RouteStep.TURN_LEFT, RouteStep.TURN_RIGHT, RouteStep.TURN_BACK)]
    assert len(turns) == 2
    assert reply.steps[-1].kind == RouteStep.STOP
    assert code(live.plan_route()) == "BAD_REQUEST"


def broken(**changes):
    image = picture(1)
    for name, value in changes.items():
        setattr(image, name, value)
    return image


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"encoding": "bayer_rggb8"}, "debayer"),
        ({"encoding": "rgb9"}, "did you mean"),
        ({"data": bytes(100)}, "cut off"),
        ({"data": b""}, "cut off"),
        ({"height": 0, "width": 0, "step": 0, "data": b""}, "at least one pixel"),
        ({"step": 10}, "step must be"),
    ],
)
def test_a_bad_image_is_counted_logged_and_dropped(live, capfd, changes, word):
    # each case says its own word; "damage" is said again only after a while, so start from a clean slate
    live.node._camera._said.clear()
    before = live.stats
    for _ in range(2):
        live.camera.publish(broken(**changes))
        live.spin(0.05)
    live.until(lambda: live.stats.frames_dropped == before.frames_dropped + 2)
    logged = [line for line in capfd.readouterr().err.splitlines() if "dropped" in line]
    assert len(logged) == 1
    assert word in logged[0]
    live.show()
    assert live.stats.frames_seen == before.frames_seen + 1


def test_a_zero_stamp_becomes_now(live, capfd):
    live.reset()
    before_ns = live.now_ns()
    live.node._camera._said.clear()
    live.show(picture(0))
    live.show(picture(0))
    assert before_ns < to_ns(live.ask(options=OPTIONS).state_stamp) <= live.now_ns()
    assert capfd.readouterr().err.count("stamps are unset") == 1


def test_a_future_stamp_becomes_now(live, capfd):
    live.reset()
    live.show(picture(live.now_ns() + 60 * 10**9))
    reply = live.ask(options=OPTIONS)
    assert code(reply) == "NONE"
    assert to_ns(reply.state_stamp) <= live.now_ns()
    assert "in the future" in capfd.readouterr().err


def test_a_small_step_back_is_dropped_and_a_large_one_starts_a_new_session(live):
    live.reset()
    newest = live.show()
    before = live.stats
    live.show(picture(newest - 10**8))
    assert (live.stats.frames_seen, live.stats.frames_dropped) == (1, before.frames_dropped + 1)
    assert live.stats.session_id == before.session_id
    live.show(picture(newest - 5 * 10**9))
    assert live.stats.session_id != before.session_id
    assert live.stats.frames_seen == 1


def test_a_stopped_camera_makes_views_stale_until_it_resumes(live):
    live.show()
    live.spin(0.5)
    for reply in (live.ask(max_frame_age_s=0.3), live.plan_route(goal="door", max_frame_age_s=0.3)):
        assert code(reply) == "STALE_VIEW"
        assert "s old" in reply.error_msg
    assert code(live.ask(options=OPTIONS)) == "NONE"
    assert live.set(max_frame_age_s=0.3)[0].successful
    assert code(live.ask(options=OPTIONS)) == "STALE_VIEW"
    assert code(live.ask(options=OPTIONS, max_frame_age_s=math.inf)) == "NONE"
    live.show()
    assert code(live.ask(options=OPTIONS, max_frame_age_s=300.0)) == "NONE"
    assert live.set(max_frame_age_s=600.0)[0].successful


def test_enable_pauses_and_resumes_the_camera(live):
    seen = live.show() and live.stats.frames_seen
    assert live.enable(False).success
    live.camera.publish(picture(live.now_ns()))
    live.spin(0.5)
    assert live.stats.frames_seen == seen
    assert live.enable(True).success
    live.show()
    assert live.stats.frames_seen == seen + 1


def test_reset_starts_a_new_session(live):
    live.show()
    before = live.stats.session_id
    assert live.reset().success
    assert live.stats.session_id != before
    assert live.stats.frames_seen == 0


def test_save_and_load(live, tmp_path):
    live.reset()
    live.show()
    live.show()
    first = live.ask(options=OPTIONS)
    path = tmp_path / "stream.state"
    saved = live.file("save", path)
    assert saved.success, saved.message
    live.reset()
    assert code(live.ask(options=OPTIONS)) == "NO_FRAME"
    loaded = live.file("load", path)
    assert loaded.success, loaded.message
    again = live.ask(options=OPTIONS)
    assert (again.text, again.session_id, again.frames_used) == (first.text, first.session_id, 2)


@pytest.mark.parametrize("path", ["", "no/such/folder/stream.state"])
def test_a_wrong_path_is_refused_with_a_reason(live, path):
    live.show()
    for name in ("save", "load"):
        reply = live.file(name, path)
        assert not reply.success
        assert reply.message


def test_parameters_change_at_run_time_or_say_why_not(live):
    verdicts = live.set(max_fps=2.0, answer_timeout_s=20.0)
    assert all(verdict.successful for verdict in verdicts)
    assert live.node.config.max_fps == 2.0
    refused = live.set(max_fps=-1.0, max_frame_age_s=math.nan, model="tiny-random", rotate=90)
    assert not any(verdict.successful for verdict in refused)
    assert "unconfigured" in refused[2].reason
    assert all(v.successful for v in live.set(max_fps=0.0, answer_timeout_s=600.0))


def test_a_question_that_takes_too_long_times_out(live):
    live.show()
    assert live.set(answer_timeout_s=0.001)[0].successful
    reply = live.ask("Describe the room.", answer_type="text", max_new_tokens=900)
    assert live.set(answer_timeout_s=600.0)[0].successful
    assert code(reply) == "TIMEOUT"
    assert "answer_timeout_s" in reply.error_msg
    live.show()
    assert code(live.ask(options=OPTIONS)) == "NONE"


def test_state_is_published_once_a_second_and_after_a_frame(live):
    live.show()
    live.states.clear()
    live.until(lambda: len(live.states) >= 2)
    assert live.node._timer.timer_period_ns == 10**9
    newest = live.show()
    live.until(lambda: to_ns(live.states[-1].last_stamp) == newest)
    last = live.states[-1]
    assert 0 < to_ns(last.stamp) <= live.now_ns()
    assert (last.state, last.model, last.trained) == ("ready", "tiny-random", False)
    assert last.session_id == live.stats.session_id
    assert last.frames_seen == live.stats.frames_seen
    assert last.memory_bytes > 0
    assert to_ns(last.last_stamp) == live.stats.last_stamp_ns


# ---- the action


def send_goal(live, **fields):
    parts = []
    goal = AnswerQuestion.Goal(**fields)
    handle = live.result(live.action.send_goal_async(goal, lambda message: parts.append(message.feedback)))
    return handle, parts


def test_the_action_streams_text_and_ends_with_the_answer(live):
    live.show()
    handle, parts = send_goal(live, question="Describe the room.", answer_type="text", max_new_tokens=6)
    outcome = live.result(handle.get_result_async())
    assert outcome.status == GoalStatus.STATUS_SUCCEEDED
    assert code(outcome.result) == "NONE"
    # rclpy's client forgets the goal when its end is known: the last feedback may come too late
    assert [part.stage for part in parts][:3] == ["queued", "prefill", "decoding"]
    assert outcome.result.text.startswith(parts[-1].partial_text.strip())
    tokens = [part.tokens for part in parts]
    assert tokens == sorted(tokens)


def test_the_action_rejects_an_empty_question(live):
    handle, _ = send_goal(live, question="  ")
    assert not handle.accepted


def test_the_action_can_be_cancelled_while_it_decodes(live):
    live.show()
    handle, parts = send_goal(live, question="Describe the room.", answer_type="text", max_new_tokens=1000)
    live.until(lambda: any(part.stage == "decoding" for part in parts))
    cancelled = live.result(handle.cancel_goal_async())
    assert len(cancelled.goals_canceling) == 1
    outcome = live.result(handle.get_result_async())
    assert outcome.status == GoalStatus.STATUS_CANCELED
    assert code(outcome.result) == "CANCELED"
    assert parts[-1].tokens < 1000
    assert code(live.ask(options=OPTIONS)) == "NONE"


def test_the_action_aborts_with_a_code(live):
    live.reset()
    handle, _ = send_goal(live, question="Where is the door?")
    outcome = live.result(handle.get_result_async())
    assert outcome.status == GoalStatus.STATUS_ABORTED
    assert code(outcome.result) == "NO_FRAME"


# ---- last: they leave the node as they found it, but pass through inactive


def test_deactivate_refuses_and_activate_answers_again(live):
    live.show()
    session = live.stats.session_id
    assert live.change("deactivate")
    assert live.lifecycle == "inactive"
    for reply in (live.ask(), live.plan_route(goal="door")):
        assert code(reply) == "INACTIVE"
        assert "activate" in reply.error_msg
    handle, _ = send_goal(live, question="Where is the door?")
    assert code(live.result(handle.get_result_async()).result) == "INACTIVE"
    assert live.reset().success
    session = live.stats.session_id
    live.activate()
    live.show()
    assert code(live.ask(options=OPTIONS)) == "NONE"
    assert live.stats.session_id == session


def test_deactivate_cancels_what_waits(live):
    live.show()
    handle, parts = send_goal(live, question="Describe the room.", answer_type="text", max_new_tokens=1000)
    live.until(lambda: any(part.stage == "decoding" for part in parts))
    assert live.change("deactivate")
    outcome = live.result(handle.get_result_async())
    assert outcome.status == GoalStatus.STATUS_ABORTED
    assert code(outcome.result) == "CANCELED"
    live.activate()
