"""Broken worlds, from the file to the agent: what is damaged is named, what can be lived with is said and lived with.

What a single reader refuses is tested beside that reader; here whole worlds are opened by name.
"""

from __future__ import annotations

import json
import logging
import struct

import numpy as np
import pytest
import trimesh
from PIL import Image
from worlds import box, quad, room

from sim.camera import CameraSettings, camera_pose
from sim.env import Move
from sim.episode import Episode
from sim.mesh_env import MeshEnv, WorldSettings
from sim.walks import make_walk
from sim.world.annotation import plain_graph
from sim.world.walkgrid import NavSettings
from sim.worlds import open_env

LENS = CameraSettings(width_px=40, height_px=30, pitch_deg=-30)
SETTINGS = WorldSettings(LENS)
FLOOR = box([0, 0, -0.1], [6, 4, 0]).subdivide()


def glb_bytes(document: dict, blob: bytes = b"") -> bytes:
    """A binary glTF of a JSON document and its data."""
    text = json.dumps(document).encode()
    text, blob = text + b" " * (-len(text) % 4), blob + bytes(-len(blob) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(blob), b"BIN\0") + blob if blob else b""
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def glb_parts(data: bytes) -> tuple[dict, bytes]:
    length = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def house(folder, **things):
    """A GLB of a floor with a red texture over green, and things on it."""
    picture = Image.new("RGB", (8, 8), (255, 0, 0))
    floor = quad([[0, 0, 0], [6, 0, 0], [6, 4, 0], [0, 4, 0]], image=picture, baseColorFactor=[0, 255, 0, 255])
    scene = trimesh.Scene()
    for name, part in {"floor": floor, **things}.items():
        part.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))
        scene.add_geometry(part, node_name=name, geom_name=name)
    scene.export(folder / "house.glb")
    return folder / "house.glb"


def ply(folder, vertices, faces=FLOOR.faces, encoding="binary"):
    path = folder / "scan.ply"
    trimesh.Trimesh(vertices, faces, process=False).export(path, encoding=encoding)
    return path


def refused(path, kind=ValueError) -> str:
    with pytest.raises(kind) as caught:
        open_env(str(path), SETTINGS)
    return str(caught.value)


def test_empty_scenes_are_named(tmp_path):
    for document in ({"asset": {"version": "2.0"}}, {"asset": {"version": "2.0"}, "scenes": [{"nodes": []}]}):
        (tmp_path / "a.glb").write_bytes(glb_bytes(document))
        message = refused(tmp_path / "a.glb")
        assert "a.glb: a mesh needs at least one triangle, got none" in message


def test_a_world_of_walls_has_no_floor(tmp_path):
    wall = trimesh.util.concatenate([box([0, 0, 0], [6, 0.1, 2.5]), box([0, 3.9, 0], [6, 4, 2.5])])
    wall.export(tmp_path / "walls.ply")
    assert "there is no walkable area" in refused(tmp_path / "walls.ply")
    FLOOR.copy().apply_scale(1e-3).export(tmp_path / "small.ply")  # millimetres taken for metres
    assert "no floor that is flat, wide and free enough" in refused(tmp_path / "small.ply")


@pytest.mark.parametrize("content", [None, b"no picture", "torn"])
def test_an_absent_or_damaged_texture_leaves_the_plain_color(tmp_path, caplog, content):
    path = house(tmp_path)
    document, blob = glb_parts(path.read_bytes())
    document["images"] = [{"uri": "carpet.png"}]
    path.write_bytes(glb_bytes(document, blob))
    if content is not None:
        Image.new("RGB", (64, 64), (255, 0, 0)).save(tmp_path / "carpet.png")
        whole = (tmp_path / "carpet.png").read_bytes()
        (tmp_path / "carpet.png").write_bytes(whole[:40] if content == "torn" else content)
    with caplog.at_level(logging.WARNING, "sim"):
        env = open_env(str(path), SETTINGS)
    assert "1 of 1 parts lack their texture and are drawn plain: floor" in caplog.text
    rgb = env.view(camera_pose(np.array([1.0, 2.0, 0.0]), 0.0, LENS)).frame.rgb[-1]
    assert (rgb[:, 1] > 200).all()
    assert (rgb[:, [0, 2]] == 0).all()
    assert env.is_navigable(env.sample_navigable(np.random.default_rng(0)))


def test_a_texture_beside_the_file_is_found(tmp_path, caplog):
    path = house(tmp_path)
    document, blob = glb_parts(path.read_bytes())
    document["images"] = [{"uri": "carpet.png"}]
    path.write_bytes(glb_bytes(document, blob))
    Image.new("RGB", (8, 8), (255, 255, 255)).save(tmp_path / "carpet.png")
    with caplog.at_level(logging.WARNING, "sim"):
        open_env(str(path), SETTINGS)
    assert "lack their texture" not in caplog.text


