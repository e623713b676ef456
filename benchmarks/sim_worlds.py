"""Worlds the simulator's benchmark measures: a textured flat, and a scan of it with many triangles. Times nothing."""

from __future__ import annotations

import numpy as np
import trimesh
from PIL import Image

_WIDTH_M, _DEPTH_M, _HEIGHT_M, _WALL_M, _DOOR_M = 10.0, 8.0, 2.6, 0.12, 0.9
# Noise of a scan's points, metres: small beside its triangles of about 2 cm, so that floors stay flat.
_SCAN_NOISE_M = 0.001
_TEXTURE_PX = 256


def flat_boxes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Lowest and highest corner of every box of a flat of three rooms with 24 pieces of furniture, metres, Z up."""
    width, depth, height = _WIDTH_M, _DEPTH_M, _HEIGHT_M
    boxes = {
        "floor": ([0, 0, -0.1], [width, depth, 0]),
        "ceiling": ([0, 0, height], [width, depth, height + 0.1]),
        "west": ([-_WALL_M, 0, 0], [0, depth, height]),
        "east": ([width, 0, 0], [width + _WALL_M, depth, height]),
        "south": ([0, -_WALL_M, 0], [width, 0, height]),
        "north": ([0, depth, 0], [width, depth + _WALL_M, height]),
        "across_1": ([6, 0, 0], [6 + _WALL_M, 2, height]),
        "across_2": ([6, 2 + _DOOR_M, 0], [6 + _WALL_M, depth, height]),
        "along_1": ([6, 4, 0], [8, 4 + _WALL_M, height]),
        "along_2": ([8 + _DOOR_M, 4, 0], [width, 4 + _WALL_M, height]),
    }
    rng = np.random.default_rng(0)
    for index in range(24):
        size = rng.uniform([0.3, 0.3, 0.3], [1.2, 0.7, 1.6])
        low = rng.uniform([0.1, 0.1], [width - 1.4, depth - 0.8])
        boxes[f"thing_{index}"] = ([*low, 0], [*(low + size[:2]), size[2]])
    return {name: (np.array(low, float), np.array(high, float)) for name, (low, high) in boxes.items()}


def textured_flat() -> trimesh.Scene:
    """The flat with a picture on every box, in glTF's axes (Y up)."""
    rng, scene = np.random.default_rng(1), trimesh.Scene()
    for name, (low, high) in flat_boxes().items():
        vertices, faces, uv = _box_grid(low, high, np.inf)
        coarse = rng.integers(40, 230, (16, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((_TEXTURE_PX, _TEXTURE_PX))
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture, doubleSided=False)
        part = trimesh.Trimesh(_y_up(vertices), faces, process=False)
        part.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
        scene.add_geometry(part, node_name=name, geom_name=name)
    return scene


def scanned_flat(triangles: int) -> trimesh.Trimesh:
    """The flat as a scan: about so many triangles with noise and vertex colours, Z up."""
    boxes = flat_boxes()
    area_m2 = sum(2 * (s[0] * s[1] + s[0] * s[2] + s[1] * s[2]) for s in (high - low for low, high in boxes.values()))
    edge_m = np.sqrt(2 * area_m2 / triangles)
    rng, pieces, start = np.random.default_rng(2), [], 0
    for low, high in boxes.values():
        vertices, faces, _ = _box_grid(low, high, edge_m)
        vertices = vertices + rng.normal(0, _SCAN_NOISE_M, vertices.shape)
        colors = np.clip(rng.integers(60, 200, 3) + rng.normal(0, 8, vertices.shape), 0, 255).astype(np.uint8)
        pieces.append((vertices, faces + start, colors))
        start += len(vertices)
    vertices, faces, colors = (np.concatenate(blocks) for blocks in zip(*pieces, strict=True))
    return trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False)


def _box_grid(low: np.ndarray, high: np.ndarray, edge_m: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, outward faces and uv of a box whose sides are grids with cells of at most edge_m."""
    vertices, faces, uv, start = [], [], [], 0
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        counts = [1 if np.isinf(edge_m) else max(1, int(np.ceil((high - low)[i] / edge_m))) for i in (first, second)]
        a, b = np.meshgrid(np.linspace(0, 1, counts[0] + 1), np.linspace(0, 1, counts[1] + 1), indexing="ij")
        index = np.arange(a.size).reshape(a.shape)
        corner, right, up, far = index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]
        quads = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((corner, right, far), (corner, far, up))])
        for side in (low, high):
            points = np.empty((a.size, 3))
            points[:, axis] = side[axis]
            points[:, first] = low[first] + a.ravel() * (high - low)[first]
            points[:, second] = low[second] + b.ravel() * (high - low)[second]
            vertices.append(points)
            faces.append((quads if side is high else quads[:, ::-1]) + start)
            uv.append(np.stack([a.ravel(), b.ravel()], axis=1))
            start += a.size
    return np.concatenate(vertices), np.concatenate(faces), np.concatenate(uv)


def _y_up(points: np.ndarray) -> np.ndarray:
    return points[:, [0, 2, 1]] * [1, 1, -1]
