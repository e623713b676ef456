"""A question as a picture a person can check: its objects marked on video frames and on a plan. Decides nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import ConvexHull, QhullError

from vlm3r_core.clip import open_clip
from vlm3r_core.scene.graph import CameraFrame, SceneGraph, SceneObject
from vlm3r_core.scene.tasks import QaItem

_COLORS = ((214, 39, 40), (31, 119, 180), (44, 140, 44), (190, 100, 0), (130, 60, 170), (0, 140, 150))
_HEIGHT_PX = 320
_MARGIN_M = 0.4
_FRAMES = 3
_QUALITY = 72


def question_picture(item: QaItem, graph: SceneGraph, video: Path | None) -> Image.Image:
    """The frames a question is about, or that show its objects best, beside a plan of the scene.

    Args:
        item: the question.
        graph: its scene.
        video: its video, None where there is none.

    Raises:
        ValueError, OSError: the video cannot be read.
    """
    marked = marked_objects(item, graph)
    tiles = [draw_plan(graph, marked, _frames_named(item, graph))]
    if video is not None and graph.frames:
        chosen = _frames_named(item, graph) or _frames_showing(graph, marked)
        pictures = _read_frames(video, [frame.frame_id for frame in chosen])
        tiles = [
            _draw_frame(pictures[frame.frame_id], graph, frame, marked)
            for frame in chosen
            if frame.frame_id in pictures
        ] + tiles
    return _side_by_side(tiles)


def as_data_uri(picture: Image.Image) -> str:
    """A picture as text for a page that carries everything with it."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def marked_objects(item: QaItem, graph: SceneGraph) -> list[tuple[SceneObject, tuple[int, int, int]]]:
    """The objects a question names, by number where the scan numbers them, by category too; a colour each category."""
    named = [*item.names.values(), *item.choices]
    categories = [part for text in named for part in (text, *text.split(", "))]
    categories += [thing.category for thing in graph.objects if thing.instance_id in item.instance_ids]
    color_of: dict[str, tuple[int, int, int]] = {}
    by_category = {thing.category for thing in graph.objects}
    for category in categories:
        if category in by_category:
            color_of.setdefault(category, _COLORS[len(color_of) % len(_COLORS)])
    return [(thing, color_of[thing.category]) for thing in graph.objects if thing.category in color_of]


def draw_plan(
    graph: SceneGraph,
    marked: Sequence[tuple[SceneObject, tuple[int, int, int]]],
    named: Sequence[CameraFrame] = (),
) -> Image.Image:
    """A scene from above, north up: boxes, marked ones with names, the camera's way with its place in named frames."""
    outlines = {id(thing): _footprint(thing) for thing in graph.objects}
    way = np.array([frame.T_WC[:2, 3] for frame in graph.frames if frame.has_pose]).reshape(-1, 2)
    points = np.concatenate([way, *outlines.values()]) if graph.objects else np.vstack([way, np.zeros((1, 2))])
    low, high = points.min(axis=0) - _MARGIN_M, points.max(axis=0) + _MARGIN_M
    scale = _HEIGHT_PX / max((high - low).max(), 1e-6)
    size = np.maximum(np.ceil((high - low) * scale), 60).astype(int)
    image = Image.new("RGB", (int(size[0]), _HEIGHT_PX), (255, 255, 255))
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(12)

    def place(positions: np.ndarray) -> list[tuple[float, float]]:
        return [(float((x - low[0]) * scale), float((high[1] - y) * scale)) for x, y in positions]

    for thing in graph.objects:
        canvas.polygon(place(outlines[id(thing)]), outline=(190, 190, 190))
    if len(way) > 1:
        canvas.line(place(way), fill=(150, 150, 150), width=1)
    for thing, color in marked:
        canvas.polygon(place(outlines[id(thing)]), outline=color, width=3)
    for thing, color in marked:
        canvas.text(place(thing.box.center_m[None, :2])[0], thing.category, fill=color, font=font, anchor="mm")
    for number, frame in enumerate(named):
        _draw_camera(canvas, place, frame, str(number + 1), font)
    _draw_scale(canvas, scale, image.height, font)
    return image


def _draw_scale(canvas: ImageDraw.ImageDraw, scale: float, height: int, font) -> None:
    canvas.line([(6, height - 6), (6 + scale, height - 6)], fill=(0, 0, 0), width=2)
    canvas.text((6, height - 10), "1 m", fill=(0, 0, 0), font=font, anchor="ls")


