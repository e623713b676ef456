"""A small furnished room, ray-cast with numpy, and a walk through it: a clip for trying things. Not a simulator."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, radians, sin, tan
from pathlib import Path

import numpy as np
from PIL import Image

ROOM_SIZE_M = (5.2, 4.2, 2.6)
CAMERA_HEIGHT_M = 1.5
FIELD_OF_VIEW_RAD = radians(75)
DEFAULT_FRAMES = 28
WIDTH_PX, HEIGHT_PX = 320, 240


@dataclass(frozen=True)
class Box:
    """A piece of furniture: metres, Z up, origin in one corner of the floor."""

    name: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    colour: tuple[int, int, int]


FURNITURE = (
    Box("sofa", (0.3, 0.0, 0.0), (2.3, 0.9, 0.45), (150, 45, 50)),
    Box("sofa back", (0.3, 0.0, 0.45), (2.3, 0.22, 0.85), (170, 55, 60)),
    Box("table", (1.0, 1.5, 0.38), (2.0, 2.1, 0.44), (150, 105, 60)),
    Box("table foot", (1.42, 1.7, 0.0), (1.58, 1.9, 0.38), (110, 75, 40)),
    Box("wardrobe", (4.6, 0.2, 0.0), (5.2, 1.5, 2.1), (225, 215, 190)),
    Box("desk", (3.2, 3.5, 0.7), (4.7, 4.2, 0.76), (195, 160, 110)),
    Box("desk drawers", (4.2, 3.55, 0.0), (4.65, 4.15, 0.7), (95, 95, 105)),
    Box("monitor", (3.5, 3.95, 0.8), (4.1, 4.02, 1.2), (25, 28, 35)),
    Box("chair", (3.5, 2.7, 0.4), (3.95, 3.15, 0.46), (40, 95, 160)),
    Box("chair back", (3.5, 2.65, 0.46), (3.95, 2.72, 0.95), (50, 110, 180)),
    Box("bed", (0.0, 2.9, 0.0), (2.1, 4.2, 0.5), (90, 140, 95)),
    Box("pillow", (0.1, 3.1, 0.5), (0.5, 4.0, 0.62), (240, 240, 235)),
    Box("plant pot", (2.6, 3.8, 0.0), (2.9, 4.1, 0.35), (165, 95, 60)),
    Box("plant", (2.5, 3.7, 0.35), (3.0, 4.2, 1.2), (45, 120, 45)),
    Box("door", (2.9, 0.0, 0.0), (3.8, 0.03, 2.05), (120, 80, 50)),
    Box("window", (0.0, 0.9, 0.9), (0.03, 2.3, 2.1), (190, 220, 245)),
    Box("picture", (5.17, 2.1, 1.2), (5.2, 3.0, 1.8), (230, 190, 60)),
    Box("rug", (0.7, 1.1, 0.0), (2.6, 2.5, 0.015), (120, 60, 120)),
)


def camera_walk(count: int) -> list[np.ndarray]:
    """Poses of a walk through the room while looking all around.

    Args:
        count: number of poses, at least 1.

    Returns:
        T_WC matrices [4, 4] float64: world from camera; camera x right, y down, z forward.
    """
    middle = np.array(ROOM_SIZE_M) / 2
    poses = []
    for part in np.linspace(0, 1, count):
        turn = 2 * pi * 0.95 * part
        height = CAMERA_HEIGHT_M + 0.04 * sin(8 * pi * part)
        position = [middle[0] - 1.3 * cos(turn), middle[1] - 0.5 * sin(turn), height]
        yaw, pitch = turn + 0.4 * sin(3 * pi * part), -0.28
        forward = np.array([cos(yaw) * cos(pitch), sin(yaw) * cos(pitch), sin(pitch)])
        right = np.array([sin(yaw), -cos(yaw), 0.0])
        T_WC = np.eye(4)
        T_WC[:3] = np.stack([right, np.cross(forward, right), forward, position], axis=1)
        poses.append(T_WC)
    return poses


def render(T_WC: np.ndarray, width: int = WIDTH_PX, height: int = HEIGHT_PX) -> np.ndarray:
    """The view of one camera inside the room.

    Args:
        T_WC: [4, 4], world from camera.
        width: pixels.
        height: pixels.

    Returns:
        uint8 [H, W, 3].
    """
    rays_W = T_WC[:3, :3] @ _rays(width, height)
    origin_W = T_WC[:3, 3:]
    distance, axis = _leave_room(origin_W, rays_W)
    colour = _room_colour(origin_W + distance * rays_W, axis)
    for box in FURNITURE:
        near, near_axis = _enter_box(origin_W, rays_W, box)
        hit = near < distance
        distance[hit], axis[hit] = near[hit], near_axis[hit]
        colour[:, hit] = _box_colour(origin_W + near[hit] * rays_W[:, hit], near_axis[hit], box)
    light = np.array([0.78, 0.9, 1.0])[axis] * np.clip(1.15 - 0.07 * distance, 0.4, 1.0)
    return np.clip(colour * light, 0, 255).astype(np.uint8).T.reshape(height, width, 3)


def write_walk(folder: Path, count: int = DEFAULT_FRAMES) -> Path:
    """Renders the walk into a folder of JPEG files and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, T_WC in enumerate(camera_walk(count)):
        target = folder / f"frame_{index:05d}.jpg"
        partial = target.with_suffix(".part")
        Image.fromarray(render(T_WC)).save(partial, "JPEG", quality=92)
        partial.rename(target)
    return folder


