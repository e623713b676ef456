"""ScanNet++ as distributed: annotated objects with their boxes, frames and video of the iPhone. Downloads nothing.

A root is the folder that holds `data/` and `splits/`; docs/scans.md shows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from training.scans.reading.assemble import Objects, Shots, scene_graph
from training.scans.reading.boxes import annotated_box
from training.scans.reading.cameras import camera_of, known_pose, turned_camera, turned_pose, typical_intrinsics
from training.scans.reading.depth_stream import read_depths
from training.scans.reading.groups import read_groups, read_json, read_segments, vertices_of
from training.scans.reading.labels import SCANNETPP, SCANNETPP_EXCLUDED, SCANNETPP_RENAMED, listed_category
from training.scans.reading.listing import SPLITS, lacking, names_in_split, subfolders
from training.scans.reading.mesh import read_vertices
from training.scans.reading.options import settings_from
from training.scans.reading.video import CODECS, VideoFacts, all_pictures, resized, video_facts, write_video
from training.scans.reading.visible import point_boxes
from training.scans.scan import Content, Scan
from vlm3r_core.clip import sample_uniform
from vlm3r_core.config import check_settings, setting
from vlm3r_core.scene.graph import CameraFrame, SceneObject

DATASET = "scannetpp"
VISIBILITY = ("auto", "depth", "none")
MESH, SEGMENTS = "scans/mesh_aligned_0.05.ply", "scans/segments.json"
ANNOTATION = "scans/segments_anno.json"
VIDEOS = ("iphone/rgb.mp4", "iphone/rgb.mkv")
POSES, DEPTH = "iphone/pose_intrinsic_imu.json", "iphone/depth.bin"
_SPARE = 0.01  # how many more poses than frames there may be


@dataclass(frozen=True)
class ScannetppSettings:
    """How scans are read. The last two are defects of the published pipeline, off."""

    split: str = setting("train", "train and val need nvs_sem_train.txt, nvs_sem_val.txt", choices=SPLITS)
    frames: int = setting(32, "frames sampled of the video, as the model samples them", span=(1, 100_000))
    video: bool = setting(True, "read the iPhone's video; without it there are boxes alone")
    width_px: int = setting(640, "of the video, even; as the phone held it, before a turn", span=(2, 10_000))
    height_px: int = setting(480, "of the video, even", span=(2, 10_000))
    codec: str = setting("auto", "of the video", choices=CODECS)
    visibility: str = setting("auto", "depth test of mesh points; auto: where there is depth", choices=VISIBILITY)
    min_points: int = setting(5, "mesh points of an object the depth test must find", span=(1, 10**8))
    seed: int = setting(0, "of the points drawn for the room's area", span=(0, 2**63))
    all_names: bool = setting(False, "defect: nothing is excluded or renamed as in VSI-Bench")
    no_instance_ids: bool = setting(False, "defect: objects have no instance ids, so no frame shows them")

    def __post_init__(self):
        check_settings(self)

    @classmethod
    def published(cls, **changed) -> ScannetppSettings:
        """With every defect of the published pipeline."""
        return cls(**{"all_names": True, "no_instance_ids": True, **changed})


def recognizes(root: str) -> bool:
    """Whether there are folders with ScanNet++'s annotation."""
    return bool(_scenes(Path(root)))


def read_scans(
    root: str, settings: ScannetppSettings | None = None, *, as_published: bool = False, **options
) -> Iterator[Scan]:
    """The scans under a root, by name.

    Args:
        root: the folder that holds `data/`, or that folder itself.
        settings: default ScannetppSettings().
        as_published: without settings: ScannetppSettings.published().
        options: without settings: single fields of them, texts as well.

    Raises:
        ValueError: there is no such option, or its value does not fit.
        FileNotFoundError: there are no scans, or no list of the wanted split.
    """
    settings = settings_from(ScannetppSettings, settings, as_published=as_published, options=options)
    base = Path(root)
    scenes = _scenes(base)
    if not scenes:
        raise FileNotFoundError(f"{root} holds no scan of ScanNet++; expected data/ID/scans and data/ID/iphone")
    homes = (base / "splits", base.parent / "splits", base)
    wanted = names_in_split(homes, f"nvs_sem_{settings.split}.txt", settings.split)
    for folder in scenes:
        if wanted is None or folder.name in wanted:
            skipped = lacking(folder, [MESH, SEGMENTS, ANNOTATION, *([POSES] if settings.video else [])])
            if not skipped and settings.video and _video(folder) is None:
                skipped = f"there is no {VIDEOS[0]} in {folder.name}"
            yield Scan(DATASET, folder.name, partial(_open, folder, settings), skipped)


