"""Turns a scan or model (.ply, .obj, .gltf, .glb) into one .glb that looks the same. Changes no shape and no colour.

python -m sim.convert_mesh scan.ply scan.glb
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from tqdm import tqdm

from sim.command import run_command
from sim.world.mesh import R_Z_UP_FROM_Y_UP, Material, Mesh, load_mesh
from vlm3r_core.config import check_choice
from vlm3r_core.files import write_bytes


def convert_mesh(
    source: Path | str, target: Path | str, up: str = "auto", *, overwrite: bool = False, progress: bool = False
) -> Mesh:
    """Converts a mesh file.

    Args:
        source: .ply, .obj, .gltf or .glb.
        target: .glb to write, whole or not at all; Y up, metres, nodes named as the source's parts.
        up: which axis of the source points up, see load_mesh.
        overwrite: replace what is at the target.
        progress: whether to show a progress bar.

    Returns:
        The mesh that was written.

    Raises:
        FileNotFoundError: there is no source.
        FileExistsError: there is something at the target already.
        ValueError: another kind of file, or a source that is unreadable or has no triangles.

    Differs: vertex colours are written as they are, though glTF calls them linear; scans keep camera colours there, and
        what reads them, here and in Habitat, shows them unchanged.
    """
    source, target = Path(source), Path(target)
    check_choice("ending of the converted mesh", target.suffix.lower(), (".glb",))
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already; give another name, or ask to overwrite it")
    with tqdm(total=3, desc=f"reading {source.name}", disable=not progress, leave=False) as bar:
        mesh = load_mesh(source, up)
        bar.update()
        bar.set_description(f"building {len(mesh.faces):,} triangles")
        scene = scene_of(mesh)
        bar.update()
        bar.set_description(f"writing {target.name}")
        write_bytes(target, scene.export(file_type="glb"))
        bar.update()
    return mesh


def scene_of(mesh: Mesh) -> trimesh.Scene:
    """A mesh as a trimesh scene in glTF's axes, a node for each part."""
    scene, looks = trimesh.Scene(), [_look_of(material) for material in mesh.materials]
    faces_of_part = np.split(np.argsort(mesh.part_of_face, kind="stable"), _borders(mesh))
    for name, chosen in zip(mesh.parts, faces_of_part, strict=True):
        if len(chosen):
            part = _part(mesh, chosen, looks[mesh.material_of_face[chosen[0]]])
            scene.add_geometry(part, node_name=name, geom_name=name)
    return scene


def _borders(mesh: Mesh) -> np.ndarray:
    """Where the next part begins among the triangles sorted by part."""
    return np.cumsum(np.bincount(mesh.part_of_face, minlength=len(mesh.parts)))[:-1]


def _part(mesh: Mesh, chosen: np.ndarray, look: trimesh.visual.material.PBRMaterial) -> trimesh.Trimesh:
    used, faces = np.unique(mesh.faces[chosen], return_inverse=True)
    vertices = mesh.vertices_m[used] @ R_Z_UP_FROM_Y_UP
    part = trimesh.Trimesh(vertices, faces.reshape(-1, 3), process=False)
    colors = mesh.colors[used]
    if (colors != 255).any():
        part.visual = trimesh.visual.ColorVisuals(part, vertex_colors=colors)
    else:
        part.visual = trimesh.visual.TextureVisuals(uv=mesh.uv[used], material=look)
    return part


def _look_of(material: Material) -> trimesh.visual.material.PBRMaterial:
    image = None if material.texture is None else Image.fromarray(material.texture)
    if image is not None and (material.texture[..., 3] == 255).all():
        image = image.convert("RGB")
    return trimesh.visual.material.PBRMaterial(
        baseColorFactor=np.round(np.array(material.factor) * 255).astype(np.uint8),
        baseColorTexture=image,
        doubleSided=material.double_sided,
        alphaMode="MASK" if material.alpha_cutoff else "OPAQUE",
        alphaCutoff=material.alpha_cutoff or None,
        metallicFactor=0.0,
        roughnessFactor=1.0,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, 2 (bad input: one line says what) or 130 (interrupted)."""
    parser = argparse.ArgumentParser(prog="python -m sim.convert_mesh", description="Converts a mesh to .glb.")
    parser.add_argument("source", help=".ply, .obj, .gltf or .glb")
    parser.add_argument("target", help=".glb to write")
    parser.add_argument("--up", choices=("auto", "y", "z"), default="auto", help="axis of the source that points up")
    parser.add_argument("--force", action="store_true", help="replace what is at the target")
    arguments = parser.parse_args(argv)
    return run_command("sim.convert_mesh", lambda: _convert(arguments), "nothing was written")


def _convert(arguments: argparse.Namespace) -> None:
    mesh = convert_mesh(arguments.source, arguments.target, arguments.up, overwrite=arguments.force, progress=True)
    size = " x ".join(f"{length:.2f}" for length in mesh.bounds_m[1] - mesh.bounds_m[0])
    print(f"{arguments.target}: {len(mesh.faces):,} triangles in {len(mesh.parts)} parts, {size} m")


if __name__ == "__main__":
    sys.exit(main())
