"""Agents in trials: the oracle gets there, the others do what they say, and everybody's answers are scored truly."""

from __future__ import annotations

from dataclasses import replace
from math import nan, pi

import numpy as np
import pytest
from trials import LENS, WORLD, find_episode, route_episode, write_world

from sim.agent import AgentSettings, AskingAgent, ModelAsker, make_agent
from sim.camera import camera_pose
from sim.env import Move
from sim.loop.controller import Controller, ControllerSettings
from sim.loop.goal import NoAccess, goal_of, object_goal
from sim.loop.play import play
from sim.loop.queries import Query, Reply, bearing_to
from sim.loop.trial import Trial, TrialSettings
from sim.worlds import open_env
from vlm3r_core import StreamEngine, load
from vlm3r_core.types import Answer, Route, RouteAlternative, RouteStep, RouteStepKind

TRIAL = TrialSettings(pictures=2)


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return open_env(write_world(tmp_path_factory.mktemp("world")), WORLD)


def trial_of(env, episode) -> Trial:
    goal = goal_of(env, episode)
    return Trial(env, episode, goal, env.reset(episode), TRIAL)


# ---- where a trial ends


def test_distance_to_a_box_goes_around_walls(env):
    goal = goal_of(env, find_episode("shelf"))
    behind, before = np.array([2.7, 0.9, 0.0]), np.array([3.8, 0.9, 0.0])
    assert 0.4 <= goal.distance_m(before) < 0.47  # the shelf's front is at x = 3.4, access points 0.33 m apart
    assert goal.distance_m(behind) > 3.0  # it is 0.35 m away through the wall
    way = goal.way(behind)
    assert way.rest_m == pytest.approx(0.25, abs=0.06)  # the robot's radius and a cell
    assert way.distance_m == pytest.approx(np.linalg.norm(np.diff(way.points, axis=0), axis=1).sum() + way.rest_m)


def test_goal_of_a_route_is_its_end(env):
    episode = route_episode()
    goal = goal_of(env, episode)
    assert goal.distance_m(episode.reference_m[-1]) < 0.01
    far, near = np.array([3.0, 3.0, 0.0]), np.array([3.9, 1.3, 0.0])
    assert goal.distances_within(np.stack([far, near]), 0.5) == pytest.approx([0.3], abs=0.01)
    behind = np.array([[2.7, 0.9, 0.0]])
    assert not goal_of(env, find_episode("shelf")).distances_within(behind, 1.0)  # near through the wall only
    with pytest.raises(ValueError, match="a route without reference_m"):
        goal_of(env, replace(episode, reference_m=()))


def test_goal_that_the_scene_has_not(env):
    with pytest.raises(ValueError, match=r"episode 'find-table': scene 'studio' has no object with instance_id 77"):
        goal_of(env, find_episode(goal_object_id=77))


def test_names_mean_objects_by_their_ids(env):
    names = ("thing closest to the wall", "table", "table")
    trial = trial_of(env, route_episode(landmarks=names, landmark_ids=(4, 3, 3)))
    assert [trial.the(name).category for name in (names[0], "table", "shelf", "sofa")] == [
        *("bed", "table", "shelf", "sofa")
    ]
    with pytest.raises(ValueError, match="'lamp' must mean one object of scene 'studio', it means 0"):
        trial.the("lamp")


def test_what_nobody_can_get_to_is_no_goal(env):
    thing = env.scene_graph().object_by_id(1)
    lost = replace(thing, box=replace(thing.box, center_m=thing.box.center_m + np.array([30.0, 0, 0])))
    with pytest.raises(NoAccess, match="nobody can get to the sofa"):
        object_goal(env, lost, np.array([1.5, 3.0, 0.0]), 1.5)


# ---- questions


def test_questions_are_scored_by_the_truth(env):
    trial = trial_of(env, find_episode("table", (1.5, 3.0, 0.0), yaw_rad=0.0))

    class Claims:
        sees = False

        def answer(self, query: Query) -> Reply:
            if query.kind == "direction":
                return Reply(Answer("back-left", "choice", seen=False))
            return Reply(Answer("380 cm", "number", value=380.0, unit="cm"))

    trial.ask_direction(Claims(), "table")
    trial.ask_distance(Claims(), "table")
    direction, distance = trial.asked
    assert (direction["truth"], direction["score"]) == ("front-left", 0.0)
    assert sorted(direction["options"]) == ["back-left", "back-right", "front-left", "front-right"]
    # eye (1.5, 3, 1.5), nearest point of the table (4.8, 3, 0.7): 3.396 m, told as 3.4; 3.8 is off by 0.118
    assert distance["truth"] == "3.4"
    assert distance["score"] == pytest.approx(0.8)  # levels 0.50 .. 0.85 of ten
    assert (direction["seen_before_answer"], direction["said_unseen"]) == (False, True)
    assert (distance["seen_before_answer"], distance["said_unseen"]) == (False, False)
    list(trial.watch())
    trial.ask_distance(Claims(), "table")
    assert trial.asked[-1]["seen_before_answer"]
    assert len(trial.latencies_ms) == 3


