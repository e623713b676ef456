"""Boxes as the annotations of ScanNet++ and ARKitScenes state them. Reads no file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vlm3r_core.scene.box import OrientedBox

_BOX_KEYS = ("centroid", "axesLengths", "normalizedAxes", "min", "max")


def annotated_box(entry: object) -> tuple[OrientedBox, np.ndarray | None, dict]:
    """A box as an annotation states it: the box, its stated bounds [2, 3] or None, and further fields.

    Args:
        entry: centroid [3], axesLengths [3] and normalizedAxes [9], whose rows are the box's axes.

    Raises:
        ValueError: a field is missing or malformed.
    """
    if not isinstance(entry, Mapping) or any(key not in entry for key in _BOX_KEYS[:3]):
        raise ValueError("it needs centroid, axesLengths and normalizedAxes")
    try:
        axes = np.array(entry["normalizedAxes"], np.float64).reshape(3, 3)
        bounds = np.array([entry["min"], entry["max"]], np.float64).reshape(2, 3) if "min" in entry else None
    except (TypeError, ValueError, KeyError):
        raise ValueError("normalizedAxes must be 9 numbers, min and max 3 each") from None
    box = OrientedBox(entry["centroid"], entry["axesLengths"], axes.T)
    extra = {key: value for key, value in entry.items() if key not in _BOX_KEYS}
    return box, bounds, extra
