"""Plays one episode: an agent acts in a world until it stops, and what that is worth. Writes no file."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sim.env import Env, TimeStep
from sim.episode import Episode
from sim.loop.goal import Goal, goal_of
from sim.loop.trial import Agent, Trial, TrialSettings, WalkPictures
from sim.metrics import ndtw, oracle_success, resampled, spl, success
from vlm3r_core.scene.graph import SceneGraph

SUCCESS_M, NEAR_M = 1.0, 3.0
_STRIP_PX, _JPEG_QUALITY = 224, 85
# What a world or an agent raises that dies or does not answer. Anything else ends the run: a bug, or bad input.
DIED = (RuntimeError, ConnectionError, TimeoutError)
_NO_SCORES = {"success_1m": False, "success_3m": False, "oracle_success": False, "spl": 0.0} | {
    **dict.fromkeys(("shortest_m", "ne_m", "ndtw")),
    "reference": [],
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Played:
    """An episode that is over.

    Args:
        result: what results.json tells about it.
        latencies_ms: wall-clock time of each question.
        strip: JPEG pictures from along the way.
    """

    result: dict
    latencies_ms: tuple[float, ...]
    strip: tuple[bytes, ...]


def play(env: Env, episode: Episode, agent: Agent, settings: TrialSettings, walk: WalkPictures | None = None) -> Played:
    """Lets an agent act until it stops or a limit is met.

    A world or an agent that dies ends the episode: its result has the reason as `error` and is no success.

    Args:
        env: the episode's world.
        episode: what it is about.
        agent: who acts.
        settings: what counts.
        walk: keeps the pictures of the walk for the next episode of the scene.

    Raises:
        ValueError: the episode does not fit the world.
    """
    trial, steps, error = None, [], ""
    goal_entry, scores, strip = _goal_entry(episode), _NO_SCORES, ()
    try:
        goal_entry = _goal_entry(episode, env.scene_graph())
        goal = goal_of(env, episode)
        steps.append(env.reset(episode))
        if not np.isfinite(goal.distance_m(steps[0].position_m)):
            raise ValueError(f"episode {episode.id!r}: no way leads from its start to its goal; make the episodes anew")
        trial = Trial(env, episode, goal, steps[0], settings, walk=walk)
        agent.reset(trial)
        _act(trial, agent, steps)
        scores, strip = _scores(goal, episode, steps), _strip(env, steps, settings.pictures)
    except DIED as death:
        error = reason(death)
        _log.warning("episode %s failed: %s", episode.id, error)
    result = _facts(episode, trial, steps) | scores | {"goal": goal_entry, "error": error}
    return Played(result, tuple(trial.latencies_ms if trial else ()), strip)


def not_played(episode: Episode, death: Exception) -> Played:
    """An episode whose world could not be opened."""
    result = _facts(episode, None, []) | _NO_SCORES | {"goal": _goal_entry(episode), "error": reason(death)}
    return Played(result, (), ())


def reason(death: Exception) -> str:
    """What died, in a line."""
    return f"{type(death).__name__}: {' '.join(str(death).split())}"


def _act(trial: Trial, agent: Agent, steps: list[TimeStep]) -> None:
    """Appends every TimeStep to steps, so that what happened before a world died is known."""
    limits = trial.episode
    while not trial.now.stopped and trial.now.steps < limits.max_steps and trial.now.path_m < limits.max_path_m:
        trial.now = trial.env.step(agent.act(trial.now))
        steps.append(trial.now)


def _facts(episode: Episode, trial: Trial | None, steps: list[TimeStep]) -> dict:
    """What happened, without judging it."""
    facts = {"id": episode.id, "scene": episode.scene, "task": episode.task}
    facts["questions"] = trial.asked if trial else []
    if not steps:
        nothing = {"path_m": 0.0, "collisions": 0, "steps": 0, "stopped": False, "path": [], "sim_seconds": 0.0}
        return facts | nothing | {"start_yaw_rad": None}
    first, last = steps[0], steps[-1]
    return facts | {
        "path_m": round(last.path_m, 6),
        "collisions": last.collisions,
        "steps": last.steps,
        "stopped": last.stopped,
        "path": [np.round(step.position_m, 4).tolist() for step in steps],
        "start_yaw_rad": round(first.yaw_rad, 6),
        "sim_seconds": round((last.stamp_ns - first.stamp_ns) / 1e9, 6),
    }


def _goal_entry(episode: Episode, graph: SceneGraph | None = None) -> dict:
    entry = {"category": episode.goal_category, "object_id": episode.goal_object_id, "box": None}
    found = [item.box for item in graph.objects if item.instance_id == episode.goal_object_id] if graph else []
    if found:
        fields = ("center_m", "lengths_m", "R_WB")
        entry["box"] = {name: getattr(found[0], name).round(6).tolist() for name in fields}
    return entry


def _scores(goal: Goal, episode: Episode, steps: list[TimeStep]) -> dict:
    """The metrics of an episode; the reference of a route is its own way, else the shortest."""
    path, last = np.array([step.position_m for step in steps]), steps[-1]
    shortest, left_m = goal.way(path[0]), goal.distance_m(path[-1])
    reference = episode.reference_m if len(episode.reference_m) else shortest.points
    reached = success(last.stopped, left_m, SUCCESS_M)
    return {
        "success_1m": reached,
        "success_3m": success(last.stopped, left_m, NEAR_M),
        "oracle_success": oracle_success(goal.distances_within(resampled(path), SUCCESS_M), SUCCESS_M),
        "spl": round(spl(reached, shortest.distance_m, last.path_m), 6),
        "shortest_m": round(shortest.distance_m, 6),
        "ne_m": round(left_m, 6) if np.isfinite(left_m) else None,
        "ndtw": round(ndtw(resampled(path), resampled(reference)), 6),
        "reference": np.round(reference, 4).tolist(),
    }


def _strip(env: Env, steps: list[TimeStep], count: int) -> tuple[bytes, ...]:
    """Pictures from evenly chosen steps, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(steps) - 1, count).round().astype(int)) if count else ()
    strip = []
    for index in chosen:
        picture = Image.fromarray(env.view(steps[index].T_WC).frame.rgb).resize((_STRIP_PX, _STRIP_PX))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=_JPEG_QUALITY)
        strip.append(file.getvalue())
    return tuple(strip)
