"""A small furnished world on disk and episodes in it, for tests of closed-loop trials."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import trimesh
from worlds import box, painted

from sim.camera import CameraSettings, camera_pose
from sim.episode import Episode
from sim.loop.episodes import EpisodeSettings
from sim.loop.goal import goal_of
from sim.loop.trial import Trial, TrialSettings
from sim.mesh_env import WorldSettings
from sim.walks import WalkSettings

SCENE = "studio"
TRIAL = TrialSettings(pictures=2)
LENS = CameraSettings(width_px=48, height_px=48)
WORLD = WorldSettings(LENS)
EPISODES = EpisodeSettings(
    watch_frames=12, min_way_m=1.0, walk=WalkSettings(fps=1.0, turn_speed_deg_s=180.0, cover=True, cover_candidates=10)
)
# A room of 6 x 4 m with a wall across it at x = 3, open from y = 2.5 on.
SHELL = {
    "floor": ([0, 0, -0.1], [6, 4, 0]),
    "west": ([-0.1, -0.1, 0], [0, 4.1, 2.5]),
    "east": ([6, -0.1, 0], [6.1, 4.1, 2.5]),
    "south": ([0, -0.1, 0], [6, 0, 2.5]),
    "north": ([0, 4, 0], [6, 4.1, 2.5]),
    "middle": ([2.95, 0, 0], [3.05, 2.5, 2.5]),
}
# Things against walls; the shelf stands with its back to the wall in the middle.
THINGS = {
    "sofa": ([0, 1, 0], [0.8, 2.4, 0.8]),
    "shelf": ([3.05, 0.4, 0], [3.4, 1.4, 1.8]),
    "table": ([4.8, 2.8, 0], [5.6, 3.6, 0.7]),
    "bed": ([5, 0, 0], [6, 1.6, 0.5]),
}
IDS = {name: number for number, name in enumerate(THINGS, 1)}


def write_world(folder: Path) -> str:
    """The world's spec: a GLB (Y up) with its annotations beside it."""
    turn = trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0])
    scene, rng = trimesh.Scene(), np.random.default_rng(0)
    for name, corners in (SHELL | THINGS).items():
        part = box(*corners)
        part.apply_transform(turn)
        painted(part, rng.integers(60, 220, 3).tolist())
        scene.add_geometry(part, node_name=name, geom_name=name)
    entries = [
        {"name": name, "category": name, "id": IDS[name], "aabb_min": low, "aabb_max": high}
        for name, (low, high) in THINGS.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{SCENE}.glb").write_bytes(scene.export(file_type="glb"))
    (folder / f"{SCENE}_objects.json").write_text(json.dumps(entries))
    return str(folder / f"{SCENE}.glb")


def find_episode(thing: str = "table", feet=(1.5, 0.8, 0.0), yaw_rad: float = 0.0, **changes) -> Episode:
    """Look for a thing from a place; the walk watched looks around at two places."""
    watch = [
        camera_pose(np.array([x, y, 0.0]), yaw, LENS)
        for x, y, yaw in ((1.5, 3.2, 0.0), (1.5, 3.2, -2.0), (4.2, 2.0, 0.4), (4.2, 2.0, -1.2), (4.2, 2.0, -2.4))
    ]
    fields = {
        **{"id": f"find-{thing}", "task": "find", "scene": SCENE, "seed": 3},
        **{"goal_category": thing, "goal_object_id": IDS[thing], "T_WC_watch": np.stack(watch), "max_steps": 200},
    }
    return Episode(**fields | {"T_WC_start": camera_pose(np.array(feet), yaw_rad, LENS)} | changes)


def route_episode(**changes) -> Episode:
    """From the sofa, facing the way to the passage, around the wall's end to the shelf: one right turn."""
    way = np.array([[1.2, 1.5, 0.0], [3.0, 3.0, 0.0], [3.9, 1.0, 0.0]])
    yaw = float(np.arctan2(1.5, 1.8))
    fields = {"id": "route-shelf", "task": "route", "landmarks": ("sofa", "table", "table"), "turns": "Turn Right"}
    return find_episode("shelf", tuple(way[0]), yaw, **fields | {"reference_m": way} | changes)


def trial_of(env, episode) -> Trial:
    """A trial that has just begun."""
    return Trial(env, episode, goal_of(env, episode), env.reset(episode), TRIAL)
