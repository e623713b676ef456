"""Walks through simulated worlds as scans: rendered videos, true scene graphs, routes. The one reader that needs sim/.

Only what a walk really showed is asked about; see asked_graphs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
from scipy.ndimage import label

from sim.camera import CameraSettings
from sim.env import Env, FloorMap, Observation
from sim.mesh_env import WorldSettings
from sim.record import watch
from sim.recording.truth import DATASET, walk_graph
from sim.recording.writers import VideoWriter
from sim.route.item import RouteItem
from sim.route.plan import plan_slots
from sim.route.search import find_routes
from sim.route.settings import RouteSettings
from sim.walks import Walk, WalkSettings, make_walk
from sim.worlds import open_env, world_specs
from training.scans.scan import ROUTE_TASK, Content, Scan
from vlm3r_core.clip import sample_uniform
from vlm3r_core.config import check_settings, setting
from vlm3r_core.scene.graph import SceneGraph, count_categories
from vlm3r_core.scene.tasks import QaItem

_FLAT = re.compile(r"flat:(\d+)")
_FLOOR_TOLERANCE_M = 0.15
# routes looked for for each that is wanted, as some go by things the walk did not show
_SPARE = 2
_PATIENCE = 150


@dataclass(frozen=True)
class SimulatedSettings:
    """How worlds are walked through and filmed, and what counts as seen."""

    frames: int = setting(32, "frames of a video, evenly over the walk; questions count all of them", span=(2, 10**5))
    size_px: int = setting(224, "edge of the square frames, pixels, even", span=(16, 4096))
    hfov_deg: float = setting(90.0, "horizontal field of view, degrees", span=(30.0, 150.0))
    height_m: float = setting(1.5, "of the camera above the floor, metres", span=(0.2, 2.2))
    pitch_deg: float = setting(-12.0, "tilt of the camera, degrees, up is positive", span=(-60.0, 60.0))
    max_duration_s: float = setting(90.0, "longest walk, seconds", span=(1.0, 3600.0))
    lookouts: int = setting(24, "places tried as stops of the walk", span=(1, 1000))
    seen_share: float = setting(0.002, "of a frame's pixels from which an object counts as seen", span=(0.0, 1.0))
    glimpse_share: float = setting(0.0002, "below which nobody notices it", span=(0.0, 1.0))
    covered_share: float = setting(0.75, "of the walkable floor in view from which its size is asked", span=(0.0, 1.0))
    unseen_m2: float = setting(1.0, "largest patch of that floor out of view, square metres", span=(0.0, 1000.0))
    routes: int = setting(3, "route questions of a world at most", span=(0, 1000))

    def __post_init__(self):
        check_settings(self)
        if self.size_px % 2:
            raise ValueError(f"SimulatedSettings.size_px must be even for a video, got {self.size_px}")

    @property
    def walk(self) -> WalkSettings:
        """How one walks."""
        return WalkSettings(
            height_m=self.height_m,
            pitch_deg=self.pitch_deg,
            cover=True,
            cover_candidates=self.lookouts,
            max_duration_s=self.max_duration_s,
        )

    @property
    def world(self) -> WorldSettings:
        """The world with this camera."""
        lens = {"hfov_deg": self.hfov_deg, "height_m": self.height_m, "pitch_deg": self.pitch_deg}
        return WorldSettings(camera=CameraSettings(self.size_px, self.size_px, **lens))


@dataclass(eq=False)
class Sight:
    """What a walk showed, filled while it is watched.

    Args:
        plan: the walkable floor, floor_z_m high.
        pixels: of each object, by instance id, in each frame.
        floor: bool, which of the walkable cells were in view, in the order of np.argwhere(plan.free).
    """

    plan: FloorMap
    floor_z_m: float
    pixels: list[dict[int, int]] = field(default_factory=list)

    def __post_init__(self):
        xy = self.plan.origin_m + (np.argwhere(self.plan.free) + 0.5) * self.plan.cell_m
        self._cells_m = np.column_stack([xy, np.full(len(xy), self.floor_z_m)])
        self.floor = np.zeros(len(xy), bool)

    def watch(self, observations: Iterable[Observation]) -> Iterator[Observation]:
        """Hands pictures on and looks at them."""
        for seen in observations:
            numbers, counts = np.unique(seen.semantic_ids, return_counts=True)
            self.pixels.append(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
            self.floor |= _in_view(self._cells_m, seen)
            yield seen

    def most_pixels(self, instance_id: int) -> int:
        """Of an object in the frame that shows most of it."""
        return max((frame.get(instance_id, 0) for frame in self.pixels), default=0)

    def first(self, instance_id: int, pixels: float) -> int | None:
        """The first frame with so many pixels of an object, None where there is none."""
        return next((place for place, frame in enumerate(self.pixels) if frame.get(instance_id, 0) >= pixels), None)

    def covers(self, share: float, unseen_m2: float) -> bool:
        """Whether so much of the floor was in view, and no patch larger than that out of view."""
        unseen = self.plan.free.copy()
        unseen[unseen] = ~self.floor
        patches, _ = label(unseen)
        largest = np.bincount(patches[unseen], minlength=1).max() * self.plan.cell_m**2
        return bool(self.floor.mean() >= share and largest <= unseen_m2)


def recognizes(root: str) -> bool:
    """Whether the root is a list of worlds that begins with a flat."""
    return _FLAT.match(root) is not None


def read_scans(root: str, *, seed: int = 0, **settings) -> Iterator[Scan]:
    """A walk through each world.

    Args:
        root: worlds, such as `flat:0..19`, see sim.worlds.world_specs.
        seed: of walks and routes.
        settings: of SimulatedSettings, by name.

    Raises:
        ValueError: the list of worlds or a setting is wrong.
    """
    chosen = SimulatedSettings(**settings)
    for spec in (spec for group in world_specs(root) for spec in group):
        yield Scan(DATASET, scene_name(spec), partial(_open, spec, seed, chosen))


def scene_name(spec: str) -> str:
    """The scene id of a world's spec."""
    flat = _FLAT.fullmatch(spec)
    return f"flat-{int(flat[1]):06d}" if flat else Path(spec).stem


