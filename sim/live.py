"""A world that goes on: holds a velocity, obeys commands, plays a walk; its time never goes back. Knows no ROS."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from sim.camera import CameraSettings, camera_pose
from sim.env import Env, MotionSettings, Move, Observation, TimeStep, Velocity
from sim.episode import Episode
from sim.mesh_env import WorldSettings
from sim.walks import WalkSettings, make_walk
from vlm3r_core.config import check_choice, check_settings, setting

MAX_WAITING_MOVES = 100
# where one might turn on the spot, tried
_PLACES = 40
COMMANDS = tuple(move.value for move in Move)


@dataclass(frozen=True)
class LiveSettings:
    """Which world, what the robot is like, and how its time passes."""

    world: str = setting("flat:0", "flat:SEED, room:SEED, a mesh file, a folder with one, or habitat:FILE")
    seed: int = setting(0, "of the robot's first place, its walk and sensor noise", span=(0, 2**31 - 1))
    fps: float = setting(10.0, "pictures a second of simulated time", span=(0.1, 1000.0))
    width_px: int = setting(224, "picture width, pixels", span=(1, 8192))
    height_px: int = setting(224, "picture height, pixels", span=(1, 8192))
    hfov_deg: float = setting(90.0, "horizontal field of view, degrees", span=(1.0, 170.0))
    camera_height_m: float = setting(1.5, "of the camera above the floor, metres", span=(0.0, 10.0))
    pitch_deg: float = setting(0.0, "tilt of the camera, degrees, up is positive", span=(-60.0, 60.0))
    turn_deg: int = setting(30, "angle of TURN_LEFT and TURN_RIGHT, degrees: 10, 15 or 30", span=(10, 30))
    hold_s: float = setting(0.5, "simulated seconds a velocity holds without a new one", span=(0.01, 3600.0))
    walk_frames: int = setting(0, "pictures of a look-around walk shown first; 0: no walk", span=(0, 100_000))
    spin_deg: float = setting(
        0.0, "turn from one of these pictures to the next, on the spot; 0: they are of a walk with stops", span=(0, 180)
    )

    def __post_init__(self):
        check_settings(self)

    @property
    def camera(self) -> CameraSettings:
        """The robot's camera."""
        return CameraSettings(self.width_px, self.height_px, self.hfov_deg, self.camera_height_m, self.pitch_deg)

    @property
    def world_settings(self) -> WorldSettings:
        """What open_env needs to know."""
        return WorldSettings(camera=self.camera, motion=MotionSettings(turn_deg=self.turn_deg))


@dataclass(frozen=True, eq=False)
class Moment:
    """Where the camera is at one time.

    Args:
        T_WC: [4, 4] world from camera.
        stamp_ns: simulated time.
        moved: whether the picture may differ from the one before.
        move: the discrete command that led here, None for anything else.
        collided: whether it fell short.
    """

    T_WC: np.ndarray
    stamp_ns: int
    moved: bool = True
    move: Move | None = None
    collided: bool = False


