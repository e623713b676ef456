"""The lifecycle node `spatial_qa` and its program: camera in, answers out. No maths, no torch, no model work."""

from __future__ import annotations

import functools
import logging
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

import rclpy
from rclpy.action.server import RCLError
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from vlm3r_core.config import StreamConfig
from vlm3r_core.cpu import share_cores
from vlm3r_core.types import NotReady
from vlm3r_ros import params
from vlm3r_ros.action import AnswerAction
from vlm3r_ros.bridge import Bridge
from vlm3r_ros.camera import Camera
from vlm3r_ros.convert import NS_PER_S, state_message
from vlm3r_ros.interfaces import SpatialState
from vlm3r_ros.params import NodeConfig
from vlm3r_ros.services import Services, oldest_view_ns

STATE_PERIOD_S = 1.0
STOP_TIMEOUT_S = 10.0
SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)
EXPECTED_ERRORS = (ValueError, KeyError, OSError, NotReady)


def logged(otherwise: TransitionCallbackReturn):
    """A lifecycle callback whose exceptions are logged and become `otherwise`; rclpy would drop them silently."""

    def decorate(callback: Callable):
        @functools.wraps(callback)
        def guarded(self, state: LifecycleState) -> TransitionCallbackReturn:
            try:
                return callback(self, state)
            except Exception as error:
                if not self.context.ok():
                    # a signal ends the process meanwhile: whatever failed did so for want of a context
                    return otherwise
                text = str(error) if isinstance(error, EXPECTED_ERRORS) else traceback.format_exc()
                self.get_logger().error(f"{callback.__name__} failed: {text}")
                return otherwise

        return guarded

    return decorate


def make_engine(config: NodeConfig, stream: StreamConfig):
    """Loads the model and starts an empty stream; runs on the worker's thread."""
    from vlm3r_core.loading import load
    from vlm3r_core.stream.engine import StreamEngine

    return StreamEngine(load(config.model, config.device, config.dtype, preset=stream.preset), stream)


def make_worker(config: NodeConfig, stream: StreamConfig, on_frame: Callable[[], None]):
    """A worker that is not started yet; it calls on_frame on its own thread after every processed frame.

    Raises:
        ValueError: unknown model spec or no such device.
    """
    # these import torch, which takes seconds: not before they are needed
    from vlm3r_core.loading import model_config, resolve_device
    from vlm3r_core.stream.worker import Worker

    model_config(config.model)
    resolve_device(config.device)
    return Worker(
        functools.partial(make_engine, config, stream),
        max_questions=stream.max_questions,
        model=config.model,
        on_frame=on_frame,
    )


