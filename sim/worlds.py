"""Opens a world by its name: a built-in flat, a mesh file, or a scene in Habitat. Builds no world itself."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from sim.env import Env
from sim.mesh_env import MeshEnv, WorldSettings, open_world

FLAT, ROOM, HABITAT = "flat:", "room:", "habitat:"
MESH_ENDINGS = (".glb", ".gltf", ".ply", ".obj")
# All flats, or flats of one room, from one seed to another.
_RANGE = re.compile(r"(flat:|room:)(\d+)\.\.(\d+)")
# What may stand beside a mesh file called NAME.glb and says what is in it.
_ANNOTATION_NAMES = ("{}_objects.json", "{}.objects.json", "{}_metadata.json", "{}.json")


def open_env(spec: str, settings: WorldSettings | None = None) -> Env:
    """Opens a world.

    Args:
        spec: `flat:SEED`, the furnished flat of a seed; `room:SEED`, its flat of one room; a .glb, .gltf, .ply or .obj
            file, with what is known about it in a JSON file beside it (NAME_objects.json, NAME.objects.json,
            NAME_metadata.json or NAME.json); a folder with one such mesh; or `habitat:FILE`, the same in habitat_sim.
        settings: camera, motion, who walks, and looks.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the spec or a file is malformed, or one cannot walk anywhere in the world.
    """
    if spec.startswith((FLAT, ROOM)):
        kind, _, number = spec.partition(":")
        return _flat(kind, number, settings)
    if spec.startswith(HABITAT):
        from sim.habitat_env import HabitatEnv  # starts a process; only those who ask for it pay for its imports

        mesh = _mesh_file(Path(spec.removeprefix(HABITAT)))
        return HabitatEnv.start(mesh, settings, annotation_path=annotation_beside(mesh))
    mesh = _mesh_file(Path(spec))
    return open_world(mesh, annotation_beside(mesh), settings)


def world_specs(text: str) -> list[list[str]]:
    """The worlds of a command line: parts between commas, `flat:A..B` standing for each flat from A to B.

    `room:A..B` likewise.

    Raises:
        ValueError: a part is empty, or a range runs backwards.
    """
    groups = []
    for part in (part.strip() for part in text.split(",")):
        found = _RANGE.fullmatch(part)
        first, last = (int(number) for number in found.groups()[1:]) if found else (0, 0)
        if not part or first > last:
            raise ValueError(
                "worlds are flat:SEED, flat:FIRST..LAST, room:SEED, a mesh file or a folder, with commas between, "
                f"got {text!r}"
            )
        groups.append([f"{found[1]}{number}" for number in range(first, last + 1)] if found else [part])
    return groups


def annotation_beside(mesh: Path) -> Path | None:
    """The JSON file beside a mesh file that names what is in it, None where there is none."""
    paths = (mesh.with_name(name.format(mesh.stem)) for name in _ANNOTATION_NAMES)
    return next((path for path in paths if path.is_file()), None)


def _flat(kind: str, number: str, settings: WorldSettings | None) -> Env:
    from sim.rooms import FlatSettings, flat_env, make_flat

    if not number.isdecimal():
        raise ValueError(f"a flat is {kind}:SEED with a seed of 0 or more, got '{kind}:{number}'; try {kind}:0")
    if kind == "flat":
        return flat_env(int(number), settings)
    flat = make_flat(int(number), FlatSettings(max_rooms=1))
    # not the flat of that seed with all its rooms: results tell scenes apart by their names
    name = f"room-{flat.seed:06d}"
    return MeshEnv(name, flat.mesh, flat.id_of_face, replace(flat.graph, scene_id=name), settings)


def _mesh_file(path: Path) -> Path:
    if path.is_dir():
        found = sorted(item for item in path.iterdir() if item.suffix.lower() in MESH_ENDINGS)
        if len(found) != 1:
            names = ", ".join(item.name for item in found) or "none"
            raise ValueError(f"{path} must hold one mesh ({', '.join(MESH_ENDINGS)}), it holds {names}; name the file")
        return found[0]
    if not path.exists():
        raise FileNotFoundError(
            f"no world at {path}; give flat:SEED, a mesh file, a folder with one, room:SEED or habitat:FILE"
        )
    return path
