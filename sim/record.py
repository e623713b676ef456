"""Records a walk through a world as a video, a folder of images or a ROS 2 bag, with the truth about it beside.

python -m sim.record flat:3 walk.mp4 --cover
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp
from tqdm import tqdm

from sim.camera import CameraSettings
from sim.command import check_writable, run_command
from sim.env import Env, Observation
from sim.mesh_env import WorldSettings
from sim.recording.truth import MIN_PIXELS, walk_graph
from sim.recording.writers import BagWriter, FolderWriter, FrameWriter, VideoWriter
from sim.walks import Walk, WalkSettings, make_walk
from sim.world.render import Picture
from sim.world.sensor import SensorSettings, blurred, noisy
from sim.worlds import open_env
from vlm3r_core.config import check_range, check_settings, setting
from vlm3r_core.cpu import share_cores
from vlm3r_core.scene.graph import SceneGraph
from vlm3r_core.scene.metadata import write_metadata
from vlm3r_core.types import Frame

KINDS = (".mp4", ".mcap", "")
# What a cheap camera in a room does to its pictures.
NOISY = SensorSettings(read_noise=2.0, shot_noise=0.05, depth_noise_per_m=0.002, exposure_s=0.02)


@dataclass(frozen=True)
class RecordSettings:
    """What is written."""

    image_format: str = setting("jpg", "images of a folder: jpg or png (exact)", choices=("jpg", "png"))
    depth: bool = setting(False, "folder: also depth in 16-bit millimetres")
    ids: bool = setting(False, "folder: also instance ids")
    raw: bool = setting(False, "bag: raw images (exact) instead of JPEG")
    min_pixels: int = setting(MIN_PIXELS, "an object of which fewer pixels show is not visible", span=(1, 10**8))
    overwrite: bool = setting(False, "replace what is there")

    def __post_init__(self):
        check_settings(self)


def record(
    env: Env,
    walk: Walk,
    target: Path | str,
    settings: RecordSettings | None = None,
    *,
    sensor: SensorSettings | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SceneGraph:
    """Takes the pictures of a walk and writes them with the truth; all of it or nothing is there afterwards.

    Args:
        env: the world.
        walk: where the camera goes.
        target: NAME.mp4 (video), NAME.mcap (ROS 2 bag) or a name without an ending (folder of images). The truth goes
            to NAME_scenes.json and NAME_frames.json beside it, to scenes.json and frames.json inside a folder.
        settings: formats and limits.
        sensor: flaws of the camera, none by default.
        seed: of the sensor's noise.
        progress: whether to show a progress bar.

    Returns:
        The truth that was written, see walk_graph.

    Raises:
        ValueError: the target has another ending, or an MP4 cannot have this picture size.
        FileExistsError: there is something at the target already.
    """
    settings, target = settings or RecordSettings(), Path(target)
    _check_target(target, settings.overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial"))
    try:
        graph = _recorded(
            env, walk, work, target, settings, tqdm(watch(env, walk, sensor, seed), **_bar(walk, progress))
        )
        if target.exists():
            os.replace(target, work / "replaced")
        os.replace(_content(work, target), target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return graph


def _check_target(target: Path, overwrite: bool) -> None:
    if target.suffix.lower() not in KINDS:
        raise ValueError(
            f"a recording's name must end in .mp4 or .mcap, or have no ending for a folder, got {target.suffix!r}"
        )
    empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not empty and not overwrite:
        raise FileExistsError(f"{target} exists already; give another name, or ask to overwrite it (--force)")


def watch(env: Env, walk: Walk, sensor: SensorSettings | None = None, seed: int = 0) -> Iterator[Observation]:
    """What the camera sees along a walk, picture by picture.

    Args:
        env: the world; the robot in it stays where it is.
        walk: poses and stamps.
        sensor: flaws of the camera, none by default. Ids stay true.
        seed: of its noise.
    """
    for index, (T_WC, stamp_ns) in enumerate(zip(walk.T_WC, walk.stamps_ns.tolist(), strict=True)):
        seen = env.view(T_WC, stamp_ns)
        if sensor is not None:
            rng = np.random.default_rng((seed, index))
            seen = _flawed(env, seen, _exposure(walk, index, sensor), sensor, rng)
        yield seen


def _flawed(
    env: Env, seen: Observation, before: list[np.ndarray], sensor: SensorSettings, rng: np.random.Generator
) -> Observation:
    """A clean picture with the sensor's flaws; before are the poses while the shutter was open."""
    clean = Picture(seen.frame.rgb, seen.depth_m, seen.semantic_ids)

    def render(pose: np.ndarray) -> Picture:
        if pose is seen.T_WC:
            return clean
        other = env.view(pose)
        return Picture(other.frame.rgb, other.depth_m, other.semantic_ids)

    picture = noisy(blurred(render, [*before, seen.T_WC]), sensor, rng)
    frame = Frame(picture.rgb, seen.frame.stamp_ns, seen.frame.frame_id, seen.K)
    return Observation(frame, picture.depth_m, picture.ids, seen.T_WC, seen.K)