def asked_graphs(
    full: SceneGraph, sight: Sight, settings: SimulatedSettings
) -> tuple[SceneGraph, dict[str, SceneGraph]]:
    """What may be asked after a walk.

    Args:
        full: the truth with the walk's frames.
        sight: what the walk showed.
        settings: what counts as seen.

    Returns:
        (the graph without categories of which not every object was seen clearly; graphs for single tasks: the order of
        appearance without categories that were glimpsed in a frame before the first that shows them clearly, and the
        room's size unknown where the walk did not show all of the floor).
    """
    area = settings.size_px**2
    clear, glimpse = settings.seen_share * area, settings.glimpse_share * area
    hidden = {item.category for item in full.objects if sight.most_pixels(item.instance_id) < clear}
    graph = _without(full, hidden)
    early = {
        item.category
        for item in graph.objects
        if sight.first(item.instance_id, max(1.0, glimpse)) != sight.first(item.instance_id, clear)
    }
    asked = {"obj_appearance_order": _without(graph, early)}
    if not sight.covers(settings.covered_share, settings.unseen_m2):
        asked["room_size_estimation"] = replace(graph, room_size_m2=0.0)
    return graph, asked


def _open(spec: str, seed: int, settings: SimulatedSettings, folder: Path) -> Content:
    env = open_env(spec, settings.world)
    try:
        name = scene_name(spec)
        rng = np.random.default_rng((seed, crc32(name.encode())))
        walk = _thinned(make_walk(env, rng, settings.walk), settings.frames)
        floor_z_m = float(np.median(walk.T_WC[:, 2, 3])) - settings.height_m
        sight, video = Sight(env.floor_map(), floor_z_m), folder / f"{name}.mp4"
        least = max(1, round(settings.seen_share * settings.size_px**2))
        writer = VideoWriter(video, (len(walk) - 1) / walk.duration_s)
        full = walk_graph(env, walk, _filmed(writer, sight.watch(watch(env, walk))), min_pixels=least)
        writer.close()
        graph, asked = asked_graphs(replace(full, scene_id=name), sight, settings)
        routes, rejected = _routes(env, graph, seed, settings)
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


