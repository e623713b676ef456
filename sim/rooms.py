"""Seeded furnished flats: rooms with doors, household things with true boxes, one mesh. Does not render.

python -m sim.rooms --seed 0 --count 10 --out DIR
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sim.command import check_writable, run_command
from sim.flats.export import write_annotations, write_glb
from sim.flats.furnish import furnish
from sim.flats.looks import Looks
from sim.flats.models import MODELS
from sim.flats.models_small import SMALL_MODELS
from sim.flats.picture import draw_plan, draw_views
from sim.flats.placing import Item
from sim.flats.plan import Plan, Room, make_plan
from sim.flats.shapes import Shapes, Solids
from sim.flats.shell import build_shell
from sim.mesh_env import MeshEnv, WorldSettings
from sim.world.mesh import Mesh
from vlm3r_core.config import check_settings, setting
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import SceneGraph, SceneObject, check_int, count_categories

_MODELS = MODELS | SMALL_MODELS


@dataclass(frozen=True)
class FlatSettings:
    """What flats are like."""

    min_rooms: int = setting(1, "fewest rooms", span=(1, 5))
    max_rooms: int = setting(5, "most rooms", span=(1, 5))
    clutter: float = setting(1.0, "how many small things there are, 1 is usual", span=(0.0, 4.0))
    size_sigma: float = setting(0.3, "spread of the logarithm of sizes before believable limits", span=(0.0, 1.0))

    def __post_init__(self):
        check_settings(self)
        for name in ("min_rooms", "max_rooms"):
            check_int(f"FlatSettings.{name}", getattr(self, name))
        if self.min_rooms > self.max_rooms:
            raise ValueError(f"FlatSettings.min_rooms must be at most max_rooms {self.max_rooms}, got {self.min_rooms}")


@dataclass(frozen=True, eq=False)
class Flat:
    """A furnished flat.

    Args:
        seed: what it was made from.
        plan: rooms and doorways.
        items: what was placed, in the order of the graph's objects; Item.on counts among them.
        names: of all things in the mesh, objects first, such as "chair_2"; thing i has instance id i + 1. Parts of the
            mesh are called `<name>/<part>`.
        categories: of all things; floors, walls and ceilings are no objects.
        mesh: the triangles.
        id_of_face: int32 [T], instance id of every triangle.
        graph: the truth.
    """

    seed: int
    plan: Plan
    items: tuple[Item, ...]
    names: tuple[str, ...]
    categories: tuple[str, ...]
    mesh: Mesh
    id_of_face: np.ndarray
    graph: SceneGraph

    @property
    def scene_id(self) -> str:
        """Name of the scene."""
        return self.graph.scene_id

    @property
    def rooms(self) -> tuple[Room, ...]:
        """The rooms, with name, kind, polygon and doorways."""
        return self.plan.rooms


def make_flat(seed: int, settings: FlatSettings | None = None) -> Flat:
    """The flat of a seed; the same seed and settings give the same flat.

    Args:
        seed: 0 or more.
        settings: what flats are like.

    Raises:
        ValueError: the seed is no whole number of at least 0.
    """
    check_int("seed", seed, lowest=0)
    settings, seed = settings or FlatSettings(), int(seed)
    rng = np.random.default_rng((seed, 0))
    plan = make_plan(rng, int(rng.integers(settings.min_rooms, settings.max_rooms + 1)))
    items = furnish(plan, (seed, 1), clutter=settings.clutter, sigma=settings.size_sigma)
    looks = Looks(np.random.default_rng((seed, 2)))
    shapes = Shapes(looks)
    counts: dict[str, int] = {}
    things = []
    for item in items:
        number = counts[item.category] = counts.get(item.category, 0) + 1
        name = f"{item.category.replace(' ', '_')}_{number}"
        shapes.start(name, item.x_m, item.y_m, item.z_m, item.yaw_rad)
        _MODELS[item.kind](shapes, *item.size_m, np.random.default_rng(item.style))
        things.append((name, item.category))
    things += build_shell(shapes, plan, np.random.default_rng((seed, 3)))
    solids = shapes.solids()
    names, categories = zip(*things, strict=True)
    graph = _graph(f"flat-{seed:06d}", plan, items, solids)
    return Flat(seed, plan, items, names, categories, solids.mesh, solids.thing_of_face + 1, graph)


def flat_env(seed: int, settings: WorldSettings | None = None, *, flat_settings: FlatSettings | None = None) -> MeshEnv:
    """The flat of a seed as a world to walk in.

    Args:
        seed: 0 or more.
        settings: camera, motion, who walks, and looks.
        flat_settings: what flats are like.

    Raises:
        ValueError: the seed is no whole number of at least 0.
    """
    flat = make_flat(seed, flat_settings)
    return MeshEnv(flat.scene_id, flat.mesh, flat.id_of_face, flat.graph, settings)


def export_flat(flat: Flat, folder: Path | str) -> tuple[Path, Path]:
    """Writes a flat so that sim.mesh_env.open_world reads it back; the same flat gives the same bytes.

    Args:
        flat: what to write.
        folder: where; made if it is not there.

    Returns:
        (SCENE.glb with textures, Y up; SCENE_objects.json with names, categories, ids and boxes, Z up).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mesh, objects = folder / f"{flat.scene_id}.glb", folder / f"{flat.scene_id}_objects.json"
    write_glb(flat.mesh, mesh)
    bounds = [item.box.bounds() for item in flat.graph.objects]
    for number in range(len(flat.items) + 1, len(flat.names) + 1):
        corners = flat.mesh.vertices_m[flat.mesh.faces[flat.id_of_face == number]].reshape(-1, 3)
        bounds.append(np.stack([corners.min(axis=0), corners.max(axis=0)]))
    yaws = [item.yaw_rad for item in flat.items] + [0.0] * (len(flat.names) - len(flat.items))
    write_annotations(objects, flat.names, flat.categories, yaws, bounds)
    return mesh, objects


