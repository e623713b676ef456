"""Scene files as Habitat wants them: a stage with its axes said and instance ids as vertex colours. Starts nothing.

Habitat takes a bare .glb for one whose z axis is up, and draws id 0 everywhere. So the scene is described in a folder
of its own; nothing is written beside the user's file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import trimesh

from sim.world.mesh import R_Z_UP_FROM_Y_UP, Mesh
from vlm3r_core.scene.graph import SceneGraph

# How stages of these two kinds stand in Habitat's world: glTF's axes as they are, or z up as in Matterport's files.
_AXES = {"y": ([0, 1, 0], [0, 0, -1]), "z": ([0, 0, 1], [0, 1, 0])}
# A colour's sRGB value must be this close to a whole number, so that everybody rounds it to the same one.
_ROUNDING_MARGIN = 0.3
_MAX_INSTANCES = 65_535


def stage_config_beside(scene: Path) -> Path | None:
    """A stage description of the user's own beside a scene file; Habitat finds it by itself."""
    path = scene.with_name(f"{scene.stem}.stage_config.json")
    return path if path.is_file() else None


def up_axis_of(config: Path) -> str:
    """Which axis of the mesh file a stage description calls up: "y" or "z".

    Raises:
        ValueError: it is malformed, or turns, moves or scales the mesh in another way.
    """
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{config} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{config} must hold a map, got {type(content).__name__}")
    axes = (content.get("up", [0, 1, 0]), content.get("front", [0, 0, -1]))
    moved = content.get("origin", [0, 0, 0]) != [0, 0, 0]
    scaled = content.get("scale", [1, 1, 1]) != [1, 1, 1] or content.get("units_to_meters", 1) != 1
    up = next((name for name, known in _AXES.items() if list(axes) == list(known)), None)
    if up is None or moved or scaled:
        raise ValueError(
            f"{config} must have up and front {' or '.join(str(pair) for pair in _AXES.values())} and neither scale, "
            "unit nor origin, so that both sides see the same place; change the mesh file instead"
        )
    return up