def _without(graph: SceneGraph, categories: set[str]) -> SceneGraph:
    """A graph that does not know some categories, in its frames neither."""
    objects = tuple(item for item in graph.objects if item.category not in categories)
    left = {item.instance_id for item in objects}
    frames = tuple(
        replace(frame, visible=tuple(seen for seen in frame.visible if seen.instance_id in left))
        for frame in graph.frames
    )
    return replace(graph, objects=objects, counts=count_categories(objects), frames=frames)


def _in_view(points_W: np.ndarray, seen: Observation) -> np.ndarray:
    """Which points [N, 3] are in a picture with nothing before them."""
    T_WC, K, depth = seen.T_WC, seen.K, seen.depth_m
    points = (points_W - T_WC[:3, 3]) @ T_WC[:3, :3]
    z = points[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.floor(points[:, 0] / z * K[0, 0] + K[0, 2])
        v = np.floor(points[:, 1] / z * K[1, 1] + K[1, 2])
    inside = (z > 0) & (u >= 0) & (u < depth.shape[1]) & (v >= 0) & (v < depth.shape[0])
    found = np.zeros(len(points), bool)
    hit = depth[v[inside].astype(int), u[inside].astype(int)]
    found[inside] = hit > z[inside] * 0.95 - _FLOOR_TOLERANCE_M
    return found


def _routes(
    env: Env, graph: SceneGraph, seed: int, settings: SimulatedSettings
) -> tuple[tuple[QaItem, ...], dict[str, int]]:
    """Route questions between things the walk showed."""
    if not settings.routes:
        return (), {}
    rules = RouteSettings(camera_height_m=settings.height_m, patience=_PATIENCE)
    slots = plan_slots(settings.routes * _SPARE, (seed, crc32(graph.scene_id.encode())), rules)
    found = find_routes(env, slots, seed, rules)
    shown = {item.instance_id for item in graph.objects}
    routes = [found.items[number] for number in sorted(found.items)]
    kept = [route for route in routes if shown.issuperset(_landmarks(route))]
    rejected = dict(sorted(found.rejected.items()))
    if len(kept) < len(routes):
        rejected["landmark_not_shown"] = len(routes) - len(kept)
    return tuple(_route_item(route, graph, number) for number, route in enumerate(kept[: settings.routes])), rejected


def _landmarks(route: RouteItem) -> Sequence[int]:
    return (route.start_id, route.facing_id, route.goal_id, *route.via_ids)


def _route_item(route: RouteItem, graph: SceneGraph, number: int) -> QaItem:
    names = {"start": route.start, "facing": route.facing, "goal": route.goal}
    return QaItem(
        id=f"{graph.dataset}/{graph.scene_id}/{ROUTE_TASK}/{number:04d}",
        dataset=graph.dataset,
        scene=graph.scene_id,
        video_path=None,
        task=ROUTE_TASK,
        question_type=ROUTE_TASK,
        wording="vsibench",
        names=names | {f"via{place}": name for place, name in enumerate(route.via)},
        question=route.question,
        choices=tuple(option.partition(". ")[2] for option in route.options),
        options=route.options,
        ground_truth=route.answer_text,
        mc_answer=route.answer,
        value=None,
        instance_ids=tuple(dict.fromkeys(_landmarks(route))),
    )
