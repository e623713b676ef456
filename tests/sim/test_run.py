"""Runs of trials: the files they leave, the same from the same seed, and going on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trials import EPISODES, IDS, SCENE, WORLD, find_episode, route_episode, write_world

from sim import run as run_module
from sim.agent import AgentSettings, make_agent
from sim.loop.files import only_one
from sim.loop.plan import Plan, make_plan, read_plan
from sim.loop.results import Mismatch, RunFolder, summary
from sim.loop.trial import TrialSettings
from sim.mesh_env import MeshEnv
from sim.route.settings import RouteSettings
from sim.run import RunSettings, main, run

ORACLE = RunSettings(AgentSettings("oracle"), TrialSettings(pictures=3), WORLD)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> str:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def plan(world) -> Plan:
    return make_plan("find", world, [3], 7, EPISODES, WORLD)


def as_plan(world: str, *episodes) -> Plan:
    return Plan(episodes[0].task, 0, {}, {SCENE: world}, episodes)


def loaded(folder: Path, name: str = "results.json") -> dict:
    return json.loads((folder / name).read_text())


# ---- episodes


def test_episodes_look_for_different_things_that_were_shown(world, plan):
    assert [episode.id for episode in plan.episodes] == [f"find-{SCENE}-{number:03d}" for number in range(3)]
    assert {episode.goal_object_id for episode in plan.episodes} <= set(IDS.values())
    assert len({episode.goal_category for episode in plan.episodes}) == 3
    assert len({episode.seed for episode in plan.episodes}) == 3
    assert all(2 <= len(episode.T_WC_watch) <= EPISODES.watch_frames for episode in plan.episodes)
    again, other = (make_plan("find", world, [3], seed, EPISODES, WORLD) for seed in (7, 8))
    assert again.to_json() == plan.to_json()
    assert other.to_json()["episodes"] != plan.to_json()["episodes"]


def test_routes_become_episodes():
    spec = "flat:900004"
    plan = make_plan("route", spec, [1], 1, replace(EPISODES, routes=RouteSettings(standing_points=400)))
    for episode in plan.episodes:
        start, facing, *via = episode.landmarks
        assert len({start, facing, episode.goal_category}) == 3
        assert episode.turns in ("Turn Left", "Turn Right", "Turn Back")
        assert not via or via == [facing]
        np.testing.assert_allclose(episode.T_WC_start[:2, 3], episode.reference_m[0, :2], atol=1e-5)
    assert plan.worlds == {"flat-900004": spec}


def test_plan_survives_its_file(plan, tmp_path):
    (tmp_path / "episodes.json").write_text(json.dumps(plan.to_json()))
    assert read_plan(tmp_path / "episodes.json").to_json() == plan.to_json()


BROKEN = [
    (lambda entry: entry.pop("worlds"), "worlds is missing"),
    (lambda entry: entry["episodes"][0].update(id="../up"), "ids and scenes are made of .*, got ../up"),
    (lambda entry: entry["episodes"][1].update(id=entry["episodes"][0]["id"]), "ids must be unique"),
    (lambda entry: entry["worlds"].clear(), f"how to open every scene, got {SCENE}"),
    (lambda entry: entry["episodes"][0].update(task="route"), "all episodes must be of its task, got route"),
]


@pytest.mark.parametrize(("damage", "message"), BROKEN)
def test_broken_episodes_file_is_named(plan, tmp_path, damage, message):
    entry = json.loads(json.dumps(plan.to_json()))
    damage(entry)
    path = tmp_path / "episodes.json"
    path.write_text(json.dumps(entry))
    with pytest.raises(ValueError, match=message):
        read_plan(path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"episodes\.json is not JSON"):
        read_plan(path)
    with pytest.raises(FileNotFoundError, match="no episodes at"):
        read_plan(tmp_path / "absent.json")


def test_worlds_that_offer_too_little(world):
    with pytest.raises(ValueError, match="offer 0 find episodes of the 5 asked for"):
        make_plan("find", world, [5], 0, replace(EPISODES, seen_share=1.0), WORLD)
    with pytest.raises(ValueError, match="one for each of the 2 worlds, got 3"):
        make_plan("find", f"{world},flat:1", [1, 1, 1], 0, EPISODES, WORLD)
    with pytest.raises(ValueError, match=r"name each world once, .* is there several times"):
        make_plan("find", f"{world},{world}", [1, 1], 0, EPISODES, WORLD)
    with pytest.raises(FileNotFoundError, match="no world at"):
        make_plan("find", "absent.glb", [1], 0, EPISODES, WORLD)


# ---- runs


def test_same_seed_gives_the_same_bytes(plan, tmp_path):
    first, again = run(plan, ORACLE, tmp_path / "a"), run(plan, ORACLE, tmp_path / "b")
    assert first.summary["success_1m"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "count": 3}
    for name in ("results.json", "episodes.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert [entry["id"] for entry in again.results] == [episode.id for episode in plan.episodes]
    results, timings = loaded(tmp_path / "a"), loaded(tmp_path / "a", "timings.json")
    assert (results["agent"], results["task"], results["seed"]) == ("oracle", "find", 7)
    assert results["settings"]["agent"]["controller"]["stride_m"] == 0.25
    asked = sum(len(entry["questions"]) for entry in results["episodes"])
    assert timings["latency_ms"]["count"] == asked == results["summary"]["answer_accuracy"]["count"]
    strip = sorted((tmp_path / "a" / "pictures" / plan.episodes[0].id).iterdir())
    assert [path.name for path in strip] == ["00.jpg", "01.jpg", "02.jpg"]
    assert Image.open(strip[0]).size == (224, 224)
    with np.load(tmp_path / "a" / "maps" / f"{SCENE}.npz") as floor:
        assert floor["free"].sum() * floor["cell_m"] ** 2 > 8
    assert not list(tmp_path.rglob("*.partial*"))


class Interrupted:
    """An agent that is interrupted in its second episode."""

    def __init__(self, agent):
        self._agent, self._episodes = agent, 0

    def reset(self, trial):
        self._episodes += 1
        self._agent.reset(trial)

    def act(self, now):
        if self._episodes == 2 and now.steps == 3:
            raise KeyboardInterrupt
        return self._agent.act(now)

    def close(self):
        self._agent.close()


def test_stopped_run_goes_on_to_the_same_end(plan, tmp_path):
    whole = run(plan, ORACLE, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(plan, ORACLE, tmp_path / "parts", agent=Interrupted(make_agent(ORACLE.agent)))
    assert len(loaded(tmp_path / "parts")["episodes"]) == 1
    first_time = loaded(tmp_path / "parts", "timings.json")["episodes"]
    rest = run(plan, ORACLE, tmp_path / "parts")
    assert rest.results == whole.results
    assert (tmp_path / "parts" / "results.json").read_bytes() == (tmp_path / "whole" / "results.json").read_bytes()
    # what was done was kept, not done again
    assert first_time.items() <= loaded(tmp_path / "parts", "timings.json")["episodes"].items()


def test_other_settings_do_not_go_on_with_a_run(plan, tmp_path):
    head = {"agent": "oracle", "task": "find", "seed": 7, "settings": {"speed_m_s": 0.5, "world": {"slide": True}}}
    folder = RunFolder(tmp_path, head, plan)
    folder.add({"id": plan.episodes[0].id, "questions": [], "error": "", **dict.fromkeys(MEANS, 0.0)}, [], 1.0)
    changed = head | {"settings": {"speed_m_s": 0.5, "world": {"slide": False}}}
    with pytest.raises(
        Mismatch, match=r"another settings.world.slide \(True, now False\); give the command that began"
    ):
        RunFolder(tmp_path, changed, plan)
    with pytest.raises(Mismatch, match="another the episodes"):
        RunFolder(tmp_path, head, replace(plan, episodes=plan.episodes[:2]))
    assert RunFolder(tmp_path, head, plan).done == {plan.episodes[0].id}


MEANS = "success_1m success_3m oracle_success spl ne_m ndtw path_m collisions steps sim_seconds".split()


def test_summary_counts_what_was_said_too_early():
    questions = [
        {"kind": "direction", "score": 1.0, "seen_before_answer": False, "said_unseen": False},
        {"kind": "distance", "score": 0.5, "seen_before_answer": True, "said_unseen": False},
        {"kind": "distance", "score": 0.0, "seen_before_answer": False, "said_unseen": True},
    ]
    entries = [
        {"error": "", "questions": questions, **dict.fromkeys(MEANS, 1.0)},
        {"error": "died", "questions": [], **dict.fromkeys(MEANS, 0.0), "ne_m": None},
    ]
    found = summary(entries)
    assert (found["episodes"], found["errors"], found["answers_before_seen"]) == (2, 1, 1)
    assert found["success_1m"]["mean"] == 0.5
    assert (found["ne_m"]["mean"], found["ne_m"]["count"]) == (1.0, 1)
    assert (found["answer_accuracy"]["mean"], found["answer_accuracy"]["count"]) == (0.5, 3)
    assert found["answers"]["distance"]["mean"] == 0.25


class Dying(MeshEnv):
    """A world whose process goes away at the fifth step of its life."""

    steps_left = 5

    def step(self, action):
        self.steps_left -= 1
        if self.steps_left == 0:
            raise ConnectionError("the simulator's process ended with status 137")
        return super().step(action)


def test_world_that_dies_fails_its_episode_only(world, tmp_path, monkeypatch, caplog):
    opened = []
    real = run_module.open_env

    def open_env(spec, settings):
        env = real(spec, settings)
        opened.append(spec)
        if len(opened) == 1:
            env.__class__ = Dying
        return env

    monkeypatch.setattr(run_module, "open_env", open_env)
    plan = as_plan(world, find_episode("table"), find_episode("bed"))
    died, went_on = run(plan, ORACLE, tmp_path).results
    assert died["error"] == "ConnectionError: the simulator's process ended with status 137"
    assert (died["success_3m"], died["spl"], died["ne_m"], died["steps"]) == (False, 0.0, None, 4)
    assert went_on["success_1m"]
    assert len(opened) == 2
    assert "episode find-table failed: ConnectionError" in caplog.text
    # a failed episode is done: going on does not play it again
    assert [entry["error"] for entry in run(plan, ORACLE, tmp_path).results] == [died["error"], ""]
    assert len(opened) == 2


def test_world_that_cannot_be_opened_again(world, tmp_path, monkeypatch):
    def refuse(spec, settings):
        raise RuntimeError("the server does not start")

    monkeypatch.setattr(run_module, "open_env", refuse)
    (entry,) = run(as_plan(world, find_episode("table")), ORACLE, tmp_path).results
    assert (entry["error"], entry["success_1m"]) == ("RuntimeError: the server does not start", False)
    assert main(["--episodes-file", str(tmp_path / "episodes.json"), "--out", str(tmp_path / "b"), "--no-report"]) == 1


def test_world_that_changed_is_noticed(plan, world, tmp_path):
    moved = json.loads(Path(world).with_name(f"{SCENE}_objects.json").read_text())
    changed = tmp_path / "changed"
    write_world(changed)
    moved[2]["category"] = "desk"
    (changed / f"{SCENE}_objects.json").write_text(json.dumps(moved))
    with pytest.raises(ValueError, match="has changed since the episodes were made; make them anew"):
        run(replace(plan, worlds={SCENE: str(changed / f"{SCENE}.glb")}), ORACLE, tmp_path / "out")
    same = run(replace(plan, worlds={SCENE: world}, episodes=plan.episodes[:1]), ORACLE, tmp_path / "same")
    assert same.results[0]["success_1m"]


def test_route_run(world, tmp_path):
    folder = run(as_plan(world, route_episode()), ORACLE, tmp_path)
    (entry,) = folder.results
    assert entry["success_1m"]
    assert entry["questions"][0]["kind"] == "route"
    assert folder.summary["answers"]["route"]["mean"] == 1.0


# ---- the command line


@pytest.fixture
def episodes_file(world, tmp_path) -> Path:
    path = tmp_path / "given.json"
    plan = as_plan(world, find_episode("table", max_steps=30), find_episode("bed", max_steps=30))
    path.write_text(json.dumps(plan.to_json()))
    return path


def test_command_runs_given_episodes(episodes_file, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["--episodes-file", str(episodes_file), "--agent", "random", "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "success_1m" in printed
    assert "episodes/hour" in printed
    assert (out / "report.html").stat().st_size > 1000
    assert len(loaded(out)["episodes"]) == 2
    assert main([*command[:3], "forward", *command[4:]]) == 2
    assert "holds a run with another agent ('random', now 'forward')" in capsys.readouterr().err


def test_command_that_wants_other_episodes_is_refused_at_once(plan, tmp_path, capsys):
    run(plan, ORACLE, tmp_path)
    assert main(["--task", "find", "--worlds", "flat:1", "--seed", "7", "--out", str(tmp_path)]) == 2
    assert "holds a run of [3] find episodes in" in capsys.readouterr().err


def test_command_says_how_to_go_on(episodes_file, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    command = ["--episodes-file", str(episodes_file), "--out", str(out), "--no-report"]
    real = make_agent
    monkeypatch.setattr(run_module, "make_agent", lambda settings: Interrupted(real(settings)))
    assert main(command) == 130
    assert f"what is done is in {out}, the same command goes on" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(command) == 0
    assert [entry["id"] for entry in loaded(out)["episodes"]] == ["find-table", "find-bed"]


def test_two_commands_do_not_work_in_one_folder(episodes_file, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    command = ["--episodes-file", str(episodes_file), "--agent", "forward", "--out", str(out), "--no-report"]
    with only_one(out):
        assert main(command) == 2
    assert f"another run works in {out}" in capsys.readouterr().err
    assert list(out.iterdir()) == []
    assert main(command) == 0


WRONG = [
    (["--task", "find"], "give --task and --worlds, or --episodes-file"),
    (["--task", "find", "--worlds", "absent.glb"], "no world at absent.glb"),
    (["--task", "find", "--worlds", "flat:1", "--episodes", "two"], "--episodes are whole numbers"),
    (["--task", "find", "--worlds", "flat:1", "--episodes", "0"], "number of episodes must be at least 1, got 0"),
    (["--task", "find", "--worlds", "flat:1", "--seed", "-1"], "seed must be at least 0, got -1"),
    (["--episodes-file", "absent.json"], "no episodes at absent.json"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_command_says_what_is_wrong(tmp_path, capsys, arguments, message):
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
