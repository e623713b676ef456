"""Pictures of a flat for people: its plan with names, and views from inside. Builds nothing."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sim.camera import CameraSettings, camera_pose
from sim.flats.catalogue import CATEGORIES
from sim.flats.plan import Plan
from sim.mesh_env import MeshEnv
from vlm3r_core.scene.graph import SceneGraph

_PX_PER_M = 90
_EDGE_M = 0.4
_LENS = CameraSettings(width_px=320, height_px=240, hfov_deg=85.0)
_HEADINGS = 8


def draw_plan(plan: Plan, graph: SceneGraph) -> Image.Image:
    """A flat from above: rooms, doorways, and every object's box with its name; a tick shows its front.

    Args:
        plan: the rooms.
        graph: the objects.
    """
    corners = np.concatenate([room.polygon_m for room in plan.rooms])
    low, high = corners.min(axis=0) - _EDGE_M, corners.max(axis=0) + _EDGE_M
    size = np.ceil((high - low) * _PX_PER_M).astype(int)
    image = Image.new("RGB", tuple(size.tolist()), (70, 70, 74))
    canvas = ImageDraw.Draw(image)

    def place(points: np.ndarray) -> list[tuple[float, float]]:
        pixels = (np.asarray(points) - low) * _PX_PER_M
        return [(float(x), float(size[1] - y)) for x, y in pixels]

    for room in plan.rooms:
        canvas.polygon(place(room.polygon_m), fill=(238, 234, 226))
    for door in plan.doorways:
        half = np.array([door.thickness_m, door.width_m])[:: 1 if door.axis == 0 else -1] / 2
        canvas.rectangle(_upright(place([door.center_m - half, door.center_m + half])), fill=(214, 206, 190))
    small, large = ImageFont.load_default(11), ImageFont.load_default(17)
    for item in sorted(graph.objects, key=lambda item: item.box.bounds()[1, 2]):
        _draw_object(canvas, place, item, small)
    for room in plan.rooms:
        middle = place([(room.low_m + room.high_m) / 2])[0]
        label = f"{room.name}  {room.area_m2:.1f} m2"
        canvas.text(middle, label, fill=(20, 20, 110), font=large, anchor="mm", stroke_width=2, stroke_fill=(255,) * 3)
    return image


def _draw_object(canvas: ImageDraw.ImageDraw, place, item, font) -> None:
    """One object's box, its front and its name."""
    half_d, half_w = item.box.lengths_m[:2] / 2
    local = np.array([[half_d, half_w], [-half_d, half_w], [-half_d, -half_w], [half_d, -half_w]])
    R, center = item.box.R_WB[:2, :2], item.box.center_m[:2]
    hue = CATEGORIES.index(item.category) / len(CATEGORIES)
    color = tuple(int(255 * value) for value in colorsys.hls_to_rgb(hue, 0.72, 0.6))
    hangs = item.box.bounds()[0, 2] > 2.0
    canvas.polygon(place(local @ R.T + center), fill=None if hangs else color, outline=(60, 60, 60))
    front = np.array([[half_d, 0.0], [half_d + 0.07, 0.0]]) @ R.T + center
    canvas.line(place(front), fill=(200, 30, 30), width=2)
    if hangs:
        return
    canvas.text(place([center])[0], item.category, fill=(0, 0, 0), font=font, anchor="mm")


def _upright(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Lower and higher corner of two."""
    xs, ys = zip(*points, strict=True)
    return [(min(xs), min(ys)), (max(xs), max(ys))]


def draw_views(env: MeshEnv, plan: Plan, seed: int) -> Image.Image:
    """Two views of every room from 1.5 m above its floor, side by side, a row for each room.

    Args:
        env: the flat.
        plan: its rooms.
        seed: of where one stands.
    """
    rng = np.random.default_rng((seed, 9))
    width, height = _LENS.width_px, _LENS.height_px
    sheet = Image.new("RGB", (2 * width, height * len(plan.rooms)))
    for row, room in enumerate(plan.rooms):
        for column in range(2):
            feet = _stand(env, room.low_m, room.high_m, rng)
            headings = rng.uniform(0, 2 * np.pi) + np.arange(_HEADINGS) * 2 * np.pi / _HEADINGS
            pictures = [env.renderer.render(_LENS.pinhole, camera_pose(feet, yaw, _LENS)) for yaw in headings]
            best = max(pictures, key=lambda picture: float(np.median(picture.depth_m)))
            sheet.paste(Image.fromarray(best.rgb), (column * width, row * height))
    return sheet


def _stand(env: MeshEnv, low: np.ndarray, high: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Somewhere one can stand in a room; anywhere where the room is full."""
    for _ in range(500):
        feet = env.sample_navigable(rng)
        if (feet[:2] > low).all() and (feet[:2] < high).all():
            break
    return feet
