"""Fixtures of the node's tests: nodes that spin as on a robot. tests/conftest.py claims the ROS domain."""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 (rclpy) is not installed; `make setup` installs it")
pytest.importorskip("vlm3r_interfaces.srv", reason="vlm3r_interfaces is not built; `make setup` builds it")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """One thread for each model, here and in child processes: on a busy machine several wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def ros():
    """rclpy, initialised for the whole run."""
    import rclpy

    rclpy.init()
    yield rclpy
    rclpy.shutdown()


@pytest.fixture
def robot(ros):
    """Starts a node of its own with a client beside it: robot(max_fps=5.0, ...) -> harness.Robot."""
    from harness import Robot

    robots = []

    def start(**parameters):
        robots.append(Robot(**parameters))
        return robots[-1]

    yield start
    for each in robots:
        each.close()


@pytest.fixture(scope="module")
def live(ros):
    """One active node with a loaded model for a whole module."""
    from harness import Robot

    one = Robot()
    one.start()
    yield one
    one.close()
