"""Scenes of one's own through Habitat's door: every kind of file, ids, whole episodes, the benchmark's measurement.

The server is the real one over the built-in world (see habitat_stand_in.py), so both doors must show the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trimesh
from worlds import box, painted

from benchmarks import bench_sim
from sim.camera import CameraSettings, camera_pose
from sim.convert_mesh import scene_of
from sim.env import MotionSettings, Move, Velocity
from sim.episode import Episode
from sim.habitat_client import habitat_problem
from sim.habitat_env import HabitatEnv
from sim.mesh_env import WorldSettings, open_world
from sim.world.mesh import Mesh, mesh_of
from sim.world.sensor import SensorSettings
from sim.worlds import open_env

ROOT = Path(__file__).resolve().parents[2]
LENS = CameraSettings(64, 48, 80.0)
PLAIN = WorldSettings(LENS, lighting="none", background=(9, 8, 7))
BOXES = {
    "floor": ([0, 0, -0.1], [6, 4, 0], (120, 110, 100)),
    "north": ([0, 4, 0], [6, 4.1, 2], (200, 190, 180)),
    "table": ([4, 1.5, 0], [5, 2.5, 0.7], (10, 200, 30)),
    "lamp": ([1, 3, 0], [1.3, 3.3, 1.6], (250, 240, 20)),
}
IDS = {"table": 7, "lamp": 70_000}  # Habitat itself cannot count that far


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> dict:
    """A server that may import what runs from the checkout."""
    python = tmp_path_factory.mktemp("python") / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return {"program": Path(__file__).with_name("habitat_stand_in.py"), "python": str(python)}


def room() -> Mesh:
    return mesh_of({name: painted(box(low, high), color) for name, (low, high, color) in BOXES.items()})


def write_room(folder: Path, kind: str) -> tuple[Path, Path | None]:
    """The room as a file of a kind; .ply has one part only, so its objects are known by their boxes."""
    mesh, path = room(), folder / f"room{kind}"
    entries = [
        {"name": name, "category": name, "id": number, "aabb_min": BOXES[name][0], "aabb_max": BOXES[name][1]}
        for name, number in IDS.items()
    ]
    annotation = folder / "room.json"
    annotation.write_text(json.dumps(entries))
    if kind == ".ply":
        colors = np.repeat([BOXES[name][2] for name in mesh.parts], np.bincount(mesh.part_of_face), axis=0)
        trimesh.Trimesh(mesh.vertices_m, mesh.faces, face_colors=colors, process=False).export(path)
        return path, None
    path.write_bytes(scene_of(mesh).export(file_type="glb"))
    return path, annotation


def looks() -> list[np.ndarray]:
    return [camera_pose(np.array([2.0, 1.0, 0.0]), yaw, LENS) for yaw in np.linspace(0, 6, 7)]


@pytest.mark.parametrize("kind", [".glb", ".ply"])
def test_both_doors_show_the_same(server, tmp_path, kind):
    scene, annotation = write_room(tmp_path, kind)
    ours = open_world(scene, annotation, PLAIN)
    theirs = HabitatEnv.start(scene, PLAIN, annotation_path=annotation, **server)
    seen = set()
    for T_WC in looks():
        mine, other = ours.view(T_WC), theirs.view(T_WC)
        # a ray along an edge may fall on either side of it after the file's float32
        assert np.mean(other.semantic_ids == mine.semantic_ids) > 0.998
        assert np.mean(np.isclose(other.depth_m, mine.depth_m, rtol=1e-5)) > 0.998
        if kind == ".glb":  # the stand-in does not read vertex colours beside a material
            assert np.mean((other.frame.rgb == mine.frame.rgb).all(axis=-1)) > 0.998
        seen |= set(other.semantic_ids.ravel().tolist())
    assert seen == ({0} if annotation is None else {0, 7, 70_000})
    assert theirs.scene_graph().room_size_m2 == pytest.approx(ours.scene_graph().room_size_m2)
    assert [item.instance_id for item in theirs.scene_graph().objects] == [
        item.instance_id for item in ours.scene_graph().objects
    ]
    floors = theirs.floor_map(), ours.floor_map()
    assert np.mean(floors[0].free == floors[1].free) > 0.99
    np.testing.assert_allclose(floors[0].origin_m, floors[1].origin_m, atol=1e-6)
    theirs.close()
    assert {path.name for path in tmp_path.iterdir()} <= {scene.name, "room.json"}


def test_a_file_whose_z_is_up(server, tmp_path):
    """The same room, written without turning it: up="z" says so to both doors."""
    mesh, path = room(), tmp_path / "room.glb"
    scene = trimesh.Scene()
    for name, (low, high, color) in BOXES.items():
        scene.add_geometry(painted(box(low, high), color), node_name=name, geom_name=name)
    path.write_bytes(scene.export(file_type="glb"))
    other = tmp_path / "other"
    other.mkdir()
    _, annotation = write_room(other, ".glb")
    theirs = HabitatEnv.start(path, PLAIN, annotation_path=annotation, up="z", **server)
    ours = open_world(path, annotation, PLAIN, up="z")
    np.testing.assert_allclose(ours.scene_graph().room_center_m, mesh.bounds_m.mean(axis=0), atol=1e-6)
    for T_WC in looks():
        assert np.mean(theirs.view(T_WC).semantic_ids == ours.view(T_WC).semantic_ids) > 0.998
    theirs.close()


def test_an_episode_is_the_same_through_both_doors(server, tmp_path):
    """Motion, collisions, stamps, blur and noise."""
    scene, annotation = write_room(tmp_path, ".glb")
    settings = WorldSettings(
        LENS, MotionSettings(), sensor=SensorSettings(2.0, 0.1, 0.01, exposure_s=0.1), lighting="none"
    )
    ours = open_world(scene, annotation, settings)
    theirs = HabitatEnv.start(scene, settings, annotation_path=annotation, **server)
    start = Episode("e", "find", "room", 3, camera_pose(np.array([3.0, 2.0, 0.0]), 0.3, LENS))
    actions = [Move.FORWARD] * 4 + [Move.TURN_LEFT] * 3 + [Velocity(0.5, -0.8, 0.6), Move.FORWARD, Move.STOP]
    mine, other = ours.reset(start), theirs.reset(start)
    for action in actions:
        mine, other = ours.step(action), theirs.step(action)
        np.testing.assert_allclose(other.position_m, mine.position_m, atol=1e-5)
        np.testing.assert_allclose(other.T_WC, mine.T_WC, atol=1e-5)
        for name in ("stamp_ns", "collided", "stopped", "steps", "collisions"):
            assert getattr(other, name) == getattr(mine, name)
        assert other.path_m == pytest.approx(mine.path_m, abs=1e-5)
        difference = np.abs(theirs.observe().frame.rgb.astype(int) - ours.observe().frame.rgb)
        assert np.mean(difference > 1) < 0.005
    assert mine.collisions > 0
    assert theirs.observe() is theirs.observe()
    with pytest.raises(RuntimeError, match="the episode was stopped"):
        theirs.step(Move.FORWARD)
    theirs.close()


def test_named_world(tmp_path):
    """`habitat:` takes files and folders, and says what is missing."""
    if not habitat_problem():
        pytest.skip("habitat_sim is here: the other tests of it run")
    write_room(tmp_path, ".glb")
    for spec in (f"habitat:{tmp_path / 'room.glb'}", f"habitat:{tmp_path}"):
        with pytest.raises(RuntimeError, match=r"docs/habitat\.md says how to install it"):
            open_env(spec)
    with pytest.raises(FileNotFoundError, match="no world at"):
        open_env("habitat:/no/such.glb")


def test_benchmark_measures_it(server, tmp_path, monkeypatch):
    scene, annotation = write_room(tmp_path, ".glb")
    monkeypatch.setattr(bench_sim.HabitatEnv, "start", partial(HabitatEnv.start, **server))
    done = []
    counts = argparse.Namespace(frames=2, paths=3)
    row = bench_sim.measure_habitat("room", [scene, annotation], counts, lambda: done.append(1))
    assert row["name"] == "room, Habitat"
    assert all(row[f"{name}_per_s"] > 0 for name in ("frames_224", "frames_432", "paths"))
    assert len(done) == 2 * 2 + 3
