"""A stranger to the node: a program with plain rclpy and the interfaces only, that uses everything the node offers.

Run beside a node: python client_process.py /namespace FILE. Prints what it checked; exits with 1 at a broken promise.
"""

import math
import sys
import time

import numpy as np
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger
from vlm3r_interfaces.action import AnswerQuestion
from vlm3r_interfaces.msg import RouteStep, SpatialState
from vlm3r_interfaces.srv import AskSpatial, FilePath, PlanRoute

PATIENCE_S = 240.0
S = 10**9
OPTIONS = ["left", "right", "behind"]
SUCCEEDED, CANCELED, ABORTED = 4, 5, 6


def expect(condition, what: str) -> None:
    if not condition:
        sys.exit(f"BROKEN: {what}")
    print("ok:", what, flush=True)


class Client(Node):
    def __init__(self, namespace: str):
        super().__init__("stranger", namespace=namespace)
        self.images = self.create_publisher(Image, "image_raw", 10)
        self.state = SpatialState()
        self.create_subscription(SpatialState, "spatial_qa/state", self._on_state, 10)
        self.action = ActionClient(self, AnswerQuestion, "spatial_qa/answer")
        self._clients_by_name = {}

    def _on_state(self, state: SpatialState) -> None:
        self.state = state

    def until(self, condition, what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                sys.exit(f"BROKEN: {what}: waited {PATIENCE_S} s in vain, state {self.state}")
            rclpy.spin_once(self, timeout_sec=0.05)

    def wait(self, future):
        self.until(future.done, "a reply comes")
        return future.result()

    def send(self, kind, name: str, **fields):
        if name not in self._clients_by_name:
            self._clients_by_name[name] = self.create_client(kind, f"spatial_qa/{name}")
            expect(self._clients_by_name[name].wait_for_service(PATIENCE_S), f"service {name} is there")
        return self._clients_by_name[name].call_async(kind.Request(**fields))

    def ask(self, question: str = "Where is the door?", **fields):
        return self.wait(self.send(AskSpatial, "ask", question=question, **fields))

    def show(self, stamp_ns: int | None = None, **changes) -> int:
        """Publishes one image and waits until the node says it was processed or dropped."""
        now_ns = self.get_clock().now().nanoseconds
        stamp_ns = now_ns if stamp_ns is None else stamp_ns
        pixels = np.random.default_rng(now_ns).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        image = Image(height=48, width=64, step=192, encoding="rgb8", data=pixels.tobytes())
        image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp_ns, S)
        for name, value in changes.items():
            setattr(image, name, value)
        before = self.counts()
        self.images.publish(image)
        self.until(lambda: self.counts() != before, "an image is processed or counted as dropped")
        return stamp_ns

    def counts(self):
        return self.state.session_id, self.state.frames_seen, self.state.frames_dropped

    def goal(self, parts: list, **fields):
        goal = AnswerQuestion.Goal(**fields)
        return self.wait(self.action.send_goal_async(goal, lambda message: parts.append(message.feedback)))

    def change(self, transition: int) -> bool:
        request = {"transition": Transition(id=transition)}
        return self.wait(self.send(ChangeState, "change_state", **request)).success


def check_start(client: Client) -> None:
    code = AskSpatial.Response
    first = client.ask()
    expect(
        first.error_code in (code.MODEL_NOT_READY, code.NO_FRAME), f"a question at once is refused: {first.error_msg}"
    )
    client.until(lambda: client.state.state == "ready", "the model loads")
    reply = client.ask()
    expect(reply.error_code == code.NO_FRAME and reply.error_msg, f"no frame yet: {reply.error_msg}")
    client.until(lambda: client.images.get_subscription_count() > 0, "the node subscribes to the camera")


def check_answers(client: Client) -> None:
    code = AskSpatial.Response
    stamps = [client.show() for _ in range(4)]
    reply = client.ask(options=OPTIONS)
    expect(reply.error_code == code.NONE and reply.text == OPTIONS[reply.choice_idx], "a choice is answered")
    seen = [stamp.sec * S + stamp.nanosec for stamp in reply.supporting_stamps]
    expect(seen == stamps and reply.frames_used == 4, "the answer names the frames it rests on")
    expect(0 < reply.confidence <= 1 and reply.confidence_meaning, "confidence with its meaning")
    expect(reply.trained is False, "random weights say so")
    expect(0 < reply.latency_first_token_ms <= reply.latency_total_ms, "latencies are filled")
    number = client.ask("How many chairs are there?", answer_type="number")
    expect(number.error_code == code.NONE and number.kind == "number", "a number is asked for")
    text = client.ask("Describe the room.", answer_type="text", max_new_tokens=4)
    expect(text.error_code == code.NONE and math.isnan(text.value), "an open question is answered")
    for question in ("", "x" * 100_000):
        reply = client.ask(question)
        expect(reply.error_code == code.BAD_REQUEST, f"{len(question)} characters are refused: {reply.error_msg}")
    futures = [client.send(AskSpatial, "ask", question=f"Where is chair {n}?", options=OPTIONS) for n in range(50)]
    codes = {client.wait(future).error_code for future in futures}
    expect(codes == {code.NONE}, f"50 questions at once are all answered: {codes}")


