"""Messages become the core's nouns and back. Decoding of pixels is tested with vlm3r_core.image_encoding."""

import io
import math

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from PIL import Image as Picture
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vlm3r_ros import convert
from vlm3r_ros.convert import CODES
from vlm3r_ros.interfaces import AnswerQuestion, AskSpatial, PlanRoute, RouteStep, SpatialState

from vlm3r_core.image_encoding import ENCODINGS
from vlm3r_core.types import (
    Answer,
    Busy,
    Cancelled,
    LatencyMs,
    NoFrame,
    NotReady,
    Route,
    RouteAlternative,
    RouteStepKind,
    StaleView,
    StreamStats,
)
from vlm3r_core.types import RouteStep as Step

# red, green / blue, white, and what each encoding stores for it, by hand
RGB = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
GREY = np.array([[[0] * 3, [64] * 3], [[128] * 3, [255] * 3]], np.uint8)
RED_PAIR = np.array([[[255, 0, 0]] * 2], np.uint8)
CASES = {
    "rgb8": (RGB, 6, bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255])),
    "bgr8": (RGB, 6, bytes([0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255, 255])),
    "8UC3": (RGB, 6, bytes([0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255, 255])),
    "rgba8": (RGB, 8, bytes([255, 0, 0, 9, 0, 255, 0, 9, 0, 0, 255, 9, 255, 255, 255, 9])),
    "bgra8": (RGB, 8, bytes([0, 0, 255, 9, 0, 255, 0, 9, 255, 0, 0, 9, 255, 255, 255, 9])),
    "8UC4": (RGB, 8, bytes([0, 0, 255, 9, 0, 255, 0, 9, 255, 0, 0, 9, 255, 255, 255, 9])),
    "mono8": (GREY, 2, bytes([0, 64, 128, 255])),
    "8UC1": (GREY, 2, bytes([0, 64, 128, 255])),
    # little-endian multiples of 257, the step of one grey level
    "mono16": (GREY, 4, bytes([0, 0, 64, 64, 128, 128, 255, 255])),
    # BT.601 limited range red: Y 81, U 90, V 240
    "yuv422": (RED_PAIR, 4, bytes([90, 81, 240, 81])),
    "uyvy": (RED_PAIR, 4, bytes([90, 81, 240, 81])),
    "yuv422_yuy2": (RED_PAIR, 4, bytes([81, 90, 81, 240])),
    "yuyv": (RED_PAIR, 4, bytes([81, 90, 81, 240])),
}


def message(encoding: str, rgb: np.ndarray, step: int, data: bytes, **fields) -> Image:
    return Image(
        header=Header(stamp=Time(sec=3, nanosec=4), frame_id="optical"),
        height=rgb.shape[0],
        width=rgb.shape[1],
        encoding=encoding,
        step=step,
        data=data,
        **fields,
    )


def test_every_encoding_has_a_case():
    assert set(CASES) == set(ENCODINGS)


@pytest.mark.parametrize("encoding", CASES)
def test_each_encoding_gives_the_picture(encoding):
    rgb, step, data = CASES[encoding]
    got = convert.image_to_rgb(message(encoding, rgb, step, data))
    # BT.601 red comes out as 254, 0, 0 in 8-bit fixed point
    tolerance = 1 if encoding.startswith(("yuv", "uyvy")) else 0
    assert np.abs(got.astype(int) - rgb).max() <= tolerance


@pytest.mark.parametrize("encoding", CASES)
def test_row_padding_is_skipped(encoding):
    rgb, step, data = CASES[encoding]
    padded = b"".join(data[row * step : (row + 1) * step] + b"\xee\xee\xee" for row in range(len(rgb)))
    expected = convert.image_to_rgb(message(encoding, rgb, step, data))
    np.testing.assert_array_equal(convert.image_to_rgb(message(encoding, rgb, step + 3, padded)), expected)