def test_numbers_that_say_nothing_score_nothing(env):
    trial = trial_of(env, find_episode("table"))

    class Mumbles:
        sees = False

        def __init__(self, value, unit):
            self.said = Reply(Answer("?", "number", value=value, unit=unit))

        def answer(self, query: Query) -> Reply:
            return self.said

    for value, unit in ((nan, ""), (3.0, "deg"), (float("inf"), "m")):
        trial.ask_distance(Mumbles(value, unit), "table")
    assert [item["score"] for item in trial.asked] == [0.0, 0.0, 0.0]


def test_frames_of_walk_and_robot_rise_in_time(env):
    trial = trial_of(env, find_episode())
    stamps = [frame.stamp_ns for frame in trial.watch()]
    stamps.append(trial.look().stamp_ns)
    trial.now = env.step(Move.FORWARD)
    stamps.append(trial.look().stamp_ns)
    assert len(stamps) == 7
    assert (np.diff(stamps) > 0).all()


# ---- agents


@pytest.mark.parametrize("thing", ["table", "bed", "sofa", "shelf"])
def test_oracle_finds_things(env, thing):
    played = play(env, find_episode(thing), make_agent(AgentSettings("oracle")), TRIAL)
    result = played.result
    assert result["success_1m"]
    assert result["spl"] > 0.97
    assert result["ndtw"] > 0.97
    assert {item["score"] for item in result["questions"]} == {1.0}
    assert len(played.latencies_ms) == len(result["questions"]) >= 2
    assert len(played.strip) == 2
    assert result["path"][0][:2] == [1.5, 0.8]


def test_oracle_follows_a_route(env):
    result = play(env, route_episode(), make_agent(AgentSettings("oracle")), TRIAL).result
    assert result["success_1m"]
    assert result["spl"] == pytest.approx(result["shortest_m"] / result["path_m"], abs=1e-5)
    assert 0.9 < result["spl"] < 0.95  # the way it was told is longer than the shortest
    assert [(item["kind"], item["answer"], item["score"]) for item in result["questions"]] == [
        ("route", "Turn Right", 1.0)
    ]
    assert result["reference"][1] == [3.0, 3.0, 0.0]
    assert result["ndtw"] > 0.97


def test_truth_in_words_is_all_the_controller_gets(env):
    agent = make_agent(AgentSettings("words"))
    found = play(env, find_episode("table", (1.5, 3.2, 0.0)), agent, TRIAL).result
    assert found["success_1m"]  # in sight all the way
    assert {item["score"] for item in found["questions"]} == {1.0}
    assert len(found["questions"]) > 6  # it has to aim
    route = play(env, route_episode(), agent, TRIAL).result["questions"]
    assert [item["kind"] for item in route] == ["route", "distance", "distance"]
    assert {item["score"] for item in route} == {1.0}


def test_random_agent_is_seeded_by_the_episode(env):
    agent = make_agent(AgentSettings("random"))
    first, again, other = (play(env, find_episode(seed=seed), agent, TRIAL).result for seed in (3, 3, 4))
    assert first == again
    assert first["path"] != other["path"]
    assert first["stopped"]
    assert not first["questions"]


def test_forward_agent_stops_at_the_wall(env):
    result = play(env, find_episode("table", (1.5, 3.2, 0.0), pi), make_agent(AgentSettings("forward")), TRIAL).result
    assert result["stopped"]
    assert result["collisions"] == 1
    assert result["path"][-1][0] == pytest.approx(0.2, abs=0.06)  # its radius from the wall
    assert not result["success_3m"]


def test_goal_that_no_way_leads_to(env):
    outside = np.array([[1.2, 1.5, 0.0], [30.0, 3.0, 0.0]])
    with pytest.raises(ValueError, match="episode 'route-shelf': no way leads from its start to its goal"):
        play(env, route_episode(reference_m=outside), make_agent(AgentSettings("forward")), TRIAL)