def test_a_gltf_without_its_data_file_names_it(tmp_path):
    document, blob = glb_parts(house(tmp_path).read_bytes())
    document["buffers"] = [{"uri": "house.bin", "byteLength": len(blob)}]
    (tmp_path / "open.gltf").write_text(json.dumps(document))
    message = refused(tmp_path / "open.gltf", FileNotFoundError)
    assert "open.gltf needs house.bin, which is not beside it; copy all of the mesh's files" in message


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("encoding", ["binary", "ascii", "glb"])
def test_a_file_cut_short_is_named(tmp_path, encoding, share):
    path = house(tmp_path) if encoding == "glb" else ply(tmp_path, FLOOR.vertices, encoding=encoding)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    message = refused(path)
    assert str(path) in message
    assert "is it whole?" in message


def test_a_triangle_without_its_corner_is_named(tmp_path):
    path = ply(tmp_path, FLOOR.vertices, encoding="ascii")
    path.write_text(path.read_text().replace("\n3 ", "\n3 999", 1))
    assert f"there are {len(FLOOR.vertices)}; is the file damaged?" in refused(path)


def test_corners_that_are_not_finite(tmp_path, caplog):
    corners = FLOOR.vertices.copy()
    under = int(np.argmin(corners.sum(axis=1)))  # the lowest corner of the slab
    corners[under] = np.nan
    with caplog.at_level(logging.WARNING, "sim"):
        env = open_env(str(ply(tmp_path, corners)), SETTINGS)
    assert "triangles whose corners are not finite" in caplog.text
    rng = np.random.default_rng(0)
    points = np.array([env.sample_navigable(rng) for _ in range(50)])
    assert np.isfinite(points).all()
    assert np.isfinite(env.view(camera_pose(points[0], 0.0, LENS)).depth_m).all()
    assert np.isfinite(env.scene_graph().room_center_m).all()
    assert "got none; is the file" in refused(ply(tmp_path, np.full_like(corners, np.nan)))


def test_ten_kilometres_need_coarse_cells(tmp_path):
    path = ply(tmp_path, FLOOR.vertices * 1700)
    message = refused(path)
    assert "the mesh covers 10,200 m x 6,800 m" in message
    assert "use a larger cell_m or cut the mesh" in message
    env = open_env(str(path), WorldSettings(LENS, nav=NavSettings(cell_m=10.0)))
    assert env.floor_map().free.sum() * 100.0 == pytest.approx(10200 * 6800, rel=0.02)
    path = env.shortest_path([100, 100, 0], [10000, 6700, 0])
    assert path.distance_m == pytest.approx(np.hypot(9900, 6600), rel=0.01)
    assert "are its coordinates metres?" in refused(ply(tmp_path, FLOOR.vertices * 1e30))


SOFA = {"name": "sofa_9", "category": "sofa", "aabb_min": [0, 0, 0], "aabb_max": [1, 1, 1]}
WRONG_NOTES = [
    (
        json.dumps([SOFA]),
        "none of the 1 annotated names, such as 'sofa_9', is that of a part of the mesh, such as 'flo",
    ),
    (json.dumps([SOFA | {"name": "floor", "aabb_min": [0, 9, 0]}]), r"must not exceed aabb_max [1.0, 1.0, 1.0]"),
    ("{}", "house_objects.json has no scene 'house'; it has none"),
    ('{"house": {}}', "scene 'house': field 'object_counts' is missing"),
    ("", "house_objects.json is not JSON"),
    (b"\xff\xfe\x00", "house_objects.json is not JSON"),
    ("7", "house_objects.json must hold a list of objects, got int"),
]


@pytest.mark.parametrize(("notes", "expected"), WRONG_NOTES)
def test_wrong_annotations_are_named(tmp_path, notes, expected):
    path = house(tmp_path)
    path.with_name("house_objects.json").write_bytes(notes if isinstance(notes, bytes) else notes.encode())
    assert expected in refused(path)


def test_an_unreachable_goal(tmp_path):
    """A wall without a door: no path is found, an agent that tries stays on its side, and a walk says why."""
    mesh = room(wall=box([2.95, -0.1, 0], [3.05, 4.1, 2.5]))
    env = MeshEnv("split", mesh, np.zeros(len(mesh.faces), np.int32), plain_graph("split", (), 0.0, mesh), SETTINGS)
    here, beyond = np.array([1.0, 2.0, 0.0]), np.array([5.0, 2.0, 0.0])
    path = env.shortest_path(here, beyond)
    assert (path.found, path.distance_m, path.points.shape) == (False, np.inf, (0, 3))
    assert not env.shortest_path(here, [5.0, 50.0, 0.0]).found  # far from the world

    now = env.reset(Episode("e", "find", "split", 0, camera_pose(here, 0.0, LENS)))
    for _ in range(20):
        now = env.step(Move.FORWARD)
    assert now.position_m[0] < 2.8
    assert now.collided
    assert now.collisions > 10
    with pytest.raises(ValueError, match=r"via\[0\] \[5\.0, 2\.0, 0\.0\] cannot be reached from .* in scene 'split'"):
        make_walk(env, np.random.default_rng(0), start=here, via=[beyond])
