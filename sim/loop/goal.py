"""Where a trial must end, and how far that is from anywhere: a point, or a box with the places from which it is seen.

The distance to a box is the geodesic to one of its access points plus the straight rest from there to its footprint.
Access points are the nearest places around the box where the robot can stand on the floor it starts on, is connected
with, and sees the box from; behind a wall is not at the box. They lie at most MAX_REST_M from the footprint, a dozen
around it, so that a distance is at most half their spacing too long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.env import Env
from sim.episode import Episode
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import SceneObject

MAX_REST_M = 0.8
_SIDES = 12  # access points of a box at most
_SPACING_M = 0.25  # between places on the footprint's border at least
_REST_STEP_M = 0.05
_SEEN_PX = 10


class NoAccess(ValueError):
    """Nobody can get to a place next to the object from which it is seen."""


@dataclass(frozen=True, eq=False)
class Way:
    """The shortest way to a goal.

    Args:
        points: [N, 3] waypoints, the first where one stands; empty where there is no way.
        rest_m: straight rest from the last one to the box, 0 for a goal that is a point.
        distance_m: length with the rest, infinite where there is no way.
    """

    points: np.ndarray
    rest_m: float
    distance_m: float


class Goal:
    """A goal in a world.

    Args:
        env: the world.
        points: [N, 3] places that will do.
        rests_m: [N] what is left to the box from each.
    """

    def __init__(self, env: Env, points: np.ndarray, rests_m: np.ndarray):
        self._env, self.points, self.rests_m = env, points, rests_m

    def way(self, position_m: np.ndarray) -> Way:
        """The shortest way from a place [3]."""
        best = Way(np.zeros((0, 3)), 0.0, np.inf)
        at_least = np.linalg.norm(self.points - position_m, axis=1) + self.rests_m
        for index in np.argsort(at_least, kind="stable"):
            if at_least[index] >= best.distance_m:
                break
            path = self._env.shortest_path(position_m, self.points[index])
            if path.distance_m + self.rests_m[index] < best.distance_m:
                rest_m = float(self.rests_m[index])
                best = Way(path.points, rest_m, path.distance_m + rest_m)
        return best

    def distance_m(self, position_m: np.ndarray) -> float:
        """How far it is from a place [3]."""
        return self.way(position_m).distance_m

    def distances_within(self, positions_m: np.ndarray, limit_m: float) -> list[float]:
        """Distances, up to a limit, from those of the places [N, 3] that have one; the far ones cost no path."""
        apart = np.linalg.norm(np.asarray(positions_m)[:, None] - self.points[None], axis=2) + self.rests_m
        near = np.flatnonzero(apart.min(axis=1) <= limit_m)
        distances = [self.distance_m(positions_m[index]) for index in near]
        return [distance for distance in distances if distance <= limit_m]


def goal_of(env: Env, episode: Episode) -> Goal:
    """The goal of an episode: the end of its reference way, or its object's box.

    Raises:
        NoAccess: nobody can get to the object.
        ValueError: the episode has neither, or the scene has no such object.
    """
    if episode.task == "route":
        if not len(episode.reference_m):
            raise ValueError(f"episode {episode.id!r} is a route without reference_m; make it with sim.loop.episodes")
        return Goal(env, episode.reference_m[-1:], np.zeros(1))
    try:
        thing = env.scene_graph().object_by_id(episode.goal_object_id)
    except KeyError as error:
        raise ValueError(f"episode {episode.id!r}: {error.args[0]}") from None
    now = env.reset(episode)
    try:
        return object_goal(env, thing, now.position_m, float(now.T_WC[2, 3] - now.position_m[2]))
    except NoAccess as error:
        raise NoAccess(f"episode {episode.id!r}: {error}; take it out, or make the episodes anew") from None


def object_goal(env: Env, thing: SceneObject, start_m: np.ndarray, eye_m: float) -> Goal:
    """The goal of standing at an object.

    Args:
        env: the world.
        thing: the object, with an instance id.
        start_m: [3], feet of a robot that shall get there.
        eye_m: height of its camera above them.

    Raises:
        NoAccess: nobody can get there.
    """
    points, rests = [], []
    for point, rest_m in _places_around(env, thing.box, float(start_m[2])):
        if not env.shortest_path(start_m, point).found:
            continue
        picture = env.view(looking_at(point + np.array([0.0, 0.0, eye_m]), thing.box.center_m))
        if np.count_nonzero(picture.semantic_ids == thing.instance_id) >= _SEEN_PX:
            points.append(point)
            rests.append(rest_m)
    if not points:
        raise NoAccess(f"scene {env.scene_id!r}: nobody can get to the {thing.category} ({thing.instance_id})")
    return Goal(env, np.array(points), np.array(rests))


def looking_at(eye_W: np.ndarray, target_W: np.ndarray) -> np.ndarray:
    """Pose [4, 4] of a camera at a point [3] that looks at another, its picture upright."""
    forward = np.asarray(target_W, np.float64) - eye_W
    if np.hypot(*forward[:2]) < 1e-6:
        forward += (1e-6, 0.0, 0.0)  # straight up or down: any side may be up in the picture
    forward /= np.linalg.norm(forward)
    right = np.array([forward[1], -forward[0], 0.0]) / np.hypot(*forward[:2])
    T_WC = np.eye(4)
    T_WC[:3, 0], T_WC[:3, 1], T_WC[:3, 2], T_WC[:3, 3] = right, np.cross(forward, right), forward, eye_W
    return T_WC


def _places_around(env: Env, box: OrientedBox, floor_m: float) -> list[tuple[np.ndarray, float]]:
    """Straight out from the footprint's border, the first place where one can stand: (feet [3], rest)."""
    places = []
    for border, outward in _border(box):
        for rest_m in np.arange(_REST_STEP_M, MAX_REST_M + 1e-9, _REST_STEP_M):
            point = np.array([*(border + rest_m * outward), floor_m])
            if env.is_navigable(point):
                places.append((point, float(rest_m)))
                break
    return places


def _border(box: OrientedBox) -> list[tuple[np.ndarray, np.ndarray]]:
    """Places on the border of an upright box's footprint with the directions out: (xy [2], unit [2])."""
    axes = [axis for axis in range(3) if abs(box.R_WB[2, axis]) < 0.5][:2]
    center, places = box.center_m[:2], []
    spacing = max(_SPACING_M, 2 * sum(box.lengths_m[axes]) / _SIDES)
    for axis, across in (axes, axes[::-1]):
        out, along = box.R_WB[:2, axis], box.R_WB[:2, across]
        out, along = out / np.hypot(*out), along / np.hypot(*along)
        count = max(1, round(box.lengths_m[across] / spacing))
        for side in (-1.0, 1.0):
            for share in (np.arange(count) + 0.5) / count - 0.5:
                border = center + side * out * box.lengths_m[axis] / 2 + along * share * box.lengths_m[across]
                places.append((border, side * out))
    return places
