"""What closed-loop agents ask through: frames in and answers out of a real node, over ROS only."""

import itertools
import threading

import numpy as np
import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

pytest.importorskip("embreex", reason="the simulator (extra `sim`) is not installed")

from rclpy.node import Node
from vlm3r_ros.interfaces import SpatialState
from vlm3r_ros.spatial_qa_node import SpatialQaNode

from sim.ros_bridge import NodeClient
from vlm3r_core.types import Frame, NoFrame, RouteStepKind

S = 10**9
PATIENCE_S = 120.0
_names = itertools.count()


def frame(stamp_s: float) -> Frame:
    rng = np.random.default_rng(int(1000 * stamp_s))
    return Frame(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8), int(stamp_s * S), "camera_optical_frame")


class Served:
    """A spatial_qa node that spins in a thread as its program does."""

    def __init__(self, **parameters):
        self.namespace = f"/served{next(_names)}"
        overrides = [Parameter(name, value=value) for name, value in {"model": "tiny-random", **parameters}.items()]
        self.node = SpatialQaNode(namespace=self.namespace, parameter_overrides=overrides)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        assert self.node.start()
        self._thread.start()

    def close(self):
        self._executor.shutdown()
        self._thread.join(PATIENCE_S)
        self.node.close()
        self.node.destroy_node()


@pytest.fixture(scope="module", params=[False, True], ids=["wall-time", "sim-time"])
def served(ros, request):
    one = Served(use_sim_time=request.param)
    yield one
    one.close()


@pytest.fixture
def client(served):
    with NodeClient(f"{served.namespace}/spatial_qa", timeout_s=PATIENCE_S) as one:
        one.reset()
        yield one


def test_every_frame_is_processed_before_push_returns(client, served):
    for count, stamp_s in enumerate((1.0, 1.5, 2.25), 1):
        client.push(frame(stamp_s))
        assert served.node.worker.stats().frames_seen == count


def test_answers_rest_on_the_frames_as_the_agent_stamped_them(client):
    for stamp_s in (1.0, 1.5, 2.25):
        client.push(frame(stamp_s))
    answer = client.ask("Where is the sofa?", ("left", "right", "back"), "choice")
    assert answer.text == ("left", "right", "back")[answer.choice_idx]
    assert answer.kind == "choice"
    assert answer.supporting_stamps_ns == (S, 3 * S // 2, 9 * S // 4)
    assert answer.state_stamp_ns == 9 * S // 4
    assert answer.frames_used == 3
    assert 0 < answer.confidence <= 1
    assert answer.confidence_meaning
    assert 0 < answer.latency_ms.first_token <= answer.latency_ms.total
    assert answer.trained is False


def test_a_route_is_planned(client):
    client.push(frame(1.0))
    route = client.plan_route("bed", "desk", "door", ("desk",))
    assert [step.kind for step in route.steps][::2] == [RouteStepKind.FORWARD, RouteStepKind.FORWARD]
    assert route.steps[-1].kind is RouteStepKind.STOP
    assert route.steps[0].landmark == "desk"
    assert len(route.alternatives) == 3
    assert sum(each.probability for each in route.alternatives) == pytest.approx(1, abs=1e-5)
    assert route.confidence == pytest.approx(route.alternatives[0].probability, abs=1e-6)
    assert route.state_stamp_ns == S


def test_time_that_goes_back_between_episodes_loses_no_frame(client, served):
    for _ in range(3):
        client.reset()
        for stamp_s in (1.0, 2.0, 3.0):
            client.push(frame(stamp_s))
        answer = client.ask("How many chairs are there?", answer_type="number")
        assert answer.supporting_stamps_ns == (S, 2 * S, 3 * S)
    assert served.node.worker.stats().frames_dropped == 0


def test_reset_forgets(client):
    client.push(frame(1.0))
    client.reset()
    with pytest.raises(NoFrame):
        client.ask("Where is the door?")
    client.push(frame(1.0))
    assert client.ask("Where is the door?", ("left", "right")).frames_used == 1


@pytest.mark.parametrize(
    ("question", "answer_type", "reason"), [("", "auto", "the question is empty"), ("Where?", "riddle", "'riddle'")]
)
def test_bad_questions_come_back_as_value_errors(client, question, answer_type, reason):
    client.push(frame(1.0))
    with pytest.raises(ValueError, match=reason):
        client.ask(question, answer_type=answer_type)


def test_a_bad_route_comes_back_as_a_value_error(client):
    client.push(frame(1.0))
    with pytest.raises(ValueError, match="goal"):
        client.plan_route("bed", "desk", "")


def test_a_frame_that_the_node_does_not_take_is_told(client, served):
    served.node.enable(False)
    client.timeout_s = 1.0
    with pytest.raises(TimeoutError, match=r"the frame of .* was processed; .* takes all images"):
        client.push(frame(1.0))
    served.node.enable(True)


def test_a_second_client_goes_on_where_the_first_ended(client, served):
    client.push(frame(50.0))
    with NodeClient(f"{served.namespace}/spatial_qa", timeout_s=PATIENCE_S) as second:
        second.push(frame(1.0))
        assert second.ask("Where is the door?", ("left", "right")).frames_used == 2


def test_without_a_node_the_error_says_how_to_start_one(ros):
    with pytest.raises(TimeoutError, match=r"no /nobody/spatial_qa .*ROS_DOMAIN_ID \d+.*__ns:=/nobody"):
        NodeClient("/nobody/spatial_qa", timeout_s=0.5)


def test_a_failed_model_is_told_at_once(ros):
    node = Node("reporter")
    publisher = node.create_publisher(SpatialState, "/failed/spatial_qa/state", 10)
    timer = threading.Event()

    def report():
        while not timer.wait(0.05):
            publisher.publish(SpatialState(state="failed", error="out of memory"))

    thread = threading.Thread(target=report)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="the model of /failed/spatial_qa is failed: out of memory"):
            NodeClient("/failed/spatial_qa", timeout_s=PATIENCE_S)
    finally:
        timer.set()
        thread.join()
        node.destroy_node()


def test_closing_twice_does_nothing(client):
    client.close()
    client.close()
