"""What the launch files declare and start; needs launch_ros, which only an installed ROS 2 has."""

import importlib.util

import pytest

launch_ros = pytest.importorskip("launch_ros", reason="launch_ros is on no package index; source a ROS 2 to test this")


def read(path):
    spec = importlib.util.spec_from_file_location(path.name.partition(".")[0] + "_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def launch_file(repo_dir):
    return read(repo_dir / "launch" / "spatial_qa.launch.py")


@pytest.fixture(scope="module")
def sim_file(repo_dir):
    return read(repo_dir / "launch" / "sim.launch.py")


def as_texts(process, context) -> list[str]:
    """The command line of a process, evaluated."""
    return ["".join(part.perform(context) for part in word) for word in process.process_description.cmd]


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


def test_the_simulator_is_started_from_the_checkout_beside_the_node(sim_file, repo_dir):
    from launch import LaunchContext

    context = LaunchContext()
    context.launch_configurations["params_file"] = str(repo_dir / "launch" / "sim.yaml")
    context.launch_configurations["world"] = "flat:3"
    for argument in sim_file.arguments():
        assert argument.description.endswith((".", "]")), argument.name
        if argument.name not in context.launch_configurations:
            argument.execute(context)
    robot, _, node = sim_file.actions(context)
    command = as_texts(robot, context)
    assert command[:4] == ["python3", "-m", "sim.ros_bridge", "--ros-args"]
    assert "__ns:=/vlm3r" in command
    # what was given wins, what was not stays as the file says
    assert "world:=flat:3" in command
    assert not any(word.startswith("fps:=") for word in command)
    assert "".join(part.perform(context) for part in robot.process_description.cwd) == str(repo_dir)
    assert dict(node.launch_arguments)["use_sim_time"] == "true"
    assert sim_file.generate_launch_description().entities


def test_a_simulator_that_is_not_there_is_explained(sim_file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no sim/ros_bridge in .*; give checkout:=PATH"):
        sim_file.find_checkout(str(tmp_path))
