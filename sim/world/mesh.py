"""Triangle meshes with colours and textures, read from .glb, .gltf, .ply and .obj. Draws nothing, names no objects."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from vlm3r_core.config import check_choice

KINDS = (".glb", ".gltf", ".ply", ".obj")
# World (Z up) from file axes where the file has Y up: (x, y, z) -> (x, -z, y).
R_Z_UP_FROM_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_NO_TRIANGLE = (
    "a mesh needs at least one triangle, got none; is the file a point cloud, or empty, or not finite everywhere?"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Material:
    """How a surface looks.

    Args:
        factor: RGBA in 0..1 that multiplies texture and vertex colours.
        texture: uint8 [H, W, 4], RGBA, row 0 at the top (v = 1), or None.
        double_sided: whether the back is drawn.
        alpha_cutoff: what is less opaque than this is not there, in 0..1; 0 draws everything.
    """

    factor: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    texture: np.ndarray | None = None
    double_sided: bool = True
    alpha_cutoff: float = 0.0


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in the world: metres, Z up.

    Args:
        vertices_m: float64 [V, 3].
        faces: int32 [T, 3], counter-clockwise seen from the front.
        uv: float32 [V, 2], v up, zeros where a part has none.
        colors: uint8 [V, 4], RGBA, white where a part has none.
        parts: names of the file's nodes.
        part_of_face: int32 [T], index into parts.
        materials: what the parts look like.
        material_of_face: int32 [T], index into materials.

    Raises:
        ValueError: there is no triangle.
    """

    vertices_m: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    colors: np.ndarray
    parts: tuple[str, ...]
    part_of_face: np.ndarray
    materials: tuple[Material, ...]
    material_of_face: np.ndarray

    def __post_init__(self):
        if not len(self.faces):
            raise ValueError(_NO_TRIANGLE)

    @cached_property
    def bounds_m(self) -> np.ndarray:
        """Lowest and highest corner [2, 3] of the triangles; a file may have stray points besides."""
        used = np.zeros(len(self.vertices_m), bool)
        used[self.faces] = True
        corners = self.vertices_m[used]
        return np.stack([corners.min(axis=0), corners.max(axis=0)])

    def triangles_m(self) -> np.ndarray:
        """The triangles' corners [T, 3, 3]."""
        return self.vertices_m[self.faces]


def load_mesh(path: Path | str, up: str = "auto") -> Mesh:
    """Reads a mesh file.

    Args:
        path: .glb, .gltf, .ply or .obj.
        up: which axis of the file points up: "y", "z", or "auto": y for glTF, z for scans in .ply and .obj.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, an unreadable one, or one without triangles.
    """
    path = Path(path)
    check_choice("kind of mesh file", path.suffix.lower(), KINDS)
    check_choice("up", up, ("auto", "y", "z"))
    if not path.is_file():
        raise FileNotFoundError(f"no mesh file at {path}")
    y_up = up == "y" or (up == "auto" and path.suffix.lower() in (".glb", ".gltf"))
    try:
        scene = trimesh.load_scene(path, process=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} needs {error}, which is not beside it; copy all of the mesh's files") from None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError) as error:  # what broken files raise
        raise ValueError(f"{path} cannot be read as a {path.suffix} mesh ({error}); is it whole?") from error
    try:
        _check_whole(scene)
        return _joined(scene, R_Z_UP_FROM_Y_UP if y_up else np.eye(3))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def mesh_of(parts: dict[str, trimesh.Trimesh]) -> Mesh:
    """A mesh of named trimesh objects that are in the world's axes already."""
    scene = trimesh.Scene()
    for name, part in parts.items():
        scene.add_geometry(part, node_name=name, geom_name=name)
    return _joined(scene, np.eye(3))


def _check_whole(scene: trimesh.Scene) -> None:
    """Raises ValueError where a .ply says that it has more faces than were read: its text ends early."""
    for part in scene.geometry.values():
        stated = part.metadata.get("_ply_raw", {}).get("face", {}).get("length", 0)
        if isinstance(part, trimesh.Trimesh) and len(part.faces) < stated:
            raise ValueError(f"its header states {stated} faces, there are {len(part.faces)}; is it whole?")


def _joined(scene: trimesh.Scene, R_WF: np.ndarray) -> Mesh:
    """All triangle nodes of a scene, in the order of their names so that every run sees the same mesh."""
    pieces, names, materials, known = [], [], [], {}
    for name in sorted(scene.graph.nodes_geometry):
        T_FN, geometry = scene.graph[name]
        part = scene.geometry[geometry]
        if not isinstance(part, trimesh.Trimesh) or not len(part.faces):
            continue
        key = id(getattr(part.visual, "material", None))
        if key not in known:
            known[key] = len(materials)
            materials.append(_material_of(part))
        pieces.append(_piece(part, R_WF @ T_FN[:3, :3], R_WF @ T_FN[:3, 3]))
        names.append((name, known[key]))
    if not pieces:
        raise ValueError(_NO_TRIANGLE)
    _report_missing_textures(scene, names, materials)
    return _concatenated(pieces, names, materials)


