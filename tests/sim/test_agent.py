"""Agents in trials: the oracle gets there, the others do what they say, and everybody's answers are scored truly."""

from __future__ import annotations

from dataclasses import replace
from math import nan, pi

import numpy as np
import pytest
from trials import TRIAL, WORLD, find_episode, route_episode, trial_of, write_world

from sim.agent import AgentSettings, AskingAgent, ModelAsker, make_agent
from sim.env import Move
from sim.loop.controller import ControllerSettings
from sim.loop.goal import NoAccess, goal_of, object_goal
from sim.loop.play import play
from sim.loop.queries import Query, Reply
from sim.worlds import open_env
from vlm3r_core import StreamEngine, load
from vlm3r_core.types import Answer


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return open_env(write_world(tmp_path_factory.mktemp("world")), WORLD)


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
