"""Parameters are declared from the config dataclasses, checked, and read back."""

from dataclasses import fields

import pytest
import yaml
from rcl_interfaces.srv import DescribeParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from vlm3r_ros import params
from vlm3r_ros.params import NodeConfig

from vlm3r_core.config import StreamConfig


@pytest.fixture
def make_node(ros):
    nodes = []

    def make(**overrides):
        parameters = [Parameter(name, value=value) for name, value in overrides.items()]
        nodes.append(Node("params", parameter_overrides=parameters))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


def declared(node) -> dict[str, str]:
    return params.declare(node, NodeConfig) | params.declare(node, StreamConfig)


def test_defaults_round_trip(make_node):
    node = make_node()
    assert declared(node) == {}
    assert params.read(node, NodeConfig) == NodeConfig()
    assert params.read(node, StreamConfig) == StreamConfig()


def test_values_given_at_start_arrive(make_node):
    node = make_node(rotate=270, max_fps=7.5, memory_policy="window", max_frames=8, autostart=False)
    assert declared(node) == {}
    assert params.read(node, NodeConfig) == NodeConfig(rotate=270, max_fps=7.5, autostart=False)
    assert params.read(node, StreamConfig) == StreamConfig(memory_policy="window", max_frames=8)


def test_the_launch_files_parameters_are_all_there_with_their_defaults(repo_dir):
    file = yaml.safe_load((repo_dir / "launch" / "spatial_qa.yaml").read_text())["/**"]["ros__parameters"]
    defaults = {item.name: item.default for config_class in params.CONFIGS for item in fields(config_class)}
    # the launch file's own argument
    defaults.pop("autostart")
    assert file == defaults
    # 10 for 10.0 would be refused
    assert {name: type(value) for name, value in file.items()} == {
        name: type(value) for name, value in defaults.items()
    }


def test_no_two_settings_share_a_name():
    names = [item.name for config_class in params.CONFIGS for item in fields(config_class)]
    assert len(names) == len(set(names))
    assert set(params.RUNTIME) <= set(names)


def test_every_parameter_is_described_with_range_or_choices(make_node):
    node = make_node()
    declared(node)
    for config_class in params.CONFIGS:
        for item in fields(config_class):
            descriptor = node.describe_parameter(item.name)
            assert descriptor.description == item.metadata["doc"]
            for choice in item.metadata["choices"]:
                assert choice in descriptor.additional_constraints
            if item.metadata["span"]:
                limits = [*descriptor.integer_range, *descriptor.floating_point_range]
                assert [(limit.from_value, limit.to_value) for limit in limits] == [item.metadata["span"]]
    # descriptors must pass through the service as well
    assert DescribeParameters.Response(descriptors=[descriptor]).descriptors


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"max_fps": -1.0}, ["out of range", "-1.0", "frames per second"]),
        ({"max_fps": 5}, ["INTEGER", "DOUBLE", "decimal point"]),
        ({"rotate": "90"}, ["STRING", "int", "clockwise"]),
        ({"max_frames": -1}, ["out of range", "visual context"]),
        ({"model": 7}, ["INTEGER", "str", "preset"]),
    ],
)
def test_a_wrong_value_at_start_is_reported_and_its_default_stands(make_node, overrides, words):
    node = make_node(**overrides)
    problems = declared(node)
    assert list(problems) == list(overrides)
    for word in words:
        assert word in problems[next(iter(overrides))]
    assert params.read(node, NodeConfig) == NodeConfig()
    assert params.read(node, StreamConfig) == StreamConfig()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rotate": 45}, "0, 90, 180, 270 degrees, got 45"),
        ({"image_transport": "theora"}, "raw, compressed, got 'theora'"),
        ({"image_reliability": "best_efort"}, "did you mean 'best_effort'"),
        ({"max_frame_age_s": float("nan")}, "max_frame_age_s"),
        ({"dtype": "int8"}, "bfloat16"),
    ],
)
def test_a_config_checks_itself(values, words):
    with pytest.raises(ValueError, match=words):
        NodeConfig(**values)


@pytest.mark.parametrize(
    ("name", "value", "unconfigured", "reason"),
    [
        ("max_fps", 3.0, False, None),
        ("max_frame_age_s", 0.0, False, None),
        ("use_sim_time", True, False, None),
        ("model", "vlm3r-7b-random", True, None),
        ("model", "vlm3r-7b-random", False, "only while the node is unconfigured"),
        ("max_frames", 8, False, "only while the node is unconfigured"),
        ("max_fps", float("nan"), False, "max_fps"),
        ("answer_timeout_s", 0.0, False, "answer_timeout_s"),
        ("image_transport", "rwa", True, "did you mean 'raw'"),
        ("rotate", 45, True, "0, 90, 180, 270"),
    ],
)
def test_changes_are_judged_by_value_and_state(name, value, unconfigured, reason):
    verdict = params.check_change([Parameter(name, value=value)], unconfigured=unconfigured)
    assert verdict.successful == (reason is None)
    if reason:
        assert reason in verdict.reason