def write_stage(
    render: Path | trimesh.Scene, mesh: Mesh, id_of_face: np.ndarray, graph: SceneGraph, folder: Path, up: str
) -> tuple[Path, np.ndarray]:
    """Describes a scene for Habitat.

    Args:
        render: what to draw: the user's .glb as it is, or another kind of file converted.
        mesh: what load_mesh read from the user's file.
        id_of_face: int [T], instance id of every triangle, 0 for none.
        graph: categories of the ids.
        folder: where to write.
        up: which axis is up in what to draw, "y" or "z".

    Returns:
        (file to open, instance id of every number in its pictures int32 [N]; the first is 0, for nothing).

    Source: ids travel as a semantic mesh in HM3D's style (one vertex colour for each instance, and a text file that
    names the colours), the way whose pictures were compared pixel by pixel. A per-vertex `_OBJECT_ID` works too, but
    only as uint32 and without categories. Habitat keeps ids in 16 bits and a table as long as the largest, so they
    are numbered from 1 in the file.
    """
    target = folder / "scene.glb"
    if isinstance(render, Path):
        _link(render, target)
    else:
        target.write_bytes(two_sided_glb(render))
    config = {"render_asset": target.name, "origin": [0, 0, 0], "units_to_meters": 1.0, "force_flat_shading": True}
    for kind in ("", "semantic_"):
        config[f"{kind}up"], config[f"{kind}front"] = _AXES[up]
    instances = np.unique(id_of_face)
    if instances.any():
        config |= {"semantic_asset": "scene.semantic.glb", "semantic_descriptor_filename": "scene.semantic.txt"}
        categories = {item.instance_id: item.category for item in graph.objects}
        names = [categories.get(number, "other") for number in instances.tolist()]
        colors = instance_colors(len(instances))
        (folder / "scene.semantic.glb").write_bytes(semantic_glb(mesh, id_of_face, colors, up))
        (folder / "scene.semantic.txt").write_text(_descriptor(names, colors), encoding="utf-8")
    (folder / "scene.stage_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return target, np.r_[0, instances].astype(np.int32)


def instance_colors(count: int) -> np.ndarray:
    """Distinct colours uint8 [count, 3], linear as in glTF files, whose sRGB values are distinct too.

    Raises:
        ValueError: there are not that many.
    """
    exact = _srgb(np.arange(256))
    sure = np.flatnonzero(np.abs(exact - np.round(exact)) <= _ROUNDING_MARGIN)
    _, first = np.unique(np.round(exact[sure]), return_index=True)
    levels = sure[first].astype(np.uint8)
    if count > _MAX_INSTANCES:
        raise ValueError(f"Habitat's pictures tell at most {_MAX_INSTANCES} instances apart, got {count}")
    number = np.arange(1, count + 1)  # 0 is black, which Habitat shows where there is nothing
    digits = [number // len(levels) ** power % len(levels) for power in range(3)]
    return levels[np.stack(digits, axis=1)]


def semantic_glb(mesh: Mesh, ids: np.ndarray, colors: np.ndarray, up: str) -> bytes:
    """The mesh with a vertex colour for each instance.

    Args:
        mesh: the triangles, world axes.
        ids: int [T], one for every triangle.
        colors: uint8 [I, 3] of the ids in rising order.
        up: "y" or "z", the axes to write.
    """
    _, instance = np.unique(ids, return_inverse=True)
    # Semantic meshes have no materials and Habitat leaves out backs: what has two sides gets both.
    double = np.array([material.double_sided for material in mesh.materials])[mesh.material_of_face]
    faces = np.concatenate([mesh.faces, mesh.faces[double][:, ::-1]]).astype(np.int64)
    instance = np.concatenate([instance, instance[double]])
    # Vertices two instances share are split.
    key, corner = np.unique(instance[:, None] * len(mesh.vertices_m) + faces, return_inverse=True)
    owner, vertex = np.divmod(key, len(mesh.vertices_m))
    rgba = np.column_stack([colors[owner], np.full(len(owner), 255, np.uint8)])
    part = trimesh.Trimesh(
        _in_file_axes(mesh.vertices_m[vertex], up), corner.reshape(-1, 3), vertex_colors=rgba, process=False
    )
    return trimesh.Scene(part).export(file_type="glb")


def two_sided_glb(scene: trimesh.Scene) -> bytes:
    """A converted scene as a .glb file in which vertex colours show from both sides, as we draw them."""
    for part in scene.geometry.values():
        if part.visual.kind == "vertex":  # trimesh writes no material for these, and Habitat then leaves out backs
            colors = part.visual.vertex_colors
            part.visual = trimesh.visual.TextureVisuals(
                material=trimesh.visual.material.PBRMaterial(doubleSided=True, metallicFactor=0.0, roughnessFactor=1.0)
            )
            part.visual.vertex_attributes["color"] = colors
    return scene.export(file_type="glb")


def _in_file_axes(points_W: np.ndarray, up: str) -> np.ndarray:
    return points_W @ R_Z_UP_FROM_Y_UP if up == "y" else points_W


def _descriptor(names: list[str], colors: np.ndarray) -> str:
    """HM3D's text file: number, colour in sRGB, category and region of every instance."""
    lines = ["HM3D Semantic Annotations"]
    for number, (name, color) in enumerate(zip(names, np.round(_srgb(colors)).astype(int), strict=True), start=1):
        code = "".join(f"{level:02X}" for level in color)
        plain = " ".join(name.replace('"', "'").split())
        lines.append(f'{number},{code},"{plain}",0')
    return "\n".join(lines) + "\n"


def _srgb(levels: np.ndarray) -> np.ndarray:
    """Linear levels 0..255 as sRGB levels, not rounded."""
    linear = np.asarray(levels, np.float64) / 255
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source.resolve())
    except OSError:  # no symbolic links here
        shutil.copyfile(source, target)