def _concatenated(pieces: Sequence[tuple], names: list[tuple[str, int]], materials: list[Material]) -> Mesh:
    vertices, faces, uv, colors = zip(*pieces, strict=True)
    starts = np.cumsum([0, *[len(block) for block in vertices[:-1]]])
    lengths = [len(block) for block in faces]
    return Mesh(
        np.concatenate(vertices),
        np.concatenate([block + start for block, start in zip(faces, starts, strict=True)]).astype(np.int32),
        np.concatenate(uv),
        np.concatenate(colors),
        tuple(name for name, _ in names),
        np.repeat(np.arange(len(names), dtype=np.int32), lengths),
        tuple(materials),
        np.repeat(np.array([material for _, material in names], np.int32), lengths),
    )


def _piece(part: trimesh.Trimesh, R_WN: np.ndarray, t_WN: np.ndarray) -> tuple[np.ndarray, ...]:
    """Vertices in the world, faces, uv and colours of one node."""
    with np.errstate(invalid="ignore"):  # infinite corners are left out below
        vertices = np.asarray(part.vertices, np.float64) @ R_WN.T + t_WN
    faces = np.asarray(part.faces, np.int64)
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise ValueError(f"a triangle names corner {faces.max()}, there are {len(vertices)}; is the file damaged?")
    broken = ~np.isfinite(vertices).all(axis=1)
    if broken.any():
        keep = ~broken[faces].any(axis=1)
        _log.warning("left out %d triangles whose corners are not finite", int((~keep).sum()))
        faces, vertices = faces[keep], np.where(broken[:, None], 0.0, vertices)
    if np.linalg.det(R_WN) < 0:  # a mirrored node would show its back
        faces = faces[:, ::-1]
    count = len(vertices)
    uv, colors = getattr(part.visual, "uv", None), None
    if part.visual.kind == "vertex":
        colors = part.visual.vertex_colors
    elif part.visual.kind == "face":
        vertices, faces = vertices[faces].reshape(-1, 3), np.arange(3 * len(faces)).reshape(-1, 3)
        colors, count = np.repeat(part.visual.face_colors, 3, axis=0), len(vertices)
    uv = np.zeros((count, 2), np.float32) if uv is None or len(uv) != count else np.asarray(uv, np.float32)
    colors = np.full((count, 4), 255, np.uint8) if colors is None or len(colors) != count else np.asarray(colors)
    return vertices, faces, np.nan_to_num(uv), colors.astype(np.uint8)


def _material_of(part: trimesh.Trimesh) -> Material:
    source = getattr(part.visual, "material", None)
    if source is None:  # vertex colours: scans have no reliable winding
        return Material()
    if isinstance(source, trimesh.visual.material.PBRMaterial):
        factor, image = source.baseColorFactor, source.baseColorTexture
        cutoff = {"MASK": source.alphaCutoff or 0.5, "BLEND": 0.5}.get(source.alphaMode or "OPAQUE", 0.0)
        return Material(_fraction(factor), _texture(image), bool(source.doubleSided), float(cutoff))
    image = getattr(source, "image", None)
    # A texture replaces the diffuse colour of an .obj, which exporters often leave at grey beside it.
    return Material(_fraction(None if image is not None else source.main_color), _texture(image))


def _fraction(color: np.ndarray | None) -> tuple[float, float, float, float]:
    if color is None:
        return (1.0, 1.0, 1.0, 1.0)
    values = np.asarray(color, np.float64).reshape(-1) / (255.0 if np.asarray(color).dtype.kind in "ui" else 1.0)
    return tuple(np.clip([*values[:3], *(values[3:4] if len(values) > 3 else [1.0])], 0.0, 1.0).tolist())


def _texture(image: Image.Image | None) -> np.ndarray | None:
    return None if image is None else np.array(image.convert("RGBA"))


def _report_missing_textures(scene: trimesh.Scene, names: list[tuple[str, int]], materials: list[Material]) -> None:
    """Says once which parts have texture coordinates but no picture: they are drawn in their plain colour."""
    bare = []
    for name, material in names:
        part = scene.geometry[scene.graph[name][1]]
        if materials[material].texture is None and getattr(part.visual, "uv", None) is not None:
            bare.append(name)
    if bare:
        shown = ", ".join(bare[:3]) + (", ..." if len(bare) > 3 else "")
        _log.warning("%d of %d parts lack their texture and are drawn plain: %s", len(bare), len(names), shown)
