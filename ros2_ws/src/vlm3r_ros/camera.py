"""The camera subscription: QoS with fall-back, stamps, pace, and what is wrong with frames. Never touches the model."""

from __future__ import annotations

import time
from math import inf

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from vlm3r_core.image_encoding import ENCODINGS
from vlm3r_core.types import Frame
from vlm3r_ros.convert import NS_PER_S, to_frame, to_ns
from vlm3r_ros.params import NodeConfig

MAX_AHEAD_S = 5.0
SILENCE_S = 5.0
REPEAT_S = 10.0
ONCE_S = inf


def checked_stamp(stamp_ns: int, now_ns: int) -> tuple[int, str]:
    """The capture time to believe.

    Args:
        stamp_ns: the header's stamp.
        now_ns: the node's time; 0 while use_sim_time waits for /clock.

    Returns:
        The stamp in nanoseconds, and what was wrong with the header's ("" if nothing).

    Raises:
        ValueError: neither the header nor the clock has a time.
    """
    if stamp_ns <= 0 and now_ns <= 0:
        raise ValueError("image has no stamp and use_sim_time is set without a /clock; publish /clock or stamp images")
    if stamp_ns <= 0:
        return now_ns, "image stamps are unset, the time of arrival is used instead; set header.stamp in the camera"
    ahead_s = (stamp_ns - now_ns) / NS_PER_S
    if now_ns > 0 and ahead_s > MAX_AHEAD_S:
        complaint = (
            f"image stamp is {ahead_s:.1f} s in the future (at most {MAX_AHEAD_S:g} s), the time of arrival is used "
            "instead; synchronise the clocks, or set use_sim_time if the images come from a simulator or bag"
        )
        return now_ns, complaint
    return stamp_ns, ""


class Pace:
    """Chooses frames so that their average rate stays below a limit."""

    def __init__(self):
        self._due_ns = 0

    def takes(self, stamp_ns: int, max_fps: float) -> bool:
        """Whether the frame of this stamp is taken; max_fps 0 takes all."""
        if max_fps <= 0:
            return True
        period_ns = int(NS_PER_S / max_fps)
        early_ns = self._due_ns - stamp_ns
        # a quarter period of tolerance, or a camera at just this rate would lose frames to jitter
        tolerance_ns = period_ns // 4
        # earlier than any frame after the last one taken: time went backwards
        if tolerance_ns < early_ns <= period_ns + tolerance_ns:
            return False
        on_schedule = abs(early_ns) <= period_ns
        self._due_ns = (self._due_ns if on_schedule else stamp_ns) + period_ns
        return True


class Camera:
    """One subscription, from activate to deactivate."""

    def __init__(self, node, worker, config: NodeConfig, enabled: bool = True):
        """Subscribes.

        Args:
            node: gives logger, clock and topics.
            worker: receives frames and is told of refused ones.
            config: may be replaced while running; only max_fps is read again.
            enabled: False ignores frames until set to True.
        """
        self.config, self.enabled = config, enabled
        self._node, self._worker = node, worker
        self._log = node.get_logger()
        self._pace = Pace()
        self._said: dict[str, float] = {}
        self._last_image_s = time.monotonic()
        self._type = CompressedImage if config.image_transport == "compressed" else Image
        self.topic = camera_topic(node, config)
        self._subscribe(ReliabilityPolicy[config.image_reliability.upper()])

    def close(self) -> None:
        """Unsubscribes."""
        self._node.destroy_subscription(self._subscription)
        self._subscription = None

    def report_silence(self) -> None:
        """Logs now and then that no image comes, and where it is expected."""
        silent_s = time.monotonic() - self._last_image_s
        if silent_s < SILENCE_S or not self._may_say("silence", REPEAT_S):
            return
        self._log.warning(
            f"no image for {silent_s:.0f} s on {self.topic} ({self._type.__name__}, "
            f"{self._node.count_publishers(self.topic)} publishers); start the camera, or name its topic in "
            "parameter camera and its kind in image_transport"
        )

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        self._reliability = reliability
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability, durability=DurabilityPolicy.VOLATILE
        )
        events = SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible_qos)
        self._subscription = self._node.create_subscription(
            self._type, self.topic, self._on_image, qos, event_callbacks=events
        )

    def _on_incompatible_qos(self, event) -> None:
        # not from inside the subscription's own event
        self._node.bridge.post(self._fall_back, event.last_policy_kind)

    def _fall_back(self, policy: int) -> None:
        if self._subscription is None or self._reliability == ReliabilityPolicy.BEST_EFFORT:
            return
        if policy != QoSPolicyKind.RELIABILITY:
            name = QoSPolicyKind(policy).name.lower()
            self._warn("qos", f"a camera on {self.topic} offers an incompatible {name}; it is not received", REPEAT_S)
            return
        self._log.warning(
            f"the camera on {self.topic} offers best effort only, subscribing again as best effort; "
            "set image_reliability to best_effort to start that way"
        )
        self._node.destroy_subscription(self._subscription)
        self._subscribe(ReliabilityPolicy.BEST_EFFORT)

    def _on_image(self, image: Image | CompressedImage) -> None:
        self._last_image_s = time.monotonic()
        if not self.enabled:
            return
        try:
            frame = self._frame(image)
        except ValueError as error:
            self._worker.count_dropped()
            self._complain(image, f"image on {self.topic} dropped: {error}")
            return
        if frame is not None:
            self._worker.push(frame)

    def _frame(self, image: Image | CompressedImage) -> Frame | None:
        """The frame, or None where the pace leaves it out."""
        header_ns = to_ns(image.header.stamp)
        stamp_ns, complaint = checked_stamp(header_ns, self._node.get_clock().now().nanoseconds)
        if complaint and header_ns <= 0:
            self._warn("stamp unset", complaint, ONCE_S)
        elif complaint:
            self._warn("stamp ahead", complaint, REPEAT_S)
        if not self._pace.takes(stamp_ns, self.config.max_fps):
            return None
        return to_frame(image, stamp_ns, self.config.rotate)

    def _complain(self, image: Image | CompressedImage, text: str) -> None:
        """An encoding that is not read will not change: say it once. Damage may: say it again now and then."""
        encoding = getattr(image, "encoding", "")
        if encoding and encoding not in ENCODINGS:
            if self._may_say(f"encoding {encoding}", ONCE_S):
                self._log.error(text)
        elif self._may_say("bad image", REPEAT_S):
            self._log.error(text)

    def _warn(self, kind: str, text: str, every_s: float) -> None:
        if self._may_say(kind, every_s):
            self._log.warning(text)

    def _may_say(self, kind: str, every_s: float) -> bool:
        now_s = time.monotonic()
        # any text may come as an encoding: the memory of what was said is bounded
        if now_s - self._said.get(kind, -inf) < every_s or (kind not in self._said and len(self._said) > 100):
            return False
        self._said[kind] = now_s
        return True


def camera_topic(node, config: NodeConfig) -> str:
    """The full name to subscribe to: remappings of image_raw count for compressed images as well."""
    topic = node.resolve_topic_name(config.camera or "image_raw")
    if config.image_transport == "compressed" and not topic.endswith("/compressed"):
        topic += "/compressed"
    return topic
