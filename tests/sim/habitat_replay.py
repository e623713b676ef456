"""A server with the real protocol that answers with what habitat_sim answered when the golden data were recorded.

Run as a program, as habitat_server.py is. A question that was not recorded is an error, never a guess. Like the server
it is written for Python 3.9 and imports nothing of ours but the server's file. HABITAT_REPLAY_FAULT makes it misbehave.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

# Records are float32; questions come through float64 rotations and sums.
NEAR = 1e-5
SERVER = Path(__file__).resolve().parents[2] / "sim" / "habitat_server.py"


def server_module():
    spec = importlib.util.spec_from_file_location("habitat_server", SERVER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Record:
    """Answers by the numbers they were given for."""

    def __init__(self, what):
        self.what, self.keys, self.values = what, [], []

    def add(self, key, value):
        self.keys.append(np.asarray(key, np.float64).ravel())
        self.values.append(value)

    def find(self, *key):
        wanted = np.concatenate([np.ravel(part) for part in key])
        gaps = np.abs(np.array(self.keys) - wanted).max(axis=1)
        if gaps.min() > NEAR:
            raise LookupError(f"no {self.what} was recorded for {wanted.tolist()}, the nearest is {gaps.min():.2g} off")
        return self.values[int(gaps.argmin())]


class Replay:
    """The backend: a folder of recordings beside the scene that is loaded."""

    name = "recorded habitat_sim 0.3.3"

    def __init__(self, fault):
        self.fault = fault
        self.folder = None

    def load(self, scene, width_px, height_px, hfov_deg, background, navmesh):
        if self.fault == "die while loading":
            print("could not find a CUDA device", file=sys.stderr, flush=True)
            os._exit(1)
        self.folder = Path(scene).parent
        nav = json.loads((self.folder / "nav.json").read_text())
        told = {key: nav["navmesh_settings"][key] for key in navmesh}
        if not np.allclose([navmesh[key] for key in told], list(told.values())):
            raise LookupError(f"recorded with {told}, asked with {navmesh}")
        self._read_walks(nav)
        self._read_views(width_px, height_px, hfov_deg)
        return {"walkable": nav["num_islands"] > 0}

    def _read_walks(self, nav):
        walks = json.loads((self.folder / "trajectories.json").read_text())["random_walks"]
        self.snaps, self.navigables = Record("snap"), Record("navigable answer")
        self.paths, self.moves = Record("path"), {True: Record("sliding move"), False: Record("move without sliding")}
        for query in nav["queries"]:
            snap = [np.nan] * 3 if query["snap"] is None else [np.nan if v is None else v for v in query["snap"]]
            self.snaps.add(query["point"], (snap, query["island"]))
            self.navigables.add(query["point"], query["is_navigable"])
        for pair in nav["pairs"]:
            self.paths.add(pair["start"] + pair["end"], pair)
        for step in nav["try_step"]:
            self.moves[True].add(step["start"] + step["end"], step["try_step"])
            self.moves[False].add(step["start"] + step["end"], step["try_step_no_sliding"])
            self.snaps.add(step["start"], (step["start"], nav["main_island"]))
        for walk in walks:
            # An agent was put there, so it is on the walkable area and snaps to itself.
            here = walk["start_position"]
            self.snaps.add(here, (here, nav["main_island"]))
            for step in walk["steps"]:
                if step["action"] == "move_forward":
                    w, _, y, _ = step["rotation"]["wxyz"]
                    # heading -z, turned about y
                    ahead = np.array([-2 * w * y, 0.0, -(1 - 2 * y * y)]) * 0.25
                    self.moves[walk["allow_sliding"]].add(list(here) + list(here + ahead), step["position"])
                here = step["position"]

    def _read_views(self, width_px, height_px, hfov_deg):
        listed = json.loads((self.folder / "views.json").read_text())
        self.views = Record(f"view of {width_px}x{height_px} pixels and {hfov_deg} degrees")
        for view in listed["views"]:
            camera = listed["cameras"][view["camera"]]
            if (camera["width"], camera["height"], camera["hfov_deg"]) == (width_px, height_px, hfov_deg):
                for sign in (1, -1):  # both quaternions are the same rotation
                    rotation = np.multiply(view["camera_rotation"]["wxyz"], sign)
                    self.views.add(view["camera_position"] + rotation.tolist(), view["name"])

    def render(self, position, rotation_wxyz):
        prefix = str(self.folder / "views" / self.views.find(position, rotation_wxyz))
        return {
            "rgb": np.array(Image.open(prefix + "_rgb.png"))[..., :3].copy(),
            "depth": np.load(prefix + "_depth.npy"),
            "ids": np.load(prefix + "_semantic.npy").astype(np.uint32),
        }

    def snap(self, points):
        found = [self.snaps.find(point) for point in points]
        return {
            "points": np.array([point for point, _ in found], np.float64),
            "islands": np.array([island for _, island in found], np.int32),
        }

    def navigable(self, points, max_y_delta):
        if max_y_delta != 0.5:
            raise LookupError(f"recorded with a max_y_delta of 0.5, asked with {max_y_delta}")
        return {"navigable": np.array([self.navigables.find(point) for point in points], bool)}

    def move(self, start, end, slide):
        return {"position": np.array(self.moves[slide].find(start, end), np.float64)}

    def path(self, start, end):
        if self.fault == "sleep on a path":
            time.sleep(30)
        pair = self.paths.find(start, end)
        points = np.array(pair["points"], np.float64).reshape(-1, 3)
        return {"found": pair["found"], "distance": pair["geodesic_distance"] or 0.0, "points": points}

    def islands(self):
        data = np.load(str(self.folder / "navmesh_triangles.npz"))
        return {"triangles": [data[f"island{i}"].reshape(-1, 3, 3).astype(np.float64) for i in range(len(data.files))]}

    def objects(self):
        found = []
        for item in json.loads((self.folder / "semantic_scene.json").read_text()):
            x, y, z, w = item["obb_rotation_xyzw"]
            found.append(
                {
                    "id": item["semantic_id"],
                    "category": item["category"],
                    "center": item["obb_center"],
                    "half_extents": item["obb_half_extents"],
                    "rotation_wxyz": [w, x, y, z],
                }
            )
        return {"objects": found}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    endpoint = parser.parse_args().endpoint
    server, fault = server_module(), os.environ.get("HABITAT_REPLAY_FAULT", "")
    if fault == "start slowly":
        time.sleep(30)
    if fault == "another version":
        server.PROTOCOL += 1
    if fault == "pickled replies":
        import pickle

        server.pack = pickle.dumps
    if fault == "lack habitat_sim":
        import habitat_sim_that_nobody_has  # noqa: F401
    server.serve(endpoint, Replay(fault))


if __name__ == "__main__":
    main()
