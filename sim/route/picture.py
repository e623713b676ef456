"""Maps of routes seen from above, for a person to check. Judges nothing."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import ConvexHull, QhullError

from sim.env import FloorMap
from sim.route.item import RouteItem
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import SceneGraph

_PX_PER_M = 70
_AROUND_M = 2.0
_ARROW_M = 0.8
_TEXT_PX = 15
_TEXT_LINES = 4
_PAPER, _FREE, _THING, _WAY = (205, 205, 205), (255, 255, 255), (150, 150, 150), (30, 90, 220)
# start, faced, via and goal
_START, _FACED, _VIA, _GOAL = (0, 130, 60), (210, 110, 0), (210, 110, 0), (200, 0, 40)


def route_picture(item: RouteItem, graph: SceneGraph, plan: FloorMap) -> Image.Image:
    """The surroundings of a route with its landmarks by name, its way, where it faces at the start, and the answer.

    Args:
        item: the route.
        graph: the truth about its scene.
        plan: where one can stand.
    """
    landmarks = {object_id: graph.object_by_id(object_id).box for object_id in _colors(item)}
    shown = np.vstack([item.waypoints[:, :2], *(box.corners()[:, :2] for box in landmarks.values())])
    sheet = _Sheet(shown.min(axis=0) - _AROUND_M, shown.max(axis=0) + _AROUND_M, plan)
    for thing in graph.objects:
        sheet.outline(thing.box, _THING, 1)
        if thing.instance_id not in landmarks:
            sheet.label(thing.box.center_m, thing.category, _THING, small=True)
    sheet.line(item.waypoints, _WAY)
    for stop in item.stops:
        sheet.dot(stop, _WAY)
    start, ahead = item.T_WC_start[:3, 3], item.T_WC_start[:3, 2]
    sheet.arrow(start, start + _ARROW_M * ahead, _START)
    for object_id, (color, name) in _colors(item).items():
        sheet.outline(landmarks[object_id], color, 3)
        sheet.label(landmarks[object_id].center_m, name, color)
    turns = ", ".join(f"{np.degrees(angle):+.0f} deg" for angle in item.turns_rad)
    return sheet.with_text(
        f"{item.id}   template {item.template}   {item.answer}. {item.answer_text}   ({turns}, left +)",
        f"at the {item.start}, facing the {item.facing}, via {', '.join(item.via) or 'nothing'}, to the {item.goal}",
        "   ".join(item.options),
        "blue: way   green: start and its arrow   orange: faced or via   red: goal",
    )


def _colors(item: RouteItem) -> dict[int, tuple[tuple[int, int, int], str]]:
    """Color and label of every landmark by instance id."""
    colors = {item.facing_id: (_FACED, item.facing)}
    colors |= {number: (_VIA, name) for number, name in zip(item.via_ids, item.via, strict=True)}
    return colors | {item.start_id: (_START, item.start), item.goal_id: (_GOAL, item.goal)}


class _Sheet:
    """A drawing in metres, north (+Y) up."""

    def __init__(self, low_m: np.ndarray, high_m: np.ndarray, plan: FloorMap):
        self._low, self._high = low_m, high_m
        width, height = np.ceil((high_m - low_m) * _PX_PER_M).astype(int).tolist()
        columns = ((low_m[0] + (np.arange(width) + 0.5) / _PX_PER_M - plan.origin_m[0]) / plan.cell_m).astype(int)
        rows = ((high_m[1] - (np.arange(height) + 0.5) / _PX_PER_M - plan.origin_m[1]) / plan.cell_m).astype(int)
        inside = ((rows >= 0) & (rows < plan.free.shape[1]))[:, None] & (columns >= 0) & (columns < plan.free.shape[0])
        free = plan.free[columns.clip(0, plan.free.shape[0] - 1)][:, rows.clip(0, plan.free.shape[1] - 1)].T & inside
        self._image = Image.fromarray(np.where(free[..., None], _FREE, _PAPER).astype(np.uint8))
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: np.ndarray, color: tuple) -> None:
        self._draw.line([self._px(point) for point in points], fill=color, width=3)

    def dot(self, point: np.ndarray, color: tuple) -> None:
        x, y = self._px(point)
        self._draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=color)

    def arrow(self, start: np.ndarray, end: np.ndarray, color: tuple) -> None:
        tail, tip = np.array(self._px(start)), np.array(self._px(end))
        back = (tail - tip) / max(np.hypot(*(tail - tip)), 1e-9)
        aside = np.array([-back[1], back[0]])
        self._draw.line([tuple(tail), tuple(tip)], fill=color, width=5)
        head = [tip, tip + 16 * back + 9 * aside, tip + 16 * back - 9 * aside]
        self._draw.polygon([tuple(corner) for corner in head], fill=color)

    def outline(self, box: OrientedBox, color: tuple, width: int) -> None:
        corners = box.corners()[:, :2]
        try:
            corners = corners[ConvexHull(corners).vertices]
        except QhullError:  # a sheet seen from its edge
            corners = corners[[0, -1]]
        self._draw.line([self._px(point) for point in (*corners, corners[0])], fill=color, width=width)

    def label(self, point: np.ndarray, text: str, color: tuple, *, small: bool = False) -> None:
        font = ImageFont.load_default(_TEXT_PX * (0.75 if small else 1))
        self._draw.text(self._px(point), text, fill=color, font=font, anchor="mm", stroke_width=2, stroke_fill=_FREE)

    def with_text(self, *lines: str) -> Image.Image:
        """The drawing above lines of text."""
        font = ImageFont.load_default(_TEXT_PX)
        width = max(self._image.width, *(int(font.getlength(line)) + 12 for line in lines))
        page = Image.new("RGB", (width, self._image.height + _TEXT_LINES * (_TEXT_PX + 6) + 8), _FREE)
        page.paste(self._image, (0, 0))
        for number, text in enumerate(lines):
            place = (6, self._image.height + 6 + number * (_TEXT_PX + 6))
            ImageDraw.Draw(page).text(place, text, fill=(0, 0, 0), font=font)
        return page

    def _px(self, point: np.ndarray) -> tuple[float, float]:
        return (point[0] - self._low[0]) * _PX_PER_M, (self._high[1] - point[1]) * _PX_PER_M
