"""Which triangles belong to which object: annotation files and scene graphs laid over a mesh. Draws nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sim.world.mesh import R_Z_UP_FROM_Y_UP, Mesh
from vlm3r_core.scene.box import OrientedBox, frozen_array
from vlm3r_core.scene.graph import SceneGraph, SceneObject, count_categories

# They have ids in pictures but are not objects one asks about.
STRUCTURE = ("floor", "wall", "ceiling", "roof", "house wall", "room wall")
# What may follow an object's name in the name of one of its parts.
_PART_MARKS = ("/", "__")
_BOX_MARGIN_M = 0.02
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Annotation:
    """One annotated object of a mesh file.

    Args:
        name: parts of the mesh with this name, or this name and "/..." or "__...", are its triangles.
        category: what it is called in questions.
        instance_id: positive.
        yaw_rad: how it is turned about +Z.
        bounds_m: [2, 3] box along the world's axes, metres, Z up.
    """

    name: str
    category: str
    instance_id: int
    yaw_rad: float
    bounds_m: np.ndarray


def read_annotations(path: Path | str) -> tuple[Annotation, ...]:
    """Reads a JSON list of objects.

    Each has `name` (or `instance`), `category`, and a box: `aabb_min` and `aabb_max` with Z up, or `aabb` with Y up as
    in glTF files. `id` (1, 2, ... by default) and `yaw` (radians, 0 by default) may be left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not such a list, or a name or id twice; the message names the entry.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{path} must hold a list of objects, got {type(entries).__name__}")
    found = tuple(_annotation(entry, index, f"{path}: entry {index}") for index, entry in enumerate(entries))
    for field in ("name", "instance_id"):
        values = [getattr(item, field) for item in found]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"{path}: {field} must be unique, there are several of {twice[:3]}")
    return found


def label_by_name(mesh: Mesh, annotations: Sequence[Annotation]) -> tuple[np.ndarray, tuple[SceneObject, ...]]:
    """Finds every object's triangles by the names of the mesh's parts.

    Returns:
        (instance id of every triangle int32 [T], 0 for none; the objects without STRUCTURE). An object's box is the
        smallest upright one around its triangles along its yaw; the annotated one where it has no triangles.

    Raises:
        ValueError: no part of the mesh has an annotated name.
    """
    by_name = {item.name: item for item in annotations}
    owners = [_owner(part, by_name) for part in mesh.parts]
    ids = np.array([0 if owner is None else owner.instance_id for owner in owners], np.int32)
    id_of_face = ids[mesh.part_of_face]
    if annotations and not any(owners):
        raise ValueError(
            f"none of the {len(annotations)} annotated names, such as {annotations[0].name!r}, is that of a part of "
            f"the mesh, such as {mesh.parts[0]!r}; is the annotation that of another mesh?"
        )
    stray = [part for part, owner in zip(mesh.parts, owners, strict=True) if owner is None]
    if stray:
        _log.warning("%d of %d parts belong to no annotated object, such as %s", len(stray), len(owners), stray[0])
    objects = tuple(
        SceneObject(item.category, _box(mesh, id_of_face, item), item.instance_id)
        for item in annotations
        if item.category not in STRUCTURE
    )
    return id_of_face, objects


def label_by_box(mesh: Mesh, graph: SceneGraph) -> tuple[np.ndarray, SceneGraph]:
    """Gives triangles in an object's box its id; where boxes overlap the smaller one wins.

    Returns:
        (instance id of every triangle int32 [T], 0 for none; the graph, with ids where its objects had none).
    """
    graph = _numbered(graph)
    centers = mesh.triangles_m().mean(axis=1)
    id_of_face = np.zeros(len(centers), np.int32)
    for item in sorted(graph.objects, key=lambda item: -item.box.lengths_m.prod()):
        id_of_face[item.box.contains(centers, _BOX_MARGIN_M)] = item.instance_id
    return id_of_face, graph


def plain_graph(scene_id: str, objects: tuple[SceneObject, ...], room_size_m2: float, mesh: Mesh) -> SceneGraph:
    """A graph of objects in a mesh whose room nobody annotated: its centre is that of the mesh's bounds."""
    return SceneGraph(scene_id, objects, count_categories(objects), room_size_m2, mesh.bounds_m.mean(axis=0))


def _numbered(graph: SceneGraph) -> SceneGraph:
    free = 1 + max((item.instance_id or 0 for item in graph.objects), default=0)
    objects = []
    for item in graph.objects:
        # 0 means "nothing" in pictures, and ScanNet counts instances from 0: such an object gets another number.
        if not item.instance_id:
            item, free = replace(item, instance_id=free), free + 1
        objects.append(item)
    return replace(graph, objects=tuple(objects))


def _annotation(entry: object, index: int, where: str) -> Annotation:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} must be an object, got {type(entry).__name__}")
    name, category = entry.get("name", entry.get("instance")), entry.get("category")
    if not isinstance(name, str) or not isinstance(category, str) or not name or not category:
        raise ValueError(f"{where} must have a name (or instance) and a category, got {sorted(entry)}")
    number = entry.get("id", index + 1)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{where}: id must be a whole number of at least 1, got {number!r}")
    if "aabb" in entry:
        corners = frozen_array(f"{where}: aabb", entry["aabb"], (2, 3)) @ R_Z_UP_FROM_Y_UP.T
        bounds = np.stack([corners.min(axis=0), corners.max(axis=0)])
    else:
        keys = ("aabb_min", "aabb_max")
        bounds = np.stack([frozen_array(f"{where}: {key}", entry.get(key, ()), (3,)) for key in keys])
        if (bounds[0] > bounds[1]).any():
            raise ValueError(f"{where}: aabb_min {bounds[0].tolist()} must not exceed aabb_max {bounds[1].tolist()}")
    yaw = float(frozen_array(f"{where}: yaw", entry.get("yaw", 0.0), ()))
    return Annotation(name, category, number, yaw, bounds)


def _owner(part: str, by_name: Mapping[str, Annotation]) -> Annotation | None:
    """The object a part belongs to: the longest name that is the part's or its beginning."""
    heads = {part, *(part.rpartition(mark)[0] for mark in _PART_MARKS), *(part.split(mark)[0] for mark in _PART_MARKS)}
    matches = [by_name[head] for head in heads if head in by_name]
    return max(matches, key=lambda item: len(item.name), default=None)


def _box(mesh: Mesh, id_of_face: np.ndarray, item: Annotation) -> OrientedBox:
    corners = mesh.vertices_m[mesh.faces[id_of_face == item.instance_id]].reshape(-1, 3)
    if not len(corners):
        return OrientedBox.aligned(item.bounds_m[0], item.bounds_m[1])
    return OrientedBox.around(corners, item.yaw_rad)
