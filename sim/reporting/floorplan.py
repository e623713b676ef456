"""Where everything of an episode lies on a plan seen from above, as numbers for an SVG. Writes no markup.

SVG's y points down: a point (x, y) of the world is drawn at (x, -y), one unit is one metre, north (+Y) is up.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image
from scipy.spatial import ConvexHull

from sim.env import FloorMap
from vlm3r_core.scene.box import OrientedBox

RING_M = 1.0
# Plans larger than this, metres, show only the surroundings of the episode.
_WHOLE_PLAN_M = 40.0
_MARGIN_M, _SURROUNDINGS_M = 0.6, 4.0
_MAX_PIXELS = 2048
# A flat picture on the wall still has a footprint.
_MIN_LENGTH_M = 0.02
_SCALE_BARS_M = (1, 2, 5, 10, 20, 50, 100)


def plan_image(plan: FloorMap) -> dict:
    """The free area as an SVG image.

    Returns:
        href: a PNG as data URI, white where free and clear elsewhere; x, y, width, height: its place, metres.
    """
    stride = -(-max(plan.free.shape) // _MAX_PIXELS)
    pixels = plan.free[::stride, ::stride].T[::-1].astype(np.uint8)
    image = Image.frombytes("P", pixels.shape[::-1], pixels.tobytes())
    image.putpalette([0, 0, 0, 255, 255, 255])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=1, transparency=0, optimize=True)
    width, height = np.array(pixels.shape[::-1]) * plan.cell_m * stride
    return {
        "href": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"),
        "x": _rounded(plan.origin_m[0]),
        "y": _rounded(-plan.origin_m[1] - height),
        "width": _rounded(width),
        "height": _rounded(height),
    }


def episode_plan(
    episode: dict, plan: FloorMap | None, others: list[np.ndarray], *, to_point: bool = False
) -> dict | None:
    """What is drawn of an episode.

    Args:
        episode: one of RunData.episodes.
        plan: the free area, None where unknown.
        others: paths [N, 2] of other runs of the same episode.
        to_point: whether the goal is the end of the reference path, not the box.

    Returns:
        view (x, y, width, height), reference, walked, others (points as SVG text), start, arrow, end, goal, ring,
        scale (bar); None where there is nothing to draw.
    """
    path, reference = episode["path"], episode["reference"]
    box = episode["goal"] and episode["goal"]["box"]
    hull = footprint(box) if box is not None else np.zeros((0, 2))
    target = reference[-1:] if to_point else hull
    touched = np.concatenate([path, reference, hull, *others])
    if not len(touched):
        return None
    around = [target - RING_M, target + RING_M]
    view = _view(np.concatenate([touched, *around]), plan)
    begin = path[0] if len(path) else reference[0] if len(reference) else None
    unit = max(view[2:]) / 100
    return {
        "view": [_rounded(value) for value in view],
        "unit": _rounded(unit),
        "reference": svg_points(reference),
        "walked": svg_points(path),
        "others": [svg_points(points) for points in others],
        "start": None if begin is None else _place(begin),
        "arrow": _arrow(begin, episode["start_yaw_rad"], 3 * unit),
        "end": _place(path[-1]) if len(path) else None,
        "goal": svg_points(hull),
        "ring": ring(target, RING_M),
        "scale": _scale_bar(view),
    }


def footprint(box: OrientedBox) -> np.ndarray:
    """Corners [N, 2] of a box seen from above, counter-clockwise."""
    grown = OrientedBox(box.center_m, np.maximum(box.lengths_m, _MIN_LENGTH_M), box.R_WB)
    corners = grown.corners()[:, :2]
    return corners[ConvexHull(corners).vertices]


def ring(outline: np.ndarray, reach_m: float) -> str:
    """SVG path of all points at a distance from a convex counter-clockwise outline [N, 2] or one point [1, 2]."""
    if len(outline) == 1:
        outline = outline + np.array([[-1e-3, 0.0], [1e-3, 0.0]])
    edges = np.roll(outline, -1, axis=0) - outline
    outward = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
    outward *= reach_m / np.linalg.norm(outward, axis=1, keepdims=True)
    begins, ends = outline + outward, np.roll(outline, -1, axis=0) + outward
    parts = [f"M{svg_points(begins[:1])}"] if len(outline) else []
    for end, following in zip(ends, np.roll(begins, -1, axis=0), strict=True):
        parts.append(f"L{svg_points(end[None])}A{reach_m} {reach_m} 0 0 0 {svg_points(following[None])}")
    return "".join(parts) + "Z" * bool(parts)


def svg_points(points: np.ndarray) -> str:
    """Points [N, 2] as SVG writes them."""
    return " ".join(f"{x:.2f},{y + 0.0:.2f}" for x, y in zip(points[:, 0], -points[:, 1], strict=True))


def _view(touched: np.ndarray, plan: FloorMap | None) -> list[float]:
    low, high = touched.min(axis=0), touched.max(axis=0)
    if plan is not None:
        cells = np.argwhere(plan.free)
        free_low = plan.origin_m + cells.min(axis=0) * plan.cell_m
        free_high = plan.origin_m + (cells.max(axis=0) + 1) * plan.cell_m
        if (free_high - free_low).max() <= _WHOLE_PLAN_M:
            low, high = np.minimum(low, free_low), np.maximum(high, free_high)
        else:
            low, high = low - _SURROUNDINGS_M, high + _SURROUNDINGS_M
    low, high = low - _MARGIN_M, high + _MARGIN_M
    return [low[0], -high[1], *(high - low)]


def _arrow(begin: np.ndarray | None, yaw_rad: float | None, length_m: float) -> str:
    """Triangle that points along the heading from the start."""
    if begin is None or yaw_rad is None or not np.isfinite(yaw_rad):
        return ""
    angles = yaw_rad + np.array([0.0, 2.5, -2.5])
    reach = length_m * np.array([[1.0], [0.6], [0.6]])
    return svg_points(begin + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def _scale_bar(view: list[float]) -> dict:
    length = max(bar for bar in _SCALE_BARS_M if bar == 1 or bar <= view[2] / 4)
    x, y = view[0] + view[2] * 0.03, view[1] + view[3] * 0.97
    return {"x": _rounded(x), "y": _rounded(y), "end": _rounded(x + length), "label": f"{length} m"}


def _place(point: np.ndarray) -> dict:
    return {"x": _rounded(point[0]), "y": _rounded(-point[1])}


def _rounded(value: float) -> float:
    return round(float(value), 3) + 0.0