class LiveWorld:
    """A world with a robot that is driven from outside.

    Args:
        env: the world; its camera must be settings.camera.
        settings: see there.
    """

    def __init__(self, env: Env, settings: LiveSettings):
        self.env, self.settings = env, settings
        self._moves: deque[Move] = deque()
        self._walk: deque[tuple[np.ndarray, int]] = deque()
        self._velocity, self._hold_until_ns = (0.0, 0.0), 0
        self._shift_ns = 0
        self._placed = False
        self._now: Moment | None = None
        self.reset()

    @property
    def now(self) -> Moment:
        """The present."""
        return self._now

    @property
    def walking(self) -> bool:
        """Whether a walk is being shown."""
        return bool(self._walk)

    def reset(self) -> None:
        """Puts the robot where it began; whatever it was doing ends, time goes on."""
        rng = np.random.default_rng((self.settings.seed, 0))
        feet = self.env.sample_navigable(rng)
        self._walk.clear()
        self._place(camera_pose(feet, rng.uniform(-np.pi, np.pi), self.settings.camera))

    def play(self, T_WC: np.ndarray, stamps_ns: np.ndarray) -> None:
        """Shows a walk from now on, then lets the robot stand at its end.

        Args:
            T_WC: [N, 4, 4] camera poses, the last one where the robot can stand.
            stamps_ns: [N], increasing; only their differences count.
        """
        self.halt()
        self._placed = False
        begin_ns = self._now.stamp_ns + round(1e9 / self.settings.fps) - int(stamps_ns[0])
        self._walk.extend((pose, begin_ns + int(stamp)) for pose, stamp in zip(T_WC, stamps_ns, strict=True))

    def drive(self, linear_m_s: float, angular_rad_s: float) -> None:
        """Holds a velocity from now on for hold_s; commands that wait are dropped.

        Raises:
            ValueError: a speed is out of range or not a number; the robot stops.
        """
        self.halt()
        Velocity(linear_m_s, angular_rad_s)
        self._velocity = float(linear_m_s), float(angular_rad_s)
        self._hold_until_ns = self._now.stamp_ns + round(self.settings.hold_s * 1e9)

    def command(self, word: str) -> None:
        """Queues a discrete action after those that wait; STOP drops them and stops at once.

        Raises:
            ValueError: an unknown word, or too many wait.
        """
        check_choice("command", word, COMMANDS)
        self._velocity = 0.0, 0.0
        if word == Move.STOP:
            self._moves.clear()
        elif len(self._moves) >= MAX_WAITING_MOVES:
            raise ValueError(f"at most {MAX_WAITING_MOVES} commands may wait, {word} was not taken; send it later")
        else:
            self._moves.append(Move(word))

    def halt(self) -> None:
        """Stops the robot and forgets commands that wait; a walk goes on."""
        self._velocity = 0.0, 0.0
        self._moves.clear()

    def advance(self) -> Moment:
        """Lets time pass up to the next picture: 1 / fps, or as long as a command or a step of the walk takes."""
        if self._walk:
            pose, stamp_ns = self._walk.popleft()
            if self._walk:
                self._now = Moment(pose, stamp_ns)
            else:
                self._now = Moment(self._now.T_WC, stamp_ns)
                self._place(pose)
                self._placed = False
        elif self._moves:
            move = self._moves.popleft()
            self._now = self._moment(self.env.step(move), True, move)
        else:
            speeds = self._velocity if self._now.stamp_ns < self._hold_until_ns else (0.0, 0.0)
            step = self.env.step(Velocity(*speeds, 1 / self.settings.fps))
            self._now = self._moment(step, self._placed or any(speeds), None)
            self._placed = False
        return self._now

    def look(self) -> Observation:
        """The picture of the present; its stamp is the world's own, now.stamp_ns counts."""
        return self.env.view(self._now.T_WC) if self._walk else self.env.observe()

    def _place(self, T_WC: np.ndarray) -> None:
        """Starts the world's episode at a pose; the world's clock starts anew, ours does not."""
        self.halt()
        episode = Episode("live", "find", self.env.scene_id, self.settings.seed, T_WC)
        step = self.env.reset(episode)
        self._shift_ns = (self._now.stamp_ns if self._now else step.stamp_ns) - step.stamp_ns
        self._now, self._placed = self._moment(step, True, None), True

    def _moment(self, step: TimeStep, moved: bool, move: Move | None) -> Moment:
        return Moment(step.T_WC, step.stamp_ns + self._shift_ns, moved, move, step.collided)


def look_around(env: Env, settings: LiveSettings) -> tuple[np.ndarray, np.ndarray]:
    """A walk with looks around at its stops, thinned to settings.walk_frames poses; or one look around on the spot.

    Returns:
        T_WC [N, 4, 4] and stamps_ns [N] for LiveWorld.play.
    """
    if settings.spin_deg:
        return _spin(env, settings)
    asked = WalkSettings(height_m=settings.camera_height_m, pitch_deg=settings.pitch_deg, fps=settings.fps)
    walk = make_walk(env, np.random.default_rng((settings.seed, 1)), asked)
    kept = np.unique(np.linspace(0, len(walk) - 1, settings.walk_frames).round().astype(int))
    return walk.T_WC[kept], walk.stamps_ns[kept]


def _spin(env: Env, settings: LiveSettings) -> tuple[np.ndarray, np.ndarray]:
    """A turn to the left in the place that of some has most room around."""
    rng, plan = np.random.default_rng((settings.seed, 1)), env.floor_map()
    room_m = distance_transform_edt(np.pad(plan.free, 1))[1:-1, 1:-1] * plan.cell_m
    places = [env.sample_navigable(rng) for _ in range(_PLACES)]
    cells = np.floor((np.array(places)[:, :2] - plan.origin_m) / plan.cell_m).astype(int)
    cells = np.clip(cells, 0, np.array(room_m.shape) - 1)
    feet = places[int(np.argmax(room_m[cells[:, 0], cells[:, 1]]))]
    yaws = rng.uniform(-np.pi, np.pi) + np.radians(settings.spin_deg) * np.arange(settings.walk_frames)
    stamps_ns = np.arange(settings.walk_frames, dtype=np.int64) * round(1e9 / settings.fps)
    return np.stack([camera_pose(feet, float(yaw), settings.camera) for yaw in yaws]), stamps_ns
