"""Places beside landmarks in a world and the straight ways between them. Judges no turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sim.env import Env
from sim.route.draft import Stop, aside
from sim.route.geometry import is_straight
from sim.route.landmarks import Landmark, landmarks_of, nearest_landmark
from sim.route.settings import RouteSettings

# A straight line is walkable if one can stand at points of it this far apart; agents are wider.
_STEP_M = 0.1
# Places beside a landmark that are tried from a stop.
_TRIES = 4


class Ways:
    """Draws stops and legs of one world.

    Args:
        env: the world.
        settings: how far a stop may be from its landmark, how long and how straight legs are.
        rng: where chance comes from.
        rejected: counts here what kept two stops from being joined.
    """

    def __init__(self, env: Env, settings: RouteSettings, rng: np.random.Generator, rejected: Counter):
        self._env, self._settings, self._rng, self._rejected = env, settings, rng, rejected
        self._plan = env.floor_map()
        self._beside: dict[int, np.ndarray] = {}
        self.landmarks: tuple[Landmark, ...] = ()
        known = landmarks_of(env.scene_graph(), settings)
        if known:
            points = np.stack([env.sample_navigable(rng) for _ in range(settings.standing_points)])
            nearest = nearest_landmark(points, known, settings.anchor_m)
            standing = np.unique(nearest[nearest >= 0]).tolist()
            self.landmarks = tuple(known[index] for index in standing)
            self._beside = {known[index].object_id: points[nearest == index] for index in standing}

    def draw_stop(self, landmark: Landmark | None = None) -> Stop:
        """A stop beside a landmark; beside any, each as likely as the others, where none is given."""
        landmark = landmark or self.landmarks[self._rng.integers(len(self.landmarks))]
        points = self._beside[landmark.object_id]
        return Stop(points[self._rng.integers(len(points))], landmark)

    def onward(self, hub: Stop) -> list[Stop]:
        """Stops to which one can walk straight from a stop, at most one at every landmark."""
        found = []
        for landmark in self.landmarks:
            if landmark is hub.landmark:
                continue
            for _ in range(_TRIES):
                there = self.draw_stop(landmark)
                flaw = self._leg_flaw(hub.feet, there)
                if not flaw:
                    found.append(there)
                    break
                self._rejected[flaw] += 1
        return found

    def ahead(self, hub: Stop) -> list[Landmark]:
        """Landmarks that one at a stop could face: as far as the length of a leg, whatever is in between."""
        settings, found = self._settings, []
        for landmark in self.landmarks:
            length_m = np.hypot(*(landmark.center - hub.feet)[:2])
            if landmark is not hub.landmark and settings.min_leg_m <= length_m <= settings.max_leg_m:
                found.append(landmark)
        return found

    def waypoints(self, stops: Sequence[Stop]) -> tuple[np.ndarray, str]:
        """The shortest ways from stop to stop in one, [N, 3]; or what is wrong with them: too long for a route."""
        if len(stops) > 2:
            length_m = sum(float(np.linalg.norm(there.feet - here.feet)) for here, there in pairwise(stops))
            shortest = self._env.shortest_path(stops[0].feet, stops[-1].feet)
            if length_m > self._settings.max_detour * shortest.distance_m:
                return np.zeros((0, 3)), "a detour"
        legs = [self._env.shortest_path(here.feet, there.feet) for here, there in pairwise(stops)]
        if not all(leg.found and is_straight(leg.points, self._settings.bend_m) for leg in legs):
            return np.zeros((0, 3)), "a leg is not the shortest way"
        return np.vstack([legs[0].points[:1], *(leg.points[1:] for leg in legs)]), ""

    def _on_plan(self, points: np.ndarray) -> bool:
        """Whether all points [N, 3] are free on the map, whatever the storey."""
        plan = self._plan
        cells = np.floor((points[:, :2] - plan.origin_m) / plan.cell_m).astype(int)
        inside = (cells >= 0).all() and (cells < plan.free.shape).all()
        return bool(inside and plan.free[cells[:, 0], cells[:, 1]].all())

    def _leg_flaw(self, start: np.ndarray, there: Stop) -> str:
        settings, offset = self._settings, there.feet - start
        length_m = float(np.hypot(*offset[:2]))
        if not settings.min_leg_m <= length_m <= settings.max_leg_m:
            return "leg: too short or too long"
        if aside(start, there) > np.radians(settings.aim_deg):
            return "leg: its landmark lies aside"
        # The map seen from above tells most walls at once; asking where one can stand still costs less than the way.
        shares = np.linspace(0.0, 1.0, int(np.ceil(length_m / _STEP_M)) + 1)
        points = start + shares[:, None] * offset
        if not self._on_plan(points) or not all(self._env.is_navigable(point) for point in points):
            return "leg: not straight"
        return ""
