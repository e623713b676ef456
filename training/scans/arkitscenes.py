"""ARKitScenes as distributed: annotated boxes, frames by trajectory, and the recorded film. Downloads nothing.

A root is the folder that holds `3dod/` or `raw/`; docs/scans.md shows it. A tablet is held as it comes: pictures are
turned by quarter turns until they stand upright most of the time, with camera and poses.
"""

from __future__ import annotations

import csv
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from training.scans.reading.arkit import (
    Trajectory,
    files_by_time,
    nearest,
    place_film,
    read_pincam,
    read_trajectory,
)
from training.scans.reading.assemble import Objects, Shots, scene_graph
from training.scans.reading.boxes import annotated_box
from training.scans.reading.cameras import camera_of, turned_camera, turned_pose, typical_intrinsics, upright_turns
from training.scans.reading.groups import read_json
from training.scans.reading.labels import ARKIT, ARKIT_EXCLUDED, ARKIT_RENAMED, listed_category
from training.scans.reading.listing import SPLITS, lacking, subfolders
from training.scans.reading.mesh import read_vertices
from training.scans.reading.options import settings_from
from training.scans.reading.video import CODECS, all_pictures, video_facts, write_video
from training.scans.reading.visible import point_boxes
from training.scans.scan import Content, Scan
from vlm3r_core.clip import sample_uniform
from vlm3r_core.config import check_settings, setting
from vlm3r_core.image_encoding import decode_compressed
from vlm3r_core.scene.graph import CameraFrame, PinholeCamera, SceneObject

DATASET = "arkitscenes"
FILMS = ("auto", "mov", "frames")
FOLDS = {"train": ("Training",), "val": ("Validation",), "all": ("Training", "Validation")}
TABLES = ("metadata.csv", "3dod_train_val_splits.csv", "raw_train_val_splits.csv")
_MARGIN_M = 0.02  # how far outside its box a point of an object may lie
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArkitSettings:
    """How scans are read. The last three are defects or neglects of the published pipeline, off."""

    split: str = setting(
        "train", "folders Training, Validation or both; VSI-Bench asks about Validation", choices=SPLITS
    )
    one_per_visit: bool = setting(True, "one scan of each visited room, drawn by seed, where a table names the visits")
    frames: int = setting(32, "frames sampled of the video, as the model samples them", span=(1, 100_000))
    video: bool = setting(True, "make a video; without it there are boxes alone")
    film: str = setting("auto", "the .mov, small pictures, or the first that can be placed in time", choices=FILMS)
    codec: str = setting("auto", "of videos that are written", choices=CODECS)
    min_points: int = setting(5, "mesh points of an object the depth test must find", span=(1, 10**8))
    seed: int = setting(0, "of the choice of scans and the points drawn for the room's area", span=(0, 2**63))
    all_names: bool = setting(False, "defect: nothing is excluded or renamed as in VSI-Bench")
    no_instance_ids: bool = setting(False, "defect: objects have no instance ids, so no frame shows them")
    as_held: bool = setting(False, "neglect: pictures stay turned as the tablet was held")

    def __post_init__(self):
        check_settings(self)

    @classmethod
    def published(cls, **changed) -> ArkitSettings:
        """With every defect of the published pipeline."""
        return cls(**{"all_names": True, "no_instance_ids": True, "as_held": True, **changed})


def recognizes(root: str) -> bool:
    """Whether there are folders with ARKitScenes' annotation."""
    return bool(_scenes(Path(root)))


def read_scans(
    root: str, settings: ArkitSettings | None = None, *, as_published: bool = False, **options
) -> Iterator[Scan]:
    """The scans under a root, by name; of one that is there as `raw` and as `3dod`, the raw one.

    Args:
        root: the folder that holds `3dod/` or `raw/`, or one of those, or a fold.
        settings: default ArkitSettings().
        as_published: without settings: ArkitSettings.published().
        options: without settings: single fields of them, texts as well.

    Raises:
        ValueError: there is no such option, or its value does not fit.
        FileNotFoundError: there are no scans of the wanted split.
    """
    settings = settings_from(ArkitSettings, settings, as_published=as_published, options=options)
    base = Path(root)
    found = {
        path.name: path
        for path in _scenes(base)
        if settings.split == "all" or path.parent.name in FOLDS[settings.split]
    }
    if not found:
        raise FileNotFoundError(
            f"{root} holds no scan of ARKitScenes in {' or '.join(FOLDS[settings.split])}; expected "
            "3dod/Training/ID/ID_3dod_annotation.json and the like"
        )
    for name in _chosen(sorted(found), _visits(base), settings):
        scene = found[name]
        yield Scan(DATASET, name, partial(_open, scene, settings), lacking(scene, [_annotation(name), _mesh(name)]))


