"""Writes a mesh with named parts as .glb and its objects as JSON, byte for byte the same every time. Reads nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from sim.world.mesh import R_Z_UP_FROM_Y_UP, Material, Mesh
from vlm3r_core.files import write_bytes


def write_glb(mesh: Mesh, path: Path) -> None:
    """Writes a mesh as binary glTF: Y up, a node for each part, textures inside.

    Tints are written as they are, and read back so; viewers that take glTF's factors as linear light show them paler.

    Args:
        mesh: metres, Z up.
        path: file to write.
    """
    images: dict[int, Image.Image] = {}
    materials = [_material(item, images) for item in mesh.materials]
    corners = (mesh.vertices_m @ R_Z_UP_FROM_Y_UP).astype(np.float32)
    scene = trimesh.Scene()
    ends = np.searchsorted(mesh.part_of_face, np.arange(len(mesh.parts) + 1))
    for number, name in enumerate(mesh.parts):
        faces = mesh.faces[ends[number] : ends[number + 1]]
        used, local = np.unique(faces, return_inverse=True)
        material = materials[mesh.material_of_face[ends[number]]]
        visual = trimesh.visual.TextureVisuals(uv=mesh.uv[used], material=material)
        part = trimesh.Trimesh(corners[used], local.reshape(-1, 3), visual=visual, process=False)
        scene.add_geometry(part, node_name=name, geom_name=name)
    write_bytes(path, scene.export(file_type="glb", include_normals=False))


def write_annotations(
    path: Path, names: Sequence[str], categories: Sequence[str], yaws_rad: Sequence[float], boxes: Sequence[np.ndarray]
) -> None:
    """Writes what sim.world.annotation.read_annotations reads; thing i gets the id i + 1.

    Args:
        path: file to write.
        names: of things; the parts of the mesh are called `<name>/<part>`.
        categories: what they are.
        yaws_rad: how their boxes are turned about Z.
        boxes: [2, 3] lowest and highest corner of each along the world's axes, metres, Z up.
    """
    entries = []
    for number, (name, category, yaw, box) in enumerate(zip(names, categories, yaws_rad, boxes, strict=True)):
        low, high = np.round(box, 6).tolist()
        entry = {"id": number + 1, "name": name, "category": category, "yaw": float(yaw)}
        entries.append(entry | {"aabb_min": low, "aabb_max": high})
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    write_bytes(path, f"[\n{lines}\n]\n".encode())


def _material(source: Material, images: dict[int, Image.Image]) -> trimesh.visual.material.PBRMaterial:
    image = None
    if source.texture is not None:
        key = id(source.texture)
        image = images.setdefault(key, Image.fromarray(source.texture[..., :3]))
    factor = np.round(np.array(source.factor) * 255).astype(np.uint8)
    return trimesh.visual.material.PBRMaterial(
        baseColorFactor=factor, baseColorTexture=image, doubleSided=source.double_sided, metallicFactor=0.0
    )
