"""Short clips from simulated flats with depth, poses and the class of every pixel, for pre-training. Asks nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sim.camera import CameraSettings, camera_pose
from sim.flats.catalogue import CATEGORIES
from sim.rooms import Flat, FlatSettings, make_flat
from sim.world.render import Renderer
from vlm3r_core.config import check_settings, setting

# Class 0 is whatever has no name; the next three are what rooms are made of, the others stand in them.
BACKGROUND = ("nothing", "floor", "wall", "ceiling")
CLASSES = (*BACKGROUND, *CATEGORIES)
_NUMBER = {name: number for number, name in enumerate(CLASSES)}
STREAM = 7  # keeps these draws apart from the flat's own
_FROM_WALLS_M, _FROM_THINGS_M = 0.35, 0.2
_PLACES, _WAYS, _ALONG = 64, 32, 5
# One does not bump into what hangs higher.
_OVERHEAD_M = 1.9
# Given random numbers and a length in metres, start and end [3] of a free straight way not longer than that.
Way = Callable[[np.random.Generator, float], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class ClipSettings:
    """How clips are filmed."""

    frames: int = setting(16, "frames of a clip", span=(2, 1024))
    size_px: int = setting(168, "edge of the square frames, pixels", span=(14, 4096))
    truth_px: int = setting(72, "depth and classes are kept for so many pixels a side", span=(2, 4096))
    clips_per_flat: int = setting(4, "clips of one flat", span=(1, 1000))
    turn_deg: float = setting(20.0, "turn from frame to frame on average, degrees", span=(0.0, 90.0))
    turn_spread: float = setting(0.3, "how much turns differ, of their average", span=(0.0, 1.0))
    way_back: float = setting(0.25, "share of clips in which the turn changes its side midway", span=(0.0, 1.0))
    shift_m: float = setting(0.8, "longest way of a clip, metres", span=(0.0, 20.0))
    most_rooms: int = setting(1, "rooms of a flat at most; one is filmed", span=(1, 5))
    least_hfov_deg: float = setting(88.0, "narrowest lens, degrees", span=(20.0, 150.0))
    most_hfov_deg: float = setting(92.0, "widest lens, degrees", span=(20.0, 150.0))
    least_height_m: float = setting(1.4, "lowest camera, metres", span=(0.1, 2.2))
    most_height_m: float = setting(1.6, "highest camera, metres", span=(0.1, 2.2))
    pitch_deg: float = setting(-8.0, "usual tilt, degrees, up is positive", span=(-60.0, 60.0))
    pitch_spread_deg: float = setting(4.0, "tilts differ from it by at most so much, degrees", span=(0.0, 30.0))

    def __post_init__(self):
        check_settings(self)
        if self.truth_px > self.size_px:
            raise ValueError(f"ClipSettings.truth_px must be at most size_px {self.size_px}, got {self.truth_px}")
        for what, low, high in (
            ("hfov_deg", self.least_hfov_deg, self.most_hfov_deg),
            ("height_m", self.least_height_m, self.most_height_m),
        ):
            if low > high:
                raise ValueError(f"ClipSettings: least_{what} {low} must be at most most_{what} {high}")


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames and the truth about them.

    Args:
        rgb: uint8 [F, H, W, 3].
        depth_m: float32 [F, h, w], planar, 0 where nothing was hit; at the pixels `sampled_pixels` names.
        classes: uint8 [F, h, w], numbers in CLASSES, at the same pixels.
        T_WC: float64 [F, 4, 4] world from camera, metres.
        K: float64 [3, 3] intrinsics of the frames, pixels.
        flat: seed of the flat.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    classes: np.ndarray
    T_WC: np.ndarray
    K: np.ndarray
    flat: int


def sampled_pixels(size: int, count: int) -> np.ndarray:
    """Which rows, or columns, of `size` stand for `count` even parts of a picture: the one in the middle of each."""
    return np.floor((np.arange(count) + 0.5) * size / count).astype(np.int64)


def film_flat(seed: int, settings: ClipSettings) -> Iterator[Clip]:
    """The clips of a flat; the same seed and settings give the same clips.

    Args:
        seed: of the flat, 0 or more.
        settings: how they are filmed.

    Raises:
        ValueError: the seed is no whole number of at least 0.
    """
    flat = make_flat(seed, FlatSettings(max_rooms=settings.most_rooms))
    renderer = Renderer(flat.mesh, flat.id_of_face)
    classes = np.array([0, *(_NUMBER.get(name, 0) for name in flat.categories)], np.uint8)
    kept = sampled_pixels(settings.size_px, settings.truth_px)
    for number in range(settings.clips_per_flat):
        camera, poses = look_around((seed, STREAM, number), partial(way_in_flat, flat), settings)
        pictures = [renderer.render(camera.pinhole, pose) for pose in poses]
        lens = camera.pinhole
        yield Clip(
            np.stack([picture.rgb for picture in pictures]),
            np.stack([picture.depth_m[np.ix_(kept, kept)] for picture in pictures]),
            np.stack([classes[picture.ids[np.ix_(kept, kept)]] for picture in pictures]),
            poses,
            np.array([[lens.fx, 0, lens.cx], [0, lens.fy, lens.cy], [0, 0, 1]]),
            seed,
        )


def look_around(seed: Sequence[int], way: Way, settings: ClipSettings) -> tuple[CameraSettings, np.ndarray]:
    """A camera, and its poses on a straight way while it turns.

    Args:
        seed: same seed, same camera and poses.
        way: finds a free way.
        settings: how one looks.

    Returns:
        (the camera, T_WC [F, 4, 4] world from camera, metres).
    """
    rng = np.random.default_rng(seed)
    camera = CameraSettings(
        settings.size_px,
        settings.size_px,
        hfov_deg=rng.uniform(settings.least_hfov_deg, settings.most_hfov_deg),
        height_m=rng.uniform(settings.least_height_m, settings.most_height_m),
        pitch_deg=settings.pitch_deg + settings.pitch_spread_deg * rng.uniform(-1, 1),
    )
    start, end = way(rng, settings.shift_m)
    turns = settings.turn_deg * (1 + settings.turn_spread * rng.uniform(-1.7, 1.7, settings.frames - 1))
    turns *= rng.choice([-1.0, 1.0])
    if rng.random() < settings.way_back:
        turns[len(turns) // 2 :] *= -1
    yaws = np.radians(rng.uniform(0, 360) + np.r_[0.0, np.cumsum(turns)])
    feet = start + np.linspace(0, 1, settings.frames)[:, None] * (end - start)
    return camera, np.stack([camera_pose(place, float(yaw), camera) for place, yaw in zip(feet, yaws, strict=True)])


def way_in_flat(flat: Flat, rng: np.random.Generator, longest_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Start and end [3] of a free straight way; as free as can be in a crammed room, and then of no length."""
    areas = np.array([room.area_m2 for room in flat.rooms])
    room = flat.rooms[rng.choice(len(areas), p=areas / areas.sum())]
    low, high = room.low_m + _FROM_WALLS_M, room.high_m - _FROM_WALLS_M
    places = rng.uniform(low, np.maximum(low, high), (_PLACES, 2))
    around = _clearance(flat, places)
    free = around >= _FROM_THINGS_M
    start = places[np.argmax(free if free.any() else around)]
    angles, lengths = rng.uniform(0, 2 * np.pi, _WAYS), rng.uniform(0, longest_m, _WAYS)
    ends = start + lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = start + np.linspace(0, 1, _ALONG)[:, None, None] * (ends - start)
    free = _clearance(flat, points.reshape(-1, 2)).reshape(_ALONG, _WAYS).min(axis=0) >= _FROM_THINGS_M
    free &= ((ends >= low) & (ends <= high)).all(axis=1)
    end = ends[np.argmax(free)] if free.any() else start
    return np.r_[start, 0.0], np.r_[end, 0.0]


def _clearance(flat: Flat, points: np.ndarray) -> np.ndarray:
    """Distance [N] from points [N, 2] to the nearest thing on the floor, 0 in it."""
    distance = np.full(len(points), np.inf)
    for item in flat.graph.objects:
        box = item.box
        if box.center_m[2] - box.lengths_m[2] / 2 > _OVERHEAD_M:
            continue
        local = (points - box.center_m[:2]) @ box.R_WB[:2, :2]
        beside = np.maximum(np.abs(local) - box.lengths_m[:2] / 2, 0.0)
        distance = np.minimum(distance, np.hypot(*beside.T))
    return distance
