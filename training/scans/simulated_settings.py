"""How simulated worlds are walked through and filmed, and what then counts as seen. Walks and films nothing."""

from __future__ import annotations

from dataclasses import dataclass

from sim.camera import CameraSettings
from sim.mesh_env import WorldSettings
from sim.walks import WalkSettings
from vlm3r_core.config import check_settings, setting

TOUR, LOOK_AROUND = "tour", "look_around"


@dataclass(frozen=True)
class SimulatedSettings:
    """How worlds are walked through and filmed, and what counts as seen.

    A tour goes through all of a world; who looks around turns nearly on the spot. The defaults are those of a tour,
    `settings_for` knows those of both. Who looks around draws lens, height and tilt as the clips for pre-training do.
    """

    walk: str = setting(TOUR, "how one walks", choices=(TOUR, LOOK_AROUND))
    frames: int = setting(32, "frames of a video, evenly over the walk; questions count all of them", span=(2, 10**5))
    size_px: int = setting(224, "edge of the square frames, pixels, even", span=(16, 4096))
    hfov_deg: float = setting(90.0, "tour: horizontal field of view, degrees", span=(30.0, 150.0))
    height_m: float = setting(1.5, "tour: of the camera above the floor, metres", span=(0.2, 2.2))
    pitch_deg: float = setting(-12.0, "tour: tilt of the camera, degrees, up is positive", span=(-60.0, 60.0))
    max_duration_s: float = setting(90.0, "tour: longest walk, seconds", span=(1.0, 3600.0))
    lookouts: int = setting(24, "tour: places tried as stops of the walk", span=(1, 1000))
    places: int = setting(1, "look_around: places of a world where one looks around, a scan each", span=(1, 10**4))
    seen_share: float = setting(0.002, "of a frame's pixels from which an object counts as seen", span=(0.0, 1.0))
    glimpse_share: float = setting(0.0002, "below which nobody notices it", span=(0.0, 1.0))
    covered_share: float = setting(0.75, "of the walkable floor in view from which its size is asked", span=(0.0, 1.0))
    unseen_m2: float = setting(1.0, "largest patch of that floor out of view, square metres", span=(0.0, 1000.0))
    routes: int = setting(3, "route questions of a scan at most", span=(0, 1000))
    routes_every: int = setting(1, "only every so manieth scan has routes, which cost most", span=(1, 10**6))
    patience: int = setting(150, "turning places tried without a new route before a world is given up", span=(1, 10**6))

    def __post_init__(self):
        check_settings(self)
        if self.size_px % 2:
            raise ValueError(f"SimulatedSettings.size_px must be even for a video, got {self.size_px}")

    @property
    def tour(self) -> WalkSettings:
        """How one walks on a tour."""
        return WalkSettings(
            height_m=self.height_m,
            pitch_deg=self.pitch_deg,
            cover=True,
            cover_candidates=self.lookouts,
            max_duration_s=self.max_duration_s,
        )

    @property
    def world(self) -> WorldSettings:
        """The world with a tour's camera."""
        lens = {"hfov_deg": self.hfov_deg, "height_m": self.height_m, "pitch_deg": self.pitch_deg}
        return WorldSettings(camera=CameraSettings(self.size_px, self.size_px, **lens))


def settings_for(walk: str, **changes) -> SimulatedSettings:
    """The usual settings of a kind of walk.

    Args:
        walk: `tour` or `look_around`.
        changes: fields of SimulatedSettings that shall be otherwise; None leaves them.

    Raises:
        ValueError: a setting is wrong.
    """
    usual = {"frames": 16, "size_px": 144, "seen_share": 0.004, "routes": 2, "patience": 30}
    given = {name: value for name, value in changes.items() if value is not None}
    return SimulatedSettings(**{"walk": walk} | (usual if walk == LOOK_AROUND else {}) | given)