def _rays(width: int, height: int) -> np.ndarray:
    """Unit rays through the pixel centres in the camera frame, float [3, H * W], row by row."""
    focal_px = width / 2 / tan(FIELD_OF_VIEW_RAD / 2)
    u, v = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    rays = np.stack([u, v, np.full_like(u, focal_px)]).reshape(3, -1)
    return rays / np.linalg.norm(rays, axis=0)


def _slabs(origin: np.ndarray, rays: np.ndarray, low, high) -> tuple[np.ndarray, np.ndarray]:
    """Distances at which rays enter and leave the space between each pair of planes, [3, R] each."""
    rays = np.where(np.abs(rays) < 1e-9, 1e-9, rays)
    first, second = (_column(low) - origin) / rays, (_column(high) - origin) / rays
    return np.minimum(first, second), np.maximum(first, second)


def _leave_room(origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the room's shell and the axis of the wall that is hit, [R] each."""
    _, leave = _slabs(origin, rays, (0, 0, 0), ROOM_SIZE_M)
    return leave.min(axis=0), leave.argmin(axis=0)


def _enter_box(origin: np.ndarray, rays: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Distance to a box, infinite where it is missed, and the axis of the face, [R] each."""
    enter, leave = _slabs(origin, rays, box.low, box.high)
    near = enter.max(axis=0)
    missed = (near > leave.min(axis=0)) | (near <= 0)
    return np.where(missed, np.inf, near), enter.argmax(axis=0)


def _room_colour(points: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Planks on the floor, papered walls with a skirting board, a plain ceiling; float [3, R]."""
    x, y, z = points
    planks = np.floor(y / 0.14)
    grain = 14 * np.sin(9 * x + 2.3 * planks) + 18 * np.sin(37.1 * planks)
    joint = ((y / 0.14) % 1 < 0.06) | ((x / 1.2 + 0.37 * planks) % 1 < 0.012)
    floor = _column((150, 112, 74)) + grain - 60 * joint
    along = np.where(axis == 0, y, x)
    paper = 9 * ((along / 0.3) % 1 < 0.5) + 6 * np.sin(21 * along) * np.sin(17 * z)
    wall = np.where(z < 0.1, _column((235, 235, 230)), _column((196, 194, 178)) + paper)
    wall = np.where((axis == 0) & (x > 1), wall * _column((0.8, 0.92, 1.0)), wall)
    return np.where(axis == 2, np.where(z > 1, _column((240, 240, 238)), floor), wall)


def _box_colour(points: np.ndarray, axis: np.ndarray, box: Box) -> np.ndarray:
    """The box's colour with a fine weave and darker edges; float [3, R]."""
    edge_m = np.minimum(points - _column(box.low), _column(box.high) - points)
    # the coordinate across the face is zero there and would always look like an edge
    edge_m[axis, np.arange(points.shape[1])] = np.inf
    weave = 8 * np.sin(60 * points).prod(axis=0) + 5 * np.sin(130 * points.sum(axis=0))
    return (_column(box.colour) + weave) * np.where(edge_m.min(axis=0) < 0.015, 0.6, 1.0)


def _column(values) -> np.ndarray:
    """Three numbers as [3, 1]."""
    return np.array(values, float)[:, None]
