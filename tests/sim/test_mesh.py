"""Reading mesh files: axes, colours, textures, and what is wrong with broken ones."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import trimesh
from PIL import Image
from worlds import box, painted, quad, wall_ahead

from sim.world.mesh import load_mesh, mesh_of

# A tall box: which axis is up can be told from its bounds.
TALL = box([0, 0, 0], [1, 2, 5])


def exported(part, path, **options):
    (part if isinstance(part, trimesh.Scene) else trimesh.Scene({"thing": part})).export(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "up", "low", "high"),
    [
        ("a.glb", "auto", [0, -5, 0], [1, 0, 2]),
        ("a.glb", "z", [0, 0, 0], [1, 2, 5]),
        ("a.ply", "auto", [0, 0, 0], [1, 2, 5]),
        ("a.obj", "auto", [0, 0, 0], [1, 2, 5]),
        ("a.obj", "y", [0, -5, 0], [1, 0, 2]),
    ],
)
def test_axes(tmp_path, name, up, low, high):
    mesh = load_mesh(exported(TALL, tmp_path / name), up)
    np.testing.assert_allclose(mesh.bounds_m, [low, high], atol=1e-6)
    assert len(mesh.faces) == 12
    assert (mesh.faces.dtype, mesh.vertices_m.dtype) == (np.int32, np.float64)


def signed_volume(mesh) -> float:
    a, b, c = mesh.triangles_m().transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


def test_nodes_are_placed_and_mirrored_ones_keep_their_front(tmp_path):
    scene, moved = trimesh.Scene(), trimesh.transformations.translation_matrix([5, 0, 0])
    scene.add_geometry(box([0, 0, 0], [1, 1, 1]), node_name="b", transform=moved)
    scene.add_geometry(box([0, 0, 0], [1, 1, 1]), node_name="a", transform=np.diag([-1.0, 1.0, 1.0, 1.0]))
    mesh = load_mesh(exported(scene, tmp_path / "a.glb"))
    assert mesh.parts == ("a", "b")
    assert signed_volume(mesh) == pytest.approx(2.0)
    np.testing.assert_allclose(mesh.bounds_m, [[-1, -1, 0], [6, 0, 1]], atol=1e-6)


def test_vertex_and_face_colors(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (8, 4), dtype=np.uint8)
    colors[:, 3] = 255
    part = TALL.copy()
    part.visual = trimesh.visual.ColorVisuals(part, vertex_colors=colors)
    part.export(tmp_path / "a.ply")
    np.testing.assert_array_equal(load_mesh(tmp_path / "a.ply").colors, colors)
    part.visual = trimesh.visual.ColorVisuals(part, face_colors=np.tile(colors, (2, 1))[:12])
    mesh = mesh_of({"a": part})
    np.testing.assert_array_equal(mesh.colors[mesh.faces[:, 0]], np.tile(colors, (2, 1))[:12])


def test_materials(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8), "RGBA")
    scene = trimesh.Scene(
        {
            "cut": quad(wall_ahead(), image=image, doubleSided=True, alphaMode="MASK", alphaCutoff=0.25),
            "plain": painted(box([0, 0, 0], [1, 1, 1]), (51, 102, 255), double_sided=False),
        }
    )
    mesh = load_mesh(exported(scene, tmp_path / "a.glb"))
    cut, plain = (mesh.materials[mesh.material_of_face[mesh.part_of_face == index][0]] for index in (0, 1))
    np.testing.assert_array_equal(cut.texture, np.array(image))
    assert (cut.double_sided, cut.alpha_cutoff) == (True, 0.25)
    assert plain.factor == pytest.approx((0.2, 0.4, 1.0, 1.0))
    assert (plain.texture, plain.double_sided, plain.alpha_cutoff) == (None, False, 0.0)


def test_missing_texture_is_said_and_drawn_plain(tmp_path, caplog):
    image = Image.new("RGB", (4, 4), (255, 0, 0))
    scene = trimesh.Scene({"poster": quad(wall_ahead(), image=image, baseColorFactor=[0, 255, 0, 255])})
    for name, data in scene.export(file_type="gltf").items():
        (tmp_path / name).write_bytes(data)
    document = json.loads((tmp_path / "model.gltf").read_text())
    document["images"] = [{"uri": "gone.png"}]
    (tmp_path / "model.gltf").write_text(json.dumps(document))
    with caplog.at_level(logging.WARNING, "sim"):
        mesh = load_mesh(tmp_path / "model.gltf")
    assert mesh.materials[0].texture is None
    assert mesh.materials[0].factor == (0.0, 1.0, 0.0, 1.0)
    assert "1 of 1 parts lack their texture and are drawn plain: poster" in caplog.text


def test_obj_with_a_missing_texture_keeps_its_diffuse_color(tmp_path):
    (tmp_path / "a.mtl").write_text("newmtl x\nKd 0.2 0.4 1.0\nmap_Kd none.png\n")
    lines = ["mtllib a.mtl", "usemtl x", "v 0 0 0", "v 1 0 0", "v 0 1 0", "vt 0 0", "vt 1 0", "vt 0 1", "f 1/1 2/2 3/3"]
    (tmp_path / "a.obj").write_text("\n".join(lines))
    # Kd is kept as bytes.
    assert load_mesh(tmp_path / "a.obj").materials[0].factor == pytest.approx((0.2, 0.4, 1.0, 1.0), abs=1 / 255)


def test_corners_that_are_not_finite_cost_their_triangles(tmp_path, caplog):
    corners = [[5, 5, 5], [6, 5, 5], [5, 6, 5], [np.nan, 0, 0]]
    part = trimesh.Trimesh(corners, [[0, 1, 2], [0, 1, 3]], process=False)
    with caplog.at_level(logging.WARNING, "sim"):
        mesh = mesh_of({"a": part})
    assert len(mesh.faces) == 1
    np.testing.assert_array_equal(mesh.bounds_m, [[5, 5, 5], [6, 6, 5]])  # the stray corner does not count
    assert "left out 1 triangles" in caplog.text


POINT = b"element vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 0\n"
BROKEN = [
    ("empty.obj", b"", "at least one triangle, got none; is the file a point cloud, or empty?"),
    ("points.ply", b"ply\nformat ascii 1.0\n" + POINT, "at least one triangle"),
    ("empty.glb", b"", r"empty\.glb cannot be read as a \.glb mesh .*is it whole"),
    ("torn.glb", b"glTF\x02\x00\x00\x00", r"torn\.glb cannot be read"),
    ("torn.ply", b"ply\nformat", r"torn\.ply cannot be read"),
    ("a.stl", b"solid", r"kind of mesh file must be one of \.glb, \.gltf, \.ply, \.obj, got '\.stl'"),
]


@pytest.mark.parametrize(("name", "data", "message"), BROKEN)
def test_broken_file_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load_mesh(tmp_path / name)


def test_whole_file_cut_short_is_named(tmp_path):
    exported(trimesh.Scene({"a": painted(TALL.copy(), (1, 2, 3))}), tmp_path / "a.glb")
    data = (tmp_path / "a.glb").read_bytes()
    (tmp_path / "a.glb").write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(ValueError, match=r"a\.glb"):
        load_mesh(tmp_path / "a.glb")


def test_absent_file_and_unknown_up_axis(tmp_path):
    with pytest.raises(FileNotFoundError, match="no mesh file at"):
        load_mesh(tmp_path / "a.glb")
    with pytest.raises(ValueError, match="up must be one of auto, y, z, got 'x'"):
        load_mesh(tmp_path / "a.glb", "x")


def test_parts_come_in_the_same_order_every_time():
    parts = {name: painted(box([0, 0, 0], [1, 1, 1]), (1, 2, 3)) for name in "gfbdace"}
    assert mesh_of(parts).parts == tuple("abcdefg")
