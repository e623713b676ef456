"""What the launch file declares and starts; needs launch_ros, which only an installed ROS 2 has."""

import importlib.util

import pytest

launch_ros = pytest.importorskip("launch_ros", reason="launch_ros is on no package index; source a ROS 2 to test this")


@pytest.fixture(scope="module")
def launch_file(repo_dir):
    spec = importlib.util.spec_from_file_location("spatial_qa_launch", repo_dir / "launch" / "spatial_qa.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def start(launch_file, repo_dir):
    """start(model="tiny") -> the nodes, as (executable, command line after evaluation)."""
    from launch.actions import DeclareLaunchArgument

    from launch import LaunchContext

    def run(**given):
        context = LaunchContext()
        context.launch_configurations.update({**given, "params_file": str(repo_dir / "launch" / "spatial_qa.yaml")})
        for argument in launch_file.arguments():
            assert isinstance(argument, DeclareLaunchArgument)
            if argument.name not in context.launch_configurations:
                argument.execute(context)
        return launch_file.nodes(context)

    return run


def test_every_argument_is_described(launch_file):
    names = {argument.name for argument in launch_file.arguments()}
    expected = "model camera device namespace params_file clip use_sim_time autostart respawn rotate log_level"
    assert set(expected.split()) <= names
    for argument in launch_file.arguments():
        assert argument.description.endswith((".", "]")), argument.name
    assert launch_file.generate_launch_description().entities


def test_a_camera_needs_one_process_and_a_clip_two(start):
    assert [node.node_executable for node in start(camera="/camera/image_raw")] == ["spatial_qa_node"]
    assert [node.node_executable for node in start(clip="walk.mp4")] == ["spatial_qa_node", "camera_player"]
