"""Walks through simulated worlds as scans: rendered videos, true scene graphs, routes. The one reader that needs sim/.

Only what a walk really showed is asked about; see simulated_sight.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np

from sim.env import Observation
from sim.record import watch
from sim.recording.truth import DATASET, walk_graph
from sim.recording.writers import VideoWriter
from sim.walks import Walk, make_walk
from sim.worlds import open_env, world_specs
from training.scans.scan import Content, Scan
from training.scans.simulated_looks import open_look
from training.scans.simulated_routes import route_items
from training.scans.simulated_settings import LOOK_AROUND, SimulatedSettings
from training.scans.simulated_sight import Sight, asked_graphs
from vlm3r_core.clip import sample_uniform

_FLAT = re.compile(r"(flat|room):(\d+)")


def recognizes(root: str) -> bool:
    """Whether the root is a list of worlds that begins with a flat or a flat of one room."""
    return _FLAT.match(root) is not None


def read_scans(root: str, *, seed: int = 0, **settings) -> Iterator[Scan]:
    """A walk through each world, or several looks around.

    Args:
        root: worlds, such as `flat:0..19` or `room:0..19`, see sim.worlds.world_specs.
        seed: of walks and routes.
        settings: of SimulatedSettings, by name.

    Raises:
        ValueError: the list of worlds or a setting is wrong.
    """
    chosen = SimulatedSettings(**settings)
    for spec in (spec for group in world_specs(root) for spec in group):
        name = scene_name(spec)
        if chosen.walk == LOOK_AROUND:
            for place in range(chosen.places):
                scan = f"{name}-{place:03d}" if place else name
                yield Scan(DATASET, scan, partial(open_look, spec, scan, place, seed, chosen))
        else:
            yield Scan(DATASET, name, partial(_open, spec, seed, chosen))


def scene_name(spec: str) -> str:
    """The scene id of a world's spec."""
    flat = _FLAT.fullmatch(spec)
    return f"{flat[1]}-{int(flat[2]):06d}" if flat else Path(spec).stem


def _open(spec: str, seed: int, settings: SimulatedSettings, folder: Path) -> Content:
    env = open_env(spec, settings.world)
    try:
        name = scene_name(spec)
        rng = np.random.default_rng((seed, crc32(name.encode())))
        walk = _thinned(make_walk(env, rng, settings.tour), settings.frames)
        floor_z_m = float(np.median(walk.T_WC[:, 2, 3])) - settings.height_m
        sight, video = Sight(env.floor_map(), floor_z_m), folder / f"{name}.mp4"
        least = max(1, round(settings.seen_share * settings.size_px**2))
        writer = VideoWriter(video, (len(walk) - 1) / walk.duration_s)
        full = walk_graph(env.scene_graph(), walk, _filmed(writer, sight.watch(watch(env, walk))), min_pixels=least)
        writer.close()
        graph, asked = asked_graphs(replace(full, scene_id=name), sight, settings)
        routes, rejected = route_items(env, graph, seed, settings)
        return Content(graph, video, routes, rejected, asked)
    finally:
        env.close()


def _thinned(walk: Walk, frames: int) -> Walk:
    """The walk with that many poses, spread as the model's own sampler spreads them."""
    kept = sample_uniform(len(walk), frames)
    return Walk(walk.T_WC[kept], walk.stamps_ns[kept])


def _filmed(writer: VideoWriter, observations: Iterable[Observation]) -> Iterator[Observation]:
    for seen in observations:
        writer.add(seen)
        yield seen
