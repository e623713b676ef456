"""Makes episodes: what is watched, where the robot is put, and what it shall reach. Runs none.

Episodes in flats must be of flats nobody trained on: training uses flats of seeds below HELD_OUT_FLATS only.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from sim.camera import CameraSettings, camera_pose, yaw_of
from sim.env import Env
from sim.episode import Episode
from sim.loop.goal import Goal, NoAccess, object_goal
from sim.loop.trial import visible_ids
from sim.route.item import RouteItem
from sim.route.settings import RouteSettings
from sim.walks import WalkSettings, make_walk
from sim.world.annotation import STRUCTURE
from vlm3r_core.config import check_settings, setting
from vlm3r_core.scene.graph import SceneObject

# Flats for tests and measurements: their seeds start here. Training data must come from seeds below.
HELD_OUT_FLATS = 900_000
_START_TRIES = 50
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
    # who follows a route to the letter has an SPL of 1 / max_detour at least
    routes: RouteSettings = field(default_factory=lambda: RouteSettings(max_detour=1.05))
    walk: WalkSettings = field(default_factory=lambda: WalkSettings(fps=1.0, cover=True))

    def __post_init__(self):
        check_settings(self)


def find_episodes(
    env: Env, count: int, seed: int, settings: EpisodeSettings, camera: CameraSettings
) -> Iterator[Episode]:
    """Episodes that look for a thing of which there is one and which the walk showed; each thing in turn.

    Args:
        env: the world.
        count: how many at most; a small world may offer fewer.
        seed: of everything random; the same arguments give the same episodes.
        settings: what they are like.
        camera: the robot's.
    """
    rng = _rng_of(env, seed, 0)
    walk = watched_walk(env, seed, settings)
    goals = _goals(env, rng, _seen_on(env, walk, settings.seen_share), camera)
    left, number = deque(goals[index] for index in rng.permutation(len(goals))), 0
    while left and number < count:
        thing, goal = left[0]
        feet = _start_for(goal, env, rng, settings)
        if feet is None:
            left.popleft()
            continue
        left.rotate(-1)
        start = camera_pose(feet, rng.uniform(-np.pi, np.pi), camera).round(6)
        target = {"goal_category": thing.category, "goal_object_id": thing.instance_id}
        yield Episode(T_WC_start=start, T_WC_watch=walk, **target, **_common("find", env, number, seed, settings))
        number += 1


def _start_for(goal: Goal, env: Env, rng: np.random.Generator, settings: EpisodeSettings) -> np.ndarray | None:
    """A place [3] at a fitting distance from a goal, None where none was found."""
    for _ in range(_START_TRIES):
        feet = env.sample_navigable(rng)
        if settings.min_way_m <= goal.distance_m(feet) <= settings.max_way_m:
            return feet
    return None


def route_episodes(
    env: Env,
    items: Sequence[RouteItem],
    before: Sequence[Episode],
    seed: int,
    settings: EpisodeSettings,
    camera: CameraSettings,
) -> list[Episode]:
    """Episodes of following routes.

    Args:
        env: their world.
        items: the routes.
        before: episodes of this world that were made earlier.
        seed: of everything random.
        settings: what episodes are like.
        camera: the robot's.
    """
    if not items:
        return []
    walk = before[0].T_WC_watch if before else watched_walk(env, seed, settings)
    return [
        Episode(
            T_WC_start=camera_pose(item.waypoints[0], yaw_of(item.T_WC_start), camera).round(6),
            T_WC_watch=walk,
            goal_category=item.goal,
            goal_object_id=item.goal_id,
            landmarks=(item.start, item.facing, *item.via),
            landmark_ids=(item.start_id, item.facing_id, *item.via_ids),
            reference_m=item.waypoints,
            turns=item.answer_text,
            **_common("route", env, number, seed, settings),
        )
        for number, item in enumerate(items, len(before))
    ]


def watched_walk(env: Env, seed: int, settings: EpisodeSettings) -> np.ndarray:
    """Camera poses [N, 4, 4] of a walk that shows most of a world; the same for all its episodes of a seed."""
    walk = make_walk(env, _rng_of(env, seed, 1), settings.walk)
    chosen = np.unique(np.linspace(0, len(walk) - 1, settings.watch_frames).round().astype(int))
    return np.asarray(walk.T_WC)[chosen].round(6)


def _common(task: str, env: Env, number: int, seed: int, settings: EpisodeSettings) -> dict:
    return {
        "id": f"{task}-{env.scene_id}-{number:03d}",
        "task": task,
        "scene": env.scene_id,
        "seed": int(_rng_of(env, seed, 2 + number).integers(2**31)),
        "max_steps": settings.max_steps,
        "max_path_m": settings.max_path_m,
    }


def _rng_of(env: Env, seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((seed, crc32(env.scene_id.encode()), purpose))


def _seen_on(env: Env, walk: np.ndarray, share: float) -> set[int]:
    """Ids of what fills at least a share of a picture of the walk."""
    return set().union(*(visible_ids(env.view(pose), share) for pose in walk))


def _goals(
    env: Env, rng: np.random.Generator, seen: set[int], camera: CameraSettings
) -> list[tuple[SceneObject, Goal]]:
    """What can be looked for: things of which there is one, seen, and within reach from the floor."""
    graph, floor, found = env.scene_graph(), env.sample_navigable(rng), []
    for item in graph.objects:
        if graph.counts[item.category] > 1 or item.category in STRUCTURE or item.instance_id not in seen:
            continue
        try:
            found.append((item, object_goal(env, item, floor, camera.height_m)))
        except NoAccess as error:
            _log.info("%s", error)
    return found
