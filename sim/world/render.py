"""Pictures of a mesh by casting a ray through every pixel on the CPU. Adds no noise and moves nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from sim.world.mesh import Mesh
from sim.world.texture import Textures
from vlm3r_core.config import check_choice
from vlm3r_core.scene.graph import PinholeCamera

LIGHTING = ("simple", "none")
# Rays go on behind a culled back or a transparent texel; whoever stacks more layers sees the background.
_LAYERS = 16
# How far behind a surface a ray goes on, relative to its length so far: above float32's rounding, below any thickness.
_STEP_ON = 1e-5
_AMBIENT = 0.6
# Direction towards the light (world) and its strength: a lamp above and a window's weaker light from a side.
_LIGHTS = (((0.25, 0.15, 0.95), 0.3), ((-0.8, 0.5, 0.2), 0.18), ((0.6, -0.75, 0.25), 0.1))


@dataclass(frozen=True, eq=False)
class Picture:
    """What a camera sees.

    Args:
        rgb: uint8 [H, W, 3].
        depth_m: float32 [H, W], planar (along the camera's z), 0 where nothing was hit.
        ids: int32 [H, W], instance ids, 0 where there is none.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True, eq=False)
class _Hits:
    """Where rays met triangles.

    Args:
        ray: int [N], index of the ray.
        face: int32 [N], triangle.
        weights: float32 [N, 3], barycentric, of the triangle's corners.
        depth_m: float32 [N], planar depth.
        cosine: float32 [N], of the angle to the front's normal, times the ray's length; negative behind.
    """

    ray: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    depth_m: np.ndarray
    cosine: np.ndarray


