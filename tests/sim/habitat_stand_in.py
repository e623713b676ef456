"""A server with the real protocol over the built-in world: it reads scenes by Habitat's rules and answers any question.

It shows that what we write for Habitat and what we ask it fit together where nothing was recorded. It is not Habitat.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from sim.camera import CameraSettings
from sim.habitat.frames import camera_from_habitat, points_from_habitat, points_to_habitat
from sim.habitat_server import serve
from sim.navmesh import NavMesh
from sim.world.mesh import load_mesh
from sim.world.render import Renderer
from sim.world.walkgrid import NavSettings

AXES = {(0, 1, 0): "y", (0, 0, 1): "z"}


class StandIn:
    name = "built-in world"

    def load(self, scene, width_px, height_px, hfov_deg, background, navmesh):
        scene = Path(scene)
        config = json.loads(scene.with_name(f"{scene.stem}.stage_config.json").read_text())
        folder = scene.parent
        mesh = load_mesh(folder / config["render_asset"], AXES[tuple(config["up"])])
        colors = tuple(int(level) for level in background)
        self.drawn = Renderer(mesh, np.zeros(len(mesh.faces), np.int32), "none", colors)
        self.labelled = self.drawn
        if "semantic_asset" in config:
            labelled = load_mesh(folder / config["semantic_asset"], AXES[tuple(config["semantic_up"])])
            numbers = self.numbers((folder / config["semantic_descriptor_filename"]).read_text())
            ids = [numbers[tuple(color)] for color in srgb(labelled.colors[labelled.faces[:, 0], :3]).tolist()]
            self.labelled = Renderer(labelled, np.array(ids, np.int32), "none")
        self.camera = CameraSettings(width_px, height_px, hfov_deg).pinhole
        self.walked = NavMesh(
            mesh.triangles_m(),
            NavSettings(
                radius_m=navmesh["agent_radius"],
                height_m=navmesh["agent_height"],
                climb_m=navmesh["agent_max_climb"],
                slope_deg=navmesh["agent_max_slope"],
                cell_m=navmesh["cell_size"],
                min_area_m2=(navmesh["region_min_size"] * navmesh["cell_size"]) ** 2,
            ),
        )
        return {"walkable": True}

    def numbers(self, text):
        rows = [line.split(",") for line in text.splitlines()[1:]]
        return {tuple(bytes.fromhex(row[1])): int(row[0]) for row in rows}

    def render(self, position, rotation_wxyz):
        T_WC = camera_from_habitat(position, rotation_wxyz)
        drawn, labelled = self.drawn.render(self.camera, T_WC), self.labelled.render(self.camera, T_WC)
        return {"rgb": drawn.rgb, "depth": drawn.depth_m, "ids": labelled.ids.astype(np.uint32)}

    def snap(self, points):
        snapped = [self.walked.snap(point) for point in points_from_habitat(points)]
        islands = [-1 if point is None else self.walked.island_of(point) for point in snapped]
        found = np.array([np.full(3, np.nan) if point is None else point for point in snapped])
        return {"points": points_to_habitat(found), "islands": np.array(islands, np.int32)}

    def navigable(self, points, max_y_delta):
        return {"navigable": np.array([self.walked.is_navigable(p, max_y_delta) for p in points_from_habitat(points)])}

    def move(self, start, end, slide):
        start, end = points_from_habitat(start), points_from_habitat(end)
        return {"position": points_to_habitat(self.walked.move(start, (end - start)[:2], slide=slide)[0])}

    def path(self, start, end):
        path = self.walked.shortest_path(points_from_habitat(start), points_from_habitat(end))
        return {
            "found": path.found,
            "distance": path.distance_m if path.found else 0.0,
            "points": points_to_habitat(path.points),
        }

    def islands(self):
        grid = self.walked.grid
        low = np.column_stack([grid.origin_m + grid.xy * grid.cell_m, grid.z_m])
        a, b, c, d = (low + np.array([x, y, 0]) * grid.cell_m for x, y in ((0, 0), (1, 0), (1, 1), (0, 1)))
        halves = points_to_habitat(np.stack([np.stack([a, b, c], 1), np.stack([a, c, d], 1)], 1))
        return {"triangles": [halves[grid.island == i].reshape(-1, 3, 3) for i in range(grid.island.max() + 1)]}

    def objects(self):
        return {"objects": []}


def srgb(levels):
    linear = levels / 255
    return np.round(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)).astype(
        int
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    serve(parser.parse_args().endpoint, StandIn())
