"""ScanNet as distributed: objects of a scan's mesh, frames and video of its .sens stream. Downloads nothing.

A root is the folder that holds `scans/`, the label map and the lists of splits; docs/scans.md shows it.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from training.scans.reading.assemble import Objects, Shots, scene_graph
from training.scans.reading.cameras import camera_of, known_pose
from training.scans.reading.groups import read_groups, read_segments, vertices_of
from training.scans.reading.labels import SCANNET_DOUBLED, read_label_map, scannet_category
from training.scans.reading.listing import SPLITS, lacking, names_in_split, subfolders
from training.scans.reading.mesh import BOXES, box_around, read_vertices
from training.scans.reading.options import settings_from
from training.scans.reading.sens import Sens, open_sens
from training.scans.reading.video import CODECS, resized, write_video
from training.scans.reading.visible import mask_boxes, point_boxes
from training.scans.scan import Content, Scan
from vlm3r_core.clip import sample_uniform
from vlm3r_core.config import check_settings, setting
from vlm3r_core.scene.graph import CameraFrame, PinholeCamera, SceneObject, VisibleObject

DATASET = "scannet"
LABEL_MAP = "scannetv2-labels.combined.tsv"
VISIBILITY = ("auto", "masks", "depth", "none")
# archives of instance masks, cleaned ones first, and the folder in each
MASKS = (("_2d-instance-filt.zip", "instance-filt"), ("_2d-instance.zip", "instance"))
_NAME = re.compile(r"scene\d{4}_\d{2}")
_MASK_OFFSET = 1  # a mask's number is the object's plus one, 0 is nothing
_INTEGER_CENTERS_PX = 0.5  # ScanNet's intrinsics count pixel centres as whole numbers


@dataclass(frozen=True)
class ScannetSettings:
    """How scans are read. The last four are defects of the published pipeline, all off."""

    split: str = setting("train", "train and val need ScanNet's lists; VSI-Bench asks about val", choices=SPLITS)
    frames: int = setting(32, "frames sampled of the video, as the model samples them", span=(1, 100_000))
    video: bool = setting(True, "read the .sens stream; without it there are boxes alone")
    fps: float = setting(24.0, "of the video; the sensor's was 30, published videos have 24", span=(0.1, 1000))
    width_px: int = setting(640, "of the video, even", span=(2, 10_000))
    height_px: int = setting(480, "of the video, even", span=(2, 10_000))
    codec: str = setting("auto", "of the video; mpeg4 is the published one", choices=CODECS)
    boxes: str = setting("minimal", "tilted minimal boxes as VSI-Bench has, or upright ones", choices=BOXES)
    visibility: str = setting("auto", "masks, depth test of mesh points, or masks where there are", choices=VISIBILITY)
    min_pixels: int = setting(30, "pixels of the video an object needs in a mask to be visible", span=(1, 10**8))
    min_points: int = setting(5, "mesh points of an object the depth test must find", span=(1, 10**8))
    seed: int = setting(0, "of the points drawn for the room's area", span=(0, 2**63))
    double_printers: bool = setting(False, "defect: boxes of printers come twice")
    raw_names: bool = setting(False, "defect: couches are no sofas, desks no tables")
    depth_intrinsics: bool = setting(False, "defect: frames have the depth camera's intrinsics")
    keep_lost_poses: bool = setting(False, "defect: poses of lost tracking stay, as NaN")

    def __post_init__(self):
        check_settings(self)

    @classmethod
    def published(cls, **changed) -> ScannetSettings:
        """With every defect of the published pipeline, and single pixels visible."""
        defects = dict.fromkeys(("double_printers", "raw_names", "depth_intrinsics", "keep_lost_poses"), True)
        return cls(**{**defects, "min_pixels": 1, "codec": "mpeg4", **changed})


def recognizes(root: str) -> bool:
    """Whether there are folders named like ScanNet's scans."""
    return bool(_scenes(Path(root)))


