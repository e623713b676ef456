"""A robot with a camera: what actions do to it and what it sees. The world behind it is somebody else's.

It is the same in every world: motion in small steps, time stamps, exposure and noise are told here, once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from sim.camera import CameraSettings, camera_pose, wrapped, yaw_of
from sim.env import Action, MotionSettings, Move, Observation, TimeStep
from sim.episode import Episode
from sim.world.render import Picture
from sim.world.sensor import SensorSettings, blurred, noisy
from vlm3r_core.scene.box import frozen_array
from vlm3r_core.types import Frame

# Frames with stamp 0 would look like "no frame yet".
_START_NS = 1_000_000_000
# How far, metres, an episode's start may be from where one can stand.
_START_BOX_M = (0.25, 0.25, 0.5)
# Continuous motion is cut into steps of at most this time, so that curves are curves.
_DRIVE_STEP_S = 0.05


class World(Protocol):
    """What a robot needs around it. Points are its feet [3], metres, Z up."""

    def snap(self, point: np.ndarray, half_extents_m: tuple[float, float, float]) -> np.ndarray | None:
        """The nearest point in a box around one where it can stand, None where there is none."""

    def move(self, start: np.ndarray, offset_m: np.ndarray, *, slide: bool) -> tuple[np.ndarray, bool]:
        """Where a straight move by an offset [2] ends, and whether it fell short."""

    def render(self, T_WC: np.ndarray) -> Picture:
        """A clean picture from a pose [4, 4]."""


class Robot:
    """The robot of one world; its methods are those of Env.

    Args:
        scene_id: name of the scene.
        world: where it is.
        camera: its lens and place; motion: what actions do; sensor: how bad its pictures are.
    """

    def __init__(
        self, scene_id: str, world: World, camera: CameraSettings, motion: MotionSettings, sensor: SensorSettings
    ):
        self._scene_id, self._world = scene_id, world
        self._camera, self._motion, self._sensor = camera, motion, sensor
        self._seed = 0
        self._now: TimeStep | None = None
        self._before: TimeStep | None = None
        self._seen: tuple[TimeStep, Observation] | None = None

    def reset(self, episode: Episode) -> TimeStep:
        """Puts it at an episode's start; see Env."""
        if episode.scene != self._scene_id:
            raise ValueError(f"episode {episode.id!r} is of scene {episode.scene!r}, this world is {self._scene_id!r}")
        feet = episode.T_WC_start[:3, 3] - [0.0, 0.0, self._camera.height_m]
        start = self._world.snap(feet, _START_BOX_M)
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
        motion = self._motion
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
        """What its camera sees now; see Env."""
        now = self._running("observe")
        if self._seen is None or self._seen[0] is not now:
            picture = blurred(self._world.render, self._exposure(now))
            rng = np.random.default_rng((self._seed, now.steps))  # the same however often one looks
            picture = noisy(picture, self._sensor, rng)
            self._seen = now, self._observation(picture, now.T_WC, now.stamp_ns)
        return self._seen[1]

    def view(self, T_WC: np.ndarray, stamp_ns: int = 0) -> Observation:
        """What its camera would see from a pose; see Env."""
        T_WC = frozen_array("view: T_WC", T_WC, (4, 4))
        return self._observation(self._world.render(T_WC), T_WC, stamp_ns)

    def forget(self) -> None:
        """Ends the episode."""
        self._now = self._before = self._seen = None

    def _running(self, what: str) -> TimeStep:
        if self._now is None:
            raise RuntimeError(f"{what} needs an episode; reset first")
        return self._now

    def _time_step(self, position: np.ndarray, yaw_rad: float, stamp_ns: int) -> TimeStep:
        yaw = wrapped(yaw_rad)
        return TimeStep(position, yaw, camera_pose(position, yaw, self._camera), stamp_ns)

    def _moved(self, now: TimeStep, forward_m: float, turn_rad: float, duration_s: float) -> TimeStep:
        """A straight move along the heading, then a turn."""
        position, collided = now.position_m, False
        if forward_m:
            offset = forward_m * np.array([np.cos(now.yaw_rad), np.sin(now.yaw_rad)])
            position, collided = self._world.move(now.position_m, offset, slide=self._motion.slide)
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

    def _observation(self, picture: Picture, T_WC: np.ndarray, stamp_ns: int) -> Observation:
        K = self._camera.pinhole.K
        frame = Frame(picture.rgb, stamp_ns, "camera_optical_frame", K)
        return Observation(frame, picture.depth_m, picture.ids, T_WC, K)

    def _exposure(self, now: TimeStep) -> list[np.ndarray]:
        """Camera poses while the shutter is open, the last one now."""
        before, sensor = self._before, self._sensor
        if not sensor.exposure_s or before is None or before.stamp_ns == now.stamp_ns:
            return [now.T_WC]
        share = min(1.0, sensor.exposure_s * 1e9 / (now.stamp_ns - before.stamp_ns))
        turn = wrapped(now.yaw_rad - before.yaw_rad)
        poses = []
        for back in np.linspace(share, 0.0, sensor.blur_samples)[:-1]:
            position = now.position_m + back * (before.position_m - now.position_m)
            poses.append(camera_pose(position, now.yaw_rad - back * turn, self._camera))
        return [*poses, now.T_WC]
