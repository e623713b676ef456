"""A little furnished room, and small copies of ScanNet's, ScanNet++'s and ARKitScenes' folders made of it."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import lz4.block
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

ROOM = np.array([4.0, 5.0, 2.5])
FRAMES = 12
# where ScanNet's and ARKit's own worlds are: turned and shifted against the room
T_ALIGNED = np.eye(4)
T_ALIGNED[:3, :3] = Rotation.from_euler("z", 30, degrees=True).as_matrix()
T_ALIGNED[:3, 3] = (0.5, -1.25, 0.125)


@dataclass(frozen=True)
class Thing:
    """A box in the room; the number is its place in THINGS."""

    label: str
    center: tuple[float, float, float]
    lengths: tuple[float, float, float]
    yaw: float = 0.0

    @property
    def R(self) -> np.ndarray:  # noqa: N802 - what matrices of rotation are called
        return Rotation.from_euler("z", self.yaw).as_matrix()

    def surface(self, step: float = 0.05) -> np.ndarray:
        """Points [N, 3] on all six sides."""
        axes = [np.linspace(-n / 2, n / 2, max(2, round(n / step) + 1)) for n in self.lengths]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        outer = (np.abs(np.abs(grid) - np.array(self.lengths) / 2) < 1e-9).any(axis=1)
        return grid[outer] @ self.R.T + self.center


THINGS = (
    Thing("couch", (1.0, 4.0, 0.4), (1.8, 0.8, 0.8), 0.2),
    Thing("desk", (3.0, 2.5, 0.375), (1.2, 0.6, 0.75)),
    Thing("printer", (3.0, 2.5, 0.9), (0.4, 0.3, 0.3)),
    Thing("trash can", (2.1, 4.5, 0.2), (0.3, 0.3, 0.4)),
    Thing("pillow", (1.0, 4.75, 0.2), (0.3, 0.2, 0.2)),  # behind the couch: nothing shows it
    Thing("gizmo", (3.6, 4.6, 0.2), (0.2, 0.2, 0.4)),
)
WALL = len(THINGS)


def pose(index: int) -> np.ndarray:
    """World from camera [4, 4] of a frame: a walk along the wall, looking across the room."""
    eye = np.array([1.0 + 2.0 * index / (FRAMES - 1), 0.4, 0.7])
    return look_at(eye, np.array([2.0, 4.0, 0.5]))


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, (0, 0, 1.0))
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    T[:3, 3] = eye
    return T


def rolled(T_WC: np.ndarray, degrees: float) -> np.ndarray:
    """The pose of a camera turned about its viewing direction, clockwise as its holder sees it."""
    T = T_WC.copy()
    T[:3, :3] = T[:3, :3] @ Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    return T


def intrinsics(size: tuple[int, int]) -> np.ndarray:
    """Intrinsics of 77 degrees' width, square pixels, a principal point a little off the middle."""
    width, height = size
    f = 0.63 * max(width, height)
    return np.array([[f, 0, 0.51 * width], [0, f, 0.49 * height], [0, 0, 1.0]])


def view(T_WC: np.ndarray, size: tuple[int, int], K: np.ndarray | None = None):
    """What a camera sees: (rgb uint8 [H, W, 3], depth float64 [H, W] metres, number of the thing int64 [H, W])."""
    K = intrinsics(size) if K is None else K
    return _view(T_WC.astype(np.float64).tobytes(), size, np.asarray(K, np.float64).tobytes())


@cache
def _view(pose_bytes: bytes, size: tuple[int, int], K_bytes: bytes):
    T_WC, K = np.frombuffer(pose_bytes).reshape(4, 4), np.frombuffer(K_bytes).reshape(3, 3)
    u, v = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1) @ T_WC[:3, :3].T
    eye = T_WC[:3, 3]
    with np.errstate(divide="ignore"):
        depth = np.where(rays > 0, (ROOM - eye) / rays, -eye / rays).min(axis=-1)
    ids = np.full(depth.shape, WALL)
    for number, thing in enumerate(THINGS):
        near, far = _slabs((eye - thing.center) @ thing.R, rays @ thing.R, np.array(thing.lengths) / 2)
        hit = (near < far) & (near > 0) & (near < depth)
        depth, ids = np.where(hit, near, depth), np.where(hit, number, ids)
    places = eye + rays * depth[..., None]
    waves = np.sin(places * (7, 5, 9)) + np.sin(places[..., ::-1] * 3 + ids[..., None])
    picture = np.clip(128 + 55 * waves, 0, 255).astype(np.uint8), depth, ids
    for array in picture:
        array.setflags(write=False)
    return picture