def read_scans(
    root: str, settings: ScannetSettings | None = None, *, as_published: bool = False, **options
) -> Iterator[Scan]:
    """The scans under a root, by name.

    Args:
        root: the folder that holds `scans/`, or that folder itself.
        settings: default ScannetSettings().
        as_published: without settings: ScannetSettings.published().
        options: without settings: single fields of them, texts as well.

    Raises:
        ValueError: there is no such option, or its value does not fit.
        FileNotFoundError: there are no scans, no label map, or no list of the wanted split.
    """
    settings = settings_from(ScannetSettings, settings, as_published=as_published, options=options)
    base = Path(root)
    scenes = _scenes(base)
    if not scenes:
        raise FileNotFoundError(f"{root} holds no scan of ScanNet; expected scans/scene0000_00 and the like")
    homes = (base, base.parent) if base.name == "scans" else (base, base / "scans")
    label_map = next((home / LABEL_MAP for home in homes if (home / LABEL_MAP).is_file()), None)
    if label_map is None:
        raise FileNotFoundError(f"expected {LABEL_MAP} in {root}; ScanNet's download script brings it (--label_map)")
    wanted = names_in_split(homes, f"scannetv2_{settings.split}.txt", settings.split)
    for folder in scenes:
        if wanted is None or folder.name in wanted:
            skipped = lacking(folder, _needed(folder.name, settings))
            yield Scan(DATASET, folder.name, partial(_open, folder, label_map, settings), skipped)


def _scenes(base: Path) -> list[Path]:
    found = [path for home in (base / "scans", base) for path in subfolders(home) if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name)


def _needed(name: str, settings: ScannetSettings) -> list[str]:
    parts = [f"{name}.txt", f"{name}.aggregation.json", f"{name}_vh_clean_2.ply", _segments(name)]
    return [*parts, *([f"{name}.sens"] if settings.video else [])]


def _segments(name: str) -> str:
    return f"{name}_vh_clean_2.0.010000.segs.json"


def _open(scene: Path, label_map: Path, settings: ScannetSettings, folder: Path) -> Content:
    name = scene.name
    info = read_info(scene / f"{name}.txt")
    T_aligned = axis_alignment(info)
    vertices = read_vertices(scene / f"{name}_vh_clean_2.ply") @ T_aligned[:3, :3].T + T_aligned[:3, 3]
    objects = _objects(scene, vertices, read_label_map(label_map), settings)
    shots, video = None, None
    if settings.video:
        sens = open_sens(scene / f"{name}.sens")
        shots = _shots(scene, sens, info, T_aligned, objects, settings)
        video = folder / f"{name}.mp4"
        pictures = _pictures(sens, settings)
        write_video(video, pictures, settings.fps, codec=settings.codec, total=len(sens.frames))
    doubled = (SCANNET_DOUBLED,) if settings.double_printers else ()
    graph = scene_graph(DATASET, name, objects, vertices, shots, seed=settings.seed, doubled=doubled)
    return Content(graph, video)