def _scenes(base: Path) -> list[Path]:
    return [path for home in (base / "data", base) for path in subfolders(home) if _is_scene(path)]


def _is_scene(path: Path) -> bool:
    return any((path / name).is_file() for name in (ANNOTATION, SEGMENTS, MESH))


def _video(scene: Path) -> Path | None:
    return next((scene / name for name in VIDEOS if (scene / name).is_file()), None)


def _open(scene: Path, settings: ScannetppSettings, folder: Path) -> Content:
    vertices = read_vertices(scene / MESH)
    objects = _objects(scene, vertices, settings)
    source, shots, video = _video(scene), None, None
    if settings.video and source is not None:
        facts = video_facts(source)
        shots = _shots(scene, facts, objects, settings)
        video = folder / f"{scene.name}.mp4"
        pictures = _pictures(source, facts, settings)
        write_video(video, pictures, facts.fps, codec=settings.codec, total=facts.frames)
    return Content(scene_graph(DATASET, scene.name, objects, vertices, shots, seed=settings.seed), video)


def _objects(scene: Path, vertices: np.ndarray, settings: ScannetppSettings) -> Objects:
    groups = read_groups(scene / ANNOTATION)
    members = vertices_of(groups, read_segments(scene / SEGMENTS, len(vertices)))
    items, points, left_out = [], {}, Counter()
    for group, places in zip(groups, members, strict=True):
        category = listed_category(
            group.label, SCANNETPP, SCANNETPP_EXCLUDED, SCANNETPP_RENAMED, as_listed=settings.all_names
        )
        if category is None:
            continue
        number = None if settings.no_instance_ids else group.object_id
        try:
            box, bounds, extra = annotated_box(group.entry.get("obb"))
            items.append(SceneObject(category, box, number, bounds, extra))
        except ValueError as error:
            left_out[f"its box is damaged: {error}"] += 1
            continue
        if number is not None:
            points[number] = vertices[places]
    return Objects(tuple(items), points, left_out)


def _pictures(source: Path, facts: VideoFacts, settings: ScannetppSettings) -> Iterator[np.ndarray]:
    size = (settings.width_px, settings.height_px)
    size = size[::-1] if facts.turns % 2 else size
    for rgb in all_pictures(source, facts.frames):
        yield resized(rgb, size)


def _shots(scene: Path, facts: VideoFacts, objects: Objects, settings: ScannetppSettings) -> Shots:
    entries = read_json(scene / POSES)
    if len(entries) > facts.frames * (1 + _SPARE):
        raise ValueError(f"the video is cut off: it has {facts.frames} frames, {Path(POSES).name} knows {len(entries)}")
    places = sample_uniform(facts.frames, settings.frames)
    said = [entry if isinstance(entry := entries.get(f"frame_{place:06d}"), dict) else {} for place in places]
    K = typical_intrinsics([entry.get("intrinsic") for entry in said])
    camera = camera_of(K, facts.size, (settings.width_px, settings.height_px))
    camera = turned_camera(camera, facts.turns)
    depths = _depths(scene, places, settings)
    frames = []
    for place, entry in zip(places, said, strict=True):
        T_WC, visible = known_pose(entry.get("aligned_pose")), ()
        if T_WC is not None:
            T_WC = turned_pose(T_WC, facts.turns)
        if T_WC is not None and place in depths:
            depth_m = np.rot90(depths[place], facts.turns)
            visible = point_boxes(objects.points, T_WC, camera, depth_m, min_points=settings.min_points)
        frames.append(CameraFrame(place, T_WC, visible, extra={"stamp_ns": round(place * 1e9 / facts.fps)}))
    return Shots(camera, tuple(frames), "depth" if depths else "none")


def _depths(scene: Path, places: list[int], settings: ScannetppSettings) -> dict[int, np.ndarray]:
    path = scene / DEPTH
    if settings.visibility == "none" or (settings.visibility == "auto" and not path.is_file()):
        return {}
    return read_depths(path, places)
