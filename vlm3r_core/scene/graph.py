"""What is true of a scene: its room, its objects with oriented boxes, and what each camera frame sees. No files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vlm3r_core.scene.box import OrientedBox, frozen_array


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object.

    Args:
        category: its name in questions, not empty.
        box: where it is.
        instance_id: its number in masks and 2-D boxes, None where the scan gives none.
        bounds_m: [2, 3] lowest and highest corner as a file states them, None where it does not; the box is the truth.
        extra: fields of the file this class does not know, kept as they came.
    """

    category: str
    box: OrientedBox
    instance_id: int | None = None
    bounds_m: np.ndarray | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.category, str) or not self.category:
            raise ValueError(f"SceneObject.category must be a name, got {self.category!r}")
        if self.instance_id is not None:
            check_int("SceneObject.instance_id", self.instance_id)
        if self.bounds_m is not None:
            object.__setattr__(self, "bounds_m", frozen_array("SceneObject.bounds_m", self.bounds_m, (2, 3)))


@dataclass(frozen=True)
class PinholeCamera:
    """The camera all frames of a scene share; pixel (u, v) covers [u, u+1) x [v, v+1).

    Args:
        fx: focal length along a row, pixels, positive; fy along a column.
        cx: principal point along a row, pixels; cy along a column.
        width_px: image width, at least 1; height_px image height.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width_px: int
    height_px: int

    def __post_init__(self):
        for name in ("fx", "fy", "cx", "cy"):
            frozen_array(f"PinholeCamera.{name}", getattr(self, name), ())
        if self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"PinholeCamera.fx and fy must be positive, got {self.fx} and {self.fy}")
        for name in ("width_px", "height_px"):
            check_int(f"PinholeCamera.{name}", getattr(self, name), lowest=1)

    @property
    def K(self) -> np.ndarray:  # noqa: N802 - the name every matrix of intrinsics has
        """Intrinsics [3, 3] float64 in pixels."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class VisibleObject:
    """An object in a frame: bbox_px is (xmin, ymin, xmax, ymax), pixels, the last row and column inside."""

    instance_id: int
    bbox_px: tuple[int, int, int, int]

    def __post_init__(self):
        check_int("VisibleObject.instance_id", self.instance_id)
        box = self.bbox_px
        if len(box) != 4 or any(isinstance(v, bool) or not isinstance(v, int) for v in box):
            raise ValueError(f"VisibleObject.bbox_px must be four whole numbers, got {box!r}")
        if box[2] < box[0] or box[3] < box[1]:
            raise ValueError(f"VisibleObject.bbox_px must be xmin, ymin, xmax, ymax in this order, got {box!r}")


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """One frame of the scene's video.

    Args:
        frame_id: index in the raw stream, or a name.
        T_WC: [4, 4] world from camera (x right, y down, z forward), metres; None or with NaN where tracking was lost.
        visible: objects in view.
        color_path: where the image is, relative, None where unknown; depth_path likewise.
        extra: fields of the file this class does not know, kept as they came.
    """

    frame_id: int | str
    T_WC: np.ndarray | None
    visible: tuple[VisibleObject, ...] = ()
    color_path: str | None = None
    depth_path: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        if isinstance(self.frame_id, bool) or not isinstance(self.frame_id, (int, str)):
            raise ValueError(f"CameraFrame.frame_id must be a whole number or a name, got {self.frame_id!r}")
        if self.T_WC is not None:
            T_WC = frozen_array("CameraFrame.T_WC", self.T_WC, (4, 4), finite=False)
            object.__setattr__(self, "T_WC", T_WC)

    @property
    def has_pose(self) -> bool:
        """Whether the pose is known and finite."""
        return self.T_WC is not None and bool(np.isfinite(self.T_WC).all())


@dataclass(frozen=True, eq=False)
class SceneGraph:
    """One scene.

    Args:
        scene_id: its name.
        objects: in the order of the file; a category's objects need not stand together.
        counts: objects of each category as the file counts them; the published data lists some boxes twice, so this
            may differ from the number of boxes.
        room_size_m2: floor area; 0 where a scan did not measure it.
        room_center_m: [3], None where unknown.
        dataset: where it comes from; video_path: its video, relative; None where unknown.
        camera: what its frames were taken with, None where there are no frames.
        frames: sorted as in the file.
        extra: scene fields this class does not know; frames_extra likewise of the frame file.
    """

    scene_id: str
    objects: tuple[SceneObject, ...]
    counts: Mapping[str, int]
    room_size_m2: float
    room_center_m: np.ndarray | None = None
    dataset: str | None = None
    video_path: str | None = None
    camera: PinholeCamera | None = None
    frames: tuple[CameraFrame, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    frames_extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        where = f"scene {self.scene_id!r}"
        if frozen_array(f"{where}: room_size_m2", self.room_size_m2, ()) < 0:
            raise ValueError(f"{where}: room_size_m2 must not be negative, got {self.room_size_m2}")
        for category, count in self.counts.items():
            check_int(f"{where}: counts[{category!r}]", count, lowest=0)
        uncounted = sorted({item.category for item in self.objects} - set(self.counts))
        if uncounted:
            raise ValueError(f"{where}: counts must name every category, it lacks {', '.join(uncounted)}")
        if self.frames and self.camera is None:
            raise ValueError(
                f"{where}: camera is None although there are {len(self.frames)} frames; give its intrinsics"
            )
        if self.room_center_m is not None:
            center = frozen_array(f"{where}: room_center_m", self.room_center_m, (3,))
            object.__setattr__(self, "room_center_m", center)

    def objects_of(self, category: str) -> tuple[SceneObject, ...]:
        """The objects of a category; empty where there is none."""
        return tuple(item for item in self.objects if item.category == category)

    def object_by_id(self, instance_id: int) -> SceneObject:
        """The object with an instance id.

        Raises:
            KeyError: none has it.
        """
        for item in self.objects:
            if item.instance_id == instance_id:
                return item
        known = sorted(item.instance_id for item in self.objects if item.instance_id is not None)
        raise KeyError(f"scene {self.scene_id!r} has no object with instance_id {instance_id}; it has {known}")


def count_categories(objects: tuple[SceneObject, ...]) -> dict[str, int]:
    """How many objects each category has, in order of first appearance."""
    counts: dict[str, int] = {}
    for item in objects:
        counts[item.category] = counts.get(item.category, 0) + 1
    return counts


def check_int(name: str, value: object, *, lowest: int | None = None) -> None:
    """Raises ValueError naming the value unless it is a whole number, not below the lowest allowed."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or (lowest is not None and value < lowest):
        least = "" if lowest is None else f" of at least {lowest}"
        raise ValueError(f"{name} must be a whole number{least}, got {value!r}")