def test_mono16_follows_the_byte_order_of_the_message():
    samples = np.array([[0, 257, 65535]], ">u2")
    image = message("mono16", np.zeros((1, 3, 3)), 6, samples.tobytes(), is_bigendian=1)
    np.testing.assert_array_equal(convert.image_to_rgb(image)[0, :, 0], [0, 1, 255])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoding": "32FC1"}, "encoding must be one of .* got '32FC1'; .*depth"),
        ({"data": bytes(5)}, "12 bytes, got 5; .*cut off"),
        ({"width": 0}, "at least one pixel"),
        ({"step": 5}, "step must be at least 6 bytes"),
        ({"height": 4_000_000_000}, "cut off"),
    ],
)
def test_a_bad_image_says_what_was_expected_what_came_and_what_to_do(changes, words):
    image = message("rgb8", RGB, 6, CASES["rgb8"][2])
    for name, value in changes.items():
        setattr(image, name, value)
    with pytest.raises(ValueError, match=words):
        convert.image_to_rgb(image)


def compressed(kind: str, image_format: str) -> CompressedImage:
    file = io.BytesIO()
    Picture.fromarray(np.full((16, 16, 3), (200, 100, 50), np.uint8)).save(file, kind)
    return CompressedImage(format=image_format, data=file.getvalue())


@pytest.mark.parametrize(
    ("kind", "image_format"), [("png", "rgb8; png compressed bgr8"), ("jpeg", "jpeg"), ("png", "")]
)
def test_compressed_images_are_decoded(kind, image_format):
    got = convert.image_to_rgb(compressed(kind, image_format))
    # JPEG rounds a flat colour by a few levels
    assert np.abs(got.astype(int) - (200, 100, 50)).max() <= (3 if kind == "jpeg" else 0)


def test_compressed_depth_and_cut_files_are_refused():
    with pytest.raises(ValueError, match=r"compressedDepth.*colour topic"):
        convert.image_to_rgb(compressed("png", "16UC1; compressedDepth png"))
    image = compressed("jpeg", "jpeg")
    image.data = bytes(image.data[:200])
    with pytest.raises(ValueError, match="cut off or damaged"):
        convert.image_to_rgb(image)


def test_rotate_turns_clockwise():
    left_right = np.array([[[1] * 3, [2] * 3]], np.uint8)
    np.testing.assert_array_equal(convert.rotate(left_right, 90)[:, 0, 0], [1, 2])
    np.testing.assert_array_equal(convert.rotate(left_right, 180)[0, :, 0], [2, 1])
    np.testing.assert_array_equal(convert.rotate(left_right, 270)[:, 0, 0], [2, 1])
    assert convert.rotate(left_right, 90).flags.c_contiguous
    with pytest.raises(ValueError, match=r"0, 90, 180, 270.*got 45"):
        convert.rotate(left_right, 45)


def test_a_frame_carries_stamp_name_and_turn():
    frame = convert.to_frame(message("rgb8", RGB, 6, CASES["rgb8"][2]), 77, 180)
    assert (frame.stamp_ns, frame.frame_id) == (77, "optical")
    np.testing.assert_array_equal(frame.rgb, RGB[::-1, ::-1])


@pytest.mark.parametrize("ns", [0, 1, 1_700_000_000_123_456_789, -1])
def test_stamps_survive_the_round_trip(ns):
    assert convert.to_ns(convert.to_stamp(ns)) == ns


def test_a_stamp_beyond_32_bits_is_refused():
    with pytest.raises(ValueError, match="32-bit seconds"):
        convert.to_stamp(2**31 * 10**9)


BOOKKEEPING = {
    "confidence": 0.5,
    "confidence_meaning": "probability of the option",
    "supporting_stamps_ns": (1, 2_000_000_003),
    "frames_used": 2,
    "state_stamp_ns": 2_000_000_003,
    "session_id": "abc",
    "latency_ms": LatencyMs(1.5, 2.5, 3.5),
    "trained": True,
}


def check_bookkeeping(reply):
    assert (reply.confidence, reply.confidence_meaning) == (0.5, "probability of the option")
    assert [convert.to_ns(stamp) for stamp in reply.supporting_stamps] == [1, 2_000_000_003]
    assert (reply.frames_used, convert.to_ns(reply.state_stamp), reply.session_id) == (2, 2_000_000_003, "abc")
    latency = (reply.latency_queue_ms, reply.latency_first_token_ms, reply.latency_total_ms)
    assert latency == (1.5, 2.5, 3.5)
    assert reply.trained
    assert (reply.error_code, reply.error_msg) == (CODES.NONE, "")


