"""Lifecycle, parameters at start, QoS, clocks and failure, on nodes of their own."""

import io

import pytest
from builtin_interfaces.msg import Time
from harness import picture
from PIL import Image as Picture
from rclpy.qos import ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from vlm3r_ros import spatial_qa_node
from vlm3r_ros.convert import CODES, to_ns
from vlm3r_ros.interfaces import AskSpatial

OPTIONS = ["left", "right"]
# more positions than the language model has: found only while the worker builds the engine
TOO_LARGE = {"max_frames": 1024, "max_pool_frames": 1024}


def test_configure_to_cleanup_works_again_and_again(robot):
    one = robot()
    assert one.lifecycle == "unconfigured"
    assert one.ask().error_code == CODES.INACTIVE
    assert "not configured" in one.reset().message
    for _ in range(2):
        one.start()
        one.show()
        assert one.ask(options=OPTIONS).error_code == CODES.NONE
        assert one.change("deactivate")
        assert one.change("cleanup")
        assert one.lifecycle == "unconfigured"
        assert one.node.worker is None
    assert one.ask().error_code == CODES.INACTIVE


def test_a_question_while_the_model_loads_is_refused(robot):
    one = robot()
    assert one.change("configure")
    assert one.change("activate")
    reply = one.ask()
    # the model may have loaded meanwhile on a fast machine
    assert reply.error_code in (CODES.MODEL_NOT_READY, CODES.NO_FRAME)
    assert reply.error_msg


def test_configure_can_wait_for_the_model(robot):
    one = robot(wait_for_model=True)
    assert one.change("configure")
    assert one.stats.state == "ready"


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"model": "tiny-randm"}, "tiny-random"),
        ({"device": "tpu"}, "tpu"),
        ({"rotate": 45}, "rotate must be one of 0, 90, 180, 270"),
        ({"max_fps": -1.0}, "max_fps"),
        ({"max_fps": 5}, "decimal point"),
        ({"image_transport": "theora"}, "raw, compressed"),
        ({"memory_policy": "windw"}, "window"),
        ({"max_frames": 64, "max_pool_frames": 32}, "max_pool_frames must be"),
        ({"wait_for_model": True, **TOO_LARGE}, "lower max_frames"),
    ],
)
def test_a_bad_setting_fails_configure_with_the_reason(robot, capfd, parameters, reason):
    one = robot(**parameters)
    assert not one.change("configure")
    assert one.lifecycle == "unconfigured"
    assert reason in capfd.readouterr().err


def test_a_bad_setting_can_be_corrected(robot):
    one = robot(max_fps=-1.0, model="tiny-randm")
    assert not one.change("configure")
    assert all(verdict.successful for verdict in one.set(max_fps=0.0, model="tiny-random"))
    assert one.change("configure")


def test_a_model_that_fails_to_load_leads_through_the_error_state(robot, capfd):
    one = robot(**TOO_LARGE)
    assert one.change("configure")
    assert one.change("activate")
    one.until(lambda: one.lifecycle == "unconfigured")
    assert one.states[-1].state == "failed"
    assert "lower max_frames" in one.states[-1].error
    assert "failed" in capfd.readouterr().err
    assert "lower max_frames" in one.ask().error_msg
    assert all(verdict.successful for verdict in one.set(max_frames=8))
    one.start()


def test_a_model_that_breaks_while_serving_leads_through_the_error_state(robot, monkeypatch):
    engines = []
    make_engine = spatial_qa_node.make_engine
    monkeypatch.setattr(
        spatial_qa_node, "make_engine", lambda *settings: engines.append(make_engine(*settings)) or engines[-1]
    )
    one = robot()
    one.start()
    one.show()
    engines[0].model.projector = None

    def broke() -> bool:
        one.camera.publish(picture(one.now_ns()))
        return one.lifecycle == "unconfigured"

    one.until(broke)
    assert one.ask().error_code == CODES.INACTIVE
    one.start()
    one.show()
    assert one.ask(options=OPTIONS).error_code == CODES.NONE


def test_a_best_effort_camera_that_arrives_later_is_received_with_one_warning(robot, capfd):
    one = robot(reliability=ReliabilityPolicy.BEST_EFFORT)
    one.client.destroy_publisher(one.camera)
    assert one.change("configure")
    assert one.change("activate")
    one.until(lambda: one.stats.state == "ready")
    for _ in range(2):
        one.camera = one.publisher(type(picture(0)), "image_raw", ReliabilityPolicy.BEST_EFFORT)
        one.connect(one.camera)
        one.show()
        one.client.destroy_publisher(one.camera)
    assert capfd.readouterr().err.count("best effort only") == 1
    assert one.stats.frames_seen == 2


@pytest.mark.parametrize("reliability", ["reliable", "best_effort", "system_default"])
def test_every_reliability_hears_a_reliable_camera(robot, reliability):
    one = robot(image_reliability=reliability)
    one.start()
    one.show()
    assert one.stats.frames_seen == 1


def test_compressed_images_of_another_topic(robot):
    one = robot(camera="/front/image", image_transport="compressed", rotate=90)
    one.camera = one.publisher(CompressedImage, "/front/image/compressed")
    one.start()
    for kind in ("jpeg", "png"):
        file = io.BytesIO()
        Picture.new("RGB", (80, 60), (200, 100, 50)).save(file, kind)
        image = CompressedImage(format=f"rgb8; {kind} compressed bgr8", data=file.getvalue())
        image.header.stamp = one.client.get_clock().now().to_msg()
        one.show(image)
    assert one.stats.frames_seen == 2
    one.show(CompressedImage(format="jpeg", data=b"\xff\xd8\xff"))
    one.show(CompressedImage(format="16UC1; compressedDepth png", data=file.getvalue()))
    assert one.stats.frames_dropped == 2


def test_a_full_queue_is_said_and_the_rest_is_answered(robot):
    one = robot(max_questions=2)
    one.start()
    one.show()
    futures = [one.send(AskSpatial, "ask", question=f"Where is chair {n}?", options=OPTIONS) for n in range(50)]
    codes = [one.result(future).error_code for future in futures]
    assert set(codes) <= {CODES.NONE, CODES.QUEUE_FULL}
    assert CODES.NONE in codes


def test_simulated_time_going_back_starts_a_new_session(robot):
    one = robot(use_sim_time=True, max_frame_age_s=10.0)
    clock = one.publisher(Clock, "/clock")
    one.start()
    one.connect(clock)

    def at(second: int) -> None:
        clock.publish(Clock(clock=Time(sec=second)))
        one.until(lambda: one.node.get_clock().now().nanoseconds == second * 10**9)

    # neither the image nor the clock has a time yet
    one.show(picture(0))
    assert (one.stats.frames_seen, one.stats.frames_dropped) == (0, 1)
    at(100)
    one.show(picture(100 * 10**9))
    reply = one.ask(options=OPTIONS)
    assert (reply.error_code, to_ns(reply.state_stamp)) == (CODES.NONE, 100 * 10**9)
    session = one.stats.session_id
    at(130)
    assert one.ask(options=OPTIONS).error_code == CODES.STALE_VIEW
    at(10)
    one.until(lambda: one.stats.session_id != session)
    assert one.stats.frames_seen == 0
