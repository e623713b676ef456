"""The ros agent: trials through the node's real services go as they go with the engine in process."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("embreex", reason="the simulator needs the extra `sim`")

from sim_world import write_room

from sim.agent import AgentSettings, make_agent
from sim.camera import CameraSettings, camera_pose
from sim.episode import Episode
from sim.loop.controller import ControllerSettings
from sim.loop.play import play
from sim.loop.trial import TrialSettings
from sim.mesh_env import WorldSettings
from sim.worlds import open_env

LENS = CameraSettings(64, 48)
START = camera_pose(np.array([3.0, 2.0, 0.0]), 0.0, LENS)
WATCH = np.stack([camera_pose(np.array([3.0, 2.0, 0.0]), yaw, LENS) for yaw in np.arange(4) * np.pi / 2])
COMMON = {"scene": "room", "seed": 1, "T_WC_start": START, "T_WC_watch": WATCH, "max_steps": 30, "goal_object_id": 2}
EPISODES = (
    Episode("find-table", "find", goal_category="table", **COMMON),
    Episode(
        "route-table",
        "route",
        goal_category="table",
        landmarks=("table", "sofa"),
        reference_m=np.array([[3.0, 2.0, 0.0], [5.0, 1.2, 0.0]]),
        turns="Turn Left",
        **COMMON,
    ),
)


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return open_env(write_room(tmp_path_factory.mktemp("world")), WorldSettings(LENS))


def played(env, agent) -> list[dict]:
    try:
        return [play(env, episode, agent, TrialSettings(pictures=0)).result for episode in EPISODES]
    finally:
        agent.close()


def test_node_does_as_the_engine(env, live):
    options = {"model": "tiny-random", "device": "cpu", "controller": ControllerSettings(max_rounds=3)}
    node = live.node.get_fully_qualified_name()
    by_node = played(env, make_agent(AgentSettings("ros", node=node, **options)))
    by_engine = played(env, make_agent(AgentSettings("engine", **options)))
    assert [entry["error"] for entry in by_node] == ["", ""]
    assert by_node == by_engine
    assert all(entry["questions"] for entry in by_node)


def test_node_that_is_not_there(ros):
    with pytest.raises(TimeoutError, match="/nobody/spatial_qa"):
        make_agent(AgentSettings("ros", node="/nobody/spatial_qa", node_timeout_s=1.0))