def _draw_camera(canvas: ImageDraw.ImageDraw, place, frame: CameraFrame, label: str, font) -> None:
    """A dot where a named frame was taken and a line along its view."""
    if not frame.has_pose:
        return
    here, ahead = frame.T_WC[:2, 3], frame.T_WC[:2, 2]
    spots = place(np.stack([here, here + 0.7 * ahead]))
    canvas.line(spots, fill=(0, 0, 0), width=2)
    (x, y), _ = spots
    canvas.ellipse((x - 4, y - 4, x + 4, y + 4), fill=(0, 0, 0))
    canvas.text((x + 6, y - 6), label, fill=(0, 0, 0), font=font)


def _footprint(thing: SceneObject) -> np.ndarray:
    corners = thing.box.corners()[:, :2]
    try:
        return corners[ConvexHull(corners).vertices]
    except (QhullError, ValueError):  # a box without width
        return np.stack([corners.min(axis=0), corners.max(axis=0)])


def _frames_named(item: QaItem, graph: SceneGraph) -> list[CameraFrame]:
    return [frame for name in item.frame_ids for frame in graph.frames if frame.frame_id == name]


def _frames_showing(graph: SceneGraph, marked: Sequence[tuple[SceneObject, tuple[int, int, int]]]) -> list[CameraFrame]:
    """Frames, in order, that together show each marked category as large as can be, of a single one each object.

    The first frame where none shows any.
    """
    best: dict[str | int, tuple[int, int]] = {}
    category_of = {thing.instance_id: thing.category for thing, _ in marked if thing.instance_id is not None}
    for place, frame in enumerate(graph.frames):
        for seen in frame.visible:
            if seen.instance_id in category_of:
                area = (seen.bbox_px[2] - seen.bbox_px[0] + 1) * (seen.bbox_px[3] - seen.bbox_px[1] + 1)
                alone = len(set(category_of.values())) == 1
                key = seen.instance_id if alone else category_of[seen.instance_id]
                best[key] = max(best.get(key, (0, 0)), (area, -place))
    places = sorted({-place for _, place in list(best.values())[:_FRAMES]})
    return [graph.frames[place] for place in places or (0,)]


def _read_frames(video: Path, numbers: Sequence[int | str]) -> Mapping[int | str, Image.Image]:
    """Pictures by number; frames that scans name by text have none."""
    wanted = {number for number in numbers if isinstance(number, int)}
    if not wanted:
        return {}
    clip = open_clip(video)
    frames = clip.reader(frozenset(wanted))
    return {number: Image.fromarray(frame.rgb) for number, frame in zip(sorted(wanted), frames, strict=False)}


def _draw_frame(
    picture: Image.Image,
    graph: SceneGraph,
    frame: CameraFrame,
    marked: Sequence[tuple[SceneObject, tuple[int, int, int]]],
) -> Image.Image:
    scale = _HEIGHT_PX / picture.height
    image = picture.resize((round(picture.width * scale), _HEIGHT_PX))
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    stretch = np.array([image.width / graph.camera.width_px, image.height / graph.camera.height_px] * 2)
    color_of = {thing.instance_id: (thing.category, color) for thing, color in marked}
    for seen in frame.visible:
        if seen.instance_id in color_of:
            category, color = color_of[seen.instance_id]
            x0, y0, x1, y1 = (np.add(seen.bbox_px, (0, 0, 1, 1)) * stretch).tolist()
            canvas.rectangle((x0, y0, x1, y1), outline=color, width=2)
            left, top, right, bottom = canvas.textbbox((x0 + 2, y0 + 1), category, font=font)
            canvas.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=color)
            canvas.text((x0 + 2, y0 + 1), category, fill=(255, 255, 255), font=font)
    numbers = [other.frame_id for other in graph.frames]
    label = f"frame {numbers.index(frame.frame_id) + 1} of {len(numbers)}"
    canvas.rectangle((0, image.height - 16, 120, image.height), fill=(0, 0, 0))
    canvas.text((3, image.height - 14), label, fill=(255, 255, 255), font=font)
    return image


def _side_by_side(tiles: Sequence[Image.Image]) -> Image.Image:
    gap = 6
    sheet = Image.new("RGB", (sum(tile.width + gap for tile in tiles) - gap, _HEIGHT_PX), (255, 255, 255))
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, 0))
        left += tile.width + gap
    return sheet
