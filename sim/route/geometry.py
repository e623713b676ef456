"""Directions, turns and straight parts of ways seen from above. Knows no scene."""

from __future__ import annotations

import numpy as np

from sim.route.settings import RouteSettings
from vlm3r_core.types import RouteStepKind


def turn_between(before: np.ndarray, after: np.ndarray) -> float:
    """Angle from one direction [2+] to another, seen from above, radians in -pi..pi, left positive."""
    cross = before[0] * after[1] - before[1] * after[0]
    return float(np.arctan2(cross, before[0] * after[0] + before[1] * after[1]))


def turn_kind(angle_rad: float, settings: RouteSettings, *, sure: bool = True) -> RouteStepKind | None:
    """What to call a turn.

    Args:
        angle_rad: left positive.
        settings: where the limits are.
        sure: keep away from the limits by the margin.

    Returns:
        TURN_LEFT, TURN_RIGHT, TURN_BACK, FORWARD where it is no turn, or None within the margin of a limit.
    """
    size, margin = abs(np.degrees(angle_rad)), settings.margin_deg if sure else 0.0
    if size >= settings.back_deg + margin:
        return RouteStepKind.TURN_BACK
    if settings.turn_deg + margin <= size <= settings.back_deg - margin:
        return RouteStepKind.TURN_LEFT if angle_rad > 0 else RouteStepKind.TURN_RIGHT
    return RouteStepKind.FORWARD if size <= settings.turn_deg - margin else None


def is_straight(points: np.ndarray, bend_m: float) -> bool:
    """Whether a way [N, 3] leaves the straight line between its ends by at most bend_m, seen from above.

    Around a corner of furniture a shortest way has several waypoints close together; small bends are no turns.
    """
    along, offsets = (points[-1] - points[0])[:2], points[:, :2] - points[0, :2]
    share = np.clip(offsets @ along / max(float(along @ along), 1e-12), 0.0, 1.0)
    return bool(np.linalg.norm(offsets - share[:, None] * along, axis=1).max() <= bend_m)
