"""Numbers that tell how well a trial went, from what happened in it. Runs nothing, scores no answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# The distance of nDTW at which a point counts as off the way, metres: the one of the vision-and-language benchmarks.
NDTW_DISTANCE_M = 3.0
# Points of ways that are compared lie at most this far apart, metres: a step of those benchmarks.
NDTW_SPACING_M = 0.25
_RESAMPLES = 2000


def success(stopped: bool, distance_m: float, within_m: float) -> bool:
    """Whether the robot stopped on its own, and near enough to the goal."""
    return bool(stopped and distance_m <= within_m)


def oracle_success(distances_m: Sequence[float], within_m: float) -> bool:
    """Whether any place on the way was near enough to the goal, wherever the robot stopped."""
    return bool(min(distances_m, default=np.inf) <= within_m)


def spl(succeeded: bool, shortest_m: float, path_m: float) -> float:
    """Success weighted by path length: shortest / max(walked, shortest), 0 without success.

    Args:
        succeeded: whether the trial was a success.
        shortest_m: geodesic distance from the start to the goal.
        path_m: length of the way the robot went.

    Raises:
        ValueError: a length is negative or not finite.

    Source: Anderson et al. 2018, "On Evaluation of Embodied Navigation Agents".
    """
    if not (0 <= shortest_m < np.inf and 0 <= path_m < np.inf):
        raise ValueError(f"spl needs finite lengths of 0 or more, got shortest {shortest_m} and walked {path_m}")
    if not succeeded:
        return 0.0
    return 1.0 if path_m <= shortest_m else shortest_m / path_m


def dtw(path: np.ndarray, reference: np.ndarray) -> float:
    """Cost of the best monotone matching of two ways, [N, D] and [M, D]: the sum of the matched points' distances.

    Raises:
        ValueError: a way has no points.
    """
    path, reference = np.asarray(path, np.float64), np.asarray(reference, np.float64)
    if not len(path) or not len(reference):
        raise ValueError(f"dtw needs at least one point on both ways, got {len(path)} and {len(reference)}")
    apart = np.linalg.norm(path[:, None] - reference[None], axis=2)
    cost = np.full((len(path) + 1, len(reference) + 1), np.inf)
    cost[0, 0] = 0.0
    for i in range(len(path)):
        for j in range(len(reference)):
            cost[i + 1, j + 1] = apart[i, j] + min(cost[i, j], cost[i, j + 1], cost[i + 1, j])
    return float(cost[-1, -1])


def ndtw(path: np.ndarray, reference: np.ndarray, within_m: float = NDTW_DISTANCE_M) -> float:
    """How alike a way [N, D] and its reference [M, D] are, 1 for equal: exp(-DTW / (M * within_m)).

    The points of both count: give them at even spacing (see resampled), once each.

    Source: Ilharco et al. 2019, "General Evaluation for Instruction Conditioned Navigation using Dynamic Time Warping".
    Differs: straight instead of geodesic distances between points.
    """
    return float(np.exp(-dtw(path, reference) / (len(reference) * within_m)))


def resampled(points: np.ndarray, spacing_m: float = NDTW_SPACING_M) -> np.ndarray:
    """A polyline [N, D] as points at even distances of at most spacing_m [M, D], both ends kept; pauses vanish."""
    points = np.asarray(points, np.float64)
    if len(points) < 2:
        return points
    along = np.concatenate([[0.0], np.linalg.norm(np.diff(points, axis=0), axis=1).cumsum()])
    if along[-1] == 0.0:
        return points[:1]
    at = np.linspace(0.0, along[-1], 1 + max(1, int(np.ceil(along[-1] / spacing_m - 1e-9))))
    return np.stack([np.interp(at, along, column) for column in points.T], axis=1)


def interval_95(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """A 95 % interval of the mean of values [N] by seeded bootstrap; the value twice where there is one.

    Raises:
        ValueError: there are no values.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        raise ValueError("interval_95 needs at least one value, got none")
    drawn = np.random.default_rng(seed).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def mean_with_interval(values: Sequence[float | None]) -> dict:
    """{"mean", "low", "high", "count"} of the values that are known; mean, low and high None where none is."""
    known = [float(value) for value in values if value is not None]
    if not known:
        return {"mean": None, "low": None, "high": None, "count": 0}
    low, high = interval_95(known)
    return {"mean": round(float(np.mean(known)), 6), "low": round(low, 6), "high": round(high, 6), "count": len(known)}


def percentiles(values: Sequence[float]) -> dict:
    """{"p50", "p99", "count"} of values, None where there is none."""
    if not len(values):
        return {"p50": None, "p99": None, "count": 0}
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "count": len(values)}