class SpatialQaNode(LifecycleNode):
    """Answers spatial questions about its camera while it is active."""

    def __init__(self, **kwargs):
        """Declares parameters and offers services; takes the keyword arguments of rclpy's LifecycleNode."""
        super().__init__("spatial_qa", **kwargs)
        self.config = NodeConfig()
        self.worker = None
        self.active = False
        self.exit_code = 0
        self._enabled = True
        self._camera: Camera | None = None
        self._failure = ""
        self._timer = self._jump = None
        self._problems = params.declare(self, NodeConfig) | params.declare(self, StreamConfig)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)
        group = ReentrantCallbackGroup()
        self.bridge = Bridge(self, group)
        self._state_publisher = self.create_publisher(SpatialState, "~/state", 10)
        self._requests = Services(self, group)
        self._action = AnswerAction(self, group)

    # what services and camera use

    def oldest_view_ns(self, limit_s: float) -> int:
        """See services.oldest_view_ns; limit_s 0 stands for the parameter max_frame_age_s."""
        now_ns = self.get_clock().now().nanoseconds
        return oldest_view_ns(self.worker.stats().last_stamp_ns, now_ns, limit_s or self.config.max_frame_age_s)

    def inactive_reason(self) -> str:
        """Why the node does not answer, and what to do."""
        state = "inactive: activate it" if self.worker else "not configured: configure and activate it"
        return f"the node is {state}{self._failure and f' (the model failed: {self._failure})'}"

    def enable(self, enabled: bool) -> None:
        """Takes or ignores frames from now on."""
        self._enabled = enabled
        if self._camera:
            self._camera.enabled = enabled

    # lifecycle

    @logged(FAILURE)
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Checks parameters and starts loading the model; waits for it only with wait_for_model."""
        if self._problems:
            raise ValueError("bad parameters: " + "; ".join(self._problems.values()))
        self.config, stream = params.read(self, NodeConfig), params.read(self, StreamConfig)
        on_frame = functools.partial(self.bridge.post, self._publish_state)
        self.worker, self._failure, self._enabled = make_worker(self.config, stream, on_frame), "", True
        self.worker.start()
        if self.config.wait_for_model and not self._model_loaded():
            self._release()
            return FAILURE
        backward = Duration(nanoseconds=-max(1, int(stream.backward_reset_s * NS_PER_S)))
        threshold = JumpThreshold(min_forward=None, min_backward=backward, on_clock_change=False)
        self._jump = self.get_clock().create_jump_callback(threshold, post_callback=self._on_time_jump)
        self._timer = self.create_timer(STATE_PERIOD_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f"configured: model {self.config.model} on {self.config.device}")
        return SUCCESS

    @logged(ERROR)
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes to the camera."""
        if self._worker_failed():
            return ERROR
        self._camera = Camera(self, self.worker, self.config, self._enabled)
        self.active = True
        self.get_logger().info(f"active: images from {self._camera.topic}")
        return SUCCESS

    @logged(ERROR)
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes and cancels questions; the model and what it saw stay."""
        self._unsubscribe()
        if self._worker_failed():
            return ERROR
        self.worker.cancel_pending()
        return SUCCESS

    @logged(ERROR)
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops the worker and frees the model."""
        self._release()
        return SUCCESS

    @logged(ERROR)
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As cleanup, from any state."""
        self._release()
        return SUCCESS

    @logged(FAILURE)
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees everything; the node is unconfigured again and may be configured anew."""
        self._release()
        return SUCCESS

    def start(self) -> bool:
        """Configures and activates; False where one of them failed."""
        return self.trigger_configure() == SUCCESS and self.context.ok() and self.trigger_activate() == SUCCESS

    def give_up(self) -> None:
        """Ends the process with exit code 1 where exit_on_failure asks for it."""
        if self.context.ok() and self.get_parameter("exit_on_failure").value:
            self.exit_code = 1
            self.context.try_shutdown()

    def close(self) -> None:
        """Stops the worker and frees what destroy_node leaves; for the end of the process."""
        self._release()
        self._action.destroy()

    # inside

    def _model_loaded(self) -> bool:
        while self.worker.stats().state == "loading" and self.context.ok():
            time.sleep(0.05)
        return not self._worker_failed() and self.context.ok()

    def _worker_failed(self) -> bool:
        stats = self.worker.stats()
        if stats.state not in ("failed", "stopped"):
            return False
        self._failure = stats.error or f"its worker is {stats.state}"
        self.get_logger().error(f"model {stats.model} failed: {self._failure}")
        return True

    def _unsubscribe(self) -> None:
        self.active = False
        if self._camera:
            self._camera.close()
            self._camera = None

    def _release(self) -> None:
        self._unsubscribe()
        if self._timer:
            self.destroy_timer(self._timer)
        if self._jump:
            self._jump.unregister()
        worker, self._timer, self._jump, self.worker = self.worker, None, None, None
        if worker and not worker.stop(STOP_TIMEOUT_S):
            self.get_logger().warning(
                f"the worker did not stop within {STOP_TIMEOUT_S:g} s; it ends with its last task"
            )

    def _publish_state(self) -> None:
        # posted from the worker's thread: the node may have been cleaned up since
        if self.worker:
            now_ns = self.get_clock().now().nanoseconds
            self._state_publisher.publish(state_message(self.worker.stats(), now_ns))

    def _tick(self) -> None:
        self._publish_state()
        stats = self.worker.stats()
        if stats.state in ("failed", "stopped"):
            self._enter_error_state()
        elif self._camera and self._enabled:
            self._camera.report_silence()

    def _enter_error_state(self) -> None:
        # any transition whose callback returns ERROR leads through on_error
        if self.active:
            self.trigger_deactivate()
        else:
            self.trigger_activate()
        self.give_up()

    def _on_time_jump(self, jump: TimeJump) -> None:
        if self.worker and self.worker.stats().state == "ready":
            self.get_logger().warning(
                f"time went back by {-jump.delta.nanoseconds / NS_PER_S:.1f} s: the stream starts anew"
            )
            self.worker.reset()

    def _check_parameters(self, parameters):
        return params.check_change(parameters, unconfigured=self.worker is None)

    def _take_parameters(self, parameters) -> None:
        for parameter in parameters:
            self._problems.pop(parameter.name, None)
        self.config = replace(self.config, **{p.name: p.value for p in parameters if p.name in params.RUNTIME})
        if self._camera:
            self._camera.config = self.config


def main(args: list[str] | None = None) -> int:
    """Runs the node until Ctrl-C or SIGTERM.

    Returns:
        0; 1 if the start or the model failed and exit_on_failure is set.
    """
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s] [%(name)s]: %(message)s")
    share_cores()
    rclpy.init(args=args)
    node = SpatialQaNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if not node.get_parameter("autostart").value:
            node.get_logger().info("unconfigured: waiting for a lifecycle manager to configure and activate it")
        elif not node.start():
            node.give_up()
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RCLError:
        # a signal invalidates the context at any moment, also while a callback publishes
        if node.context.ok():
            raise
    finally:
        # Ctrl-C in a terminal reaches the node twice, from the terminal and from ros2 launch: let it end in order
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        node.close()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return node.exit_code


if __name__ == "__main__":
    sys.exit(main())