def _recorded(
    env: Env, walk: Walk, work: Path, target: Path, settings: RecordSettings, pictures: Iterator[Observation]
) -> SceneGraph:
    """Writes everything but the last rename: the recording in the work folder, the truth of a file beside the file."""
    content = work / target.name
    writer: FrameWriter
    if target.suffix.lower() == ".mp4":
        writer = VideoWriter(content, _fps(walk))
    elif target.suffix.lower() == ".mcap":
        writer = BagWriter(work / target.stem, raw=settings.raw)
    else:
        writer = FolderWriter(content, settings.image_format, depth=settings.depth, ids=settings.ids)
    color_path = writer.pattern if isinstance(writer, FolderWriter) else None

    def written() -> Iterator[Observation]:
        for seen in pictures:
            writer.add(seen)
            yield seen

    graph = walk_graph(
        env.scene_graph(),
        walk,
        written(),
        min_pixels=settings.min_pixels,
        video_path=target.name,
        color_path=color_path,
    )
    writer.close()
    if isinstance(writer, FolderWriter):
        write_metadata([graph], content / "scenes.json", content / "frames.json")
    else:
        beside = (target.with_name(f"{target.stem}_{name}.json") for name in ("scenes", "frames"))
        write_metadata([graph], *beside)
    return graph


def _content(work: Path, target: Path) -> Path:
    """What was written in the work folder; a bag is a file in a folder of its own."""
    return next((work / target.stem).glob("*.mcap")) if target.suffix.lower() == ".mcap" else work / target.name


def _bar(walk: Walk, progress: bool) -> dict:
    return {"total": len(walk), "unit": "frame", "desc": "recording", "disable": not progress}


def _fps(walk: Walk) -> float:
    return (len(walk) - 1) / walk.duration_s if len(walk) > 1 else 10.0