def _scenes(base: Path) -> list[Path]:
    homes = [base / kind / fold for kind in ("3dod", "raw", ".") for fold in ("Training", "Validation", ".")]
    paths = [path for home in homes for path in subfolders(home)]
    return [
        path
        for path in paths
        if path.name.isdecimal() and any((path / f(path.name)).is_file() for f in (_annotation, _mesh))
    ]


def _annotation(name: str) -> str:
    return f"{name}_3dod_annotation.json"


def _mesh(name: str) -> str:
    return f"{name}_3dod_mesh.ply"


def _visits(base: Path) -> dict[str, str]:
    """The visit of each scan that a table names."""
    visits: dict[str, str] = {}
    homes = [base / kind for kind in ("3dod", "raw", ".", "..")]
    for path in (home / name for home in homes for name in TABLES):
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace", newline="") as file:
                for row in csv.DictReader(file):
                    visit = (row.get("visit_id") or "").strip().removesuffix(".0")
                    if visit and visit.lower() != "nan":
                        visits[(row.get("video_id") or "").strip()] = visit
    return visits


def _chosen(names: list[str], visits: dict[str, str], settings: ArkitSettings) -> list[str]:
    """One scan of each visit; all of those whose visit is not known."""
    if not settings.one_per_visit:
        return names
    by_visit = defaultdict(list)
    for name in names:
        by_visit[visits.get(name, f"scan {name}")].append(name)
    chosen = []
    for visit, group in by_visit.items():
        rng = np.random.default_rng((settings.seed, *visit.encode()))
        chosen.append(group[int(rng.integers(len(group)))])
    return sorted(chosen)


def _open(scene: Path, settings: ArkitSettings, folder: Path) -> Content:
    vertices = read_vertices(scene / _mesh(scene.name))
    objects = _objects(scene, vertices, settings)
    shots, video = _filmed(scene, objects, settings, folder) if settings.video else (None, None)
    return Content(scene_graph(DATASET, scene.name, objects, vertices, shots, seed=settings.seed), video)


def _objects(scene: Path, vertices: np.ndarray, settings: ArkitSettings) -> Objects:
    entries = read_json(scene / _annotation(scene.name)).get("data")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{_annotation(scene.name)} is empty: no object is annotated")
    items, points, left_out = [], {}, Counter()
    for number, entry in enumerate(entries):
        fields = entry if isinstance(entry, dict) else {}
        label, segments = fields.get("label"), fields.get("segments")
        category = listed_category(str(label), ARKIT, ARKIT_EXCLUDED, ARKIT_RENAMED, as_listed=settings.all_names)
        if category is None:
            if label not in ARKIT:
                left_out[f"label {label!r} is not one of 3DOD"] += 1
            continue
        try:
            box, _, _ = annotated_box(segments.get("obbAligned") if isinstance(segments, dict) else None)
        except ValueError as error:
            left_out[f"its box is damaged: {error}"] += 1
            continue
        extra = {"uid": fields["uid"]} if isinstance(fields.get("uid"), str) else {}
        items.append(SceneObject(category, box, None if settings.no_instance_ids else number, box.bounds(), extra))
        if not settings.no_instance_ids:
            points[number] = vertices[box.contains(vertices, _MARGIN_M)]
    return Objects(tuple(items), points, left_out)


@dataclass(frozen=True, eq=False)
class _Film:
    """A video and when its sampled frames were taken.

    Args:
        path: the video.
        size: (width, height) its pictures would have as the sensor gives them.
        turns: by how many counter-clockwise quarter turns they are turned.
        samples: number in the video, seconds since its start, seconds by the recording's clock.
    """

    path: Path
    size: tuple[int, int]
    turns: int
    samples: tuple[tuple[int, float, float], ...]


