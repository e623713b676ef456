"""What Habitat is given for a scene of one's own: axes, instance colours, converted files; and its walkable areas."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import trimesh
from worlds import box, painted, room

from sim.convert_mesh import scene_of
from sim.habitat.stage import (
    instance_colors,
    semantic_glb,
    stage_config_beside,
    two_sided_glb,
    up_axis_of,
    write_stage,
)
from sim.habitat.walkable import WalkableAreas, footprint_m2
from sim.mesh_env import label_mesh
from sim.world.annotation import plain_graph
from sim.world.heightfield import build_heightfield
from sim.world.mesh import Mesh, load_mesh, mesh_of


def table_room() -> tuple[Mesh, np.ndarray]:
    """A room with a table, object 7."""
    mesh = room(table=painted(box([4, 1.5, 0], [5, 2.5, 0.7]), (10, 200, 30), double_sided=False))
    return mesh, np.where(mesh.part_of_face == mesh.parts.index("table"), 7, 0)


def srgb(level: int) -> int:
    """A linear level as sRGB, by its definition."""
    linear = level / 255
    return round(255 * (12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055))


def ids_by_habitats_rule(folder: Path) -> tuple[Mesh, np.ndarray]:
    """The semantic mesh as Habitat reads it: a vertex's linear colour, turned to sRGB, is looked up in the text."""
    lines = (folder / "scene.semantic.txt").read_text().splitlines()
    assert "HM3D Semantic Annotations" in lines[0]
    entries = [re.fullmatch(r'(\d+),([0-9A-F]{6}),"([^"]+)",(-?\d+)', line).groups() for line in lines[1:]]
    id_of = {color: int(number) for number, color, _, _ in entries}
    assert len(id_of) == len(entries)
    mesh = load_mesh(folder / "scene.semantic.glb")
    colors = mesh.colors[mesh.faces]
    assert (colors == colors[:, :1]).all()  # constant over each triangle
    assert sorted(id_of.values()) == list(range(1, len(id_of) + 1))  # from 1 without a gap
    codes = ["".join(f"{srgb(int(level)):02X}" for level in color[:3]) for color in colors[:, 0]]
    return mesh, np.array([id_of[code] for code in codes])


def test_golden_colours_follow_the_rule(apartment_dir):
    """What was rendered by Habitat with the right ids was coloured by this very rule."""
    objects = json.loads((apartment_dir / "apartment.objects.json").read_text())
    for item in objects:
        assert [srgb(level) for level in item["semantic_rgb_linear"]] == item["semantic_rgb_srgb"]
    assert len(objects) == 44


def test_apartment_without_its_own_stage(apartment_dir, tmp_path):
    """From the bare .glb and the annotation we make a semantic mesh with the ids of the one Habitat rendered."""
    scene, annotation = apartment_dir / "apartment.glb", apartment_dir / "apartment.objects.json"
    mesh = load_mesh(scene)
    ids, graph = label_mesh(mesh, annotation, "apartment")
    opened, instances = write_stage(scene, mesh, ids, graph, tmp_path, "y")
    config = json.loads((tmp_path / "scene.stage_config.json").read_text())
    golden = json.loads((apartment_dir / "apartment.stage_config.json").read_text())
    for key in ("up", "front", "origin", "units_to_meters", "force_flat_shading"):
        assert config[key] == golden[key]
    assert config["render_asset"] == opened.name
    assert opened.read_bytes() == scene.read_bytes()
    assert up_axis_of(tmp_path / "scene.stage_config.json") == up_axis_of(apartment_dir / "apartment.stage_config.json")
    made, made_ids = ids_by_habitats_rule(tmp_path)
    assert instances.tolist() == [0, *range(1, 45)]
    np.testing.assert_allclose(made.triangles_m(), mesh.triangles_m(), atol=1e-6)
    np.testing.assert_array_equal(instances[made_ids], ids)


def test_backs_and_unlabelled_parts_have_ids_too(tmp_path):
    """Habitat leaves out backs in semantic meshes; what is drawn from both sides is there twice, facing both ways."""
    mesh, ids = table_room()
    _, instances = write_stage(scene_of(mesh), mesh, ids, plain_graph("room", (), 0.0, mesh), tmp_path, "y")
    made, made_ids = ids_by_habitats_rule(tmp_path)
    walls = ids == 0
    assert 0 < walls.sum() < len(ids)
    assert instances.tolist() == [0, 0, 7]  # nothing, the walls, the table
    expected = np.concatenate([mesh.triangles_m(), mesh.triangles_m()[walls][:, ::-1]])
    np.testing.assert_allclose(made.triangles_m(), expected, atol=1e-6)
    np.testing.assert_array_equal(instances[made_ids], np.r_[ids, ids[walls]])


def test_no_ids_no_semantic_mesh(tmp_path):
    mesh, ids = table_room()
    _, instances = write_stage(scene_of(mesh), mesh, ids * 0, plain_graph("room", (), 0.0, mesh), tmp_path, "y")
    assert not instances.any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene.glb", "scene.stage_config.json"]


