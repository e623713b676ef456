"""The truth about a recorded walk: the scene graph with a frame for each picture and what is really visible in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from scipy.ndimage import find_objects

from sim.env import Observation
from sim.walks import Walk
from vlm3r_core.config import check_range
from vlm3r_core.scene.graph import CameraFrame, PinholeCamera, SceneGraph, VisibleObject

DATASET = "simulated"
MIN_PIXELS = 30


def walk_graph(
    graph: SceneGraph,
    walk: Walk,
    observations: Iterable[Observation],
    *,
    min_pixels: int = MIN_PIXELS,
    video_path: str | None = None,
    color_path: str | None = None,
) -> SceneGraph:
    """A world's scene graph with the frames of a walk, as the question generators want it.

    Args:
        graph: the truth about the world.
        walk: its poses are the frames' poses.
        observations: one for each pose, in order; looked at once, so that a generator will do.
        min_pixels: an object of which fewer pixels show is not visible. What hides it is taken into account.
        video_path: of the recording, relative.
        color_path: pattern of the images' paths by number, such as "{:06d}.jpg", for a folder of images.

    Returns:
        A graph whose frames have the numbers 0, 1, ..., a field `stamp_ns` each, and the visible objects of the scene
        graph with their boxes in the picture; floors, walls and ceilings are not among them.

    Raises:
        ValueError: there are more or fewer observations than poses, or min_pixels is below 1.
    """
    check_range("min_pixels", min_pixels, 1)
    camera, frames = None, []
    objects = {item.instance_id for item in graph.objects}
    for index, (T_WC, stamp_ns, seen) in enumerate(zip(walk.T_WC, walk.stamps_ns, observations, strict=True)):
        camera = camera or _pinhole(seen)
        visible = visible_objects(seen.semantic_ids, objects, min_pixels)
        path = color_path.format(index) if color_path else None
        frames.append(CameraFrame(index, T_WC, visible, path, extra={"stamp_ns": int(stamp_ns)}))
    return replace(graph, dataset=DATASET, video_path=video_path, camera=camera, frames=tuple(frames))


def visible_objects(semantic_ids: np.ndarray, objects: set[int], min_pixels: int) -> tuple[VisibleObject, ...]:
    """The objects in a picture of instance ids [H, W], by id, with the box around their pixels."""
    boxes, pixels = find_objects(semantic_ids), np.bincount(semantic_ids.ravel())
    numbers = [number for number in np.flatnonzero(pixels).tolist() if number in objects]
    found = {number: boxes[number - 1] for number in numbers if pixels[number] >= min_pixels}
    return tuple(
        VisibleObject(number, (columns.start, rows.start, columns.stop - 1, rows.stop - 1))
        for number, (rows, columns) in found.items()
    )


def _pinhole(seen: Observation) -> PinholeCamera:
    height, width = seen.frame.rgb.shape[:2]
    K = seen.K
    return PinholeCamera(float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), width, height)