def test_limits_end_an_episode_without_success(env):
    oracle = make_agent(AgentSettings("oracle"))
    short = play(env, find_episode(max_steps=5), oracle, TRIAL).result
    assert (short["steps"], short["stopped"], short["success_3m"], short["spl"]) == (5, False, False, 0.0)
    near = play(env, find_episode(max_path_m=1.0), oracle, TRIAL).result
    assert 1.0 <= near["path_m"] <= 1.3


# ---- the engine


@pytest.fixture(scope="module")
def engine():
    return StreamEngine(load("tiny-random", device="cpu"))


def asking(model, **controller) -> AskingAgent:
    settings = AgentSettings("engine", controller=ControllerSettings(**controller))
    return AskingAgent(lambda trial: ModelAsker(model), settings)


def test_engine_watches_asks_and_drives(env, engine):
    result = play(env, find_episode(max_steps=12), asking(engine, max_rounds=3), TRIAL).result
    kinds = [item["kind"] for item in result["questions"]]
    assert kinds[:2] == ["direction", "distance"]
    assert len(kinds) % 2 == 0
    assert result["steps"] >= 2
    assert all(item["seen_before_answer"] for item in result["questions"])
    assert all(item["answer"] in item["options"] for item in result["questions"][::2])
    assert engine.stats().frames_seen > 5  # the walk, and looks on the way


def test_engine_forgets_the_episode_before(env, engine):
    episode = find_episode(max_steps=1)
    first, again = (play(env, episode, asking(engine), TRIAL).result for _ in range(2))
    assert first == again
    assert engine.stats().frames_seen == 6


def test_engine_follows_its_own_route(env, engine):
    result = play(env, route_episode(max_steps=30), asking(engine), TRIAL).result
    route, *legs = result["questions"]
    assert route["answer"] in ("Turn Left", "Turn Right", "Turn Back")
    assert route["score"] == float(route["answer"] == "Turn Right")
    # the engine knows no distances: it asks for each landmark's
    assert {item["kind"] for item in legs} == {"distance"}
    assert [item["asked"].split(" of the ")[1].split(" in ")[0] for item in legs] == ["table", "shelf"][: len(legs)]


def test_engine_agent_from_its_spec(env):
    agent = make_agent(AgentSettings("engine", "tiny-random", device="cpu"))
    result = play(env, find_episode(max_steps=1), agent, TRIAL).result
    assert len(result["questions"]) == 2
    with pytest.raises(ValueError, match="unknown model 'tyni-random'"):
        make_agent(AgentSettings("engine", "tyni-random"))


class Listener:
    """A model that notes what it is shown and asked."""

    def __init__(self):
        self.heard = []

    def reset(self) -> None:
        self.heard.append("reset")

    def push(self, frame) -> None:
        self.heard.append(frame.stamp_ns)

    def ask(self, question, options=(), answer_type="auto") -> Answer:
        self.heard.append(answer_type)
        return Answer(options[0], "choice") if options else Answer("9", "number", value=9.0, unit="m")


def test_a_session_of_the_newest_frames_for_each_moment_of_asking(env):
    model = Listener()
    settings = AgentSettings("engine", look_every=1, controller=ControllerSettings(max_rounds=2, look_around=4))
    play(env, find_episode(), AskingAgent(lambda trial: ModelAsker(model, 4), settings), TRIAL)
    sessions = "".join(str(item) + " " if isinstance(item, str) else "f" for item in model.heard).split("reset ")
    # nothing is shown until something is asked; then so many frames, and both questions about them
    assert sessions == ["", "", "ffffchoice number ", "ffffchoice number "]
    stamps = [item for item in model.heard if isinstance(item, int)]
    assert stamps[:4] == sorted(stamps[:4])
    assert stamps[4] > stamps[0]


def test_controller_looks_around_before_questions_and_after_drives(env):
    asker = Scripted(["front-left", "front-right", "front-left"], [5.0])
    settings = {"look_around": 16, "turn_part_deg": 20.0, "aimed_deg": 20.0, "max_rounds": 4, "leg_m": 0.5}
    turns, metres, _ = driven(env, asker, find_episode("table", (1.5, 3.2, 0.0)), **settings)
    # 15 parts of 20 degrees, the aim, a drive, and again
    np.testing.assert_allclose(turns, [300 + 45 - 22.5, 300 + 45], atol=0.1)
    assert metres == pytest.approx(0.5, abs=0.01)


# ---- the controller, driven by answers written down


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
