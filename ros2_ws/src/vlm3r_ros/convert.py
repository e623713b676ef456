"""ROS messages to and from the core's nouns. Pure functions: no node, no clock, no waiting."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image

from vlm3r_core.image_encoding import decode_compressed, to_rgb
from vlm3r_core.types import Answer, Busy, Cancelled, Frame, NoFrame, NotReady, Route, StaleView, StreamStats
from vlm3r_ros.interfaces import AskSpatial, RouteStep, SpatialState

NS_PER_S = 1_000_000_000
ROTATIONS = (0, 90, 180, 270)

# AskSpatial, PlanRoute and AnswerQuestion number their error codes alike
CODES = AskSpatial.Response
_CODE_OF = (
    (NotReady, CODES.MODEL_NOT_READY),
    (Busy, CODES.QUEUE_FULL),
    (NoFrame, CODES.NO_FRAME),
    (StaleView, CODES.STALE_VIEW),
    (Cancelled, CODES.CANCELED),
    (TimeoutError, CODES.TIMEOUT),
    (ValueError, CODES.BAD_REQUEST),
)


def to_ns(stamp: Time) -> int:
    """The message's time in nanoseconds."""
    return stamp.sec * NS_PER_S + stamp.nanosec


def to_stamp(ns: int) -> Time:
    """Nanoseconds as a message; builtin_interfaces/Time holds seconds in 32 bits.

    Raises:
        ValueError: the time does not fit (before 1901 or after 2038).
    """
    sec, nanosec = divmod(int(ns), NS_PER_S)
    if not -(2**31) <= sec < 2**31:
        raise ValueError(f"builtin_interfaces/Time holds 32-bit seconds, got {sec} s; use stamps since 1970 in ns")
    return Time(sec=sec, nanosec=nanosec)


def image_to_rgb(image: Image | CompressedImage) -> np.ndarray:
    """Decodes a camera message.

    Args:
        image: raw, in one of vlm3r_core.image_encoding.ENCODINGS; or compressed, JPEG or PNG.

    Returns:
        A new array, uint8 [H, W, 3], RGB.

    Raises:
        ValueError: unsupported encoding or format, no pixels, or missing data.
    """
    if isinstance(image, Image):
        return to_rgb(image.encoding, image.height, image.width, image.step, image.data, bool(image.is_bigendian))
    if "compressedDepth" in image.format:
        raise ValueError(
            f"compressed image must be a JPEG or PNG picture, got format {image.format!r}; "
            "this is a depth image, choose the camera's colour topic"
        )
    return decode_compressed(image.data)


def rotate(rgb: np.ndarray, degrees: int) -> np.ndarray:
    """Turns an image [H, W, 3] clockwise by 0, 90, 180 or 270 degrees; the result is contiguous."""
    if degrees not in ROTATIONS:
        raise ValueError(f"rotate must be one of {', '.join(map(str, ROTATIONS))} degrees clockwise, got {degrees}")
    return np.ascontiguousarray(np.rot90(rgb, -degrees // 90)) if degrees else rgb


def to_frame(image: Image | CompressedImage, stamp_ns: int, degrees: int = 0) -> Frame:
    """A camera message as a Frame.

    Args:
        image: see image_to_rgb.
        stamp_ns: the capture time to use; the header's may be unset.
        degrees: clockwise turn that sets the picture upright.

    Raises:
        ValueError: see image_to_rgb and rotate.
    """
    return Frame(rotate(image_to_rgb(image), degrees), stamp_ns, image.header.frame_id)


def fill_answer(answer: Answer, reply):
    """Writes an Answer into AskSpatial.Response or AnswerQuestion.Result, which share its fields; returns the reply."""
    for name in ("text", "kind", "choice_idx", "value", "unit", "seen"):
        setattr(reply, name, getattr(answer, name))
    return _fill_bookkeeping(answer, reply)


def fill_route(route: Route, reply):
    """Writes a Route into PlanRoute.Response; returns the reply."""
    reply.steps = [
        RouteStep(
            kind=getattr(RouteStep, step.kind.value),
            landmark=step.landmark,
            angle_rad=float(step.angle_rad),
            distance_m=float(step.distance_m),
            confidence=float(step.confidence),
        )
        for step in route.steps
    ]
    reply.text = route.text
    reply.alternatives = [alternative.text for alternative in route.alternatives]
    reply.alternative_probabilities = [float(alternative.probability) for alternative in route.alternatives]
    return _fill_bookkeeping(route, reply)


def _fill_bookkeeping(result: Answer | Route, reply):
    reply.confidence = float(result.confidence)
    reply.confidence_meaning = result.confidence_meaning
    reply.supporting_stamps = [to_stamp(ns) for ns in result.supporting_stamps_ns]
    reply.frames_used = result.frames_used
    reply.state_stamp = to_stamp(result.state_stamp_ns)
    reply.session_id = result.session_id
    reply.latency_queue_ms = float(result.latency_ms.queue)
    reply.latency_first_token_ms = float(result.latency_ms.first_token)
    reply.latency_total_ms = float(result.latency_ms.total)
    reply.trained = result.trained
    reply.error_code, reply.error_msg = CODES.NONE, ""
    return reply


def error_code(error: BaseException) -> int:
    """The interfaces' code for what the core raised, UNKNOWN for anything unforeseen."""
    return next((code for kind, code in _CODE_OF if isinstance(error, kind)), CODES.UNKNOWN)


def error_text(error: BaseException) -> str:
    """A sentence for error_msg, never empty; names the type where nobody wrote a message for people."""
    text = str(error)
    return text if text and error_code(error) != CODES.UNKNOWN else f"{type(error).__name__}: {text}".rstrip(": ")


def fill_error(code: int, message: str, reply):
    """Writes a failure into any of the three replies; returns the reply."""
    reply.error_code, reply.error_msg = code, message
    if hasattr(reply, "choice_idx"):
        reply.choice_idx, reply.value = -1, float("nan")
    return reply


def state_message(stats: StreamStats, now_ns: int) -> SpatialState:
    """What ~/state publishes.

    Args:
        stats: the worker's snapshot.
        now_ns: the node's time in nanoseconds.
    """
    return SpatialState(
        stamp=to_stamp(now_ns),
        state=stats.state,
        frames_seen=stats.frames_seen,
        frames_kept=stats.frames_kept,
        frames_dropped=stats.frames_dropped,
        fps=float(stats.fps),
        step_mean_ms=float(stats.step_mean_ms),
        step_max_ms=float(stats.step_max_ms),
        memory_bytes=stats.memory_bytes,
        model=stats.model,
        trained=stats.trained,
        session_id=stats.session_id,
        last_stamp=to_stamp(stats.last_stamp_ns),
        error=stats.error,
    )