def _filmed(scene: Path, objects: Objects, settings: ArkitSettings, folder: Path) -> tuple[Shots | None, Path]:
    """What the video shows, and the video."""
    home = scene / f"{scene.name}_frames"
    home = home if home.is_dir() else scene
    pictures, mov = files_by_time(home / "lowres_wide", ".png"), scene / f"{scene.name}.mov"
    tracked = (home / "lowres_wide.traj").is_file()
    wants_mov = settings.film == "mov" or (settings.film == "auto" and mov.is_file())
    if wants_mov and not (pictures and tracked):
        # nothing says when the film was taken: questions about frames cannot be asked
        video_facts(mov)
        return None, mov
    if not pictures or not tracked:
        raise FileNotFoundError(f"there is neither a .mov nor lowres_wide with lowres_wide.traj in {home.name}")
    track = read_trajectory(home / "lowres_wide.traj")
    upright = None if settings.as_held else upright_turns(track.T_WC)
    film = None
    if wants_mov:
        try:
            film = _from_mov(mov, pictures, upright, settings, folder)
        except ValueError as error:
            if settings.film == "mov":
                raise
            log.warning("%s: the small pictures are the video, since %s", scene.name, error)
    if film is None:
        film = _from_pictures(pictures, upright or 0, settings, folder / f"{scene.name}.mp4")
    return _shots(home, film, track, objects, settings), film.path


def _from_mov(
    mov: Path, pictures: dict[float, Path], upright: int | None, settings: ArkitSettings, folder: Path
) -> _Film:
    facts = video_facts(mov)
    placed = place_film(mov, settings.frames, pictures)
    turns = placed.turns if upright is None else upright
    size = facts.shown[::-1] if placed.turns % 2 else facts.shown
    path = mov
    if turns != placed.turns:
        path = folder / f"{mov.stem}.mp4"
        more = (turns - placed.turns) % 4
        rgbs = (np.rot90(rgb, more) for rgb in all_pictures(mov, facts.frames))
        write_video(path, rgbs, facts.fps, codec=settings.codec, total=facts.frames)
    numbers = sample_uniform(facts.frames, settings.frames)
    times = [placed.start_s + stamp for stamp in placed.stamps_s]
    return _Film(path, size, turns, tuple(zip(numbers, placed.stamps_s, times, strict=True)))


def _from_pictures(pictures: dict[float, Path], turns: int, settings: ArkitSettings, path: Path) -> _Film:
    times = list(pictures)
    fps = 1.0 / float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    rgbs = (np.rot90(decode_compressed(picture.read_bytes()), turns) for picture in pictures.values())
    write_video(path, rgbs, fps, codec=settings.codec, total=len(times))
    facts = video_facts(path)
    numbers = sample_uniform(len(times), settings.frames)
    size = facts.size[::-1] if turns % 2 else facts.size
    return _Film(path, size, turns, tuple((number, number / facts.fps, times[number]) for number in numbers))


def _shots(home: Path, film: _Film, track: Trajectory, objects: Objects, settings: ArkitSettings) -> Shots:
    camera = turned_camera(_camera(home, film), film.turns)
    depths = files_by_time(home / "lowres_depth", ".png")
    frames = []
    for number, stamp_s, time_s in film.samples:
        T_WC, visible, depth = track.at(time_s), (), nearest(depths, time_s)
        if T_WC is not None:
            T_WC = turned_pose(T_WC, film.turns)
        if T_WC is not None and depth is not None:
            depth_m = np.rot90(_depth_m(depth), film.turns)
            visible = point_boxes(objects.points, T_WC, camera, depth_m, min_points=settings.min_points)
        frames.append(CameraFrame(number, T_WC, visible, extra={"stamp_ns": round(stamp_s * 1e9)}))
    return Shots(camera, tuple(frames), "depth" if depths else "none")


def _camera(home: Path, film: _Film) -> PinholeCamera:
    """The camera of the film before it is turned."""
    files = files_by_time(home / "lowres_wide_intrinsics", ".pincam")
    found = [path for _, _, time_s in film.samples if (path := nearest(files, time_s)) is not None]
    if not found:
        raise ValueError(f"there are no intrinsics in {home.name}/lowres_wide_intrinsics for any sampled frame")
    read = [read_pincam(path) for path in found]
    return camera_of(typical_intrinsics([K for K, _ in read]), read[0][1], film.size)


def _depth_m(path: Path) -> np.ndarray:
    """A depth picture, float32 [H, W] metres."""
    try:
        with Image.open(path) as image:
            millimetres = np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from None
    if millimetres.ndim != 2:
        raise ValueError(f"{path.name} must be a grey picture of millimetres, got shape {millimetres.shape}")
    return millimetres * np.float32(1e-3)
