"""An Env whose world is habitat_sim in a process of its own, in the house's axes. Imports nothing of Habitat's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sim.convert_mesh import scene_of
from sim.env import Action, FloorMap, Observation, TimeStep
from sim.episode import Episode
from sim.habitat.frames import box_from_habitat, camera_to_habitat, points_from_habitat, points_to_habitat
from sim.habitat.stage import stage_config_beside, up_axis_of, write_stage
from sim.habitat.walkable import WalkableAreas, footprint_m2
from sim.habitat_client import SERVER_PROGRAM, HabitatClient, ServerSettings, find_interpreter
from sim.mesh_env import WorldSettings, label_mesh
from sim.navmesh import NO_PATH, GeodesicPath
from sim.robot import Robot
from sim.world.annotation import STRUCTURE
from sim.world.heightfield import build_heightfield
from sim.world.mesh import KINDS, load_mesh
from sim.world.render import Picture
from sim.world.walkgrid import NavSettings
from vlm3r_core.config import check_choice
from vlm3r_core.scene.graph import SceneGraph, SceneObject, count_categories

# Habitat's rule: a move is a collision if it fell short by more than this, in square metres.
_COLLISION_M2 = 1e-5
# How far above or below the floor a point may be to count as on it, metres: Habitat's default.
_FLOOR_BAND_M = 0.5
# Height of Habitat's voxels, metres, where steps of this height are taken anyway.
_CELL_HEIGHT_M = 0.2
# What rounding to float32 may cost, metres.
_SLACK_M = 1e-4


class HabitatEnv:
    """An Env over a scene in habitat_sim; open one with `start`.

    Pictures are flat: WorldSettings.lighting has no meaning here. Floors lie where Habitat puts them, up to a voxel's
    height (0.2 m) above the mesh's.

    Args:
        scene_id: name of the scene.
        client: a server with the scene loaded.
        areas: where one can walk.
        floor: grid of the floor map: origin [2] and cell, metres.
        graph: the truth about the scene.
        settings: camera, motion and sensor.
        instances: int32 [N], instance id of every number in the server's pictures; None where they are the ids.
    """

    def __init__(
        self,
        scene_id: str,
        client: HabitatClient,
        areas: WalkableAreas,
        floor: tuple[np.ndarray, float],
        graph: SceneGraph,
        settings: WorldSettings,
        instances: np.ndarray | None = None,
    ):
        self._scene_id, self.client, self.settings = scene_id, client, settings
        self._areas, self._floor, self._graph, self._instances = areas, floor, graph, instances
        self._robot = Robot(scene_id, self, settings.camera, settings.motion, settings.sensor)

    @classmethod
    def start(
        cls,
        scene: Path | str,
        settings: WorldSettings | None = None,
        *,
        annotation_path: Path | str | None = None,
        scene_id: str = "",
        up: str = "auto",
        python: str | None = None,
        server: ServerSettings | None = None,
        program: Path = SERVER_PROGRAM,
    ) -> HabitatEnv:
        """Starts Habitat with a scene.

        Args:
            scene: .glb, .gltf, .ply or .obj. Where NAME.stage_config.json lies beside NAME.glb, Habitat uses that and
                its instance ids; else the ids are those of the annotation.
            settings: camera, motion, who walks, and sensor.
            annotation_path: what is in the scene, as open_world takes it; without it the objects are those of the
                scene's own semantic annotation, if it has one.
            scene_id: name of the scene, the file's name without its ending by default.
            up: which axis of the mesh file points up, as load_mesh takes it; a stage_config says so itself.
            python: interpreter with habitat_sim; the environment variable VLM3R_HABITAT_PYTHON by default, else the
                one that runs this.
            server: how long the server may take.
            program: the server to run.

        Raises:
            FileNotFoundError: there is no such scene, annotation or interpreter.
            ValueError: a file is malformed, or one cannot walk anywhere in the scene.
            RuntimeError: the server does not start, or refuses the scene.
            TimeoutError: it takes too long.
        """
        scene, settings = Path(scene), settings or WorldSettings()
        scene_id = scene_id or scene.stem
        check_choice("kind of mesh file", scene.suffix.lower(), KINDS)
        config = stage_config_beside(scene)
        up = up if config is None else up_axis_of(config)
        mesh = load_mesh(scene, up)
        ids, graph = label_mesh(mesh, annotation_path, scene_id)
        field = build_heightfield(
            mesh.triangles_m(), settings.nav.cell_m, np.radians(settings.nav.slope_deg), settings.nav.climb_m
        )
        client = HabitatClient(find_interpreter(python), server, program)
        try:
            opened, instances = scene.absolute(), None
            if config is None:
                as_it_is = scene.suffix.lower() == ".glb"
                render, axis = (scene, "z" if up == "z" else "y") if as_it_is else (scene_of(mesh), "y")
                opened, instances = write_stage(render, mesh, ids, graph, client.folder, axis)
            areas = WalkableAreas(_loaded(client, opened, settings), field)
            if config is not None and annotation_path is None:
                graph = replace(graph, **_annotated(client))
        except BaseException:
            client.close()
            raise
        graph = graph if graph.room_size_m2 else replace(graph, room_size_m2=footprint_m2(field))
        return cls(scene_id, client, areas, (field.origin_m, field.cell_m), graph, settings, instances)

    @property
    def scene_id(self) -> str:
        """Name of the scene."""
        return self._scene_id

    def reset(self, episode: Episode) -> TimeStep:
        """Puts the robot at an episode's start; see Env."""
        return self._robot.reset(episode)

    def step(self, action: Action) -> TimeStep:
        """Does one action, with collisions as Habitat has them; see Env."""
        return self._robot.step(action)

    def observe(self) -> Observation:
        """What the camera sees now; see Env."""
        return self._robot.observe()

    def view(self, T_WC: np.ndarray, stamp_ns: int = 0) -> Observation:
        """What a camera would see from a pose; see Env."""
        return self._robot.view(T_WC, stamp_ns)

    def floor_map(self) -> FloorMap:
        """The area sample_navigable draws from, seen from above; see Env."""
        return FloorMap(self._areas.free_cells(), *self._floor)

    def shortest_path(self, start: np.ndarray, goal: np.ndarray) -> GeodesicPath:
        """Habitat's shortest path; its ends keep their heights where the points lie over the walkable area."""
        found = self.client.call("path", start=points_to_habitat(start), end=points_to_habitat(goal))
        if not found["found"]:
            return NO_PATH
        return GeodesicPath(float(found["distance"]), points_from_habitat(found["points"]))

    def is_navigable(self, point: np.ndarray) -> bool:
        """Whether the robot could stand there."""
        points = points_to_habitat(point)[None]
        return bool(self.client.call("navigable", points=points, max_y_delta=_FLOOR_BAND_M)["navigable"][0])

    def sample_navigable(self, rng: np.random.Generator) -> np.ndarray:
        """A random point of the largest indoor area."""
        return self._areas.sample(rng)

    def scene_graph(self) -> SceneGraph:
        """The truth about the scene."""
        return self._graph

    def close(self) -> None:
        """Ends the server."""
        self._robot.forget()
        self.client.close()

    def snap(
        self, point: np.ndarray, half_extents_m: tuple[float, float, float] = (2.0, 2.0, 4.0)
    ) -> np.ndarray | None:
        """The nearest walkable point [3] in a box around one, at most Habitat's own (2, 2, 4 m); None without any."""
        snapped = points_from_habitat(self.client.call("snap", points=points_to_habitat(point)[None])["points"][0])
        near = np.isfinite(snapped).all() and (np.abs(snapped - point) <= np.add(half_extents_m, _SLACK_M)).all()
        return snapped if near else None

    def move(self, start: np.ndarray, offset_m: np.ndarray, *, slide: bool = True) -> tuple[np.ndarray, bool]:
        """Where a straight move by an offset [2] ends [3], and whether it fell short; as habitat_sim's own steps."""
        end = np.add(start, [*offset_m, 0.0])
        reply = self.client.call("move", start=points_to_habitat(start), end=points_to_habitat(end), slide=bool(slide))
        reached = points_from_habitat(reply["position"])
        moved = reached - start
        return reached, bool(moved @ moved + _COLLISION_M2 < np.dot(offset_m, offset_m))

    def render(self, T_WC: np.ndarray) -> Picture:
        """A clean picture from any pose [4, 4], with the robot's lens."""
        position, rotation = camera_to_habitat(T_WC)
        seen = self.client.call("render", position=position, rotation_wxyz=rotation)
        size = (self.settings.camera.height_px, self.settings.camera.width_px)
        for name, shape in (("rgb", (*size, 3)), ("depth", size), ("ids", size)):
            if np.shape(seen.get(name)) != shape:
                raise RuntimeError(f"Habitat's picture {name} must have shape {shape}, got {np.shape(seen.get(name))}")
        return Picture(seen["rgb"], seen["depth"], self._instance_ids(seen["ids"]))

    def _instance_ids(self, numbers: np.ndarray) -> np.ndarray:
        """Instance ids int32 for the server's numbers; 0 for those nobody gave out."""
        if self._instances is None:
            return numbers.astype(np.int32)
        return self._instances[np.where(numbers < len(self._instances), numbers, 0)]


