"""ROS parameters to and from the config dataclasses, declared from their fields. Holds no values of its own."""

from __future__ import annotations

from dataclasses import Field, dataclass, fields

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

from vlm3r_core.config import StreamConfig, check_choice, check_range, check_settings, setting
from vlm3r_ros.convert import ROTATIONS

TRANSPORTS = ("raw", "compressed")
RELIABILITIES = ("best_available", "reliable", "best_effort", "system_default")
DTYPES = ("auto", "float32", "bfloat16", "float16")
RUNTIME = ("max_fps", "max_frame_age_s", "answer_timeout_s")
"""Parameters that may change at any time; all others only while the node is unconfigured."""


@dataclass(frozen=True)
class NodeConfig:
    """What the spatial_qa node itself needs to know; StreamConfig holds the rest."""

    model: str = setting("tiny", "model spec: tiny, a preset, a folder, or base=PATH,adapter=PATH,cut3r=PATH")
    device: str = setting("auto", "where the model runs: auto, cpu, cuda or cuda:N")
    dtype: str = setting("auto", "number format of the weights", choices=DTYPES)
    camera: str = setting("", "topic of the camera; empty: image_raw in the node's namespace, which can be remapped")
    image_transport: str = setting(
        "raw", "raw: sensor_msgs/Image; compressed: JPEG or PNG on the topic's /compressed", choices=TRANSPORTS
    )
    image_reliability: str = setting(
        "best_available",
        "QoS of the camera subscription; falls back to best_effort when the camera offers no more",
        choices=RELIABILITIES,
    )
    rotate: int = setting(0, "degrees (0, 90, 180 or 270) the image is turned clockwise to be upright", span=(0, 270))
    max_fps: float = setting(0.0, "frames per second taken from the camera at most; 0: all", span=(0.0, 1000.0))
    max_frame_age_s: float = setting(
        10.0, "seconds; a question is refused when the newest frame is older; 0: no limit", span=(0.0, 1e9)
    )
    answer_timeout_s: float = setting(
        30.0, "seconds until a request is given up and answered with TIMEOUT", span=(0.001, 86_400.0)
    )
    wait_for_model: bool = setting(False, "configure waits until the model is loaded, and fails if it does not load")
    autostart: bool = setting(True, "the process configures and activates the node by itself (read at start only)")
    exit_on_failure: bool = setting(
        False, "a model or a start that failed ends the process with code 1, so that a launch file can start it again"
    )

    def __post_init__(self):
        check_settings(self)
        if self.rotate not in ROTATIONS:
            raise ValueError(f"rotate must be one of {', '.join(map(str, ROTATIONS))} degrees, got {self.rotate}")


CONFIGS = (NodeConfig, StreamConfig)


def describe(item: Field) -> ParameterDescriptor:
    """The ROS description of one `setting` field: its text, inclusive range and known values."""
    descriptor = ParameterDescriptor(description=item.metadata["doc"])
    span, choices = item.metadata["span"], item.metadata["choices"]
    if choices:
        descriptor.additional_constraints = f"one of {', '.join(choices)}"
    if span and isinstance(item.default, float):
        limits = FloatingPointRange(from_value=float(span[0]), to_value=float(span[1]))
        descriptor.floating_point_range = [limits]
    elif span and isinstance(item.default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(span[0]), to_value=int(span[1]), step=1)]
    return descriptor


def declare(node, config_class) -> dict[str, str]:
    """Declares a parameter for each field of a config dataclass.

    Args:
        node: an rclpy node.
        config_class: a dataclass of `setting` fields.

    Returns:
        What was wrong with values given at start, by parameter. Such a parameter holds its default until it is set,
        so that a node can come up and say what is wrong instead of dying.
    """
    problems = {}
    for item in fields(config_class):
        try:
            node.declare_parameter(item.name, item.default, describe(item))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            node.declare_parameter(item.name, item.default, describe(item), ignore_override=True)
            hint = f" (write {item.default}, with a decimal point)" if isinstance(item.default, float) else ""
            problems[item.name] = f"{error}; expected {type(item.default).__name__}{hint}: {item.metadata['doc']}"
    return problems


def read(node, config_class):
    """The config dataclass with the node's parameter values.

    Raises:
        ValueError: a value, or a combination of values, is out of range or unknown.
    """
    return config_class(**{item.name: node.get_parameter(item.name).value for item in fields(config_class)})


def check_change(parameters, *, unconfigured: bool) -> SetParametersResult:
    """Whether a node may take new parameter values now.

    Args:
        parameters: the rclpy parameters to be set; those of other owners (use_sim_time) pass.
        unconfigured: the lifecycle state; only RUNTIME parameters change in the other states.

    Returns:
        The verdict with its reason, as an rclpy on-set-parameters callback gives it.
    """
    known = {item.name: item for config_class in CONFIGS for item in fields(config_class)}
    for parameter in parameters:
        item = known.get(parameter.name)
        if item is None:
            continue
        if not unconfigured and parameter.name not in RUNTIME:
            reason = (
                f"{parameter.name} can change only while the node is unconfigured (deactivate and clean up first); "
                f"at any time: {', '.join(RUNTIME)}"
            )
            return SetParametersResult(successful=False, reason=reason)
        try:
            _check(item, parameter.value)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def _check(item: Field, value) -> None:
    if item.metadata["span"]:
        check_range(item.name, value, *item.metadata["span"])
    if item.metadata["choices"]:
        check_choice(item.name, value, item.metadata["choices"])
    if item.name == "rotate" and value not in ROTATIONS:
        raise ValueError(f"rotate must be one of {', '.join(map(str, ROTATIONS))} degrees, got {value}")