def read_info(path: Path) -> dict[str, str]:
    """A scan's text file: values by name."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {key.strip(): value.strip() for key, found, value in (line.partition("=") for line in lines) if found}


def axis_alignment(info: dict[str, str]) -> np.ndarray:
    """The motion [4, 4] that brings a scan's walls along the axes; the identity where the scan has none.

    Raises:
        ValueError: it is not 16 numbers of a rigid motion.
    """
    if "axisAlignment" not in info:
        return np.eye(4)
    try:
        T = known_pose(np.array(info["axisAlignment"].split(), np.float64).reshape(4, 4))
    except ValueError:
        T = None
    if T is None:
        raise ValueError(f"axisAlignment must be 16 numbers of a rigid motion, got {info['axisAlignment']!r}")
    return T


def _objects(scene: Path, vertices: np.ndarray, nyu40: dict[str, int], settings: ScannetSettings) -> Objects:
    groups = read_groups(scene / f"{scene.name}.aggregation.json")
    members = vertices_of(groups, read_segments(scene / _segments(scene.name), len(vertices)))
    items, points, left_out = [], {}, Counter()
    for group, places in zip(groups, members, strict=True):
        try:
            category = scannet_category(group.label, nyu40, raw_names=settings.raw_names)
        except KeyError:
            left_out[f"label {group.label!r} is not in the label map"] += 1
            continue
        if category is None:
            continue
        if not len(places):
            left_out["no vertex of the mesh belongs to it"] += 1
            continue
        box = box_around(vertices[places], settings.boxes)
        items.append(SceneObject(category, box, group.object_id, box.bounds()))
        points[group.object_id] = vertices[places]
    return Objects(tuple(items), points, left_out)


def _pictures(sens: Sens, settings: ScannetSettings) -> Iterator[np.ndarray]:
    size = (settings.width_px, settings.height_px)
    for place in range(len(sens.frames)):
        yield resized(sens.color(place), size)


def _shots(
    scene: Path, sens: Sens, info: dict[str, str], T_aligned: np.ndarray, objects: Objects, settings: ScannetSettings
) -> Shots:
    if not sens.frames:
        raise ValueError(f"{sens.path.name} has no frame")
    camera = _camera(sens, info, settings)
    how, see = _visibility(scene, sens, camera, objects, settings)
    frames = []
    for place in sample_uniform(len(sens.frames), settings.frames):
        with np.errstate(invalid="ignore"):
            T_WC = T_aligned @ sens.frames[place].T_WC
        pose = known_pose(T_WC)
        stamp = {"stamp_ns": round(place * 1e9 / settings.fps)}
        kept = T_WC if settings.keep_lost_poses else pose
        frames.append(CameraFrame(place, kept, see(place, pose), extra=stamp))
    return Shots(camera, tuple(frames), how)


def _camera(sens: Sens, info: dict[str, str], settings: ScannetSettings) -> PinholeCamera:
    size = (settings.width_px, settings.height_px)
    if not settings.depth_intrinsics:
        return camera_of(sens.K_color, sens.color_size, size, corner_px=_INTEGER_CENTERS_PX)
    try:
        numbers = [float(info[f"{key}_depth"]) for key in ("fx", "fy", "mx", "my")]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{sens.path.stem}.txt has no depth intrinsics: {error}") from None
    return PinholeCamera(*numbers, *size)


_See = Callable[[int, np.ndarray | None], tuple[VisibleObject, ...]]


def _visibility(
    scene: Path, sens: Sens, camera: PinholeCamera, objects: Objects, settings: ScannetSettings
) -> tuple[str, _See]:
    """How visible objects are found, and the function that finds those of a frame."""
    archive = next(
        ((scene / f"{scene.name}{end}", at) for end, at in MASKS if (scene / f"{scene.name}{end}").is_file()), None
    )
    how = settings.visibility
    if how == "auto":
        how = "masks" if archive else "depth"
    if how == "masks":
        if archive is None:
            raise FileNotFoundError(f"there is no {scene.name}{MASKS[0][0]}; get it, or test visibility by depth")
        return how, partial(_seen_in_mask, archive, sens, set(objects.points), settings)
    if how == "depth":
        return how, partial(_seen_in_depth, sens, camera, objects, settings)
    return how, lambda place, T_WC: ()


def _seen_in_mask(
    archive: tuple[Path, str], sens: Sens, known: set[int], settings: ScannetSettings, place: int, T_WC: object
) -> tuple[VisibleObject, ...]:
    size = (settings.width_px, settings.height_px)
    mask = read_mask(archive[0], f"{archive[1]}/{place}.png", {sens.color_size, sens.depth_size, size})
    return mask_boxes(mask, size, offset=_MASK_OFFSET, known=known, min_pixels=settings.min_pixels)


def _seen_in_depth(
    sens: Sens, camera: PinholeCamera, objects: Objects, settings: ScannetSettings, place: int, T_WC: np.ndarray | None
) -> tuple[VisibleObject, ...]:
    if T_WC is None:
        return ()
    return point_boxes(objects.points, T_WC, camera, sens.depth_m(place), min_points=settings.min_points)


def read_mask(archive: Path, entry: str, sizes: set[tuple[int, int]]) -> np.ndarray:
    """A picture of instance numbers out of an archive, unsigned integers [H, W].

    Args:
        archive: a zip file.
        entry: name of a grey PNG in it.
        sizes: (width, height) it may have.

    Raises:
        ValueError: the archive or the picture is damaged, missing, of another kind or size.
    """
    try:
        with zipfile.ZipFile(archive) as files, files.open(entry) as file:
            mask = np.asarray(Image.open(file))
    except KeyError:
        raise ValueError(f"{archive.name} has no {entry}") from None
    except (zipfile.BadZipFile, zlib.error, UnidentifiedImageError, OSError, EOFError, SyntaxError) as error:
        raise ValueError(f"{archive.name}: {entry} cannot be read: {error}") from None
    if mask.ndim != 2 or mask.dtype.kind not in "ui":
        raise ValueError(f"{archive.name}: {entry} must be a grey picture of numbers, got {mask.shape} {mask.dtype}")
    if mask.shape[::-1] not in sizes:
        expected = " or ".join(f"{w} x {h}" for w, h in sorted(sizes))
        raise ValueError(f"{archive.name}: {entry} is {mask.shape[1]} x {mask.shape[0]}, expected {expected}")
    return mask