def _graph(scene_id: str, plan: Plan, items: tuple[Item, ...], solids: Solids) -> SceneGraph:
    """Boxes are the smallest upright ones around what was drawn."""
    objects = []
    for number, item in enumerate(items):
        low, high = solids.low_m[number], solids.high_m[number]
        c, s = np.cos(item.yaw_rad), np.sin(item.yaw_rad)
        R_WB = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        center = R_WB @ ((low + high) / 2) + [item.x_m, item.y_m, item.z_m]
        objects.append(SceneObject(item.category, OrientedBox(center, high - low, R_WB), number + 1))
    corners = np.concatenate([room.polygon_m for room in plan.rooms])
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    return SceneGraph(
        scene_id,
        tuple(objects),
        count_categories(tuple(objects)),
        sum(room.area_m2 for room in plan.rooms),
        np.array([*middle, plan.height_m / 2]),
        dataset="flats",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes flats with a plan of each; returns 0, 2 (bad input: one line says what) or 130 (interrupted)."""
    parser = argparse.ArgumentParser(prog="python -m sim.rooms", description="Writes furnished flats of seeds.")
    parser.add_argument("--seed", type=int, default=0, help="first seed (default 0)")
    parser.add_argument("--count", type=int, default=10, help="how many flats (default 10)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--rooms", type=int, help="rooms in every flat, 1 to 5 (default: varies)")
    parser.add_argument("--views", action="store_true", help="also pictures from inside")
    options = parser.parse_args(arguments)
    try:
        settings = FlatSettings() if options.rooms is None else FlatSettings(options.rooms, options.rooms)
        check_int("--seed", options.seed, lowest=0)
        check_int("--count", options.count, lowest=1)
    except ValueError as error:
        parser.error(str(error))
    done = f"the flats that are whole stay in {options.out}"
    return run_command("sim.rooms", lambda: _write(options, settings), done)


def _write(options: argparse.Namespace, settings: FlatSettings) -> None:
    check_writable(options.out / "a flat")
    for seed in tqdm(range(options.seed, options.seed + options.count), desc="flats", unit="flat"):
        flat = make_flat(seed, settings)
        export_flat(flat, options.out)
        draw_plan(flat.plan, flat.graph).save(options.out / f"{flat.scene_id}_plan.png")
        if options.views:
            env = MeshEnv(flat.scene_id, flat.mesh, flat.id_of_face, flat.graph)
            draw_views(env, flat.plan, seed).save(options.out / f"{flat.scene_id}_views.png")
    print(f"{options.count} flats in {options.out}")


if __name__ == "__main__":
    sys.exit(main())