def check_route(client: Client) -> None:
    fields = {"start": "the bed", "facing": "the window", "goal": "the door", "via": ["the window", "the desk"]}
    reply = client.wait(client.send(PlanRoute, "plan_route", **fields))
    expect(reply.error_code == PlanRoute.Response.NONE, f"a route is planned: {reply.text} {reply.error_msg}")
    expect(reply.steps[-1].kind == RouteStep.STOP, "it ends with STOP")
    total = sum(reply.alternative_probabilities)
    expect(len(reply.alternatives) == 9 and abs(total - 1) < 1e-5, "nine alternatives with probabilities")


def check_bad_images(client: Client) -> None:
    seen, dropped = client.state.frames_seen, client.state.frames_dropped
    bad = [{"encoding": "bayer_rggb8"}, {"data": bytes(99)}, {"height": 0, "width": 0, "step": 0, "data": b""}]
    for changes in bad:
        client.show(**changes)
    expect(client.state.frames_dropped == dropped + 3, "wrong encoding, truncated and zero-size images are counted")
    client.show(stamp_ns=0)
    client.show(stamp_ns=client.get_clock().now().nanoseconds + 3600 * S)
    newest = client.show()
    expect(client.state.frames_seen == seen + 3, "zero and future stamps are taken as now")
    session = client.state.session_id
    client.show(stamp_ns=newest - S // 10)
    expect(client.state.frames_dropped == dropped + 4, "a small step back is dropped")
    client.show(stamp_ns=newest - 60 * S)
    expect(client.state.session_id != session, "a large step back starts a new session")


def check_camera_pause(client: Client) -> None:
    client.show()
    time.sleep(0.6)
    reply = client.ask(options=OPTIONS, max_frame_age_s=0.5)
    expect(reply.error_code == AskSpatial.Response.STALE_VIEW, f"a stopped camera is noticed: {reply.error_msg}")
    client.show()
    reply = client.ask(options=OPTIONS, max_frame_age_s=100.0)
    expect(reply.error_code == AskSpatial.Response.NONE, "and its return as well")
    for taken in (False, True):
        expect(client.wait(client.send(SetBool, "enable", data=taken)).success, f"enable {taken}")


def check_action(client: Client) -> None:
    expect(client.action.wait_for_server(PATIENCE_S), "the action is there")
    expect(not client.goal([], question=" ").accepted, "an empty goal is rejected")
    parts = []
    handle = client.goal(parts, question="Describe the room.", answer_type="text", max_new_tokens=6)
    outcome = client.wait(handle.get_result_async())
    expect(outcome.status == SUCCEEDED and outcome.result.error_code == AnswerQuestion.Result.NONE, "a goal succeeds")
    expect([part.stage for part in parts][:3] == ["queued", "prefill", "decoding"], "its text streams back")
    parts = []
    handle = client.goal(parts, question="Describe the room.", answer_type="text", max_new_tokens=1000)
    client.until(lambda: any(part.stage == "decoding" for part in parts), "decoding begins")
    client.wait(handle.cancel_goal_async())
    outcome = client.wait(handle.get_result_async())
    expect(outcome.status == CANCELED, "a goal is cancelled while it decodes")
    expect(outcome.result.error_code == AnswerQuestion.Result.CANCELED, f"with its code: {outcome.result.error_msg}")


def check_controls(client: Client, path: str) -> None:
    reply = client.wait(client.send(FilePath, "save", path=path))
    expect(reply.success, f"save: {reply.message}")
    session = client.state.session_id
    expect(client.wait(client.send(Trigger, "reset")).success, "reset")
    expect(client.ask().error_code == AskSpatial.Response.NO_FRAME, "nothing is remembered after it")
    reply = client.wait(client.send(FilePath, "load", path=path))
    expect(reply.success, f"load: {reply.message}")
    expect(client.ask(options=OPTIONS).session_id == session, "the saved session continues")


def check_lifecycle(client: Client) -> None:
    expect(client.change(Transition.TRANSITION_DEACTIVATE), "deactivate")
    reply = client.ask()
    expect(reply.error_code == AskSpatial.Response.INACTIVE, f"inactive: {reply.error_msg}")
    outcome = client.wait(client.goal([], question="Where is the door?").get_result_async())
    expect(outcome.status == ABORTED, "a goal aborts while inactive")
    # the old subscription has to be gone before its count tells of the new one
    client.until(lambda: client.images.get_subscription_count() == 0, "the camera subscription goes")
    expect(client.change(Transition.TRANSITION_ACTIVATE), "activate")
    client.until(lambda: client.images.get_subscription_count() > 0, "the camera subscription comes back")
    client.show()
    expect(client.ask(options=OPTIONS).error_code == AskSpatial.Response.NONE, "answers again")


def main(namespace: str, path: str) -> None:
    rclpy.init()
    client = Client(namespace)
    check_start(client)
    check_answers(client)
    check_route(client)
    check_bad_images(client)
    check_camera_pause(client)
    check_action(client)
    check_controls(client, path)
    check_lifecycle(client)
    rclpy.shutdown()
    print("all promises kept")


if __name__ == "__main__":
    main(*sys.argv[1:])
