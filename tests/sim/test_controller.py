"""The controller, driven by answers written down: what it turns, drives and asks."""

from __future__ import annotations

from math import nan, pi

import numpy as np
import pytest
from trials import LENS, WORLD, find_episode, route_episode, trial_of, write_world

from sim.camera import camera_pose
from sim.loop.controller import Controller, ControllerSettings
from sim.loop.queries import Query, Reply, bearing_to
from sim.worlds import open_env
from vlm3r_core.types import Answer, Route, RouteAlternative, RouteStep, RouteStepKind


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return open_env(write_world(tmp_path_factory.mktemp("world")), WORLD)


class Scripted:
    """Says what it was told to, in turn; the last thing again and again."""

    sees = False

    def __init__(self, directions=("front-left",), metres=(5.0,), route=()):
        self.said = {"direction": list(directions), "distance": list(metres)}
        self.steps = route

    def push(self, frame) -> None:
        raise AssertionError("it wants no frames")

    def answer(self, query: Query) -> Reply:
        said = self.said[query.kind]
        told = said.pop(0) if len(said) > 1 else said[0]
        if query.kind == "direction":
            return Reply(Answer(told, "choice"))
        return Reply(Answer(str(told), "number", value=told, unit="m"))

    def route(self, query: Query) -> Route:
        return Route(tuple(self.steps), "", 1.0, (RouteAlternative("Turn Left", 1.0),))


def driven(env, asker, episode, **settings):
    """(degrees turned in each turn, metres ahead) of what the controller did, and the trial after it."""
    trial = trial_of(env, episode)
    motion, turns, metres = Controller(trial, asker, ControllerSettings(**settings)).motion(), [], 0.0
    action, turning = next(motion, None), False
    while action is not None:
        if action.angular_rad_s:
            angle = np.degrees(action.angular_rad_s * action.duration_s)
            turns = [*turns[:-1], turns[-1] + angle] if turning else [*turns, angle]
        turning = bool(action.angular_rad_s)
        metres += action.linear_m_s * action.duration_s
        trial.now = env.step(action)
        try:
            action = motion.send(trial.now)
        except StopIteration:
            action = None
    return np.array(turns), metres, trial


def test_controller_halves_its_swing_when_the_side_changes(env):
    sides = ["front-left", "front-right", "front-right", "front-left"]
    # left by 45, right by 22.5 twice, then 11.25 is aimed: a leg ahead
    asker = Scripted(sides, [5.0])
    turns, metres, trial = driven(env, asker, find_episode("table", (1.5, 3.2, 0.0)), max_rounds=4, leg_m=0.5)
    np.testing.assert_allclose(turns, [45 - 22.5 - 22.5], atol=0.1)
    assert metres == pytest.approx(0.5, abs=0.01)
    # the next swing is a new one
    asker = Scripted([*sides, "front-right"], [5.0])
    turns, metres, trial = driven(env, asker, find_episode("table", (1.5, 3.2, 0.0)), max_rounds=5, leg_m=0.5)
    np.testing.assert_allclose(turns, [0, -45], atol=0.1)
    assert len(trial.asked) == 10


def test_controller_turns_around_to_what_is_behind(env):
    asker = Scripted(["back-right", "front-right"], [1.0])
    turns, _, _ = driven(env, asker, find_episode("table", (1.5, 3.2, 0.0)), max_rounds=1)
    np.testing.assert_allclose(turns, [-120], atol=0.1)


def test_controller_goes_around_what_blocks_its_last_drive(env):
    # it stands before the wall and is told that the thing is 1.8 m ahead, then that it is there
    sides = ["front-left", "front-right"]
    asker = Scripted([*sides, *sides], [1.8, 1.8, 0.2])
    episode, settings = find_episode("table", (0.4, 3.2, 0.0), pi), {"aimed_deg": 40.0, "max_rounds": 9}
    turns, _, trial = driven(env, asker, episode, **settings)
    assert any(abs(angle) > 85 for angle in turns)
    assert len(trial.asked) > 4
    # what is left may be the thing itself
    _, _, trial = driven(env, Scripted([*sides], [0.8]), episode, **settings)
    assert len(trial.asked) == 4


def test_controller_ends_with_the_drive_to_what_is_near(env):
    asker = Scripted(["front-left", "front-right", "front-left"], [1.0])
    turns, metres, trial = driven(env, asker, find_episode("table", (1.5, 3.2, 0.0)), aimed_deg=20.0)
    np.testing.assert_allclose(turns, [45 - 22.5], atol=0.1)
    assert metres == pytest.approx(1.0, abs=0.01)
    assert len(trial.asked) == 6


