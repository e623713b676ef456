"""Makes episodes: what is watched, where the robot is put, and what it shall reach. Runs none.

Episodes in flats must be of flats nobody trained on: training uses flats of seeds below HELD_OUT_FLATS only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from zlib import crc32

import numpy as np

from sim.camera import CameraSettings, camera_pose
from sim.env import Env
from sim.episode import TASKS, Episode
from sim.loop.goal import Goal, NoAccess, object_goal
from sim.loop.trial import visible_ids
from sim.route.settings import RouteSettings
from sim.walks import WalkSettings, make_walk
from sim.world.annotation import STRUCTURE
from vlm3r_core.config import check_choice, check_settings, setting
from vlm3r_core.scene.graph import SceneObject

# Flats for tests and measurements: their seeds start here. Training data must come from seeds below.
HELD_OUT_FLATS = 900_000
_START_TRIES = 400
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpisodeSettings:
    """What episodes are like."""

    watch_frames: int = setting(64, "frames of the walk watched beforehand at most", span=(1, 1024))
    min_way_m: float = setting(2.0, "shortest way from the start to the goal of find, metres", span=(0.1, 100.0))
    max_way_m: float = setting(30.0, "longest way", span=(0.1, 1000.0))
    seen_share: float = setting(0.004, "share of a watched picture the thing to find fills", span=(0.0, 1.0))
    max_steps: int = setting(500, "actions of an episode at most", span=(1, 100_000))
    max_path_m: float = setting(100.0, "metres of an episode at most", span=(0.1, 10_000.0))
    routes: RouteSettings = field(default_factory=RouteSettings)
    walk: WalkSettings = field(default_factory=lambda: WalkSettings(fps=1.0, cover=True))

    def __post_init__(self):
        check_settings(self)


def make_episodes(
    env: Env,
    task: str,
    count: int,
    seed: int,
    settings: EpisodeSettings,
    camera: CameraSettings,
    advance: Callable[[], object] = lambda: None,
) -> list[Episode]:
    """Episodes in one world; the same arguments give the same episodes.

    Args:
        env: the world.
        task: "route" or "find".
        count: how many.
        seed: of everything random.
        settings: what they are like.
        camera: the robot's.
        advance: called after every episode.

    Raises:
        ValueError: the world does not offer so many.
    """
    check_choice("task", task, TASKS)
    rng = np.random.default_rng((seed, TASKS.index(task)))
    walk, seen = _watch(env, rng, settings)
    plan = _Plan(count, seed, camera, seen)
    found = (_route_episodes if task == "route" else _find_episodes)(env, rng, settings, plan)
    episodes = []
    for number, fields in enumerate(islice(found, count)):
        fields["T_WC_start"] = fields["T_WC_start"].round(6)
        name = {"id": f"{task}-{env.scene_id}-{number:03d}", "task": task, "scene": env.scene_id}
        limits = {"max_steps": settings.max_steps, "max_path_m": settings.max_path_m}
        own_seed = int(np.random.SeedSequence((seed, crc32(env.scene_id.encode()), number)).generate_state(1)[0])
        episodes.append(Episode(**name, **fields, **limits, seed=own_seed, T_WC_watch=walk))
        advance()
    if len(episodes) < count:
        raise ValueError(
            f"scene {env.scene_id!r} offers {len(episodes)} {task} episodes, {count} were asked for; ask for fewer "
            "there, or take a larger world"
        )
    return episodes


# ---- what is watched


@dataclass(frozen=True)
class _Plan:
    """What is wanted of a world: how many episodes, their seed, the camera, and the ids the walk showed."""

    count: int
    seed: int
    camera: CameraSettings
    seen: frozenset[int]


def _watch(env: Env, rng: np.random.Generator, settings: EpisodeSettings) -> tuple[np.ndarray, frozenset[int]]:
    """A walk [N, 4, 4] and the ids of what it showed."""
    walk = make_walk(env, rng, settings.walk)
    chosen = np.unique(np.linspace(0, len(walk) - 1, settings.watch_frames).round().astype(int))
    poses = np.asarray(walk.T_WC)[chosen].round(6)
    ids: set[int] = set()
    for pose in poses:
        ids |= visible_ids(env.view(pose), settings.seen_share)
    return poses, frozenset(ids)


# ---- the two tasks


def _route_episodes(env: Env, rng, settings: EpisodeSettings, plan: _Plan) -> Iterator[dict]:
    """Fields of episodes that follow a way which words can tell; all landmarks were on the walk watched."""
    from sim.routes import make_routes

    routes = make_routes(env, plan.count, plan.seed, settings.routes, progress=False)
    for item in routes:
        yield {
            "T_WC_start": item.T_WC_start,
            "goal_category": item.goal,
            "goal_object_id": item.goal_id,
            "landmarks": (item.start, item.facing, *item.via),
            "reference_m": item.waypoints,
            "turns": item.answer_text,
        }


def _find_episodes(env: Env, rng, settings: EpisodeSettings, plan: _Plan) -> Iterator[dict]:
    """Fields of episodes that look for a thing of which there is one and which the walk showed; each thing in turn."""
    goals = _goals(env, rng, plan)
    order = [goals[index] for index in rng.permutation(len(goals))]
    for attempt in range(_START_TRIES * plan.count if order else 0):
        thing, goal = order[attempt % len(order)]
        feet, yaw_rad = env.sample_navigable(rng), rng.uniform(-np.pi, np.pi)
        if settings.min_way_m <= goal.distance_m(feet) <= settings.max_way_m:
            yield {
                "T_WC_start": camera_pose(feet, yaw_rad, plan.camera),
                "goal_category": thing.category,
                "goal_object_id": thing.instance_id,
            }


def _goals(env: Env, rng: np.random.Generator, plan: _Plan) -> list[tuple[SceneObject, Goal]]:
    graph, floor, found = env.scene_graph(), env.sample_navigable(rng), []
    for item in graph.objects:
        if graph.counts[item.category] > 1 or item.category in STRUCTURE or item.instance_id not in plan.seen:
            continue
        try:
            found.append((item, object_goal(env, item, floor, plan.camera.height_m)))
        except NoAccess as error:
            _log.info("%s", error)
    return found
