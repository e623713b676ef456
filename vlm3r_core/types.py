"""The nouns every folder shares: frames in, answers and routes out. No torch, no ROS, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import nan

import numpy as np

ANSWER_TYPES = ("auto", "choice", "number", "text")


class NotReady(RuntimeError):
    """The model is not loaded yet, or no longer serves."""


class Busy(RuntimeError):
    """The question queue is full; the question was not taken."""


class NoFrame(RuntimeError):
    """A question came before the stream had a frame."""


class StaleView(RuntimeError):
    """The newest frame is older than the caller accepts."""


class Cancelled(RuntimeError):
    """The caller cancelled the question before it was answered."""


@dataclass(frozen=True)
class Frame:
    """One camera image.

    Args:
        rgb: uint8 [H, W, 3], RGB.
        stamp_ns: capture time in nanoseconds, of any clock that does not run backwards within a session.
        frame_id: name of the optical frame, "" where unknown.
        K: intrinsics [3, 3] float64 in pixels, or None.

    Raises:
        ValueError: rgb is not uint8 [H, W, 3] with H, W >= 1.
    """

    rgb: np.ndarray
    stamp_ns: int
    frame_id: str = ""
    K: np.ndarray | None = None

    def __post_init__(self):
        shape = getattr(self.rgb, "shape", None)
        dtype = getattr(self.rgb, "dtype", None)
        if dtype != np.uint8 or shape is None or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(
                f"Frame.rgb must be a uint8 array [H, W, 3] with at least one pixel, got {dtype} {shape}; "
                "convert the image to 8-bit RGB first"
            )


@dataclass(frozen=True)
class LatencyMs:
    """Where a question's time went, in milliseconds from the moment it was submitted."""

    queue: float = 0.0  # waiting for the model
    first_token: float = 0.0  # submitted until the first token (or option likelihoods) existed
    total: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What the model said about the stream, and what that rests on."""

    text: str
    kind: str  # "choice", "number" or "text"
    choice_idx: int = -1  # index into the given options, -1 unless kind is "choice"
    value: float = nan  # the parsed number, NaN unless kind is "number" and a number was said
    unit: str = ""  # unit of value: "m", "cm", "m^2", "deg", "s", "count", or "" where none was said or asked
    confidence: float = 0.0  # in 0..1, meaning given by confidence_meaning
    confidence_meaning: str = ""
    seen: bool = True  # False: the answer is that the thing was not seen so far
    supporting_stamps_ns: tuple[int, ...] = ()  # frames in the visual context, oldest first
    frames_used: int = 0  # number of frames in the visual context
    state_stamp_ns: int = 0  # stamp of the newest frame in the answer's state
    session_id: str = ""  # changes at every reset
    latency_ms: LatencyMs = field(default_factory=LatencyMs)
    trained: bool = False  # False: the weights are random, the answer means nothing


@dataclass(frozen=True)
class AnswerPart:
    """One step of a streamed answer: text decoded so far; the last part carries the whole Answer."""

    text: str  # all text decoded so far
    stage: str  # "prefill", "decoding" or "done"
    tokens: int  # tokens decoded so far
    answer: Answer | None = None


class RouteStepKind(StrEnum):
    """What a route step tells the robot to do."""

    FORWARD = "FORWARD"
    TURN_LEFT = "TURN_LEFT"
    TURN_RIGHT = "TURN_RIGHT"
    TURN_BACK = "TURN_BACK"
    STOP = "STOP"


@dataclass(frozen=True)
class RouteStep:
    """One instruction of a route."""

    kind: RouteStepKind
    landmark: str = ""  # where a FORWARD step ends, "" otherwise
    angle_rad: float = 0.0  # nominal turn, left positive; 0 for FORWARD and STOP
    distance_m: float = nan  # NaN: unknown
    confidence: float = 0.0  # in 0..1; for turns the likelihood of this turn given the earlier ones


@dataclass(frozen=True)
class RouteAlternative:
    """One combination of turns and its probability among all combinations."""

    text: str
    probability: float


@dataclass(frozen=True)
class Route:
    """The likeliest turns along the asked way, with the Answer's bookkeeping."""

    steps: tuple[RouteStep, ...]
    text: str
    confidence: float  # probability of this combination of turns among all of them
    alternatives: tuple[RouteAlternative, ...]  # every combination, likeliest first
    confidence_meaning: str = ""
    supporting_stamps_ns: tuple[int, ...] = ()
    frames_used: int = 0
    state_stamp_ns: int = 0
    session_id: str = ""
    latency_ms: LatencyMs = field(default_factory=LatencyMs)
    trained: bool = False


@dataclass(frozen=True)
class StreamStats:
    """A snapshot of a stream's bookkeeping."""

    state: str = "loading"  # loading, ready, failed or stopped
    frames_seen: int = 0  # frames processed since the last reset
    frames_kept: int = 0  # frames whose tokens memory holds
    frames_dropped: int = 0  # frames superseded before processing, out of order, or bad
    fps: float = 0.0  # frames processed per second over the last second or more
    step_mean_ms: float = 0.0  # over the last 100 frames
    step_max_ms: float = 0.0  # over the last 100 frames
    memory_bytes: int = 0  # state, kept tokens and prefix cache
    model: str = ""
    trained: bool = False
    session_id: str = ""
    last_stamp_ns: int = 0  # newest processed frame, 0 before the first
    error: str = ""  # why state is failed
