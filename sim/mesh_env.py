"""The built-in world: any triangle mesh, seen by ray casting and walked on its floor. Needs no GPU and no Habitat."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sim.camera import CameraSettings
from sim.env import Action, FloorMap, MotionSettings, Observation, TimeStep
from sim.episode import Episode
from sim.navmesh import SNAP_BOX_M, GeodesicPath, NavMesh
from sim.robot import Robot
from sim.world.annotation import label_by_box, label_by_name, plain_graph, read_annotations
from sim.world.mesh import Mesh, load_mesh
from sim.world.render import Picture, Renderer
from sim.world.sensor import SensorSettings
from sim.world.walkgrid import NavSettings
from vlm3r_core.config import setting
from vlm3r_core.scene.graph import SceneGraph
from vlm3r_core.scene.metadata import read_metadata


@dataclass(frozen=True)
class WorldSettings:
    """Everything about the built-in world but its mesh."""

    camera: CameraSettings = field(default_factory=CameraSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    nav: NavSettings = field(default_factory=NavSettings)
    sensor: SensorSettings = field(default_factory=SensorSettings)
    lighting: str = setting("simple", "`simple` shades surfaces, `none` shows bare colours", choices=("simple", "none"))
    background: tuple[int, int, int] = (0, 0, 0)  # RGB where nothing is hit


class MeshEnv:
    """An Env over a mesh.

    Args:
        scene_id: name of the scene.
        mesh: its triangles.
        id_of_face: int [T], instance id of every triangle, 0 for none.
        graph: the truth about it; its room size is measured where it is 0.
        settings: camera, motion, who walks, and looks.

    Raises:
        ValueError: one cannot walk anywhere in the mesh.
    """

    def __init__(
        self,
        scene_id: str,
        mesh: Mesh,
        id_of_face: np.ndarray,
        graph: SceneGraph,
        settings: WorldSettings | None = None,
    ):
        self._scene_id = scene_id
        self.settings = settings or WorldSettings()
        self.camera = self.settings.camera.pinhole
        self.renderer = Renderer(mesh, id_of_face, self.settings.lighting, self.settings.background)
        self.navmesh = NavMesh(mesh.triangles_m(), self.settings.nav)
        self._graph = graph if graph.room_size_m2 else replace(graph, room_size_m2=self.navmesh.footprint_m2)
        chosen = self.settings
        self._robot = Robot(scene_id, self, chosen.camera, chosen.motion, chosen.sensor)

    @property
    def scene_id(self) -> str:
        """Name of the scene."""
        return self._scene_id

    def reset(self, episode: Episode) -> TimeStep:
        """Puts the robot at an episode's start; see Env."""
        return self._robot.reset(episode)

    def step(self, action: Action) -> TimeStep:
        """Does one action; see Env."""
        return self._robot.step(action)

    def observe(self) -> Observation:
        """What the camera sees now; see Env."""
        return self._robot.observe()

    def view(self, T_WC: np.ndarray, stamp_ns: int = 0) -> Observation:
        """What a camera would see from a pose; see Env."""
        return self._robot.view(T_WC, stamp_ns)

    def floor_map(self) -> FloorMap:
        """The area sample_navigable draws from, seen from above; see Env."""
        grid = self.navmesh.grid
        free = np.zeros(grid.shape, bool)
        cells = grid.xy[grid.island == self.navmesh.main_island]
        free[cells[:, 0], cells[:, 1]] = True
        return FloorMap(free, grid.origin_m, grid.cell_m)

    def shortest_path(self, start: np.ndarray, goal: np.ndarray) -> GeodesicPath:
        """The shortest walkable path; see Env."""
        return self.navmesh.shortest_path(start, goal)

    def is_navigable(self, point: np.ndarray) -> bool:
        """Whether the robot could stand there."""
        return self.navmesh.is_navigable(point)

    def sample_navigable(self, rng: np.random.Generator) -> np.ndarray:
        """A random point of the largest indoor area."""
        return self.navmesh.sample(rng)

    def scene_graph(self) -> SceneGraph:
        """The truth about the scene."""
        return self._graph

    def close(self) -> None:
        """Forgets the robot; the mesh goes with the object."""
        self._robot.forget()

    def render(self, T_WC: np.ndarray) -> Picture:
        """A clean picture from any pose [4, 4], with the robot's lens."""
        return self.renderer.render(self.camera, T_WC)

    def snap(self, point: np.ndarray, half_extents_m: tuple[float, float, float] = SNAP_BOX_M) -> np.ndarray | None:
        """The nearest point [3] in a box around one where the robot can stand, None where there is none."""
        return self.navmesh.snap(point, half_extents_m)

    def move(self, start: np.ndarray, offset_m: np.ndarray, *, slide: bool = True) -> tuple[np.ndarray, bool]:
        """Where a straight move by an offset [2] ends [3], and whether it fell short."""
        return self.navmesh.move(start, offset_m, slide=slide)


def open_world(
    mesh_path: Path | str,
    annotation_path: Path | str | None = None,
    settings: WorldSettings | None = None,
    *,
    scene_id: str = "",
    up: str = "auto",
) -> MeshEnv:
    """Loads a mesh with what is known about it.

    Args:
        mesh_path: .glb, .gltf, .ply or .obj.
        annotation_path: a JSON list of named objects (see read_annotations), or a scene metadata file with an entry
            for this scene, whose boxes then name the triangles in them; None for a mesh without objects.
        settings: camera, motion, who walks, and looks.
        scene_id: name of the scene, the mesh file's name without its ending by default.
        up: which axis of the mesh file points up, see load_mesh.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is malformed, does not know the scene, or one cannot walk anywhere in the mesh.
    """
    mesh, scene_id = load_mesh(mesh_path, up), scene_id or Path(mesh_path).stem
    ids, graph = label_mesh(mesh, annotation_path, scene_id)
    return MeshEnv(scene_id, mesh, ids, graph, settings)


def label_mesh(mesh: Mesh, annotation_path: Path | str | None, scene_id: str) -> tuple[np.ndarray, SceneGraph]:
    """What is known about a mesh: the instance id of every triangle int32 [T], 0 for none, and the scene graph.

    Args:
        mesh: the triangles.
        annotation_path: see open_world.
        scene_id: name of the scene.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is malformed or does not know the scene.
    """
    if annotation_path is None:
        return np.zeros(len(mesh.faces), np.int32), plain_graph(scene_id, (), 0.0, mesh)
    if Path(annotation_path).read_bytes().lstrip().startswith(b"{"):
        graphs = read_metadata(annotation_path)
        if scene_id not in graphs:
            known = ", ".join(list(graphs)[:5]) or "none"
            raise ValueError(f"{annotation_path} has no scene {scene_id!r}; it has {known}")
        return label_by_box(mesh, graphs[scene_id])
    ids, objects = label_by_name(mesh, read_annotations(annotation_path))
    return ids, plain_graph(scene_id, objects, 0.0, mesh)
