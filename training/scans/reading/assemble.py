"""Objects, points and frames of a scan put together as a scene graph. Reads no file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from training.scans.reading.mesh import box_around
from vlm3r_core.scene.graph import CameraFrame, PinholeCamera, SceneGraph, SceneObject, count_categories
from vlm3r_core.scene.room import room_area

LEFT_OUT = "left_out"


@dataclass(frozen=True, eq=False)
class Shots:
    """What the sampled frames of a scan's video show.

    Args:
        camera: of the video's pictures.
        frames: in the order of time.
        visibility: how the visible objects were found: `masks`, `depth` or `none`.
    """

    camera: PinholeCamera
    frames: tuple[CameraFrame, ...]
    visibility: str


@dataclass(frozen=True, eq=False)
class Objects:
    """Annotated objects that are asked about.

    Args:
        items: in the order of the annotation.
        points: [N, 3] on each object in the world, by instance id.
        left_out: how many annotated objects were left out for which reason; those of other categories do not count.
    """

    items: tuple[SceneObject, ...]
    points: Mapping[int, np.ndarray] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def scene_graph(
    dataset: str,
    scene_id: str,
    objects: Objects,
    vertices_W: np.ndarray,
    shots: Shots | None,
    *,
    seed: int = 0,
    doubled: Sequence[str] = (),
) -> SceneGraph:
    """A scan's graph.

    Args:
        dataset: the collection; scene_id the scan's name there.
        objects: what is in it; what was left out is told in the graph's extra field `left_out`.
        vertices_W: [N, 3], the mesh, for the room's area and centre.
        shots: frames, None where there are none; how their objects were found is told in frames_extra.
        seed: of the points drawn for the area.
        doubled: categories whose boxes are listed twice but counted once, a published defect.

    Raises:
        ValueError: the mesh has no area.
    """
    counts = count_categories(objects.items)
    items = objects.items + tuple(item for item in objects.items if item.category in doubled)
    frames = {} if shots is None else {"camera": shots.camera, "frames": shots.frames}
    return SceneGraph(
        scene_id,
        items,
        counts,
        room_area(vertices_W, seed=seed),
        box_around(vertices_W).center_m,
        dataset,
        extra={LEFT_OUT: dict(sorted(objects.left_out.items()))} if objects.left_out else {},
        frames_extra={} if shots is None else {"visibility": shots.visibility},
        **frames,
    )
