"""Objects laid over meshes: by the names of parts, and by boxes of a scene graph."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from worlds import box, painted, room

from sim.world.annotation import label_by_box, label_by_name, read_annotations
from sim.world.mesh import load_mesh
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import SceneGraph, SceneObject, count_categories

TABLE, CUP = box([2, 1, 0], [3, 2, 0.7]), box([2.4, 1.4, 0.7], [2.5, 1.5, 0.8])


@pytest.fixture(scope="module")
def mesh():
    parts = {"table_1/top": TABLE, "table_1/leg": box([2.4, 1.4, 0], [2.6, 1.6, 0.1]), "cup_1__cup": CUP}
    return room(**{name: painted(part.copy(), (9, 9, 9)) for name, part in parts.items()})


def annotated(tmp_path, *entries):
    path = tmp_path / "objects.json"
    path.write_text(json.dumps(entries))
    return read_annotations(path)


FLOOR = {"name": "floor", "category": "floor", "aabb_min": [0, 0, 0], "aabb_max": [6, 4, 0]}
TABLE_ENTRY = {"name": "table_1", "category": "table", "aabb_min": [2, 1, 0], "aabb_max": [3, 2, 0.7]}


def test_parts_find_their_objects(mesh, tmp_path, caplog):
    cup = {"instance": "cup_1", "category": "cup", "id": 40, "aabb": [[2.4, 0.7, -1.5], [2.5, 0.8, -1.4]]}
    listed = annotated(tmp_path, FLOOR, TABLE_ENTRY, cup)
    np.testing.assert_allclose(listed[2].bounds_m, [[2.4, 1.4, 0.7], [2.5, 1.5, 0.8]])  # Y up in the file
    with caplog.at_level(logging.WARNING, "sim"):
        ids, objects = label_by_name(mesh, listed)
    named = {part: set(ids[mesh.part_of_face == index]) for index, part in enumerate(mesh.parts)}
    assert named == {
        **{wall: {0} for wall in ("east", "north", "south", "west")},
        "floor": {1},
        "table_1/top": {2},
        "table_1/leg": {2},
        "cup_1__cup": {40},
    }
    assert [(item.category, item.instance_id) for item in objects] == [("table", 2), ("cup", 40)]  # no floor
    np.testing.assert_allclose(objects[0].box.bounds(), [[2, 1, 0], [3, 2, 0.7]], atol=1e-9)
    assert "4 of 8 parts belong to no annotated object, such as east" in caplog.text


def test_boxes_lie_along_the_yaw_and_unseen_objects_keep_theirs(mesh, tmp_path):
    turned = TABLE_ENTRY | {"yaw": np.pi / 4}
    ghost = {"name": "ghost", "category": "tv", "aabb_min": [0, 0, 1], "aabb_max": [1, 0.1, 2]}
    _, (table, tv) = label_by_name(mesh, annotated(tmp_path, turned, ghost))
    np.testing.assert_allclose(table.box.lengths_m, [np.sqrt(2), np.sqrt(2), 0.7], atol=1e-9)
    np.testing.assert_allclose(table.box.R_WB[:2, 0], np.sqrt(0.5))
    np.testing.assert_allclose(tv.box.bounds(), [[0, 0, 1], [1, 0.1, 2]])


def test_the_longest_name_wins(tmp_path):
    world = room(**{"box_1/lid": TABLE.copy(), "box_1/lid__knob": CUP.copy()})
    entries = [TABLE_ENTRY | {"name": name, "category": "box"} for name in ("box_1", "box_1/lid")]
    ids, _ = label_by_name(world, annotated(tmp_path, *entries))
    assert set(ids[world.part_of_face == world.parts.index("box_1/lid")]) == {2}
    assert set(ids[world.part_of_face == world.parts.index("box_1/lid__knob")]) == {2}


BROKEN = [
    ({"name": "a"}, "entry 0 must have a name"),
    ([], "entry 0 must be an object, got list"),
    (TABLE_ENTRY | {"id": 0}, "entry 0: id must be a whole number of at least 1, got 0"),
    (TABLE_ENTRY | {"aabb_max": [1, 2]}, r"entry 0: aabb_max must have shape \(3,\)"),
    (TABLE_ENTRY | {"yaw": "left"}, "entry 0: yaw must be numbers"),
    (TABLE_ENTRY | {"aabb": [0, 1]}, r"entry 0: aabb must have shape \(2, 3\)"),
]


@pytest.mark.parametrize(("entry", "message"), BROKEN)
def test_broken_entry_is_named(tmp_path, entry, message):
    with pytest.raises(ValueError, match=message):
        annotated(tmp_path, entry)


def test_broken_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"name must be unique, there are several of \['table_1'\]"):
        annotated(tmp_path, TABLE_ENTRY, TABLE_ENTRY)
    with pytest.raises(ValueError, match=r"instance_id must be unique, there are several of \[2\]"):
        annotated(tmp_path, TABLE_ENTRY | {"id": 2}, FLOOR)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match="must hold a list of objects, got dict"):
        read_annotations(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[")
    with pytest.raises(ValueError, match=r"a\.json is not JSON"):
        read_annotations(tmp_path / "a.json")


def test_boxes_of_a_graph_name_the_triangles_in_them(mesh):
    objects = (
        SceneObject("cup", OrientedBox.aligned([2.4, 1.4, 0.7], [2.5, 1.5, 0.8])),
        SceneObject("table", OrientedBox.aligned([2, 1, 0], [3, 2, 0.75]), 0),
        SceneObject("sofa", OrientedBox.aligned([20, 1, 0], [21, 2, 1]), 7),
    )
    graph = SceneGraph("s", objects, count_categories(objects), 24.0)
    ids, numbered = label_by_box(mesh, graph)
    assert [item.instance_id for item in numbered.objects] == [8, 9, 7]
    named = {part: set(ids[mesh.part_of_face == index]) for index, part in enumerate(mesh.parts)}
    assert named["cup_1__cup"] == {8}  # also within reach of the table's box, but in the smaller one
    assert named["table_1/top"] == {9}
    assert named["floor"] == {0}
    assert 7 not in ids


def test_small_house(small_house_dir):
    mesh = load_mesh(small_house_dir / "small_house.glb")
    listed = read_annotations(small_house_dir / "small_house_objects.json")
    ids, objects = label_by_name(mesh, listed)
    assert len(listed) == 85
    assert (ids > 0).all()
    assert set(ids) == {item.instance_id for item in listed}
    assert len({item.category for item in objects} & {"floor", "house wall", "room wall"}) == 0
    bounds = {item.instance_id: item.bounds_m for item in listed}
    for item in objects:
        # The box turns with the object, and then is at most that much larger than the annotated one along the axes.
        grown = np.abs(item.box.bounds() - bounds[item.instance_id]).max()
        assert grown <= (0.05 if abs(np.sin(2 * listed[item.instance_id - 1].yaw_rad)) > 0.2 else 0.015)
