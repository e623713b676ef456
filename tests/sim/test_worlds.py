"""Worlds by name: flats, mesh files with what stands beside them, folders, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sim.camera import CameraSettings
from sim.mesh_env import WorldSettings
from sim.rooms import FlatSettings, export_flat, make_flat
from sim.worlds import annotation_beside, open_env, world_specs
from vlm3r_core.scene.metadata import write_metadata

LENS = WorldSettings(CameraSettings(width_px=32, height_px=24))


@pytest.fixture(scope="module")
def flat():
    return make_flat(5, FlatSettings(1, 1))


@pytest.fixture
def files(flat, tmp_path):
    """(mesh, annotation) of a flat of one room."""
    return export_flat(flat, tmp_path / "flat")


def test_a_flat_by_its_seed():
    env = open_env("flat:5", LENS)
    assert env.scene_id == "flat-000005"
    assert env.camera.width_px == 32
    counts = make_flat(5).graph.counts
    assert env.scene_graph().counts == counts
    assert open_env("flat:0005", LENS).scene_id == "flat-000005"


def test_a_flat_of_one_room(flat):
    env = open_env("room:5", LENS)
    assert env.scene_id == env.scene_graph().scene_id == "room-000005"
    assert env.scene_graph().counts == flat.graph.counts


def test_ranges_of_worlds():
    assert world_specs("room:3..4, flat:7,x.glb") == [["room:3", "room:4"], ["flat:7"], ["x.glb"]]
    with pytest.raises(ValueError, match="worlds are flat:SEED"):
        world_specs("room:4..3")


def test_a_mesh_file_with_its_objects(files, flat):
    env = open_env(str(files[0]), LENS)
    assert env.scene_graph().counts == flat.graph.counts
    assert env.scene_id == flat.scene_id


def test_a_folder_with_one_mesh(files, flat):
    assert open_env(str(files[0].parent), LENS).scene_graph().counts == flat.graph.counts


def test_a_mesh_file_alone_has_no_objects(files):
    files[1].unlink()
    graph = open_env(str(files[0]), LENS).scene_graph()
    assert graph.objects == ()
    assert graph.room_size_m2 > 0


@pytest.mark.parametrize("name", ["{}_objects.json", "{}.objects.json", "{}.json"])
def test_where_objects_are_looked_for(files, flat, name):
    mesh, objects = files
    beside = objects.rename(mesh.with_name(name.format(mesh.stem)))
    assert annotation_beside(mesh) == beside
    assert open_env(str(mesh), LENS).scene_graph().counts == flat.graph.counts


def test_scene_metadata_beside_a_mesh(files, flat):
    """Boxes without names: those around triangles name them."""
    mesh, objects = files
    objects.unlink()
    write_metadata([flat.graph], mesh.with_name(f"{mesh.stem}_metadata.json"))
    env = open_env(str(mesh), LENS)
    assert env.scene_graph().counts == flat.graph.counts
    assert env.scene_graph().room_size_m2 == pytest.approx(flat.graph.room_size_m2)
    seen = env.renderer.render(env.camera, _from_above(flat)).ids
    assert set(np.unique(seen).tolist()) & {item.instance_id for item in env.scene_graph().objects}


def _from_above(flat) -> np.ndarray:
    """A camera under the ceiling that looks down."""
    T_WC = np.diag([1.0, -1.0, -1.0, 1.0])
    T_WC[:3, 3] = flat.graph.room_center_m
    T_WC[2, 3] = flat.plan.height_m - 0.01
    return T_WC


def test_the_nearest_name_wins(files):
    """NAME_objects.json before NAME.json."""
    mesh, objects = files
    mesh.with_name(f"{mesh.stem}.json").write_text(json.dumps([]))
    assert annotation_beside(mesh) == objects


@pytest.mark.parametrize("spec", ["flat:", "flat:-1", "flat:x", "flat:1.5", "room:"])
def test_a_flat_needs_a_seed(spec):
    with pytest.raises(ValueError, match=":SEED with a seed of 0 or more"):
        open_env(spec)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="room:SEED or habitat:FILE"):
        open_env(str(tmp_path / "none.glb"))


def test_a_folder_needs_one_mesh(files, tmp_path):
    with pytest.raises(ValueError, match=r"must hold one mesh .* it holds none; name the file"):
        open_env(str(tmp_path))
    files[0].with_name("other.obj").write_text("")
    with pytest.raises(ValueError, match=r"it holds flat-000005\.glb, other\.obj; name the file"):
        open_env(str(files[0].parent))


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(ValueError, match="kind of mesh file must be one of"):
        open_env(str(path))


def test_a_broken_mesh(tmp_path):
    path = tmp_path / "broken.glb"
    path.write_bytes(b"not a mesh at all")
    with pytest.raises(ValueError, match="cannot be read as a"):
        open_env(str(path))
