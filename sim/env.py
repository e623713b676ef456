"""The door behind which every world stands: what an agent can do in it and what it sees. No world of its own.

World: metres, Z up, right-handed. Camera: x right, y down, z forward. Worlds with other axes convert at their edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from sim.episode import Episode
from sim.navmesh import GeodesicPath
from vlm3r_core.config import check_range, check_settings, setting
from vlm3r_core.scene.graph import SceneGraph
from vlm3r_core.types import Frame

TURNS_DEG = (10, 15, 30)


class Move(StrEnum):
    """Discrete actions; how far and how fast is said by MotionSettings."""

    FORWARD = "FORWARD"
    TURN_LEFT = "TURN_LEFT"
    TURN_RIGHT = "TURN_RIGHT"
    STOP = "STOP"


@dataclass(frozen=True)
class Velocity:
    """A continuous action: drive at a speed for a while.

    Args:
        linear_m_s: along the heading, negative backwards.
        angular_rad_s: left positive.
        duration_s: in 0..10, above 0.
    """

    linear_m_s: float
    angular_rad_s: float
    duration_s: float = 0.1

    def __post_init__(self):
        check_range("Velocity.linear_m_s", self.linear_m_s, -10.0, 10.0)
        check_range("Velocity.angular_rad_s", self.angular_rad_s, -20.0, 20.0)
        check_range("Velocity.duration_s", self.duration_s, 1e-3, 10.0)


Action = Move | Velocity


@dataclass(frozen=True)
class MotionSettings:
    """What the discrete actions do."""

    forward_m: float = setting(0.25, "length of a step forward, metres", span=(0.01, 5.0))
    turn_deg: int = setting(10, "angle of a turn, degrees: 10, 15 or 30")
    speed_m_s: float = setting(0.5, "speed of a step, for time stamps, metres a second", span=(0.01, 10.0))
    turn_speed_deg_s: float = setting(45.0, "speed of a turn, for time stamps, degrees a second", span=(1.0, 720.0))
    slide: bool = setting(True, "slide along what is in the way instead of stopping at it")

    def __post_init__(self):
        check_settings(self)
        if self.turn_deg not in TURNS_DEG:
            raise ValueError(f"MotionSettings.turn_deg must be one of 10, 15, 30, got {self.turn_deg}")


@dataclass(frozen=True, eq=False)
class Observation:
    """What the sensors give at one moment.

    Args:
        frame: the camera image with its stamp and intrinsics.
        depth_m: float32 [H, W], planar depth, 0 where nothing was hit.
        semantic_ids: int32 [H, W], instance ids of the scene graph, 0 for none; walls and floors may have ids too.
        T_WC: [4, 4] world from camera, metres.
        K: [3, 3] intrinsics, pixels.
    """

    frame: Frame
    depth_m: np.ndarray
    semantic_ids: np.ndarray
    T_WC: np.ndarray
    K: np.ndarray


@dataclass(frozen=True, eq=False)
class TimeStep:
    """Where the robot is after an action. Pictures cost more: ask observe() for them.

    Args:
        position_m: [3], its feet.
        yaw_rad: heading about +Z, 0 along +X, left positive.
        T_WC: [4, 4] its camera.
        stamp_ns: simulated time, one second at the start of an episode.
        collided: whether the last action fell short.
        stopped: whether the last action was STOP.
        steps: actions so far; path_m metres so far; collisions so far.
    """

    position_m: np.ndarray
    yaw_rad: float
    T_WC: np.ndarray
    stamp_ns: int
    collided: bool = False
    stopped: bool = False
    steps: int = 0
    path_m: float = 0.0
    collisions: int = 0


@dataclass(frozen=True, eq=False)
class FloorMap:
    """Where one can stand, seen from above.

    Args:
        free: bool [X, Y], cell (i, j) covers x and y from origin_m + (i, j) * cell_m.
        origin_m: [2], lowest corner.
        cell_m: edge of a cell, metres.
    """

    free: np.ndarray
    origin_m: np.ndarray
    cell_m: float


class Env(Protocol):
    """A world with one robot in it. Points are the robot's feet [3]."""

    @property
    def scene_id(self) -> str:
        """Name of the scene."""

    def reset(self, episode: Episode) -> TimeStep:
        """Puts the robot at an episode's start.

        Raises:
            ValueError: the episode is of another scene, or one cannot stand at its start.
        """

    def step(self, action: Action) -> TimeStep:
        """Does one action.

        Raises:
            RuntimeError: before the first reset, or after STOP.
        """

    def observe(self) -> Observation:
        """What the sensors see now; the same moment gives the same picture.

        Raises:
            RuntimeError: before the first reset.
        """

    def view(self, T_WC: np.ndarray, stamp_ns: int = 0) -> Observation:
        """What a camera with the robot's lens would see from a pose [4, 4], free of sensor noise; the robot stays.

        Raises:
            ValueError: the pose is no finite 4x4 matrix.
        """

    def floor_map(self) -> FloorMap:
        """The area sample_navigable draws from, seen from above."""

    def shortest_path(self, start: np.ndarray, goal: np.ndarray) -> GeodesicPath:
        """The shortest walkable path between two points, snapped to the walkable area."""

    def is_navigable(self, point: np.ndarray) -> bool:
        """Whether the robot could stand there."""

    def sample_navigable(self, rng: np.random.Generator) -> np.ndarray:
        """A random point the robot can stand at and walk from."""

    def scene_graph(self) -> SceneGraph:
        """The truth about the scene."""

    def close(self) -> None:
        """Gives back what the world holds; it is not used afterwards."""
