"""The node `camera_player`: plays a video, a folder of images or a bag as if it were a camera. It asks nothing."""

from __future__ import annotations

import array
import io
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import rclpy
from PIL import Image as Picture
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from vlm3r_core.clip import DEFAULT_FOLDER_FPS, open_clip
from vlm3r_core.config import check_settings, setting
from vlm3r_core.types import Frame
from vlm3r_ros import params
from vlm3r_ros.convert import to_stamp
from vlm3r_ros.interfaces import SpatialState

JPEG_QUALITY = 90
SETTLE_S = 0.5
REPORT_S = 5.0
POLL_S = 0.05
EXIT_OK, EXIT_FAILED = 0, 1


class PlaybackError(RuntimeError):
    """The frames cannot be played to the end."""


@dataclass(frozen=True)
class PlayerConfig:
    """Parameters of camera_player."""

    clip: str = setting("", "video file, folder of images, rosbag2 folder, .mcap or .db3 file")
    fps: float = setting(DEFAULT_FOLDER_FPS, "images per second of a folder, which has no timing", span=(0.001, 1000.0))
    bag_topic: str = setting("", "image topic of a bag; empty: the only one")
    max_frames: int = setting(0, "frames to play at most, spread evenly over the clip; 0: all", span=(0, 1_000_000))
    rate_hz: float = setting(0.0, "frames per second to publish at most; 0: the clip's own timing", span=(0.0, 1000.0))
    loop: bool = setting(False, "start again at the end, for ever")
    stamp: str = setting("now", "header stamps: now, or those of the clip", choices=("now", "clip"))
    frame_id: str = setting("", "optical frame of the camera; empty: the one of a bag, else camera_optical_frame")
    compressed: bool = setting(False, "publish JPEG on image_raw/compressed instead of raw images on image_raw")
    reliability: str = setting("reliable", "QoS of the images", choices=("reliable", "best_effort"))
    wait_for_subscriber: bool = setting(True, "start when someone listens")
    wait_for_state: str = setting(
        "", "topic of a SpatialState: publish each frame when the one before was processed; empty: do not wait"
    )
    state_timeout_s: float = setting(120.0, "seconds one frame may take with wait_for_state", span=(0.1, 86_400.0))

    def __post_init__(self):
        check_settings(self)


