"""Camera paths through a world, as a person or a robot looking around would make. Takes no pictures to keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from sim.camera import CameraSettings, camera_pose, wrapped
from sim.env import Env
from sim.walking.band import FINE_M, Band
from sim.walking.lookouts import choose_lookouts, distances_between, short_order
from vlm3r_core.config import check_settings, setting
from vlm3r_core.scene.box import frozen_array

# Frames with stamp 0 would look like "no frame yet".
_START_NS = 1_000_000_000
_TURN = 2 * np.pi
# Over which part of the way the direction of travel is averaged, metres.
_HEADING_M = 0.4
# A direction of travel is that between the points so many before and after.
_BEND_POINTS = 5
# A turn eased in and out is faster in its middle than on average.
_EASE = np.pi / 2
# The steepest slope of a cubed sine, which unlike a sine starts and ends gently.
_CUBED = 2 / np.sqrt(3)
_NEAR_M = 0.05
_DRAWS = 8


@dataclass(frozen=True)
class WalkSettings:
    """How one walks and looks around."""

    height_m: float = setting(1.5, "height of the camera above the feet, metres: a person's", span=(0.05, 3.0))
    pitch_deg: float = setting(0.0, "tilt of the camera, degrees, up is positive", span=(-60.0, 60.0))
    fps: float = setting(10.0, "poses a second", span=(0.1, 240.0))
    speed_m_s: float = setting(0.8, "highest speed, metres a second", span=(0.05, 5.0))
    acceleration_m_s2: float = setting(1.0, "how hard one starts, stops and rounds corners", span=(0.1, 20.0))
    turn_speed_deg_s: float = setting(60.0, "highest turn speed, degrees a second", span=(5.0, 360.0))
    sweep_deg: float = setting(360.0, "how far one looks around at a stop, 360 all around", span=(0.0, 360.0))
    glance_deg: float = setting(15.0, "how far one looks left and right of the way while walking", span=(0.0, 90.0))
    glance_s: float = setting(4.0, "time of a glance left, right and ahead again", span=(0.5, 60.0))
    margin_m: float = setting(0.2, "distance kept to what blocks the way, beyond the radius", span=(0.05, 2.0))
    stops: int = setting(4, "stops of a random walk besides its start", span=(0, 100))
    cover: bool = setting(False, "choose the stops so that most of the floor and the objects come into view")
    cover_share: float = setting(0.95, "how much of them, of what can be seen at all", span=(0.0, 1.0))
    cover_candidates: int = setting(40, "places tried as stops", span=(1, 1000))
    max_duration_s: float = setting(180.0, "own stops beyond this are left out", span=(1.0, 3600.0))

    def __post_init__(self):
        check_settings(self)
        if self.glance_rad_s >= np.radians(self.turn_speed_deg_s):
            raise ValueError(
                f"WalkSettings: glances of {self.glance_deg} degrees in {self.glance_s} s turn by "
                f"{np.degrees(self.glance_rad_s):.0f} degrees a second, turn_speed_deg_s is {self.turn_speed_deg_s}; "
                "lower glance_deg or raise glance_s"
            )

    @property
    def glance_rad_s(self) -> float:
        """Highest turn speed of glances."""
        return float(np.radians(self.glance_deg) * _TURN / self.glance_s * _CUBED)

    @property
    def camera(self) -> CameraSettings:
        """Height and tilt; a walk does not use the lens."""
        return CameraSettings(height_m=self.height_m, pitch_deg=self.pitch_deg)


@dataclass(frozen=True, eq=False)
class Walk:
    """Where the camera is, moment by moment.

    Args:
        T_WC: [N, 4, 4] world from camera, metres.
        stamps_ns: int64 [N], growing, the first one second.
    """

    T_WC: np.ndarray
    stamps_ns: np.ndarray

    def __post_init__(self):
        object.__setattr__(self, "T_WC", frozen_array("Walk.T_WC", self.T_WC, (len(self.stamps_ns), 4, 4)))

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def duration_s(self) -> float:
        """From the first pose to the last."""
        return float(self.stamps_ns[-1] - self.stamps_ns[0]) / 1e9


def make_walk(
    env: Env,
    rng: np.random.Generator,
    settings: WalkSettings | None = None,
    *,
    start: np.ndarray | None = None,
    via: Sequence[np.ndarray] = (),
) -> Walk:
    """A walk from a start over stops, with a look around at each and corners rounded in between.

    Args:
        env: the world; the robot in it stays where it is.
        rng: draws what is not given; the same state gives the same walk.
        settings: how one walks.
        start: [3] feet, near where one can stand; drawn where it is not given.
        via: [3] each, the stops in order; with none, settings say how many are drawn, or, to cover the scene, where
            they are. Covering stops follow the given ones.

    Raises:
        ValueError: one cannot stand near the start, or cannot walk to a stop.
    """
    settings = settings or WalkSettings()
    band = Band(env, settings.margin_m)
    here = env.sample_navigable(rng) if start is None else _snapped(env, start, "start")
    pace = _Pace(settings, band.inside(here))
    for index, stop in enumerate(via):
        pace.walk(_leg(env, band, pace.feet, np.asarray(stop, np.float64), f"via[{index}]"), rng)
    given_s = pace.seconds
    if settings.cover:
        stops = _covering(env, rng, pace.feet, settings)
    else:
        stops = () if len(via) else _wandering(env, rng, pace.feet, settings)
    for stop in stops:
        leg = _leg(env, band, pace.feet, stop, "stop")
        if pace.seconds - given_s + pace.estimate_s(leg) > settings.max_duration_s:
            break
        pace.walk(leg, rng)
    pace.look_around(rng)
    return pace.sampled()


class _Pace:
    """Time, position and heading of a walk so far, as nodes with straight lines between them."""

    def __init__(self, settings: WalkSettings, feet: np.ndarray):
        self._settings = settings
        self._turn_rad_s = float(np.radians(settings.turn_speed_deg_s))
        self._times, self._feet, self._yaws = [np.zeros(1)], [feet[None]], [np.array([np.nan])]
        self.seconds = 0.0

    @property
    def feet(self) -> np.ndarray:
        """Where the walk is now [3]."""
        return self._feet[-1][-1]

    def estimate_s(self, leg: np.ndarray) -> float:
        """Seconds a leg with the looks at both of its ends would take, about."""
        looks_s = 2 * _EASE * np.radians(self._settings.sweep_deg) / self._turn_rad_s
        return looks_s + len(leg) * FINE_M / self._settings.speed_m_s

    def look_around(self, rng: np.random.Generator, toward_rad: float | None = None) -> None:
        """Turns on the spot through the sweep, then to a heading."""
        if np.isnan(self._yaws[-1][-1]):  # the very first look
            self._yaws[0][:] = rng.uniform(-np.pi, np.pi) if toward_rad is None else toward_rad
        yaw, sweep = self._yaws[-1][-1], np.radians(self._settings.sweep_deg)
        after = 0.0 if toward_rad is None else wrapped(toward_rad - yaw)
        side = np.sign(after) or rng.choice([-1.0, 1.0])
        if sweep >= _TURN - 1e-9:
            self._turn_to(yaw + side * _TURN + after)
            return
        if sweep:
            self._turn_to(yaw - side * sweep / 2)
            self._turn_to(yaw + side * sweep / 2)
        self._turn_to(yaw + after)

    def walk(self, leg: np.ndarray, rng: np.random.Generator) -> None:
        """Looks around, then goes along a fine path [M, 3]; too short a way is not gone."""
        lengths = np.linalg.norm(np.diff(leg, axis=0), axis=1)
        if lengths.sum() < _NEAR_M:
            return
        ways = _directions(leg)
        headings = _averaged(ways)
        self.look_around(rng, headings[0])
        headings += _TURN * round((self._yaws[-1][-1] - headings[0]) / _TURN)
        times = self._times_along(lengths, np.abs(np.diff(ways)), np.abs(np.diff(headings)))
        glances = int(times[-1] / self._settings.glance_s)  # whole ones, so that each leg begins and ends looking ahead
        side = rng.choice([-1.0, 1.0])
        sway = np.sin(glances * _TURN * times / times[-1]) ** 3 * side * np.radians(self._settings.glance_deg)
        self._append(times, leg, headings + sway)

    def sampled(self) -> Walk:
        """Poses at the asked rate."""
        times, feet, yaws = (np.concatenate(parts) for parts in (self._times, self._feet, self._yaws))
        at = np.arange(int(self.seconds * self._settings.fps + 1e-9) + 1) / self._settings.fps
        yaws = np.interp(at, times, yaws)
        feet = np.column_stack([np.interp(at, times, values) for values in feet.T])
        camera = self._settings.camera
        poses = np.stack([camera_pose(point, float(yaw), camera) for point, yaw in zip(feet, yaws, strict=True)])
        return Walk(poses, _START_NS + np.round(at * 1e9).astype(np.int64))

    def _turn_to(self, yaw_rad: float) -> None:
        """Turns on the spot, eased in and out."""
        now = self._yaws[-1][-1]
        angle = yaw_rad - now
        if not angle:
            return
        share = np.linspace(0.0, 1.0, 65)
        times = share * _EASE * abs(angle) / self._turn_rad_s
        self._append(times, np.repeat(self.feet[None], 65, axis=0), now + angle * (1 - np.cos(np.pi * share)) / 2)

    def _append(self, times: np.ndarray, feet: np.ndarray, yaws: np.ndarray) -> None:
        self._times.append(self.seconds + times[1:])
        self._feet.append(feet[1:])
        self._yaws.append(yaws[1:])
        self.seconds += float(times[-1])

    def _times_along(self, lengths: np.ndarray, bends: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """When each point of a path is reached: starting and stopping gently, slower where way or heading bend."""
        settings = self._settings
        following_rad_s = self._turn_rad_s - settings.glance_rad_s  # glances may turn the same way
        with np.errstate(divide="ignore"):
            by_turn = np.where(turns > 0, following_rad_s * lengths / turns, np.inf)
            by_bend = np.where(bends > 0, np.sqrt(settings.acceleration_m_s2 * lengths / bends), np.inf)
        allowed = np.minimum(np.minimum(by_turn, by_bend), settings.speed_m_s)
        highest = np.minimum(np.r_[0.0, allowed], np.r_[allowed, 0.0])
        gain = 2 * settings.acceleration_m_s2 * lengths
        for index in range(len(lengths)):
            highest[index + 1] = min(highest[index + 1], np.sqrt(highest[index] ** 2 + gain[index]))
        for index in range(len(lengths) - 1, -1, -1):
            highest[index] = min(highest[index], np.sqrt(highest[index + 1] ** 2 + gain[index]))
        times = 2 * lengths / (highest[:-1] + highest[1:])
        return np.r_[0.0, np.cumsum(np.maximum(times, turns / following_rad_s))]


def _directions(leg: np.ndarray) -> np.ndarray:
    """Unwrapped directions of travel [M], radians, along a fine path."""
    reach = max(1, min(_BEND_POINTS, len(leg) // 2))
    ahead = np.minimum(np.arange(len(leg)) + reach, len(leg) - 1)
    back = np.maximum(np.arange(len(leg)) - reach, 0)
    along = (leg[ahead] - leg[back])[:, :2]
    return np.unwrap(np.arctan2(along[:, 1], along[:, 0]))


def _averaged(angles: np.ndarray) -> np.ndarray:
    """Where one looks: the directions around, so that one looks into a bend before it comes."""
    window = 1 + int(_HEADING_M / FINE_M)
    return uniform_filter1d(uniform_filter1d(angles, window, mode="nearest"), window, mode="nearest")


def _snapped(env: Env, point: np.ndarray, what: str) -> np.ndarray:
    path = env.shortest_path(np.asarray(point, np.float64), np.asarray(point, np.float64))
    if not path.found:
        raise ValueError(
            f"{what} {np.round(point, 2).tolist()} is not near where one can stand in scene {env.scene_id!r}; "
            "take a point from sample_navigable"
        )
    return path.points[0]


def _leg(env: Env, band: Band, here: np.ndarray, stop: np.ndarray, what: str) -> np.ndarray:
    path = env.shortest_path(here, _snapped(env, stop, what))
    if not path.found:
        raise ValueError(
            f"{what} {np.round(stop, 2).tolist()} cannot be reached from {np.round(here, 2).tolist()} "
            f"in scene {env.scene_id!r}: no walkable way joins them; choose points of one connected area"
        )
    return band.rounded(np.vstack([here, path.points[1:-1], band.inside(path.points[-1])]))


def _wandering(env: Env, rng: np.random.Generator, here: np.ndarray, settings: WalkSettings) -> Iterator[np.ndarray]:
    """Random stops, each the farthest of a few draws from the one before, so that small steps are rare."""
    for _ in range(settings.stops):
        draws = [env.sample_navigable(rng) for _ in range(_DRAWS)]
        reached = [(path.distance_m, point) for point in draws if (path := env.shortest_path(point, here)).found]
        if not reached:
            return
        here = max(reached, key=lambda item: item[0])[1]
        yield here


def _covering(env: Env, rng: np.random.Generator, here: np.ndarray, settings: WalkSettings) -> Iterator[np.ndarray]:
    """Stops that show most of the scene, as many as there is time for."""
    places = choose_lookouts(
        env, rng, here, settings.camera, candidates=settings.cover_candidates, share=settings.cover_share
    )
    look_s = _EASE * settings.sweep_deg / settings.turn_speed_deg_s
    places = places[: int(settings.max_duration_s / max(look_s, 0.1))]
    distance = distances_between(env, [here, *places])
    for count in range(len(places), 0, -1):  # the least useful is left out first
        order, length_m = short_order(distance[: count + 1, : count + 1])
        if (count + 1) * look_s + length_m / settings.speed_m_s <= settings.max_duration_s:
            yield from (places[index - 1] for index in order[1:])
            return