def test_matterports_axes(tmp_path):
    """A .glb whose z axis is up: the semantic mesh has the same axes as the drawn one, and the stage says so."""
    mesh, ids = table_room()
    source = tmp_path / "room.glb"
    source.write_bytes(
        trimesh.Scene(trimesh.Trimesh(mesh.vertices_m, mesh.faces, process=False)).export(file_type="glb")
    )
    folder = tmp_path / "stage"
    folder.mkdir()
    write_stage(source, mesh, ids, plain_graph("room", (), 0.0, mesh), folder, "z")
    assert up_axis_of(folder / "scene.stage_config.json") == "z"
    np.testing.assert_allclose(load_mesh(folder / "scene.semantic.glb", "z").bounds_m, mesh.bounds_m, atol=1e-6)


def test_scan_is_converted_with_colours_and_both_sides(tmp_path):
    wall = trimesh.creation.box(extents=[2, 3, 4])
    wall.visual.vertex_colors = np.random.default_rng(0).integers(0, 255, (8, 4), np.uint8) | np.array(
        [0, 0, 0, 255], np.uint8
    )
    wall.export(tmp_path / "scan.ply")
    mesh = load_mesh(tmp_path / "scan.ply")
    (tmp_path / "scan.glb").write_bytes(two_sided_glb(scene_of(mesh)))
    content = (tmp_path / "scan.glb").read_bytes()
    header = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    (part,) = header["meshes"]
    (primitive,) = part["primitives"]
    assert "COLOR_0" in primitive["attributes"]
    assert header["materials"][primitive["material"]]["doubleSided"] is True
    np.testing.assert_allclose(load_mesh(tmp_path / "scan.glb").bounds_m, mesh.bounds_m, atol=1e-6)
    (read,) = trimesh.load_scene(tmp_path / "scan.glb").geometry.values()
    colors = read.visual.vertex_attributes["color"][read.faces]
    np.testing.assert_array_equal(np.sort(colors, axis=1), np.sort(mesh.colors[mesh.faces], axis=1))
    np.testing.assert_allclose(np.ptp(mesh.bounds_m, axis=0), [2, 3, 4])


def test_colours_are_distinct_in_linear_and_srgb():
    colors = instance_colors(65_535)
    assert len(np.unique(colors, axis=0)) == 65_535
    steps = {tuple(srgb(int(level)) for level in color) for color in colors}
    assert len(steps) == 65_535
    assert colors.any(axis=1).all()  # black is Habitat's "nothing"
    with pytest.raises(ValueError, match="at most 65535 instances"):
        instance_colors(65_536)


def test_semantic_mesh_splits_shared_vertices():
    mesh = load_one_strip()
    made = trimesh.load(
        trimesh.util.wrap_as_stream(semantic_glb(mesh, np.array([1, 2]), instance_colors(2), "y")), "glb"
    )
    (part,) = made.geometry.values()
    assert len(mesh.vertices_m) == 4
    assert len(part.vertices) == 6  # two triangles with corners of their own
    assert len(part.faces) == 4  # front and back


def load_one_strip() -> Mesh:
    strip = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], [[0, 1, 2], [1, 3, 2]], process=False)
    return mesh_of({"strip": strip})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a map"),
        ('{"up": [1, 0, 0]}', "must have up and front"),
        ('{"scale": [2, 2, 2]}', "neither scale"),
        ('{"units_to_meters": 0.01}', "neither scale"),
    ],
)
def test_stages_one_cannot_follow_are_refused(tmp_path, content, message):
    path = tmp_path / "a.stage_config.json"
    path.write_text(content)
    assert stage_config_beside(tmp_path / "a.glb") == path
    assert stage_config_beside(tmp_path / "b.glb") is None
    with pytest.raises(ValueError, match=message):
        up_axis_of(path)


def square(low, high, z) -> np.ndarray:
    (x0, y0), (x1, y1) = low, high
    a, b, c, d = [x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]
    return np.array([[a, b, c], [a, c, d]], float)


def test_main_area_is_the_largest_with_something_above():
    house = trimesh.util.concatenate([box([0, 0, -0.1], [6, 4, 0]), box([0, 0, 2.5], [6, 4, 2.6])])
    field = build_heightfield(house.triangles, 0.05, np.pi / 4, 0.2)
    islands = [
        square([0, 0], [6, 4], 2.8),
        square([0.2, 0.2], [2, 2], 0.1),
        square([3, 1], [5.5, 3.5], 0.1),
        square([9, 9], [9, 9], 0),
    ]
    areas = WalkableAreas(islands, field)
    assert areas.main_island == 2
    assert areas.free_cells().sum() * 0.05**2 == pytest.approx(2.5 * 2.5, rel=0.01)
    points = np.array([areas.sample(np.random.default_rng(seed)) for seed in range(2000)])
    np.testing.assert_allclose(points[:, 2], 0.1)
    # uniform: a quarter of the points in each quarter; four standard deviations of a share of 2000 draws
    share = np.mean((points[:, 0] < 4.25) & (points[:, 1] < 2.25))
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)
    assert footprint_m2(field) == pytest.approx(24, rel=0.02)
    assert WalkableAreas(islands[:1], field).main_island == 0  # outdoors is better than nothing
    with pytest.raises(ValueError, match="cannot walk anywhere"):
        WalkableAreas([], field)