class Renderer:
    """Casts rays against one mesh.

    Args:
        mesh: what to draw.
        id_of_face: int [T], instance id of every triangle, 0 for none.
        lighting: "simple" shades surfaces by their direction, "none" shows the bare colours.
        background: colour where nothing is hit.
    """

    def __init__(
        self,
        mesh: Mesh,
        id_of_face: np.ndarray,
        lighting: str = "simple",
        background: tuple[int, int, int] = (0, 0, 0),
    ):
        check_choice("lighting", lighting, LIGHTING)
        if len(id_of_face) != len(mesh.faces):
            raise ValueError(f"id_of_face must name {len(mesh.faces)} triangles, got {len(id_of_face)}")
        # Near the origin float32 is finest; a scan may lie kilometres away from it.
        self._origin_W = mesh.bounds_m.mean(axis=0)
        self._ids = np.asarray(id_of_face, np.int32)
        self._background = np.array(background, np.uint8)
        vertices = np.ascontiguousarray(mesh.vertices_m - self._origin_W, np.float32)
        self._scene = EmbreeScene()
        # The scene does not keep its mesh alive.
        self._triangles = TriangleMesh(self._scene, vertices, np.ascontiguousarray(mesh.faces, np.int32))
        corners = mesh.triangles_m()
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        areas2 = np.linalg.norm(normals, axis=1)
        normals /= np.maximum(areas2, np.finfo(np.float64).tiny)[:, None]
        self._normals = normals.astype(np.float32)
        self._shade = _shade(normals, lighting)
        self._set_surfaces(mesh, areas2)
        self._directions_C: dict[PinholeCamera, np.ndarray] = {}

    @property
    def triangle_count(self) -> int:
        """Triangles in the mesh."""
        return len(self._ids)

    def render(self, camera: PinholeCamera, T_WC: np.ndarray) -> Picture:
        """One picture.

        Args:
            camera: intrinsics and size.
            T_WC: [4, 4] world from camera (x right, y down, z forward), metres.
        """
        directions = self._rays(camera) @ np.asarray(T_WC[:3, :3], np.float32).T
        origin = (np.asarray(T_WC[:3, 3], np.float64) - self._origin_W).astype(np.float32)
        ray, face, near, colors = self._visible(origin, np.ascontiguousarray(directions), 1.0 / camera.fx)
        shape = (camera.height_px, camera.width_px)
        rgb = np.empty((len(directions), 3), np.uint8)
        depth, ids = np.zeros(len(directions), np.float32), np.zeros(len(directions), np.int32)
        rgb[:] = self._background
        rgb[ray] = colors
        depth[ray] = near
        ids[ray] = self._ids[face]
        return Picture(rgb.reshape(*shape, 3), depth.reshape(shape), ids.reshape(shape))

    def _set_surfaces(self, mesh: Mesh, areas2: np.ndarray) -> None:
        """Per material and per corner: what colour and texture a hit has."""
        textured = [index for index, item in enumerate(mesh.materials) if item.texture is not None]
        images = {id(mesh.materials[index].texture): mesh.materials[index].texture for index in textured}
        number = {key: slot for slot, key in enumerate(images)}  # materials may share a picture under other tints
        self._textures = Textures(list(images.values()))
        slots = np.full(len(mesh.materials), -1, np.int32)
        slots[textured] = [number[id(mesh.materials[index].texture)] for index in textured]
        self._slot = slots[mesh.material_of_face]
        self._double_sided = np.array([item.double_sided for item in mesh.materials])[mesh.material_of_face]
        self._all_double_sided = bool(self._double_sided.all())
        cutoffs = np.array([item.alpha_cutoff for item in mesh.materials], np.float32)
        self._cutoff = 255.0 * cutoffs[mesh.material_of_face] if cutoffs.any() else None
        factors = np.array([item.factor for item in mesh.materials], np.float32)
        self._factor = factors[mesh.material_of_face]
        self._corner_colors = mesh.colors[mesh.faces] if (mesh.colors != 255).any() else None
        self._corner_uv = mesh.uv[mesh.faces] if textured else None
        self._texels_per_m = self._texel_density(areas2) if textured else None

    def _texel_density(self, areas2: np.ndarray) -> np.ndarray:
        """Texels along a metre of every triangle, float32 [T]; 1 where it has no texture."""
        u, v = np.moveaxis(self._corner_uv.astype(np.float64), -1, 0)
        uv_areas2 = np.abs((u[:, 1] - u[:, 0]) * (v[:, 2] - v[:, 0]) - (u[:, 2] - u[:, 0]) * (v[:, 1] - v[:, 0]))
        texels2 = uv_areas2 * self._textures.sizes.prod(axis=1)[self._slot]
        density = np.sqrt(texels2 / np.maximum(areas2, 1e-12))
        return np.where(self._slot >= 0, np.maximum(density, 1e-6), 1.0).astype(np.float32)

    def _rays(self, camera: PinholeCamera) -> np.ndarray:
        """Directions in the camera, float32 [H * W, 3], of length 1 along z: hit distances are planar depths."""
        if camera not in self._directions_C:
            self._directions_C.clear()
            u = (np.arange(camera.width_px) + 0.5 - camera.cx) / camera.fx
            v = (np.arange(camera.height_px) + 0.5 - camera.cy) / camera.fy
            rays = np.ones((camera.height_px, camera.width_px, 3), np.float32)
            rays[..., 0], rays[..., 1] = u, v[:, None]
            self._directions_C[camera] = rays.reshape(-1, 3)
        return self._directions_C[camera]

    def _visible(self, origin: np.ndarray, directions: np.ndarray, pixel: float) -> tuple[np.ndarray, ...]:
        """First surfaces that are there: ray, triangle, depth and colour uint8 [N, 3] of each."""
        found, start, rays = [], None, np.arange(len(directions))
        for _ in range(_LAYERS):
            hits = self._cast(origin, directions, rays, start)
            colors, alpha = self._colors(hits, pixel)
            surface = (hits.ray, hits.face, hits.depth_m, colors)
            solid = self._is_solid(hits, alpha)
            if solid is None or solid.all():
                found.append(surface)
                break
            found.append(tuple(item[solid] for item in surface))
            rays = hits.ray[~solid]
            start = hits.depth_m[~solid] * (1 + _STEP_ON) + _STEP_ON
        return found[0] if len(found) == 1 else tuple(map(np.concatenate, zip(*found, strict=True)))

    def _is_solid(self, hits: _Hits, alpha: np.ndarray) -> np.ndarray | None:
        """Which hits are neither culled backs nor transparent, bool [N]; None where nothing of this mesh can be."""
        solid = None
        if not self._all_double_sided:
            solid = self._double_sided[hits.face] | (hits.cosine > 0)
        if self._cutoff is not None:
            opaque = alpha >= self._cutoff[hits.face]
            solid = opaque if solid is None else solid & opaque
        return solid

    def _cast(self, origin: np.ndarray, directions: np.ndarray, rays: np.ndarray, start: np.ndarray | None) -> _Hits:
        """Nearest hits of some rays beyond a start distance each."""
        chosen = directions if start is None else directions[rays]
        origins = np.empty_like(chosen)
        origins[:] = origin
        if start is not None:
            origins += start[:, None] * chosen
        result = self._scene.run(origins, chosen, output=1)
        hit = np.flatnonzero(result["primID"] >= 0)
        every = len(hit) == len(rays)  # the common case indoors saves the copies
        face, u, v, depth = (result[name] if every else result[name][hit] for name in ("primID", "u", "v", "tfar"))
        ray = rays if every else rays[hit]
        chosen = chosen if every else chosen[hit]
        if start is not None:
            depth = depth + start[hit]
        weights = np.stack([1 - u - v, u, v], axis=1)
        cosine = -np.einsum("ij,ij->i", self._normals[face], chosen)
        return _Hits(ray, face, weights, depth, cosine)

    def _colors(self, hits: _Hits, pixel: float) -> tuple[np.ndarray, np.ndarray]:
        """Colours uint8 [N, 3] and opacity float32 [N] in 0..255."""
        color = 255.0 * self._factor[hits.face]
        if self._corner_colors is not None:
            corners = self._corner_colors[hits.face].astype(np.float32)
            color *= np.einsum("ij,ijk->ik", hits.weights, corners) / 255.0
        slot = self._slot[hits.face]
        textured = np.flatnonzero(slot >= 0)
        if len(textured):
            every = len(textured) == len(slot)
            face, weights, depth, cosine, slot = (
                item if every else item[textured] for item in (hits.face, hits.weights, hits.depth_m, hits.cosine, slot)
            )
            uv = np.einsum("ij,ijk->ik", weights, self._corner_uv[face])
            texels = self._texels_per_m[face] * depth * (pixel / np.maximum(np.abs(cosine), 0.05))
            color[textured] *= self._textures.sample(slot, uv, np.log2(texels)) / 255.0
        alpha = color[:, 3]
        rgb = color[:, :3] * self._shade[hits.face, (hits.cosine < 0).astype(np.int8)][:, None]
        return (rgb + 0.5).astype(np.uint8), alpha


def _shade(normals: np.ndarray, lighting: str) -> np.ndarray:
    """Brightness of every triangle seen from the front and from the back, float32 [T, 2] in 0..1."""
    shade = np.ones((len(normals), 2))
    if lighting == "none":
        return shade.astype(np.float32)
    for side, sign in enumerate((1.0, -1.0)):
        shade[:, side] = _AMBIENT
        for direction, strength in _LIGHTS:
            towards = sign * np.asarray(direction) / np.linalg.norm(direction)
            shade[:, side] += strength * np.maximum(normals @ towards, 0)
    return np.minimum(shade, 1.0).astype(np.float32)