class CameraPlayer(Node):
    """Publishes the frames of one clip.

    Raises:
        ValueError: a parameter is wrong, or the clip cannot be opened.
        FileNotFoundError: there is no such clip.
    """

    def __init__(self, **kwargs):
        """Opens the clip; takes the keyword arguments of rclpy's Node."""
        super().__init__("camera_player", **kwargs)
        problems = params.declare(self, PlayerConfig)
        if problems:
            raise ValueError("bad parameters: " + "; ".join(problems.values()))
        self.config = params.read(self, PlayerConfig)
        self.clip = self._open()
        self.played = 0
        self._state: SpatialState | None = None
        self._publisher = self._make_publisher()
        if self.config.wait_for_state:
            self.create_subscription(SpatialState, self.config.wait_for_state, self._on_state, 10)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)

    def play(self) -> None:
        """Publishes every frame at its time; returns at the end of the clip.

        Raises:
            PlaybackError: with wait_for_state, a frame was not processed, or the model failed.
            ValueError: the clip has no readable frame.
        """
        self._wait_for_start()
        self.get_logger().info(f"playing {self.clip.path} ({self.clip.kind}) on {self._publisher.topic_name}")
        due_s = reported_s = time.monotonic()
        for frame, interval_s in self._frames():
            # no burst after a delay, and no drift without one
            due_s = max(due_s + interval_s, time.monotonic())
            self._spin_for(due_s - time.monotonic())
            self._publish_and_wait(frame)
            if time.monotonic() - reported_s > REPORT_S:
                reported_s = time.monotonic()
                self.get_logger().info(f"played {self.played} of {self._length()} frames")
        if self.config.reliability == "reliable":
            self._publisher.wait_for_all_acked(Duration(seconds=5))
        self.get_logger().info(f"end of the clip: played {self.played} of {self._length()} frames")

    def _open(self):
        if not self.config.clip:
            raise ValueError("parameter clip must name a video, folder of images or bag: --ros-args -p clip:=PATH")
        clip = open_clip(self.config.clip, fps=self.config.fps, topic=self.config.bag_topic)
        return clip.sampled(self.config.max_frames) if self.config.max_frames else clip

    def _make_publisher(self):
        reliability = ReliabilityPolicy[self.config.reliability.upper()]
        topic = self.resolve_topic_name("image_raw")
        kind, topic = (CompressedImage, f"{topic}/compressed") if self.config.compressed else (Image, topic)
        return self.create_publisher(kind, topic, QoSProfile(depth=5, reliability=reliability))

    def _length(self) -> str:
        known = self.clip.frame_count is not None and not self.config.loop
        return str(self.clip.frame_count) if known else "unknown"

    def _frames(self) -> Iterator[tuple[Frame, float]]:
        """Frames, each with the seconds that follow on the one before."""
        interval_s = 0.0
        while True:
            before_ns = None
            for frame in self.clip:
                if self.config.rate_hz:
                    interval_s = 1 / self.config.rate_hz if self.played else 0.0
                elif before_ns is not None:
                    interval_s = max(0.0, (frame.stamp_ns - before_ns) / 1e9)
                # the first frame of a repetition follows as its predecessor did
                yield frame, interval_s
                before_ns = frame.stamp_ns
            if not self.config.loop:
                return

    def _wait_for_start(self) -> None:
        topic = self._publisher.topic_name
        if self.config.wait_for_subscriber:
            self._wait(lambda: self._publisher.get_subscription_count() > 0, f"a subscriber of {topic}")
        if self.config.wait_for_state:
            self._wait(self._is_ready, f"the model to be ready ({self.config.wait_for_state})")
        # the subscriber may learn of this publisher a little later than the other way round
        self._spin_for(SETTLE_S)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        while not self._spin_until(condition, REPORT_S):
            self.get_logger().info(f"waiting for {what}")

    def _publish_and_wait(self, frame: Frame) -> None:
        before = _progress(self._state)
        self._publisher.publish(self._message(frame))
        self.played += 1
        if not self.config.wait_for_state:
            self._executor.spin_once(timeout_sec=0)
            return
        processed = self._spin_until(
            lambda: self._is_ready() and _progress(self._state) != before, self.config.state_timeout_s
        )
        if not processed:
            raise PlaybackError(
                f"frame {self.played} was not reported as processed on {self.config.wait_for_state} within "
                f"{self.config.state_timeout_s:g} s; check that its node is active, subscribes to "
                f"{self._publisher.topic_name} and takes every frame (max_fps 0)"
            )

    def _spin_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Serves callbacks until the condition holds; False where the time ran out first."""
        until_s = time.monotonic() + timeout_s
        while not condition():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return False
            self._executor.spin_once(timeout_sec=min(left_s, POLL_S))
        return True

    def _spin_for(self, seconds: float) -> None:
        self._spin_until(lambda: False, seconds)

    def _on_state(self, state: SpatialState) -> None:
        self._state = state

    def _is_ready(self) -> bool:
        if self._state is not None and self._state.state in ("failed", "stopped"):
            raise PlaybackError(f"the model is {self._state.state}: {self._state.error or 'see the log of its node'}")
        return self._state is not None and self._state.state == "ready"

    def _message(self, frame: Frame) -> Image | CompressedImage:
        message = _jpeg(frame) if self.config.compressed else _raw(frame)
        # a stamp of 0 means "no stamp" in ROS
        now = self.config.stamp == "now"
        message.header.stamp = self.get_clock().now().to_msg() if now else to_stamp(max(1, frame.stamp_ns))
        message.header.frame_id = self.config.frame_id or frame.frame_id or "camera_optical_frame"
        return message


def _progress(state: SpatialState | None) -> tuple:
    """Changes with every frame that the node dealt with."""
    return (state.session_id, state.frames_seen, state.frames_dropped) if state else ()


def _raw(frame: Frame) -> Image:
    height, width, _ = frame.rgb.shape
    # an array of bytes is taken over whole; other sequences are checked element by element
    data = array.array("B")
    data.frombytes(memoryview(frame.rgb).cast("B"))
    return Image(height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def _jpeg(frame: Frame) -> CompressedImage:
    out = io.BytesIO()
    Picture.fromarray(frame.rgb).save(out, "JPEG", quality=JPEG_QUALITY)
    return CompressedImage(format="jpeg", data=array.array("B", out.getvalue()))


def main(args: list[str] | None = None) -> int:
    """Plays the clip of parameter `clip`.

    Returns:
        0 at the end of the clip or on Ctrl-C, 1 where it could not be played (the log says why).
    """
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s] [%(name)s]: %(message)s")
    rclpy.init(args=args)
    try:
        CameraPlayer().play()
    except (KeyboardInterrupt, ExternalShutdownException):
        return EXIT_OK
    except (ValueError, FileNotFoundError, PlaybackError) as error:
        rclpy.logging.get_logger("camera_player").error(str(error))
        return EXIT_FAILED
    finally:
        rclpy.try_shutdown()
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
