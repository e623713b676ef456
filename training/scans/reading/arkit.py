"""ARKit's recordings: trajectory, intrinsics and pictures by time, and where a film lies in them. Knows no objects.

Source: ARKitScenes' documentation and tools. A line of a .traj is a time in seconds, a rotation vector and a shift that
bring the world into the camera; a .pincam is width, height, fx, fy, cx, cy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation, Slerp

from vlm3r_core.clip import open_clip
from vlm3r_core.image_encoding import decode_compressed

_GAP_S = 0.25  # between poses that may be interpolated
_NEAR_S = 0.06  # between times that mean the same frame
_THUMB = (32, 24)
_LONGEST_OFFSET_S, _OFFSET_STEP_S = 3.0, 1 / 60
_ALIKE = 0.7  # correlation of pictures of the same moment


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses by time: times_s [N] ascending, T_WC [N, 4, 4] world from camera."""

    times_s: np.ndarray
    T_WC: np.ndarray

    def at(self, time_s: float) -> np.ndarray | None:
        """The pose [4, 4] at a time, between two neighbours; None where there are none close by."""
        after = int(np.searchsorted(self.times_s, time_s))
        before = max(after - 1, 0)
        after = min(after, len(self.times_s) - 1)
        low, high = self.times_s[before], self.times_s[after]
        if max(low - time_s, time_s - high) > _NEAR_S or high - low > _GAP_S:
            return None
        if before == after:
            return self.T_WC[after].copy()
        share = float(np.clip((time_s - low) / (high - low), 0.0, 1.0))
        T = np.eye(4)
        T[:3, :3] = Slerp([0.0, 1.0], Rotation.from_matrix(self.T_WC[[before, after], :3, :3]))(share).as_matrix()
        T[:3, 3] = (1 - share) * self.T_WC[before, :3, 3] + share * self.T_WC[after, :3, 3]
        return T


def read_trajectory(path: Path) -> Trajectory:
    """A .traj file; lines that are not finite, where tracking was lost, are left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line is not seven numbers, or no pose is left.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = np.array(line.split(), np.float64)
        except ValueError:
            row = np.empty(0)
        if row.shape != (7,):
            raise ValueError(f"{path.name}, line {number}: expected seven numbers, got {line[:60]!r}")
        rows.append(row)
    table = np.array(rows).reshape(-1, 7)
    table = table[np.isfinite(table).all(axis=1)]
    if not len(table):
        raise ValueError(f"{path.name} has no pose")
    _, first = np.unique(table[:, 0], return_index=True)
    table = table[first]
    R_WC = Rotation.from_rotvec(table[:, 1:4]).as_matrix().transpose(0, 2, 1)
    T_WC = np.tile(np.eye(4), (len(table), 1, 1))
    T_WC[:, :3, :3] = R_WC
    T_WC[:, :3, 3] = -np.einsum("nij,nj->ni", R_WC, table[:, 4:])
    return Trajectory(table[:, 0], T_WC)


def read_pincam(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """A .pincam file: intrinsics [3, 3] in pixels, and (width, height).

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not six numbers.
    """
    try:
        width, height, fx, fy, cx, cy = np.array(path.read_text(encoding="utf-8").split(), np.float64)
    except ValueError:
        raise ValueError(f"{path.name} must be width, height, fx, fy, cx, cy") from None
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), (int(width), int(height))


def files_by_time(folder: Path, ending: str) -> dict[float, Path]:
    """Files named ID_SECONDS with an ending, by time; none where there is no folder."""
    found = {}
    for path in folder.glob(f"*{ending}") if folder.is_dir() else ():
        try:
            found[float(path.name.removesuffix(ending).rpartition("_")[2])] = path
        except ValueError:
            continue
    return dict(sorted(found.items()))


def nearest(files: dict[float, Path], time_s: float) -> Path | None:
    """The file nearest to a time, None where none is close by."""
    if not files:
        return None
    time = min(files, key=lambda known: abs(known - time_s))
    return files[time] if abs(time - time_s) <= _NEAR_S else None


@dataclass(frozen=True, eq=False)
class Placed:
    """Where a film lies among pictures.

    Args:
        stamps_s: seconds of the sampled frames since the film's first.
        start_s: time of the film's first frame by the pictures' clock.
        turns: by how many counter-clockwise quarter turns the shown film is turned against the pictures.
        likeness: mean correlation of the frames with their pictures.
    """

    stamps_s: tuple[float, ...]
    start_s: float
    turns: int
    likeness: float


def place_film(film: Path, count: int, pictures: dict[float, Path]) -> Placed:
    """Finds the one shift in time, and the one turn, at which a film's frames look like the pictures.

    Args:
        film: a video.
        count: how many of its frames are sampled.
        pictures: images by time, seconds.

    Raises:
        ValueError: it looks like them at no time, or a file cannot be decoded.
    """
    clip = open_clip(film).sampled(count)
    shown = [(frame.stamp_ns / 1e9, frame.rgb.shape[1] < frame.rgb.shape[0], _shrunk(frame.rgb)) for frame in clip]
    if len(shown) != len(clip):
        raise ValueError(f"{film.name} is damaged: {len(shown)} of {len(clip)} sampled frames can be decoded")
    stamps = np.array([stamp for stamp, _, _ in shown])
    times, known = _thumbs(pictures)
    # the nearest picture of each frame at each shift
    offsets = np.arange(-_LONGEST_OFFSET_S, _LONGEST_OFFSET_S + 1e-9, _OFFSET_STEP_S)
    wanted = times[0] + offsets[:, None] + stamps
    places = np.clip(np.searchsorted((times[1:] + times[:-1]) / 2, wanted), 0, len(times) - 1)
    close = np.abs(times[places] - wanted) <= _NEAR_S
    enough = close.sum(axis=1) >= max(1, len(stamps) // 2)
    best = (-1.0, 0, 0.0)
    for turns in (1, 3) if shown[0][1] else (0, 2):
        frames = _normal([np.rot90(thumb, -turns) for _, _, thumb in shown])
        alike = np.take_along_axis(frames @ known.T, places.T, axis=1).T
        scores = np.where(enough, (alike * close).sum(axis=1) / np.maximum(close.sum(axis=1), 1), -1.0)
        # of shifts that are as good as the best, as in a film that stands still, the smallest
        good = np.flatnonzero(scores >= scores.max() - 1e-6)
        place = good[np.argmin(np.abs(offsets[good]))]
        if scores[place] > best[0]:
            best = (float(scores[place]), turns, float(offsets[place]))
    if best[0] < _ALIKE:
        raise ValueError(f"{film.name} looks like the pictures at no time (correlation {best[0]:.2f})")
    return Placed(tuple(stamps.tolist()), float(times[0] + best[2]), best[1], best[0])


def _thumbs(pictures: dict[float, Path]) -> tuple[np.ndarray, np.ndarray]:
    """Times and normalised small pictures, no closer than needed."""
    times: list[float] = []
    for time in pictures:
        if not times or time - times[-1] >= _NEAR_S / 2:
            times.append(time)
    return np.array(times), _normal([_shrunk(decode_compressed(pictures[time].read_bytes())) for time in times])


def _shrunk(rgb: np.ndarray) -> np.ndarray:
    size = _THUMB if rgb.shape[1] >= rgb.shape[0] else _THUMB[::-1]
    return np.asarray(Image.fromarray(rgb).convert("L").resize(size, Image.Resampling.BOX), np.float64)


def _normal(thumbs: Sequence[np.ndarray]) -> np.ndarray:
    """Rows whose products are correlations."""
    rows = np.stack([thumb.reshape(-1) for thumb in thumbs])
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
