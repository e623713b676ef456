"""Which objects a frame shows, from instance masks or from points tested against depth. Reads no scan."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image
from scipy.ndimage import find_objects

from vlm3r_core.scene.graph import PinholeCamera, VisibleObject
from vlm3r_core.scene.relations import visible_points


def mask_boxes(
    mask: np.ndarray, size: tuple[int, int], *, offset: int = 0, known: set[int], min_pixels: int = 1
) -> tuple[VisibleObject, ...]:
    """Objects in a picture of numbers.

    Args:
        mask: unsigned integers [H, W], 0 where there is no object, of the picture's field of view.
        size: (width, height) of the picture the boxes are for.
        offset: what a mask's number is above the object's.
        known: objects that count.
        min_pixels: how many pixels of the picture an object needs.

    Returns:
        By number.
    """
    if mask.shape != size[::-1]:
        mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    numbers, labels, pixels = np.unique(mask, return_inverse=True, return_counts=True)
    boxes = find_objects(labels.reshape(mask.shape) + 1)
    return tuple(
        VisibleObject(number - offset, (columns.start, rows.start, columns.stop - 1, rows.stop - 1))
        for number, count, (rows, columns) in zip(numbers.tolist(), pixels, boxes, strict=True)
        if number > 0 and number - offset in known and count >= min_pixels
    )


def point_boxes(
    points_W: Mapping[int, np.ndarray],
    T_WC: np.ndarray,
    camera: PinholeCamera,
    depth_m: np.ndarray,
    *,
    min_points: int = 1,
    tolerance_m: float = 0.1,
) -> tuple[VisibleObject, ...]:
    """Objects of whose surface points enough are in view and not behind something.

    Args:
        points_W: points [N, 3] of each object by number.
        T_WC: [4, 4] world from camera.
        camera: of the picture the boxes are for.
        depth_m: [H, W] metres with the picture's field of view, 0 where unknown.
        min_points: how many points must be seen.
        tolerance_m: how far behind the measured depth a point may lie.

    Returns:
        By number; a box is that of the seen points.
    """
    found = []
    for number in sorted(points_W):
        points = points_W[number]
        seen = points[visible_points(points, T_WC, camera, depth_m, tolerance_m=tolerance_m)]
        if not len(seen) or len(seen) < min_points:
            continue
        x, y, z = ((seen - T_WC[:3, 3]) @ T_WC[:3, :3]).T
        u, v = (camera.fx * x / z + camera.cx).astype(int), (camera.fy * y / z + camera.cy).astype(int)
        found.append(VisibleObject(number, (int(u.min()), int(v.min()), int(u.max()), int(v.max()))))
    return tuple(found)
