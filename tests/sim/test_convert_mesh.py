"""Converted meshes look the same, stand upright and keep their colours; what cannot be converted is named."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import trimesh
from PIL import Image
from worlds import box, painted, quad, wall_ahead

from sim.camera import CameraSettings, camera_pose
from sim.convert_mesh import convert_mesh, main
from sim.mesh_env import WorldSettings, open_world
from sim.world.mesh import load_mesh

LENS = CameraSettings(width_px=48, height_px=36)


def scan(path, *, colors=None, up: str = "z"):
    """A room of one mesh with a colour for each vertex, as scanners write it."""
    parts = [box([0, 0, -0.1], [5, 4, 0]), box([-0.1, 0, 0], [0, 4, 2.5]), box([3, 1, 0], [4, 2, 1.8])]
    room = trimesh.util.concatenate([part.subdivide() for part in parts])
    if colors is None:
        colors = np.random.default_rng(0).integers(0, 256, (len(room.vertices), 4), dtype=np.uint8)
    colors[:, 3] = 255
    if up == "y":
        room.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))
    room.visual = trimesh.visual.ColorVisuals(room, vertex_colors=colors)
    room.export(path)
    return path


def assert_looks_the_same(first, second):
    worlds = [open_world(path, settings=WorldSettings(LENS)) for path in (first, second)]
    rng = np.random.default_rng(1)
    for _ in range(6):
        pose = camera_pose(worlds[0].sample_navigable(rng), rng.uniform(-3, 3), LENS)
        before, after = (world.view(pose) for world in worlds)
        np.testing.assert_array_equal(after.frame.rgb, before.frame.rgb)
        # coordinates are float32 in both kinds of file
        np.testing.assert_allclose(after.depth_m, before.depth_m, atol=1e-5)
    assert (before.depth_m > 0).any()


def test_a_scan_looks_the_same(tmp_path):
    source, target = scan(tmp_path / "a.ply"), tmp_path / "out" / "a.glb"
    convert_mesh(source, target)
    assert_looks_the_same(source, target)
    before, after = load_mesh(source), load_mesh(target)
    np.testing.assert_array_equal(after.colors, before.colors)
    np.testing.assert_allclose(after.bounds_m, before.bounds_m, atol=1e-6)


def test_up_is_y_in_the_file(tmp_path):
    convert_mesh(scan(tmp_path / "a.ply"), tmp_path / "a.glb")
    low, high = trimesh.load_scene(tmp_path / "a.glb").bounds
    np.testing.assert_allclose([low, high], [[-0.1, -0.1, -4], [5, 2.5, 0]], atol=1e-6)


def test_a_scan_with_y_up_is_told_so(tmp_path):
    convert_mesh(scan(tmp_path / "y.ply", up="y"), tmp_path / "y.glb", "y")
    convert_mesh(scan(tmp_path / "z.ply"), tmp_path / "z.glb")
    np.testing.assert_allclose(
        load_mesh(tmp_path / "y.glb").bounds_m, load_mesh(tmp_path / "z.glb").bounds_m, atol=1e-6
    )


def test_textures_materials_and_names_are_kept(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8), "RGBA")
    plain = Image.fromarray(np.random.default_rng(1).integers(0, 256, (4, 4, 3), dtype=np.uint8), "RGB")
    scene = trimesh.Scene(
        {
            "cut": quad(wall_ahead(), image=image, doubleSided=True, alphaMode="MASK", alphaCutoff=0.25),
            "poster": quad(wall_ahead(3.0), image=plain, doubleSided=False),
            "block": painted(box([0, 0, 0], [1, 1, 1]), (51, 102, 255), double_sided=False),
        }
    )
    scene.export(tmp_path / "a.glb")
    convert_mesh(tmp_path / "a.glb", tmp_path / "b.glb")
    before, after = load_mesh(tmp_path / "a.glb"), load_mesh(tmp_path / "b.glb")
    assert after.parts == before.parts == ("block", "cut", "poster")
    np.testing.assert_allclose(after.triangles_m(), before.triangles_m(), atol=1e-6)
    for part in range(3):
        looks = [mesh.materials[mesh.material_of_face[mesh.part_of_face == part][0]] for mesh in (before, after)]
        assert looks[1].factor == looks[0].factor
        assert (looks[1].double_sided, looks[1].alpha_cutoff) == (looks[0].double_sided, looks[0].alpha_cutoff)
        np.testing.assert_array_equal(looks[1].texture, looks[0].texture)
    np.testing.assert_allclose(after.uv[after.faces], before.uv[before.faces], atol=1e-6)


def test_small_house_stays_as_it_is(small_house_dir, tmp_path):
    source, notes = small_house_dir / "small_house.glb", small_house_dir / "small_house_objects.json"
    convert_mesh(source, tmp_path / "small_house.glb")
    before, after = (open_world(path, notes, WorldSettings(LENS)) for path in (source, tmp_path / "small_house.glb"))
    rng = np.random.default_rng(0)
    for _ in range(3):
        pose = camera_pose(before.sample_navigable(rng), rng.uniform(-3, 3), LENS)
        seen = before.view(pose), after.view(pose)
        np.testing.assert_array_equal(seen[1].frame.rgb, seen[0].frame.rgb)
        np.testing.assert_array_equal(seen[1].semantic_ids, seen[0].semantic_ids)


def test_what_it_refuses(tmp_path):
    source = scan(tmp_path / "a.ply")
    with pytest.raises(ValueError, match=r"ending of the converted mesh must be one of \.glb, got '\.fbx'"):
        convert_mesh(source, tmp_path / "a.fbx")
    with pytest.raises(FileNotFoundError, match="no mesh file at"):
        convert_mesh(tmp_path / "absent.ply", tmp_path / "a.glb")
    (tmp_path / "a.glb").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists already; give another name"):
        convert_mesh(source, tmp_path / "a.glb")
    assert (tmp_path / "a.glb").read_bytes() == b"mine"
    trimesh.PointCloud(np.eye(3)).export(tmp_path / "points.ply")
    with pytest.raises(
        ValueError, match=r"points\.ply: a mesh needs at least one triangle, got none; is the file a poi"
    ):
        convert_mesh(tmp_path / "points.ply", tmp_path / "points.glb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.glb", "a.ply", "points.ply"]


def test_command_line(tmp_path, capsys):
    source = scan(tmp_path / "a.ply")
    done = subprocess.run(
        [sys.executable, "-m", "sim.convert_mesh", source, tmp_path / "a.glb"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "a.glb: 144 triangles in 1 parts, 5.10 x 4.00 x 2.60 m" in done.stdout
    assert main([str(source), str(tmp_path / "a.glb")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([str(source), str(tmp_path / "a.glb"), "--force"]) == 0
