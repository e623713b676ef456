"""The low-level controller: answers in, motions out. It sees no picture and knows no map.

It knows what every wheeled robot knows: its odometry, and that it bumped into something. All motion is made of exact
drives: turns on the spot at `turn_speed_deg_s` in parts of at most `turn_part_deg`, straight drives at `speed_m_s` in
parts of `stride_m`. A drive is blocked when a part got it ahead by less than half of what was wanted; sliding along
things while it gets ahead is no block.

Route: the route is asked for once. A turn step turns by its angle. A forward step drives its distance. Where that is
unknown, it asks how far the step's landmark is and drives that less `standoff_m`; where no number is said either, it
drives until blocked, but `max_leg_m` at most. A block ends a forward step. After the last step it stops.

Find: again and again it asks on which side the thing is, and how far.
- Where the answers carry an exact direction and walking distance (the oracle's do), it turns and drives just that, and
  stops when nothing is left to walk.
- Else the quarter that was said decides. Something behind: it turns to that side by `behind_deg`. Ahead: it turns to
  that side by the swing, `swing_deg` at first and half of it each time the side changed, until the swing is below
  `aimed_deg`; then it drives, by the distance that was said but `leg_m` at most, and the swing starts anew.
- Where the distance that was said is at most `near_m`, the drive is the last: it goes on for that distance or until
  blocked, and stops; blocked with more than `blocked_m` left, something else is in the way, and it goes around that.
- Blocked sooner than after `stride_m`, or so in a last drive, it turns 90 degrees, left and right in turn, and drives
  `leg_m` before it asks again.
- After `max_rounds` pairs of questions it stops.
- With `look_around`, it turns left on the spot before its first questions and after each drive, so that so many
  pictures, one for each part of the turn, show what is around it: a small model sees no farther back.
- With `votes`, for a model that errs often, it turns on once around after that and asks so many times. All that was
  said of sides and distances, from every place it stood in, votes for places on a plan; it turns to the likeliest one
  and drives as above, by the median of the distances said last. So a thing is found by distances alone, if need be.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from math import isnan, nan

import numpy as np

from sim.env import Action, TimeStep, Velocity
from sim.loop.queries import Asker, bearing_to
from sim.loop.trial import Trial
from vlm3r_core.config import check_settings, setting
from vlm3r_core.scene.relations import QUADRANT_EDGES_DEG, QUADRANTS, planar_angles_deg, sector
from vlm3r_core.types import RouteStepKind

Motion = Generator[Action, TimeStep, None]
_LEAST_RAD = 1e-3
_LEAST_M = 5e-3
# places a thing may be in: so far from the start, so far apart
_FAR_M, _CELL_M = 8.0, 0.25
# of the logarithm of a distance; and what a side that was said counts beside it, which errs more often than not
_DISTANCE_ERROR, _SIDE_WEIGHT = 0.3, 0.3


@dataclass(frozen=True)
class ControllerSettings:
    """Speeds and distances of the controller."""

    speed_m_s: float = setting(0.5, "speed of drives", span=(0.01, 5.0))
    turn_speed_deg_s: float = setting(45.0, "speed of turns", span=(1.0, 720.0))
    stride_m: float = setting(0.25, "part of a drive", span=(0.02, 1.0))
    turn_part_deg: float = setting(30.0, "part of a turn", span=(1.0, 180.0))
    standoff_m: float = setting(0.5, "stay this far before a landmark whose distance was asked", span=(0.0, 5.0))
    max_leg_m: float = setting(5.0, "drive ahead without a known distance at most this far", span=(0.1, 100.0))
    leg_m: float = setting(1.0, "drive between two rounds of questions at most", span=(0.05, 10.0))
    near_m: float = setting(2.0, "the last drive begins at this distance from the thing", span=(0.1, 10.0))
    blocked_m: float = setting(1.0, "a last drive may be short of what was said by so much", span=(0.0, 100.0))
    swing_deg: float = setting(45.0, "first turn to a side", span=(1.0, 90.0))
    behind_deg: float = setting(120.0, "turn to something behind", span=(45.0, 180.0))
    aimed_deg: float = setting(15.0, "a swing below this is aimed well enough", span=(1.0, 90.0))
    look_around: int = setting(0, "pictures of a look around before questions and after drives; 0: none", span=(0, 64))
    votes: int = setting(
        0, "times it asks during a turn after a look around; 0: it swings towards the thing", span=(0, 64)
    )
    max_rounds: int = setting(60, "pairs of questions at most", span=(1, 10_000))

    def __post_init__(self):
        check_settings(self)


class Controller:
    """Drives one trial.

    Args:
        trial: the episode under way.
        asker: who answers its questions.
        settings: see there.
    """

    def __init__(self, trial: Trial, asker: Asker, settings: ControllerSettings):
        self._trial, self._asker, self._settings = trial, asker, settings
        self._blocked, self._detour = False, 1.0

    def motion(self) -> Motion:
        """Actions, one for each TimeStep sent; it ends where the robot shall stop."""
        return self._route() if self._trial.episode.task == "route" else self._find()

    # ---- a route

    def _route(self) -> Motion:
        self._look()
        for step in self._trial.ask_route(self._asker).steps:
            if step.kind is RouteStepKind.STOP:
                return
            if step.kind is RouteStepKind.FORWARD:
                yield from self._drive(self._leg(step.landmark, step.distance_m))
            else:
                yield from self._turn(step.angle_rad)

    def _leg(self, landmark: str, known_m: float) -> float:
        if not isnan(known_m):
            return known_m
        self._look()
        said_m = self._trial.ask_distance(self._asker, landmark).metres
        longest = self._settings.max_leg_m
        return longest if isnan(said_m) else float(np.clip(said_m - self._settings.standoff_m, 0.0, longest))

    # ---- find it

    def _find(self) -> Motion:
        return self._find_by_votes() if self._settings.votes else self._find_by_swings()

    def _find_by_swings(self) -> Motion:
        thing, settings = self._trial.episode.goal_category, self._settings
        aim, moved = _Aim(settings), True
        for _ in range(settings.max_rounds):
            if moved:
                yield from self._look_around()
            moved = False
            self._look()
            direction = self._trial.ask_direction(self._asker, thing)
            distance = self._trial.ask_distance(self._asker, thing)
            if not isnan(distance.walk_m):
                if distance.walk_m == 0.0:
                    return
                yield from self._turn(direction.bearing_rad)
                yield from self._drive(distance.walk_m)
                continue
            turn_rad = aim.turn_rad(direction.answer.text)
            if turn_rad:
                yield from self._turn(turn_rad)
                continue
            aim, moved = _Aim(settings), True
            if (yield from self._approach(distance.metres)):
                return

    def _find_by_votes(self) -> Motion:
        thing, settings = self._trial.episode.goal_category, self._settings
        places = _Places(self._trial.now)
        for _ in range(max(1, settings.max_rounds // settings.votes)):
            yield from self._look_around()
            said_m = []
            for _ in range(settings.votes):
                self._look()
                places.hear_side(self._trial.ask_direction(self._asker, thing).answer.text, self._trial.now)
                said_m.append(self._trial.ask_distance(self._asker, thing).metres)
                yield from self._turn(2 * np.pi / settings.votes)
            apart_m = _median(said_m)
            places.hear_distance(apart_m, self._trial.now)
            yield from self._turn(bearing_to(self._trial.now, places.likeliest_m()))
            if (yield from self._approach(apart_m)):
                return

    def _look_around(self) -> Motion:
        if self._settings.look_around > 1:
            yield from self._turn(np.radians((self._settings.look_around - 1) * self._settings.turn_part_deg))

    def _approach(self, said_m: float) -> Generator[Action, TimeStep, bool]:
        """A drive towards the thing, around what blocks it; tells whether it was the last."""
        settings = self._settings
        known, ahead_m = not isnan(said_m), settings.leg_m if isnan(said_m) else max(said_m, 0.0)
        last = known and ahead_m <= settings.near_m
        driven_m = yield from self._drive(ahead_m if last else min(ahead_m, settings.leg_m))
        short_m = ahead_m - driven_m
        blocked = self._blocked and (short_m > settings.blocked_m if last else driven_m < settings.stride_m)
        if blocked:
            yield from self._turn(self._detour * np.pi / 2)
            yield from self._drive(settings.leg_m)
            self._detour = -self._detour
        return last and not blocked

    # ---- motions

    def _look(self) -> None:
        if self._asker.sees:
            self._asker.push(self._trial.look())

    def _turn(self, angle_rad: float) -> Motion:
        rate, part = np.radians(self._settings.turn_speed_deg_s), np.radians(self._settings.turn_part_deg)
        left = abs(angle_rad)
        while left > _LEAST_RAD:
            now = min(part, left)
            yield Velocity(0.0, float(np.sign(angle_rad) * rate), now / rate)
            left -= now

    def _drive(self, distance_m: float) -> Generator[Action, TimeStep, float]:
        """Straight on; tells how far it got along its heading."""
        driven, self._blocked = 0.0, False
        while distance_m - driven > _LEAST_M:
            part, before = min(self._settings.stride_m, distance_m - driven), self._trial.now
            after = yield Velocity(self._settings.speed_m_s, 0.0, part / self._settings.speed_m_s)
            heading = np.array([np.cos(before.yaw_rad), np.sin(before.yaw_rad)])
            ahead = float((after.position_m - before.position_m)[:2] @ heading)
            driven += ahead
            if ahead < part / 2:
                self._blocked = True
                break
        return driven


class _Places:
    """How likely a thing is in each place around, by all that was said of its side and distance on the way.

    Args:
        now: where the plan has its middle.
    """

    def __init__(self, now: TimeStep):
        steps = np.arange(-_FAR_M, _FAR_M + _CELL_M / 2, _CELL_M)
        self._at_m = now.position_m[:2] + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        self._scores = np.zeros(len(self._at_m))

    def hear_side(self, direction: str, now: TimeStep) -> None:
        """A quarter as seen from here votes for the places in it."""
        ahead_m = now.position_m[:2] + np.array([np.cos(now.yaw_rad), np.sin(now.yaw_rad)])
        angles_deg = planar_angles_deg(now.position_m, ahead_m, self._at_m)
        quarters = np.array(QUADRANTS)[sector(angles_deg, QUADRANT_EDGES_DEG)]
        self._scores += _SIDE_WEIGHT * (quarters == direction)

    def hear_distance(self, metres: float, now: TimeStep) -> None:
        """Places about so far from here become likelier, by the share that such answers err."""
        if metres > 0:
            apart = np.linalg.norm(self._at_m - now.position_m[:2], axis=1)
            self._scores -= 0.5 * (np.log(np.maximum(apart, _CELL_M) / metres) / _DISTANCE_ERROR) ** 2

    def likeliest_m(self) -> np.ndarray:
        """The likeliest place [2]."""
        return self._at_m[int(np.argmax(self._scores))]


def _median(metres: list[float]) -> float:
    """Of those that are numbers; NaN where none is."""
    known = [value for value in metres if not isnan(value)]
    return float(np.median(known)) if known else nan


class _Aim:
    """Halves the angle to a thing of which only the side is known."""

    def __init__(self, settings: ControllerSettings):
        self._settings, self._swing_deg, self._side = settings, settings.swing_deg, 0.0

    def turn_rad(self, direction: str) -> float:
        """What to turn by next, 0 where it is aimed."""
        side = 1.0 if direction.endswith("left") else -1.0
        if direction.startswith("back"):
            self._side, self._swing_deg = side, self._settings.swing_deg
            return float(np.radians(side * self._settings.behind_deg))
        if self._side == -side:
            self._swing_deg /= 2
        self._side = side
        return float(np.radians(side * self._swing_deg)) if self._swing_deg >= self._settings.aimed_deg else 0.0