@pytest.mark.parametrize("reply", [AskSpatial.Response(), AnswerQuestion.Result()], ids=["service", "action"])
def test_an_answer_fills_service_and_action_alike(reply):
    answer = Answer(text="2.5 m", kind="number", value=2.5, unit="m", seen=False, **BOOKKEEPING)
    assert convert.fill_answer(answer, reply) is reply
    assert (reply.text, reply.kind, reply.choice_idx, reply.value, reply.unit) == ("2.5 m", "number", -1, 2.5, "m")
    assert not reply.seen
    check_bookkeeping(reply)


def test_a_route_fills_the_reply():
    steps = tuple(Step(kind, "door", angle_rad=0.5, confidence=0.25) for kind in RouteStepKind)
    alternatives = (RouteAlternative("left", 0.75), RouteAlternative("right", 0.25))
    route = Route(steps=steps, text="go", alternatives=alternatives, **BOOKKEEPING)
    reply = convert.fill_route(route, PlanRoute.Response())
    numbers = [RouteStep.FORWARD, RouteStep.TURN_LEFT, RouteStep.TURN_RIGHT, RouteStep.TURN_BACK, RouteStep.STOP]
    assert [step.kind for step in reply.steps] == numbers
    assert (reply.steps[0].landmark, reply.steps[0].angle_rad, reply.steps[0].confidence) == ("door", 0.5, 0.25)
    assert math.isnan(reply.steps[0].distance_m)
    assert reply.alternatives == ["left", "right"]
    assert list(reply.alternative_probabilities) == [0.75, 0.25]
    check_bookkeeping(reply)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotReady("a"), CODES.MODEL_NOT_READY),
        (Busy("a"), CODES.QUEUE_FULL),
        (NoFrame("a"), CODES.NO_FRAME),
        (StaleView("a"), CODES.STALE_VIEW),
        (Cancelled("a"), CODES.CANCELED),
        (TimeoutError("a"), CODES.TIMEOUT),
        (ValueError("a"), CODES.BAD_REQUEST),
        (RuntimeError("a"), CODES.UNKNOWN),
        (KeyError("a"), CODES.UNKNOWN),
    ],
)
def test_errors_have_codes_and_text(error, code):
    assert convert.error_code(error) == code
    assert convert.error_text(error) == ("a" if code != CODES.UNKNOWN else f"{type(error).__name__}: {error}")


def test_an_error_without_text_still_says_something():
    assert convert.error_text(MemoryError()) == "MemoryError"
    assert convert.error_text(ValueError()) == "ValueError"


def test_all_three_interfaces_number_their_codes_alike():
    names = [name for name in dir(CODES) if isinstance(getattr(CODES, name), int)]
    assert {"NONE", "GOAL_REJECTED", "SEND_GOAL_FAILURE", "UNKNOWN", "TIMEOUT", "INACTIVE"} <= set(names)
    for other in (PlanRoute.Response, AnswerQuestion.Result):
        assert [getattr(other, name) for name in names] == [getattr(CODES, name) for name in names]


def test_a_failure_leaves_no_answer_behind():
    reply = convert.fill_error(CODES.NO_FRAME, "no frame", AskSpatial.Response())
    assert (reply.error_code, reply.error_msg, reply.choice_idx) == (CODES.NO_FRAME, "no frame", -1)
    assert math.isnan(reply.value)
    assert convert.fill_error(CODES.NO_FRAME, "no frame", PlanRoute.Response()).error_msg == "no frame"


def test_the_state_message_holds_every_number():
    stats = StreamStats("ready", 7, 5, 3, 9.5, 1.5, 2.5, 10**12, "tiny", True, "abc", 4_000_000_005, "why")
    state = convert.state_message(stats, 6_000_000_007)
    assert convert.to_ns(state.stamp) == 6_000_000_007
    assert convert.to_ns(state.last_stamp) == 4_000_000_005
    for name in set(SpatialState.get_fields_and_field_types()) - {"stamp", "last_stamp"}:
        assert getattr(state, name) == getattr(stats, name), name
