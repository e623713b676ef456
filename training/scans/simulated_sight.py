"""What a walk showed of a world, and what may be asked after it: only that. Moves and draws nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import label

from sim.env import FloorMap, Observation
from training.scans.simulated_settings import SimulatedSettings
from vlm3r_core.scene.graph import SceneGraph, count_categories

_FLOOR_TOLERANCE_M = 0.15


@dataclass(eq=False)
class Sight:
    """What a walk showed, filled while it is watched.

    Args:
        plan: the walkable floor, floor_z_m high.
        corners_m: [N, 2] of the one room there is: who has had them all between left and right edge of a picture knows
            how large it is. None: who has seen the floor does.
        pixels: of each object, by instance id, in each frame.
        floor: bool, which of the walkable cells were in view, in the order of np.argwhere(plan.free).
    """

    plan: FloorMap
    floor_z_m: float
    corners_m: np.ndarray | None = None
    pixels: list[dict[int, int]] = field(default_factory=list)

    def __post_init__(self):
        xy = self.plan.origin_m + (np.argwhere(self.plan.free) + 0.5) * self.plan.cell_m
        self._cells_m = np.column_stack([xy, np.full(len(xy), self.floor_z_m)])
        self.floor = np.zeros(len(xy), bool)
        self.corners = np.zeros(0 if self.corners_m is None else len(self.corners_m), bool)

    def watch(self, observations: Iterable[Observation]) -> Iterator[Observation]:
        """Hands pictures on and looks at them."""
        for seen in observations:
            counts = np.bincount(seen.semantic_ids.ravel())
            self.pixels.append({number: int(counts[number]) for number in np.flatnonzero(counts).tolist()})
            if self.corners_m is None:
                self.floor |= _in_view(self._cells_m, seen)
            else:
                self.corners |= _in_width(self.corners_m, seen)
            yield seen

    def most_pixels(self, instance_id: int) -> int:
        """Of an object in the frame that shows most of it."""
        return max((frame.get(instance_id, 0) for frame in self.pixels), default=0)

    def first(self, instance_id: int, pixels: float) -> int | None:
        """The first frame with so many pixels of an object, None where there is none."""
        return next((place for place, frame in enumerate(self.pixels) if frame.get(instance_id, 0) >= pixels), None)

    def covers(self, share: float, unseen_m2: float) -> bool:
        """Whether so much of the floor was in view, and no patch larger than that out of view; or all corners."""
        if self.corners_m is not None:
            return bool(self.corners.all())
        unseen = self.plan.free.copy()
        unseen[unseen] = ~self.floor
        patches, _ = label(unseen)
        largest = np.bincount(patches[unseen], minlength=1).max() * self.plan.cell_m**2
        return bool(self.floor.mean() >= share and largest <= unseen_m2)


def asked_graphs(
    full: SceneGraph, sight: Sight, settings: SimulatedSettings
) -> tuple[SceneGraph, dict[str, SceneGraph]]:
    """What may be asked after a walk.

    Args:
        full: the truth with the walk's frames.
        sight: what the walk showed.
        settings: what counts as seen.

    Returns:
        (the graph without categories of which not every object was seen clearly; graphs for single tasks: the order of
        appearance without categories that were glimpsed in a frame before the first that shows them clearly, and the
        room's size unknown where the walk did not show all of the floor).
    """
    area = settings.size_px**2
    clear, glimpse = settings.seen_share * area, settings.glimpse_share * area
    hidden = {item.category for item in full.objects if sight.most_pixels(item.instance_id) < clear}
    graph = _without(full, hidden)
    early = {
        item.category
        for item in graph.objects
        if sight.first(item.instance_id, max(1.0, glimpse)) != sight.first(item.instance_id, clear)
    }
    asked = {"obj_appearance_order": _without(graph, early)}
    if not sight.covers(settings.covered_share, settings.unseen_m2):
        asked["room_size_estimation"] = replace(graph, room_size_m2=0.0)
    return graph, asked


def seen_at_all(full: SceneGraph, sight: Sight, settings: SimulatedSettings) -> SceneGraph:
    """A graph that does not know the objects of which a walk did not show as much as a glimpse."""
    least = max(1.0, settings.glimpse_share * settings.size_px**2)
    objects = tuple(item for item in full.objects if sight.most_pixels(item.instance_id) >= least)
    return replace(full, objects=objects, counts=count_categories(objects))


def _without(graph: SceneGraph, categories: set[str]) -> SceneGraph:
    """A graph that does not know some categories, in its frames neither."""
    objects = tuple(item for item in graph.objects if item.category not in categories)
    left = {item.instance_id for item in objects}
    frames = tuple(
        replace(frame, visible=tuple(seen for seen in frame.visible if seen.instance_id in left))
        for frame in graph.frames
    )
    return replace(graph, objects=objects, counts=count_categories(objects), frames=frames)


def _in_view(points_W: np.ndarray, seen: Observation) -> np.ndarray:
    """Which points [N, 3] are in a picture with nothing before them."""
    T_WC, K, depth = seen.T_WC, seen.K, seen.depth_m
    points = (points_W - T_WC[:3, 3]) @ T_WC[:3, :3]
    z = points[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.floor(points[:, 0] / z * K[0, 0] + K[0, 2])
        v = np.floor(points[:, 1] / z * K[1, 1] + K[1, 2])
    inside = (z > 0) & (u >= 0) & (u < depth.shape[1]) & (v >= 0) & (v < depth.shape[0])
    found = np.zeros(len(points), bool)
    hit = depth[v[inside].astype(int), u[inside].astype(int)]
    found[inside] = hit > z[inside] * 0.95 - _FLOOR_TOLERANCE_M
    return found


def _in_width(corners_m: np.ndarray, seen: Observation) -> np.ndarray:
    """Which upright edges, at corners [N, 2] of a room, are between left and right edge of a picture, or hidden there.

    A camera that looks level sees an edge at one column; the usual tilt moves it by less than a column matters.
    """
    offset, forward, right = corners_m - seen.T_WC[:2, 3], seen.T_WC[:2, 2], seen.T_WC[:2, 0]
    ahead, aside = offset @ (forward / np.linalg.norm(forward)), offset @ right
    u = aside / np.maximum(ahead, 1e-9) * seen.K[0, 0] + seen.K[0, 2]
    return (ahead > 0) & (u >= 0) & (u < seen.frame.rgb.shape[1])