def _slabs(eye: np.ndarray, rays: np.ndarray, half: np.ndarray):
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (-half - eye) / rays, (half - eye) / rays
    return np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)


def boxes_seen(ids: np.ndarray) -> dict[int, tuple[int, int, int, int]]:
    """The box of each thing's pixels, xmin, ymin, xmax, ymax."""
    found = {}
    for number in range(len(THINGS)):
        rows, columns = np.nonzero(ids == number)
        if len(rows):
            found[number] = (columns.min(), rows.min(), columns.max(), rows.max())
    return found


def mesh() -> tuple[np.ndarray, list[np.ndarray]]:
    """Vertices [N, 3] in the room, and those of each thing, then of the floor and walls."""
    shell = Thing("wall", tuple(ROOM / 2), tuple(ROOM)).surface(0.1)
    pieces = [thing.surface() for thing in THINGS] + [shell]
    ends = np.cumsum([0, *map(len, pieces)])
    return np.concatenate(pieces), [np.arange(a, b) for a, b in pairwise(ends)]


def moved(points: np.ndarray, T: np.ndarray) -> np.ndarray:
    return points @ T[:3, :3].T + T[:3, 3]


def write_ply(path: Path, vertices: np.ndarray) -> None:
    """Binary, with colours and two triangles, as scanners write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\n"
        "property float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\nproperty uchar alpha\n"
        "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.zeros(len(vertices), np.dtype([("xyz", "<f4", 3), ("rgba", "u1", 4)]))
    rows["xyz"] = vertices
    faces = struct.pack("<B3iB3i", 3, 0, 1, 2, 3, 2, 1, 3)
    path.write_bytes(header.encode() + rows.tobytes() + faces)


def segments_of(places: list[np.ndarray]) -> tuple[np.ndarray, list[list[int]]]:
    """Two mesh segments to each piece: the segment of each vertex, and the segments of each piece."""
    indices = np.zeros(sum(map(len, places)), int)
    groups = []
    for number, piece in enumerate(places):
        names = [100 + 2 * number, 101 + 2 * number]
        indices[piece] = np.where(np.arange(len(piece)) % 2, *names)
        groups.append(names)
    return indices, groups


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=1)
    return file.getvalue()


def write_film(path: Path, pictures: list[np.ndarray], fps: float, *, rotation: int = 0) -> None:
    """A video; players turn it counter-clockwise by the rotation in degrees."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 4_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        for rgb in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")))
        container.mux(stream.encode())


# ScanNet: colour is twice the video's size, depth has the video's size
SCANNET_COLOR, SCANNET_DEPTH = (192, 144), (96, 72)
LABEL_MAP = (
    "id\traw_category\tcategory\tcount\tnyu40id\tnyu40class\n"
    "1\twall\twall\t8277\t1\twall\n5\tcouch\tsofa\t500\t6\tsofa\n10\tdesk\tdesk\t400\t14\tdesk\n"
    "11\tprinter\tprinter\t106\t40\totherprop\n12\ttrash can\ttrash can\t300\t39\tgarbage bin\n"
    "13\tpillow\tpillow\t200\t18\tpillow\n14\toffice chair\tchair\t100\t5\tchair\n"
    "15\trefrigerator\trefrigerator\t100\t24\trefridgerator\n16\tempty\tempty\t1\t\t\n"
)