def navmesh_settings(nav: NavSettings) -> dict[str, float]:
    """What Habitat is told about who walks; what is not named keeps Habitat's default.

    Source: Recast counts climbs in whole voxels, rounded down, and takes the square of region_min_size cells for the
    smallest area. So the voxels' height divides the climb, and is Habitat's own where that is a multiple of it.
    """
    levels = max(int(np.ceil(nav.climb_m / _CELL_HEIGHT_M - 1e-9)), 1)
    cell_height = nav.climb_m / levels if nav.climb_m else _CELL_HEIGHT_M
    if levels > 1:  # so that the quotient, rounded to float32, is not just below
        cell_height *= 1 - 1e-6
    return {
        "cell_size": nav.cell_m,
        "cell_height": cell_height,
        "agent_height": nav.height_m,
        "agent_radius": nav.radius_m,
        "agent_max_climb": nav.climb_m,
        "agent_max_slope": nav.slope_deg,
        "region_min_size": float(np.sqrt(nav.min_area_m2) / nav.cell_m),
    }


def _loaded(client: HabitatClient, scene: Path, settings: WorldSettings) -> list[np.ndarray]:
    """Opens the scene; triangles [T, 3, 3] of its walkable areas."""
    camera = settings.camera
    reply = client.load(
        scene=str(scene),
        width_px=camera.width_px,
        height_px=camera.height_px,
        hfov_deg=float(camera.hfov_deg),
        background=np.array(settings.background, np.float64),
        navmesh={name: float(value) for name, value in navmesh_settings(settings.nav).items()},
    )
    if not reply["walkable"]:
        raise ValueError(f"one cannot walk anywhere in {scene}; is its up axis right, and its unit metres?")
    return [points_from_habitat(triangles) for triangles in client.call("islands")["triangles"]]


def _annotated(client: HabitatClient) -> dict:
    """Objects of the scene's own annotation, as fields of a graph."""
    objects = tuple(
        SceneObject(
            item["category"],
            box_from_habitat(item["center"], item["half_extents"], item["rotation_wxyz"]),
            item["id"],
        )
        for item in client.call("objects")["objects"]
        if item["id"] > 0 and item["category"] not in STRUCTURE
    )
    return {"objects": objects, "counts": count_categories(objects)}
