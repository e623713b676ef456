"""Scans of somebody who looks around in a room: a flat of one room, or a place in a mesh. Walks through no world."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from zlib import crc32

import numpy as np

from sim.camera import CameraSettings
from sim.env import Env, FloorMap, Observation
from sim.mesh_env import MeshEnv
from sim.recording.truth import walk_graph
from sim.recording.writers import VideoWriter
from sim.rooms import Flat, FlatSettings, make_flat
from sim.walks import Walk
from sim.world.render import Renderer
from sim.worlds import open_env
from training.scans.scan import Content
from training.scans.simulated_clips import STREAM, ClipSettings, Way, look_around, way_in_flat
from training.scans.simulated_routes import route_items
from training.scans.simulated_settings import SimulatedSettings
from training.scans.simulated_sight import Sight, asked_graphs, seen_at_all
from vlm3r_core.scene.graph import SceneGraph
from vlm3r_core.types import Frame

# One looks at every picture for a second, so that things seen first in pictures that follow each other are told apart
# by nobody, those with a picture between by everybody.
FPS = 1.0
_ROOM = re.compile(r"room:(\d+)")
_WAYS = 32
_NO_FLOOR = FloorMap(np.zeros((0, 0), bool), np.zeros(2), 1.0)


@dataclass(frozen=True, eq=False)
class _World:
    """What is to be looked at: its pictures, its truth, ways through it, and the corners of its one room if it has one.

    Args:
        seed: that its walks start from.
        flat: None for a mesh, whose env then is known.
    """

    renderer: Renderer
    graph: SceneGraph
    way: Way
    seed: tuple[int, ...]
    flat: Flat | None = None
    env: MeshEnv | None = None


def open_look(spec: str, name: str, place: int, seed: int, settings: SimulatedSettings, folder: Path) -> Content:
    """Films and judges one look around.

    In a flat it is the clip of that number that pre-training sees, with the same lens and poses.

    Args:
        spec: `room:SEED` or a mesh, see sim.worlds.open_env.
        name: of the scan.
        place: which of the world's.
        seed: of places in a mesh and of routes.
        settings: frames and their size, and what counts as seen.
        folder: for the video.

    Raises:
        ValueError: the world is none that one can look around in.
    """
    world = _world(spec, seed)
    looks = ClipSettings(frames=settings.frames, size_px=settings.size_px, truth_px=2)
    camera, poses = look_around((*world.seed, STREAM, place), world.way, looks)
    stamps_ns = np.arange(len(poses), dtype=np.int64) * round(1e9 / FPS)
    sight, video = _sight(world, poses, camera), folder / f"{name}.mp4"
    writer = VideoWriter(video, FPS)
    full = walk_graph(
        world.graph,
        Walk(poses, stamps_ns),
        _filmed(world.renderer, camera, poses, stamps_ns, writer, sight),
        min_pixels=max(1, round(settings.seen_share * settings.size_px**2)),
    )
    writer.close()
    full = replace(full, scene_id=name)
    graph, asked = asked_graphs(full, sight, settings)
    if world.flat is None:
        # What is in other rooms is not talked of; only how many there are could depend on what one did not turn to.
        counted, (graph, asked) = graph, asked_graphs(seen_at_all(full, sight, settings), sight, settings)
        asked["object_counting"] = counted
    if settings.routes and crc32(name.encode()) % settings.routes_every == 0:
        routes, rejected = route_items(_env(world, name), graph, seed, settings, place)
    else:
        routes, rejected = (), {}
    return Content(graph, video, routes, rejected, asked)


@lru_cache(maxsize=1)
def _world(spec: str, seed: int) -> _World:
    """The last one is kept: scans of one world follow each other."""
    room = _ROOM.fullmatch(spec)
    if room:
        flat = make_flat(int(room[1]), FlatSettings(max_rooms=1))
        way = partial(way_in_flat, flat)
        return _World(Renderer(flat.mesh, flat.id_of_face), flat.graph, way, (flat.seed,), flat)
    env = open_env(spec)
    if not isinstance(env, MeshEnv) or spec.startswith("flat:"):
        raise ValueError(f"one looks around in room:SEED or a mesh file, got {spec!r}; walk through others as a tour")
    # how large a house is, nobody sees from one place
    graph = replace(env.scene_graph(), room_size_m2=0.0)
    return _World(env.renderer, graph, partial(_way_in_env, env), (seed, crc32(Path(spec).stem.encode())), env=env)


def _way_in_env(env: MeshEnv, rng: np.random.Generator, longest_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Start and end [3] of the first free way of some; of no length where there is none."""
    start = env.sample_navigable(rng)
    angles, lengths = rng.uniform(0, 2 * np.pi, _WAYS), rng.uniform(0, longest_m, _WAYS)
    for angle, length in zip(angles, lengths, strict=True):
        end, collided = env.move(start, length * np.array([np.cos(angle), np.sin(angle)]), slide=False)
        if not collided:
            return start, end
    return start, start


def _sight(world: _World, poses: np.ndarray, camera: CameraSettings) -> Sight:
    if world.flat is not None:
        return Sight(_NO_FLOOR, 0.0, world.flat.rooms[0].polygon_m)
    return Sight(world.env.floor_map(), float(poses[0, 2, 3]) - camera.height_m)


def _filmed(
    renderer: Renderer,
    camera: CameraSettings,
    poses: np.ndarray,
    stamps_ns: np.ndarray,
    writer: VideoWriter,
    sight: Sight,
) -> Iterator[Observation]:
    lens = camera.pinhole

    def taken() -> Iterator[Observation]:
        for T_WC, stamp_ns in zip(poses, stamps_ns.tolist(), strict=True):
            picture = renderer.render(lens, T_WC)
            frame = Frame(picture.rgb, stamp_ns, "camera_optical_frame", lens.K)
            seen = Observation(frame, picture.depth_m, picture.ids, T_WC, lens.K)
            writer.add(seen)
            yield seen

    return sight.watch(taken())


def _env(world: _World, name: str) -> Env:
    """To walk in; only routes need it."""
    flat = world.flat
    return world.env or MeshEnv(name, flat.mesh, flat.id_of_face, flat.graph)
