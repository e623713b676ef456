"""Oriented boxes: where an object is and how it lies. Knows no categories and no files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Rows of an axis matrix may be off by what decimals in a hand-made annotation cost.
_ORTHONORMAL_TOLERANCE = 1e-3
_CORNER_SIGNS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


def frozen_array(name: str, value: object, shape: tuple[int, ...], *, finite: bool = True) -> np.ndarray:
    """A read-only float64 copy of numbers of a given shape.

    Args:
        name: how an error message calls the value.
        value: an array or nested lists.
        shape: what is expected.
        finite: whether NaN and infinity are refused.

    Raises:
        ValueError: not numbers, another shape, or not finite; the message names the value.
    """
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers of shape {shape}, got {value!r}") from None
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if finite and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array.tolist()}")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class OrientedBox:
    """A box in the world, metres.

    Args:
        center_m: [3].
        lengths_m: [3], full lengths along the box's own axes, not negative.
        R_WB: [3, 3], its columns are the box's axes in the world; mirrored axes are allowed, a box has no handedness.

    Raises:
        ValueError: a field has another shape, is not finite, is negative, or the axes are not orthonormal.
    """

    center_m: np.ndarray
    lengths_m: np.ndarray
    R_WB: np.ndarray

    def __post_init__(self):
        for name, shape in (("center_m", (3,)), ("lengths_m", (3,)), ("R_WB", (3, 3))):
            object.__setattr__(self, name, frozen_array(f"OrientedBox.{name}", getattr(self, name), shape))
        if (self.lengths_m < 0).any():
            raise ValueError(f"OrientedBox.lengths_m must not be negative, got {self.lengths_m.tolist()}")
        if np.abs(self.R_WB.T @ self.R_WB - np.eye(3)).max() > _ORTHONORMAL_TOLERANCE:
            raise ValueError(
                f"OrientedBox.R_WB must have orthonormal columns, got {self.R_WB.tolist()}; normalise the box's axes"
            )

    @classmethod
    def aligned(cls, low_m: np.ndarray, high_m: np.ndarray) -> OrientedBox:
        """The box along the world's axes between two corners [3]."""
        low, high = np.asarray(low_m, np.float64), np.asarray(high_m, np.float64)
        return cls((low + high) / 2, high - low, np.eye(3))

    @classmethod
    def around(cls, points_W: np.ndarray, yaw_rad: float = 0.0) -> OrientedBox:
        """The smallest upright box around points [N, 3] whose first axis points along a yaw about +Z.

        Raises:
            ValueError: there is no point.
        """
        points = np.asarray(points_W, np.float64)
        if not len(points):
            raise ValueError("a box needs at least one point, got none")
        c, s = np.cos(yaw_rad), np.sin(yaw_rad)
        R_WB = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        points_B = points @ R_WB
        low, high = points_B.min(axis=0), points_B.max(axis=0)
        return cls(R_WB @ ((low + high) / 2), high - low, R_WB)

    def corners(self) -> np.ndarray:
        """The eight corners [8, 3] in the world."""
        return self.center_m + (_CORNER_SIGNS * self.lengths_m) @ self.R_WB.T

    def bounds(self) -> np.ndarray:
        """Lowest and highest corner [2, 3] of the box's hull along the world's axes."""
        corners = self.corners()
        return np.stack([corners.min(axis=0), corners.max(axis=0)])

    def contains(self, points_W: np.ndarray, margin_m: float = 0.0) -> np.ndarray:
        """Which of the points [..., 3] lie in the box grown by a margin on every side: bool [...]."""
        offsets_B = (np.asarray(points_W, np.float64) - self.center_m) @ self.R_WB
        return (np.abs(offsets_B) <= self.lengths_m / 2 + margin_m).all(axis=-1)

    def nearest_point(self, point_W: np.ndarray) -> np.ndarray:
        """The point [3] of the box nearest to a point [3]; that point itself where it lies inside."""
        offset_B = (np.asarray(point_W, np.float64) - self.center_m) @ self.R_WB
        return self.center_m + self.R_WB @ np.clip(offset_B, -self.lengths_m / 2, self.lengths_m / 2)
