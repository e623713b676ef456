"""Objects that a route can name, how far they are, and whether one sees them. Knows no routes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.camera import CameraSettings, camera_pose
from sim.env import Env
from sim.route.settings import RouteSettings
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.distances import Boxes, box_distances
from vlm3r_core.scene.graph import SceneGraph, SceneObject

# An object is beside one who stands there if its box reaches into this range above the feet, metres: lamps and objects
# of other storeys do not.
_STOREY_M = (-0.3, 1.6)


@dataclass(frozen=True, eq=False)
class Landmark:
    """An object with a name that nothing else in its scene can be meant by.

    Args:
        name: its category, with what it is closest to where there are several.
        object_id: its instance id.
        box: where it is.
        neighbour: the landmark its name mentions, or None.
    """

    name: str
    object_id: int
    box: OrientedBox
    neighbour: Landmark | None = None

    @property
    def center(self) -> np.ndarray:
        """Middle of its box [3]."""
        return self.box.center_m


def landmarks_of(graph: SceneGraph, settings: RouteSettings) -> tuple[Landmark, ...]:
    """The objects that can be named: the only ones of their category, then those told apart by such a one beside them.

    All are of a size one notices. A category whose name ends another one's ("door" beside "folding door") is left out.
    """
    groups: dict[str, list[SceneObject]] = {}
    for item in graph.objects:
        groups.setdefault(item.category, []).append(item)
    clear = {name: group for name, group in groups.items() if not any(_ends(other, name) for other in groups)}
    single, several = [], []
    for name, group in clear.items():
        good = [item for item in group if _noticeable(item, settings)]
        if len(group) == 1 and graph.counts[name] == 1:
            single += [Landmark(name, item.instance_id, item.box) for item in good]
        elif len(group) == graph.counts[name]:
            several.append((group, {item.instance_id for item in good}))
    told_apart = (_told_apart(group, good, single, settings) for group, good in several)
    return (*single, *(landmark for part in told_apart for landmark in part))


def distances(points_W: np.ndarray, landmark: Landmark) -> np.ndarray:
    """How far points [N, 3] are from a landmark's box seen from above, metres [N]; infinite on another storey."""
    box = landmark.box
    level = np.array(points_W, np.float64)
    low, high = box.bounds()[:, 2]
    storey = (low < level[:, 2] + _STOREY_M[1]) & (high > level[:, 2] + _STOREY_M[0])
    level[:, 2] = box.center_m[2]
    offsets_B = (level - box.center_m) @ box.R_WB
    outside_B = offsets_B - np.clip(offsets_B, -box.lengths_m / 2, box.lengths_m / 2)
    return np.where(storey, np.linalg.norm((outside_B @ box.R_WB.T)[:, :2], axis=1), np.inf)


def nearest_landmark(points_W: np.ndarray, landmarks: tuple[Landmark, ...], reach_m: float) -> np.ndarray:
    """For points [N, 3] the index [N] of the nearest landmark, -1 beyond reach."""
    table = np.stack([distances(points_W, landmark) for landmark in landmarks], axis=1)
    return np.where(table.min(axis=1) <= reach_m, table.argmin(axis=1), -1)


def _ends(other: str, name: str) -> bool:
    return other.lower().endswith(f" {name.lower()}")


def _noticeable(item: SceneObject, settings: RouteSettings) -> bool:
    return item.instance_id is not None and item.box.lengths_m.max() >= settings.min_object_m


def _told_apart(
    group: list[SceneObject], good_ids: set[int], single: list[Landmark], settings: RouteSettings
) -> list[Landmark]:
    """Of several objects of a category those that are clearly the closest to a single one, by the closest such one."""
    best: dict[int, tuple[float, Landmark, SceneObject]] = {}
    for beside in single:
        boxes = Boxes.of([item.box for item in group])
        away = box_distances(boxes, Boxes.of([beside.box] * len(group)))
        first, second = np.argsort(away, kind="stable")[:2].tolist()
        item, near = group[first], float(away[first])
        clear = near <= settings.neighbour_m and away[second] >= near + settings.clearer_m
        if clear and item.instance_id in good_ids and near < best.get(item.instance_id, (np.inf,))[0]:
            best[item.instance_id] = near, beside, item
    return [
        Landmark(f"{item.category} closest to the {beside.name}", item.instance_id, item.box, beside)
        for _, beside, item in best.values()
    ]


class Sight:
    """Says whether one who stands somewhere can see a landmark, by looking: nothing opaque is in between.

    Args:
        env: the world.
        settings: height of the eyes, and how much must be seen.
    """

    def __init__(self, env: Env, settings: RouteSettings):
        self._env = env
        self._height_m = settings.camera_height_m
        self._min_share = settings.min_seen_share
        self._seen: dict[tuple[bytes, int], bool] = {}

    def sees(self, feet: np.ndarray, landmark: Landmark) -> bool:
        """Whether a landmark shows in a picture from above the feet [3], aimed at it."""
        key = feet.tobytes(), landmark.object_id
        if key not in self._seen:
            offset = landmark.center - feet - [0.0, 0.0, self._height_m]
            pitch_deg = float(np.degrees(np.arctan2(offset[2], np.hypot(*offset[:2]))))
            camera = CameraSettings(height_m=self._height_m, pitch_deg=pitch_deg)
            ids = self._env.view(camera_pose(feet, np.arctan2(offset[1], offset[0]), camera)).semantic_ids
            self._seen[key] = bool(np.mean(ids == landmark.object_id) > self._min_share)
        return self._seen[key]