def step(kind: str, **fields) -> RouteStep:
    return RouteStep(RouteStepKind(kind), **fields)


def test_controller_drives_a_route_by_what_it_knows(env):
    steps = [
        *(step("TURN_LEFT", angle_rad=pi / 2), step("FORWARD", landmark="table", distance_m=0.6)),
        *(step("TURN_RIGHT", angle_rad=-pi / 2), step("FORWARD", landmark="table"), step("STOP")),
    ]
    # distance of the second leg unknown: 1.5 m was said, it keeps 0.5 m off
    episode = route_episode(T_WC_start=camera_pose(np.array([1.5, 2.6, 0.0]), 0.0, LENS))
    turns, metres, trial = driven(env, Scripted(metres=[1.5], route=steps), episode)
    np.testing.assert_allclose(turns, [90, -90], atol=0.1)
    assert metres == pytest.approx(0.6 + 1.0, abs=0.01)
    np.testing.assert_allclose(trial.now.position_m[:2], [2.5, 3.2], atol=0.02)


def test_controller_drives_until_blocked_where_nothing_is_known(env):
    episode = route_episode(T_WC_start=camera_pose(np.array([1.5, 3.2, 0.0]), pi, LENS))
    steps = [step("FORWARD", landmark="sofa"), step("STOP")]
    _, metres, trial = driven(env, Scripted(metres=[nan], route=steps), episode)
    assert trial.now.collisions == 1
    assert trial.now.position_m[0] == pytest.approx(0.2, abs=0.06)
    assert metres < 1.6  # it does not push on


def test_controller_looks_around_before_questions_and_after_drives(env):
    asker = Scripted(["front-left", "front-right", "front-left"], [5.0])
    settings = {"look_around": 16, "turn_part_deg": 20.0, "aimed_deg": 20.0, "max_rounds": 4, "leg_m": 0.5}
    turns, metres, _ = driven(env, asker, find_episode("table", (1.5, 3.2, 0.0)), **settings)
    # 15 parts of 20 degrees, the aim, a drive, and again
    np.testing.assert_allclose(turns, [300 + 45 - 22.5, 300 + 45], atol=0.1)
    assert metres == pytest.approx(0.5, abs=0.01)


# ---- votes for places


class Mistaken:
    """Says where a thing is, and every third time something else."""

    sees = False

    def __init__(self, trial, at_m):
        self._trial, self._at_m, self.asked = trial, np.array(at_m), 0

    def answer(self, query: Query) -> Reply:
        if query.kind == "distance":
            return Reply(Answer("1.5", "number", value=1.5, unit="m"))
        self.asked += 1
        side = np.degrees(bearing_to(self._trial.now, self._at_m))
        told = ("back" if abs(side) > 90 else "front") + ("-left" if side > 0 else "-right")
        return Reply(Answer("back-left" if self.asked % 3 == 0 else told, "choice"))


@pytest.mark.parametrize("goal", [(5.0, 3.5, 0.0), (1.0, 0.8, 0.0), (4.0, 0.6, 0.0)])
def test_votes_find_the_bearing_though_answers_err(env, goal):
    trial = trial_of(env, find_episode("table"))
    asker = Mistaken(trial, goal)
    settings = ControllerSettings(look_around=16, turn_part_deg=20.0, votes=9, max_rounds=9)
    motion = Controller(trial, asker, settings).motion()
    action = next(motion)
    while not action.linear_m_s:
        trial.now = env.step(action)
        action = motion.send(trial.now)
    assert abs(np.degrees(bearing_to(trial.now, np.array(goal)))) < 15
    assert asker.asked == 9


class Ranging(Mistaken):
    """Knows distances, and says the same side always."""

    def answer(self, query: Query) -> Reply:
        if query.kind == "direction":
            return Reply(Answer("front-left", "choice"))
        apart = float(np.linalg.norm(self._at_m[:2] - self._trial.now.position_m[:2]))
        return Reply(Answer(str(apart), "number", value=apart, unit="m"))


@pytest.mark.parametrize("goal", [(5.0, 3.0, 0.0), (3.6, 2.6, 0.0), (1.5, 3.2, 0.0)])
def test_distances_alone_lead_there(env, goal):
    trial = trial_of(env, find_episode("table"))
    settings = ControllerSettings(look_around=16, turn_part_deg=20.0, votes=2, near_m=1.0)
    motion = Controller(trial, Ranging(trial, goal), settings).motion()
    action = next(motion)
    while action is not None:
        trial.now = env.step(action)
        try:
            action = motion.send(trial.now)
        except StopIteration:
            action = None
    assert np.linalg.norm(trial.now.position_m[:2] - goal[:2]) < 1.0