def _exposure(walk: Walk, index: int, sensor: SensorSettings) -> list[np.ndarray]:
    """Camera poses [4, 4] while the shutter is open, up to but without that of the frame."""
    if not sensor.exposure_s or index == 0:
        return []
    now = walk.T_WC[index]
    before, span_ns = walk.T_WC[index - 1], walk.stamps_ns[index] - walk.stamps_ns[index - 1]
    open_share = min(1.0, sensor.exposure_s * 1e9 / span_ns)
    turns = Slerp([0.0, 1.0], Rotation.from_matrix(np.stack([now[:3, :3], before[:3, :3]])))
    poses = []
    for back in np.linspace(open_share, 0.0, sensor.blur_samples)[:-1]:
        pose = np.eye(4)
        pose[:3, :3] = turns(back).as_matrix()
        pose[:3, 3] = now[:3, 3] + back * (before[:3, 3] - now[:3, 3])
        poses.append(pose)
    return poses


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, 2 (bad input: one line says what) or 130 (interrupted)."""
    arguments = _parser().parse_args(argv)
    share_cores()
    return run_command("sim.record", lambda: _run(arguments), "nothing was written")


def _run(arguments: argparse.Namespace) -> None:
    check_range("--seed", arguments.seed, 0)
    _check_target(Path(arguments.target), arguments.force)
    check_writable(Path(arguments.target).parent / "a file")
    width, height = arguments.size
    camera = CameraSettings(width_px=width, height_px=height, hfov_deg=arguments.hfov, height_m=arguments.height)
    walk_settings = WalkSettings(
        height_m=arguments.height,
        fps=arguments.fps,
        speed_m_s=arguments.speed,
        turn_speed_deg_s=arguments.turn_speed,
        stops=arguments.stops,
        cover=arguments.cover,
        max_duration_s=arguments.max_duration,
    )
    formats = RecordSettings(
        arguments.format, arguments.depth, arguments.ids, arguments.raw, arguments.min_pixels, arguments.force
    )
    env = open_env(arguments.world, WorldSettings(camera=camera))
    try:
        walk = make_walk(env, np.random.default_rng((arguments.seed, 0)), walk_settings)
        began_s = time.perf_counter()
        sensor = NOISY if arguments.noise else None
        graph = record(env, walk, arguments.target, formats, sensor=sensor, seed=arguments.seed)
        took_s = time.perf_counter() - began_s
    finally:
        env.close()
    shown = {item.instance_id for frame in graph.frames for item in frame.visible}
    print(
        f"{arguments.target}: {len(walk)} frames of {width} x {height}, {walk.duration_s:.1f} s of walking, "
        f"{len(shown)} of {len(graph.objects)} objects seen, {len(walk) / took_s:.1f} frames/s"
    )


def _parser() -> argparse.ArgumentParser:
    walk, record_defaults = WalkSettings(), RecordSettings()
    parser = argparse.ArgumentParser(prog="python -m sim.record", description="Records a walk through a world.")
    add = parser.add_argument
    add("world", help="flat:SEED, a mesh file, a folder with one, or habitat:FILE")
    add("target", help="NAME.mp4, NAME.mcap, or a name without an ending for a folder of images")
    add("--seed", type=int, default=0, help="of the walk and the noise (default: %(default)s)")
    add("--fps", type=float, default=walk.fps, help="pictures a second (default: %(default)s)")
    add("--height", type=float, default=walk.height_m, help="of the camera, metres (default: %(default)s)")
    add("--speed", type=float, default=walk.speed_m_s, help="metres a second (default: %(default)s)")
    add("--turn-speed", type=float, default=walk.turn_speed_deg_s, help="degrees a second (default: %(default)s)")
    add("--stops", type=int, default=walk.stops, help="random stops (default: %(default)s)")
    add("--cover", action="store_true", help="stops that show most of the scene instead")
    add("--max-duration", type=float, default=walk.max_duration_s, help="seconds (default: %(default)s)")
    add("--size", type=_size, default=(640, 480), metavar="WxH", help="of the pictures, pixels (default: 640x480)")
    add("--hfov", type=float, default=CameraSettings().hfov_deg, help="field of view, degrees (default: %(default)s)")
    add("--noise", action="store_true", help="noise and motion blur of a cheap camera")
    add("--format", choices=("jpg", "png"), default=record_defaults.image_format, help="images of a folder")
    add("--depth", action="store_true", help="folder: also depth, 16-bit millimetres")
    add("--ids", action="store_true", help="folder: also instance ids")
    add("--raw", action="store_true", help="bag: raw images instead of JPEG")
    add("--min-pixels", type=int, default=record_defaults.min_pixels, help="of a visible object (default: %(default)s)")
    add("--force", action="store_true", help="replace what is at the target")
    return parser


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"a size is WIDTHxHEIGHT such as 640x480, got {text!r}")
    return int(width), int(height)


if __name__ == "__main__":
    sys.exit(main())