def sens_bytes(frames: list[tuple[np.ndarray, bytes, bytes]], *, color_coding: int = 2, depth_coding: int = 1) -> bytes:
    """A .sens file: (pose, colour, depth) of each frame."""

    def four(K: np.ndarray) -> bytes:
        M = np.eye(4, dtype="<f4")
        M[:3, :3] = K
        return M.tobytes()

    # whole numbers are pixel centres in ScanNet
    shift = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    parts = [struct.pack("<IQ", 4, 12), b"StructureSen"]
    for size in (SCANNET_COLOR, SCANNET_DEPTH):
        parts += [four(intrinsics(size) - shift), four(np.eye(3))]
    parts.append(
        struct.pack("<ii4IfQ", color_coding, depth_coding, *SCANNET_COLOR, *SCANNET_DEPTH, 1000.0, len(frames))
    )
    for T_WC, color, depth in frames:
        parts += [T_WC.astype("<f4").tobytes(), struct.pack("<4Q", 1, 2, len(color), len(depth)), color, depth]
    return b"".join([*parts, struct.pack("<Q", 0)])


def write_scannet(root: Path, name: str = "scene0000_00", *, lost: tuple[int, ...] = (), masks: bool = True) -> Path:
    """ScanNet's folder with one scan; returns the scan's own."""
    folder = root / "scans" / name
    folder.mkdir(parents=True)
    (root / "scannetv2-labels.combined.tsv").write_text(LABEL_MAP)
    (root / "scannetv2_train.txt").write_text(f"{name}\nscene0999_00\n")
    vertices, places = mesh()
    T_raw = np.linalg.inv(T_ALIGNED)
    write_ply(folder / f"{name}_vh_clean_2.ply", moved(vertices, T_raw))
    indices, segments = segments_of(places)
    (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(json.dumps({"segIndices": indices.tolist()}))
    labels = [*(thing.label for thing in THINGS), "wall"]
    groups = [{"id": n, "objectId": n, "segments": segments[n], "label": label} for n, label in enumerate(labels)]
    (folder / f"{name}.aggregation.json").write_text(json.dumps({"segGroups": groups}))
    numbers = " ".join(f"{x:.6f}" for x in T_ALIGNED.reshape(-1))
    (folder / f"{name}.txt").write_text(
        f"axisAlignment = {numbers} \ncolorHeight = 144\n"
        "fx_depth = 50.5\nfy_depth = 51.5\nmx_depth = 47.5\nmy_depth = 35.5\n"
    )
    frames = []
    with zipfile.ZipFile(folder / f"{name}_2d-instance-filt.zip", "w") as archive:
        for index in range(FRAMES):
            rgb, _, ids = view(pose(index), SCANNET_COLOR)
            _, depth, _ = view(pose(index), SCANNET_DEPTH)
            file = io.BytesIO()
            Image.fromarray(rgb).save(file, "JPEG", quality=95)
            millimetres = (depth * 1000).astype("<u2").tobytes()
            T_WC = np.full((4, 4), -np.inf) if index in lost else T_raw @ pose(index)
            frames.append((T_WC, file.getvalue(), zlib.compress(millimetres)))
            archive.writestr(f"instance-filt/{index}.png", png((ids + 1).astype(np.uint8)))
    if not masks:
        (folder / f"{name}_2d-instance-filt.zip").unlink()
    (folder / f"{name}.sens").write_bytes(sens_bytes(frames))
    return folder


PHONE = (128, 96)
SCANNETPP_LABELS = {"couch": "sofa", "desk": "table", "gizmo": "cabinet"}


def write_scannetpp(
    root: Path, name: str = "0a5c013435", *, whole_stream: bool = False, roll_deg: float = 0.0, rotation: int = 0
) -> Path:
    """ScanNet++'s folder with one scan, the phone turned by an angle; returns the scan's own."""
    folder = root / "data" / name
    (folder / "iphone").mkdir(parents=True)
    (root / "splits").mkdir(exist_ok=True)
    (root / "splits" / "nvs_sem_train.txt").write_text(f"{name}\n")
    vertices, places = mesh()
    write_ply(folder / "scans" / "mesh_aligned_0.05.ply", vertices)
    indices, segments = segments_of(places)
    (folder / "scans" / "segments.json").write_text(json.dumps({"segIndices": indices.tolist()}))
    groups = [
        {
            "id": n + 1,
            "objectId": n + 1,
            "label": SCANNETPP_LABELS.get(thing.label, thing.label),
            "segments": segments[n],
            "obb": annotated(thing) | {"min": [0, 0, 0], "max": [1, 1, 1], "dominantNormal": [0, 0, 1]},
        }
        for n, thing in enumerate(THINGS)
    ]
    (folder / "scans" / "segments_anno.json").write_text(json.dumps({"segGroups": groups}))
    depths, pictures, poses = [], [], {}
    for index in range(FRAMES):
        T_WC = rolled(pose(index), roll_deg)
        pictures.append(view(T_WC, PHONE)[0])
        depths.append(view(T_WC, (256, 192))[1])
        entry = {
            "intrinsic": intrinsics(PHONE).tolist(),
            "aligned_pose": T_WC.tolist(),
            "pose": np.eye(4).tolist(),
        }
        poses[f"frame_{index:06d}"] = entry
    write_film(folder / "iphone" / "rgb.mp4", pictures, 60, rotation=rotation)
    (folder / "iphone" / "pose_intrinsic_imu.json").write_text(json.dumps(poses))
    (folder / "iphone" / "depth.bin").write_bytes(depth_bytes(depths, whole_stream))
    return folder


def depth_bytes(depths: list[np.ndarray], whole_stream: bool) -> bytes:
    """ScanNet++'s depth in one of its layouts; of the other, even pictures are lz4 and odd ones deflate."""

    def deflate(content: bytes) -> bytes:
        squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return squeeze.compress(content) + squeeze.flush()

    if whole_stream:
        return deflate(np.stack(depths).astype("<f4").tobytes())
    parts = []
    for index, depth in enumerate(depths):
        if index % 2:
            piece = deflate(depth.astype("<f4").tobytes())
        else:
            piece = lz4.block.compress((depth * 1000).astype("<u2").tobytes(), store_size=False)
        parts += [struct.pack("<I", len(piece)), piece]
    return b"".join(parts)


def annotated(thing: Thing) -> dict:
    """A box as annotations state it: rows are the axes."""
    return {
        "centroid": list(thing.center),
        "axesLengths": list(thing.lengths),
        "normalizedAxes": thing.R.T.reshape(-1).tolist(),
    }


TABLET = (64, 48)
ARKIT_LABELS = {"couch": "sofa", "desk": "table", "printer": "tv_monitor", "trash can": "cabinet", "pillow": "stool"}
STARTS_S, PERIOD_S = 1234.5, 0.1


def write_arkit(
    root: Path,
    name: str = "47333462",
    *,
    kind: str = "3dod",
    fold: str = "Training",
    roll_deg: float = 90.0,
    frames: int = FRAMES,
    edit: Callable[[list[str]], list[str]] = lambda lines: lines,
) -> Path:
    """ARKitScenes' folder with one scan without a film, the tablet turned by an angle; returns the scan's own."""
    folder = root / kind / fold / name
    home = folder / f"{name}_frames" if kind == "3dod" else folder
    for part in ("lowres_wide", "lowres_depth", "lowres_wide_intrinsics"):
        (home / part).mkdir(parents=True)
    write_ply(folder / f"{name}_3dod_mesh.ply", mesh()[0])
    data = [
        {"uid": f"u{n}", "label": ARKIT_LABELS.get(t.label, t.label), "segments": {"obbAligned": annotated(t)}}
        for n, t in enumerate(THINGS)
    ]
    (folder / f"{name}_3dod_annotation.json").write_text(json.dumps({"data": data, "skipped": False}))
    K, lines = intrinsics(TABLET), []
    for index in range(frames):
        time_s = STARTS_S + index * PERIOD_S
        T_WC = rolled(pose(index * (FRAMES - 1) / max(1, frames - 1)), roll_deg)
        rgb, depth, _ = view(T_WC, TABLET, K)
        (home / "lowres_wide" / f"{name}_{time_s:.3f}.png").write_bytes(png(rgb))
        (home / "lowres_depth" / f"{name}_{time_s:.3f}.png").write_bytes(png((depth * 1000).astype(np.uint16)))
        numbers = [*TABLET, K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
        (home / "lowres_wide_intrinsics" / f"{name}_{time_s:.3f}.pincam").write_text(" ".join(map(str, numbers)))
        T_CW = np.linalg.inv(T_WC)
        turn = Rotation.from_matrix(T_CW[:3, :3]).as_rotvec()
        lines.append(" ".join(f"{x:.9f}" for x in (time_s, *turn, *T_CW[:3, 3])))
    (home / "lowres_wide.traj").write_text("\n".join(edit(lines)) + "\n")
    return folder
