"""What the generators measure in one scene, measured once: distances, camera places, extents in the camera."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import product

import numpy as np

from vlm3r_core.scene.distances import Boxes, box_distances, point_distance
from vlm3r_core.scene.graph import CameraFrame, SceneGraph, SceneObject
from vlm3r_core.scene.relations import camera_extent, camera_position
from vlm3r_core.scene.sampling import sample_box, sampled_distance, sampled_point_distances
from vlm3r_core.scene.tasks.settings import GeneratorSettings

# how far a sampled distance may fall below the exact one by rounding alone
_ROUNDING_M = 1e-9


class SceneTruth:
    """One scene and what is measured in it; every task of a scene should share one, for its caches.

    Args:
        graph: the scene.
        settings: which form of distance, and whether camera places carry the published defect.
    """

    def __init__(self, graph: SceneGraph, settings: GeneratorSettings):
        self.graph, self.settings = graph, settings
        grouped: dict[str, list[SceneObject]] = {category: [] for category in graph.counts}
        for item in graph.objects:
            grouped[item.category].append(item)
        self.objects: dict[str, tuple[SceneObject, ...]] = {name: tuple(items) for name, items in grouped.items()}
        self.categories = tuple(category for category, items in self.objects.items() if items)
        self.unique = tuple(filter(self._is_unique, self.categories))
        self.by_id: dict[int, SceneObject] = {}
        for item in graph.objects:
            if item.instance_id is not None:
                self.by_id.setdefault(item.instance_id, item)
        self._order = {category: place for place, category in enumerate(self.categories)}
        self._distances: dict[tuple[str, str], float] = {}
        self._samples: dict[int, np.ndarray | None] = {}
        self._from_cameras: dict[int, np.ndarray] = {}
        self._extents: dict[tuple[int, int], np.ndarray] = {}

    def _is_unique(self, category: str) -> bool:
        """Counted once; and, but for the published generator, with one box, be it listed twice."""
        first, *others = self.objects[category]
        same = all(
            np.array_equal(first.box.center_m, item.box.center_m)
            and np.array_equal(first.box.lengths_m, item.box.lengths_m)
            for item in others
        )
        return self.graph.counts[category] == 1 and (same or self.settings.as_published)

    @cached_property
    def frames(self) -> tuple[CameraFrame, ...]:
        """All listed frames in the order of their ids."""
        return tuple(sorted(self.graph.frames, key=lambda frame: (isinstance(frame.frame_id, str), frame.frame_id)))

    @cached_property
    def tracked(self) -> tuple[int, ...]:
        """Places in frames of those that have a pose entry, be it NaN: the published tasks count these."""
        return tuple(place for place, frame in enumerate(self.frames) if frame.T_WC is not None)

    def shown_numbers(self, places: Sequence[int]) -> dict[int, int]:
        """What a question calls each frame, from 1: its place among all frames.

        Args:
            places: the frames a task looks at; the published questions count among these only.
        """
        if self.settings.as_published:
            return {place: rank for rank, place in enumerate(places, 1)}
        return {place: place + 1 for place in places}

    def seen(self, place: int) -> tuple[SceneObject, ...]:
        """Objects with a box in space and a large enough 2-D box in a frame, in the order of the frame's list."""
        least = self.settings.min_box_px
        return tuple(
            self.by_id[item.instance_id]
            for item in self.frames[place].visible
            if item.instance_id in self.by_id and (not least or _area_px(item.bbox_px) >= least)
        )

    def seen_alone(self, place: int) -> tuple[SceneObject, ...]:
        """Those of seen whose category no other of them has."""
        seen = self.seen(place)
        categories = [item.category for item in seen]
        return tuple(item for item in seen if categories.count(item.category) == 1)

    def extent(self, place: int, item: SceneObject) -> np.ndarray:
        """camera_extent [2, 3] of an object in a frame."""
        key = (place, id(item))
        if key not in self._extents:
            self._extents[key] = camera_extent(item.box, self.frames[place].T_WC)
        return self._extents[key]

    def camera_positions(self) -> np.ndarray:
        """Where the camera is in each frame, [F, 3]; NaN where it has no finite pose."""
        return self._camera_positions

    @cached_property
    def _camera_positions(self) -> np.ndarray:
        lost, as_published = np.full(3, np.nan), self.settings.as_published
        places = [
            camera_position(frame.T_WC, as_published=as_published) if frame.has_pose else lost for frame in self.frames
        ]
        return np.array(places).reshape(-1, 3)

    def camera_distances(self, item: SceneObject) -> np.ndarray:
        """Distance [F] from each frame's camera to an object, metres; NaN without a pose or a measurable box."""
        if id(item) not in self._from_cameras:
            positions = self.camera_positions()
            if self.settings.truth == "exact":
                found = point_distance(positions, item.box)
            else:
                points, found = self._sampled(item), np.full(len(positions), np.nan)
                known = np.isfinite(positions).all(axis=1)
                if points is not None:
                    found[known] = sampled_point_distances(positions[known], points)
            self._from_cameras[id(item)] = found
        return self._from_cameras[id(item)]

    def distance(self, first: str, second: str) -> float:
        """Smallest distance in metres between objects of two categories; NaN where no box of one can be measured."""
        self.measure([(first, second)])
        return self._distances[self._key(first, second)]

    def measure(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Measures the distances of pairs of categories that are not known yet, all at once."""
        keys = list(dict.fromkeys(self._key(*pair) for pair in pairs))
        keys = [key for key in keys if key not in self._distances]
        if not keys:
            return
        boxes = [list(product(self.objects[a], self.objects[b])) for a, b in keys]
        flat = [pair for group in boxes for pair in group]
        exact = box_distances(Boxes.of([a.box for a, _ in flat]), Boxes.of([b.box for _, b in flat]))
        starts = np.cumsum([0, *map(len, boxes)])
        for key, pairs_of, start in zip(keys, boxes, starts, strict=False):
            bounds = exact[start : start + len(pairs_of)]
            self._distances[key] = (
                float(bounds.min()) if self.settings.truth == "exact" else self._sampled_distance(pairs_of, bounds)
            )

    def _sampled_distance(self, pairs: list[tuple[SceneObject, SceneObject]], bounds: np.ndarray) -> float:
        best = np.inf
        for index in np.argsort(bounds, kind="stable"):
            if bounds[index] > best + _ROUNDING_M:
                break
            a, b = pairs[index]
            points_a, points_b = self._sampled(a), self._sampled(b)
            if points_a is not None and points_b is not None:
                best = min(best, sampled_distance(points_a, a.box, points_b, b.box))
        return best if np.isfinite(best) else float("nan")

    def _sampled(self, item: SceneObject) -> np.ndarray | None:
        if id(item) not in self._samples:
            measurable = (item.box.lengths_m > 0).all()
            self._samples[id(item)] = sample_box(item.box) if measurable else None
        return self._samples[id(item)]

    def _key(self, first: str, second: str) -> tuple[str, str]:
        return (first, second) if self._order[first] <= self._order[second] else (second, first)


def _area_px(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
