"""The built-in world: any triangle mesh, seen by ray casting and walked on its floor. Needs no GPU and no Habitat."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sim.camera import CameraSettings, camera_pose, yaw_of
from sim.env import Action, FloorMap, MotionSettings, Move, Observation, TimeStep
from sim.episode import Episode
from sim.navmesh import GeodesicPath, NavMesh
from sim.world.annotation import label_by_box, label_by_name, plain_graph, read_annotations
from sim.world.mesh import Mesh, load_mesh
from sim.world.render import Picture, Renderer
from sim.world.sensor import SensorSettings, blurred, noisy
from sim.world.walkgrid import NavSettings
from vlm3r_core.config import setting
from vlm3r_core.scene.box import frozen_array
from vlm3r_core.scene.graph import SceneGraph
from vlm3r_core.scene.metadata import read_metadata
from vlm3r_core.types import Frame

# Frames with stamp 0 would look like "no frame yet".
_START_NS = 1_000_000_000
# How far, metres, an episode's start may be from where one can stand.
_START_BOX_M = (0.25, 0.25, 0.5)
# Continuous motion is cut into steps of at most this time, so that curves are curves.
_DRIVE_STEP_S = 0.05


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
        self._seed = 0
        self._now: TimeStep | None = None
        self._before: TimeStep | None = None
        self._seen: tuple[TimeStep, Observation] | None = None

    @property
    def scene_id(self) -> str:
        """Name of the scene."""
        return self._scene_id

    def reset(self, episode: Episode) -> TimeStep:
        """Puts the robot at an episode's start; see Env."""
        if episode.scene != self._scene_id:
            raise ValueError(f"episode {episode.id!r} is of scene {episode.scene!r}, this world is {self._scene_id!r}")
        feet = episode.T_WC_start[:3, 3] - [0.0, 0.0, self.settings.camera.height_m]
        start = self.navmesh.snap(feet, _START_BOX_M)
        if start is None:
            raise ValueError(
                f"episode {episode.id!r} starts at {np.round(feet, 2).tolist()}, where nobody can stand; "
                "take a start from sample_navigable"
            )
        self._seed = episode.seed
        self._before = None
        self._now = self._time_step(start, yaw_of(episode.T_WC_start), _START_NS)
        return self._now

    def step(self, action: Action) -> TimeStep:
        """Does one action; see Env."""
        now = self._running("step")
        if now.stopped:
            raise RuntimeError("the episode was stopped; reset before the next step")
        motion = self.settings.motion
        turn_rad = np.radians(motion.turn_deg)
        turn_s, forward_s = motion.turn_deg / motion.turn_speed_deg_s, motion.forward_m / motion.speed_m_s
        if action is Move.STOP:
            after = replace(now, stopped=True, collided=False)
        elif action is Move.FORWARD:
            after = self._moved(now, motion.forward_m, 0.0, forward_s)
        elif action in (Move.TURN_LEFT, Move.TURN_RIGHT):
            after = self._moved(now, 0.0, turn_rad if action is Move.TURN_LEFT else -turn_rad, turn_s)
        else:
            after = self._driven(now, action.linear_m_s, action.angular_rad_s, action.duration_s)
        self._before = now
        self._now = replace(after, steps=now.steps + 1, collisions=now.collisions + after.collided)
        return self._now

    def observe(self) -> Observation:
        """What the camera sees now; see Env."""
        now = self._running("observe")
        if self._seen is None or self._seen[0] is not now:
            self._seen = now, self._photographed(now)
        return self._seen[1]

    def view(self, T_WC: np.ndarray, stamp_ns: int = 0) -> Observation:
        """What a camera would see from a pose; see Env."""
        T_WC = frozen_array("view: T_WC", T_WC, (4, 4))
        return self._observation(self.render(T_WC), T_WC, stamp_ns)

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
        self._now = self._before = self._seen = None

    def render(self, T_WC: np.ndarray) -> Picture:
        """A clean picture from any pose [4, 4], with the robot's lens."""
        return self.renderer.render(self.camera, T_WC)

    def _running(self, what: str) -> TimeStep:
        if self._now is None:
            raise RuntimeError(f"{what} needs an episode; reset first")
        return self._now

    def _time_step(self, position: np.ndarray, yaw_rad: float, stamp_ns: int) -> TimeStep:
        yaw = float((yaw_rad + np.pi) % (2 * np.pi) - np.pi)
        return TimeStep(position, yaw, camera_pose(position, yaw, self.settings.camera), stamp_ns)

    def _moved(self, now: TimeStep, forward_m: float, turn_rad: float, duration_s: float) -> TimeStep:
        """A straight move along the heading, then a turn."""
        position, collided = now.position_m, False
        if forward_m:
            offset = forward_m * np.array([np.cos(now.yaw_rad), np.sin(now.yaw_rad)])
            position, collided = self.navmesh.move(now.position_m, offset, slide=self.settings.motion.slide)
        fresh = self._time_step(position, now.yaw_rad + turn_rad, now.stamp_ns + round(duration_s * 1e9))
        path_m = now.path_m + float(np.linalg.norm(position - now.position_m))
        return replace(fresh, collided=collided, path_m=path_m, steps=now.steps, collisions=now.collisions)

    def _driven(self, now: TimeStep, linear_m_s: float, angular_rad_s: float, duration_s: float) -> TimeStep:
        """A drive, along the middle heading of every short step."""
        count = int(np.ceil(duration_s / _DRIVE_STEP_S - 1e-9))
        part_s, collided, after = duration_s / count, False, now
        for _ in range(count):
            half = angular_rad_s * part_s / 2
            middle = replace(after, yaw_rad=after.yaw_rad + half)
            after = self._moved(middle, linear_m_s * part_s, half, part_s)
            collided |= after.collided
        return replace(after, collided=collided, stamp_ns=now.stamp_ns + round(duration_s * 1e9))

    def _photographed(self, now: TimeStep) -> Observation:
        picture = blurred(self.render, self._exposure(now))
        rng = np.random.default_rng((self._seed, now.steps))  # the same however often one looks
        picture = noisy(picture, self.settings.sensor, rng)
        return self._observation(picture, now.T_WC, now.stamp_ns)

    def _observation(self, picture: Picture, T_WC: np.ndarray, stamp_ns: int) -> Observation:
        K = self.camera.K
        frame = Frame(picture.rgb, stamp_ns, "camera_optical_frame", K)
        return Observation(frame, picture.depth_m, picture.ids, T_WC, K)

    def _exposure(self, now: TimeStep) -> list[np.ndarray]:
        """Camera poses while the shutter is open, the last one now."""
        before, sensor = self._before, self.settings.sensor
        if not sensor.exposure_s or before is None or before.stamp_ns == now.stamp_ns:
            return [now.T_WC]
        share = min(1.0, sensor.exposure_s * 1e9 / (now.stamp_ns - before.stamp_ns))
        turn = (now.yaw_rad - before.yaw_rad + np.pi) % (2 * np.pi) - np.pi
        poses = []
        for back in np.linspace(share, 0.0, sensor.blur_samples)[:-1]:
            position = now.position_m + back * (before.position_m - now.position_m)
            poses.append(camera_pose(position, now.yaw_rad - back * turn, self.settings.camera))
        return [*poses, now.T_WC]


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
