"""Furnished flats: where things stand, what is free, that one can walk everywhere, and that a seed is a flat."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from sim.camera import CameraSettings, camera_pose
from sim.env import Env
from sim.flats.catalogue import CATEGORIES
from sim.mesh_env import MeshEnv, WorldSettings, open_world
from sim.rooms import FlatSettings, export_flat, flat_env, main, make_flat
from sim.world.annotation import STRUCTURE
from sim.world.walkgrid import NavSettings
from vlm3r_core.scene.box import OrientedBox

SEEDS = range(20)
# What rounding may cost where things touch, metres.
TOUCH_M = 1e-6


@pytest.fixture(scope="module")
def flats():
    return [make_flat(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def envs(flats):
    return [MeshEnv(flat.scene_id, flat.mesh, flat.id_of_face, flat.graph) for flat in flats]


def overlap_m(first: OrientedBox, second: OrientedBox) -> float:
    """By how much two upright boxes overlap: the least over all directions that could part them, negative if apart."""
    axes = [*first.R_WB.T[:2], *second.R_WB.T[:2], np.array([0.0, 0.0, 1.0])]
    a, b = first.corners(), second.corners()
    return min(min((a @ n).max() - (b @ n).min(), (b @ n).max() - (a @ n).min()) for n in axes)


def test_things_are_inside_their_rooms(flats):
    for flat in flats:
        for item, thing in zip(flat.items, flat.graph.objects, strict=True):
            room, (low, high) = flat.rooms[item.room], thing.box.bounds()
            where = f"{flat.scene_id} {item}"
            assert (low[:2] >= room.low_m - TOUCH_M).all(), where
            assert (high[:2] <= room.high_m + TOUCH_M).all(), where
            assert low[2] >= -TOUCH_M, where
            assert high[2] <= flat.plan.height_m + TOUCH_M, where


def test_nothing_intersects(flats):
    pairs = 0
    for flat in flats:
        boxes = [thing.box for thing in flat.graph.objects]
        for i, j in itertools.combinations(range(len(boxes)), 2):
            if j in (flat.items[i].on, i) or flat.items[j].on == i:
                continue
            pairs += 1
            meet = overlap_m(boxes[i], boxes[j])
            assert meet <= TOUCH_M, f"{flat.scene_id}: {flat.names[i]} and {flat.names[j]} overlap by {meet:.3f} m"
    assert pairs > 10_000


def test_things_stand_on_something(flats):
    """On the floor, on another thing that is under all of them, or at a wall or the ceiling."""
    standing = 0
    for flat in flats:
        for item, thing in zip(flat.items, flat.graph.objects, strict=True):
            low, high = thing.box.bounds()
            if item.on >= 0:
                base = flat.graph.objects[item.on].box
                assert flat.items[item.on].room == item.room
                assert base.contains(thing.box.corners()[:, :2] @ np.eye(2, 3) + base.center_m * [0, 0, 1], 1e-6).all()
                assert base.bounds()[0, 2] < low[2] <= base.bounds()[1, 2] + TOUCH_M
                standing += 1
            elif item.z_m > 0.1:
                room = flat.rooms[item.room]
                to_wall = min(*(low[:2] - room.low_m), *(room.high_m - high[:2]))
                assert to_wall < 0.03 or flat.plan.height_m - high[2] < TOUCH_M, f"{flat.scene_id}: {item} floats"
    assert standing > 30


def test_what_is_drawn_is_as_large_as_what_was_placed(flats):
    for flat in flats:
        for item, thing in zip(flat.items, flat.graph.objects, strict=True):
            assert (thing.box.lengths_m <= np.array(item.size_m) + TOUCH_M).all(), item
            # feet and handles are thinner than what they belong to; a tv's foot may be missing
            assert (thing.box.lengths_m >= 0.9 * np.array(item.size_m)).all(), item
            assert thing.box.contains(np.array([item.x_m, item.y_m, item.z_m]), 1e-3), item


def test_boxes_hold_their_triangles(flats):
    for flat in flats[:5]:
        for number, thing in enumerate(flat.graph.objects):
            corners = flat.mesh.vertices_m[flat.mesh.faces[flat.id_of_face == number + 1]].reshape(-1, 3)
            around = OrientedBox.around(corners, flat.items[number].yaw_rad)
            np.testing.assert_allclose(around.corners(), thing.box.corners(), atol=1e-9)
            assert thing.instance_id == number + 1


def test_doorways_and_their_approaches_are_free(flats):
    doors = 0
    for flat in flats:
        for door in flat.plan.doorways:
            lengths = np.full(3, flat.plan.height_m)
            lengths[door.axis] = door.thickness_m + 1.6
            lengths[1 - door.axis] = door.width_m
            lengths[2] = 1.55
            zone = OrientedBox(np.array([*door.center_m, 1.55 / 2]), lengths, np.eye(3))
            for name, thing in zip(flat.names, flat.graph.objects, strict=False):
                assert overlap_m(zone, thing.box) <= TOUCH_M, f"{flat.scene_id}: {name} stands in a doorway"
            doors += 1
    assert doors > 20


def islands_of_rooms(env: MeshEnv, flat) -> list[set[int]]:
    cells = env.navmesh.grid.centers()
    at_floor = np.abs(cells[:, 2]) < 0.05
    found = []
    for room in flat.rooms:
        inside = at_floor & (cells[:, :2] > room.low_m).all(axis=1) & (cells[:, :2] < room.high_m).all(axis=1)
        found.append(set(env.navmesh.grid.island[inside].tolist()))
    return found


def test_every_room_is_on_one_island(flats, envs):
    for flat, env in zip(flats, envs, strict=True):
        for room, islands in zip(flat.rooms, islands_of_rooms(env, flat), strict=True):
            assert env.navmesh.main_island in islands, f"{flat.scene_id}: {room.name} is out of reach"
        assert env.navmesh.island_areas_m2[env.navmesh.main_island] > 0.15 * flat.graph.room_size_m2


@pytest.mark.parametrize("radius_m", [0.1, 0.2])
def test_one_walks_through_every_doorway(flats, radius_m):
    """From half a metre before to half a metre behind, straight."""
    for flat in [flat for flat in flats if flat.plan.doorways][:4]:
        settings = WorldSettings(nav=NavSettings(radius_m=radius_m))
        env = MeshEnv(flat.scene_id, flat.mesh, flat.id_of_face, flat.graph, settings)
        for door in flat.plan.doorways:
            step = np.eye(3)[door.axis] * 0.5
            middle = np.array([*door.center_m, 0.0])
            path = env.shortest_path(middle - step, middle + step)
            assert path.distance_m == pytest.approx(1.0, abs=1e-6)


def test_everything_can_be_walked_up_to(flats, envs):
    """To 1 m of what stands on the floor, as closed-loop trials need it."""
    for flat, env in zip(flats, envs, strict=True):
        cells = env.navmesh.grid.centers()[env.navmesh.grid.island == env.navmesh.main_island]
        for item, thing in zip(flat.items, flat.graph.objects, strict=True):
            local = np.abs((cells - thing.box.center_m) @ thing.box.R_WB)[:, :2] - thing.box.lengths_m[:2] / 2
            away = np.hypot(*np.maximum(local, 0).T).min()
            assert away < (1.0 if item.on < 0 and item.z_m < 0.1 else 1.4), f"{flat.scene_id}: {item} {away:.2f} m away"


def bearing(start, goal) -> float:
    return float(np.arctan2(goal.y_m - start.y_m, goal.x_m - start.x_m))


def turn(a: float, b: float) -> float:
    return abs((a - b + np.pi) % (2 * np.pi) - np.pi)


def test_a_sofa_faces_the_tv(flats):
    seen = 0
    for flat in flats:
        for index, room in enumerate(flat.rooms):
            if room.kind != "living":
                continue
            items = [item for item in flat.items if item.room == index]
            tvs, sofas = ([item for item in items if item.category == name] for name in ("tv", "sofa"))
            if tvs and sofas:
                seen += 1
                assert any(
                    turn(sofa.yaw_rad, bearing(sofa, tv)) < np.radians(35) and turn(sofa.yaw_rad, tv.yaw_rad) > 3.0
                    for tv in tvs
                    for sofa in sofas
                ), f"{flat.scene_id}: {room.name}"
    assert seen >= 5


def seats_at(flat, table):
    """Chairs and stools whose middle is within half a metre of a table's side."""
    for item in flat.items:
        if item.kind in ("chair", "stool") and item.room == table.room:
            away = np.array([item.x_m - table.x_m, item.y_m - table.y_m])
            c, s = np.cos(table.yaw_rad), np.sin(table.yaw_rad)
            outside = np.abs([c * away[0] + s * away[1], c * away[1] - s * away[0]]) - np.array(table.size_m[:2]) / 2
            if np.hypot(*np.maximum(outside, 0)) < 0.5 + item.size_m[0] / 2 - 0.25:
                yield item, outside


def test_chairs_face_their_tables(flats):
    """Some chairs stand at a wall near a table by chance: nine of ten must face it."""
    facing, seats, tables = 0, 0, 0
    for flat in flats:
        for table in flat.items:
            if table.kind not in ("dining table", "desk"):
                continue
            here = list(seats_at(flat, table))
            tables += bool(here)
            for seat, _ in here:
                tip = seat.ahead(seat.size_m[0] / 2 + 0.45)
                c, s = np.cos(table.yaw_rad), np.sin(table.yaw_rad)
                dx, dy = tip[0] - table.x_m, tip[1] - table.y_m
                inside = abs(c * dx + s * dy) < table.size_m[0] / 2 and abs(c * dy - s * dx) < table.size_m[1] / 2
                seats, facing = seats + 1, facing + inside
    assert tables >= 15
    assert facing >= 0.9 * seats


def test_beds_kitchens_and_desks_are_as_at_home(flats):
    for flat in flats:
        for item in flat.items:
            room = flat.rooms[item.room]
            back = np.array(item.ahead(-item.size_m[0] / 2))
            to_wall = min(*(back - room.low_m), *(room.high_m - back))
            if item.kind in ("bed", "refrigerator", "stove", "counter", "toilet", "washbasin", "closet", "desk"):
                assert to_wall < 0.03, f"{flat.scene_id}: the back of {item} is {to_wall:.2f} m from a wall"
            if item.kind in ("monitor", "keyboard"):
                assert flat.items[item.on].kind == "desk"
            if item.kind == "kitchen sink":
                assert flat.items[item.on].kind == "counter"
            if item.kind == "pillow":
                assert flat.items[item.on].kind in ("bed", "sofa")


def test_names_ids_and_categories(flats):
    for flat in flats:
        assert len(set(flat.names)) == len(flat.names) == len(flat.categories)
        assert {thing.category for thing in flat.graph.objects} <= set(CATEGORIES)
        assert set(flat.categories[len(flat.items) :]) <= set(STRUCTURE)
        assert not set(CATEGORIES) & set(STRUCTURE)
        assert set(flat.id_of_face.tolist()) == set(range(1, len(flat.names) + 1))
        assert {part.split("/")[0] for part in flat.mesh.parts} == set(flat.names)
        assert sum(flat.graph.counts.values()) == len(flat.graph.objects)
        assert flat.scene_id == f"flat-{flat.seed:06d}"


def test_room_size_is_the_area_of_the_floors(flats):
    for flat in flats:
        floors = [name in {f"floor_{i}" for i in range(5)} for name in flat.names]
        corners = flat.mesh.triangles_m()[np.array(floors)[flat.id_of_face - 1]]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
        assert area == pytest.approx(flat.graph.room_size_m2)
        assert area == pytest.approx(sum(room.area_m2 for room in flat.rooms))


def test_meshes_are_moderate(flats):
    for flat in flats:
        assert 400 < len(flat.mesh.faces) < 12_000
        assert all(item.texture.size <= 4 * 256 * 128 for item in flat.mesh.materials)
        assert np.isfinite(flat.mesh.vertices_m).all()
        assert np.isfinite(flat.mesh.uv).all()


def test_it_is_a_world(envs):
    """Pictures from inside show objects, and nothing but black holes is missing: every ray hits something."""
    env: Env = envs[2]
    rng = np.random.default_rng(0)
    seen = set()
    for yaw in np.linspace(0, 2 * np.pi, 12):
        picture = env.render(camera_pose(env.sample_navigable(rng), yaw, env.settings.camera))
        assert (picture.depth_m > 0).all()
        seen |= set(np.unique(picture.ids).tolist())
    assert len(seen & {thing.instance_id for thing in env.scene_graph().objects}) > 10


def same(first, second) -> bool:
    arrays = ("vertices_m", "faces", "uv", "part_of_face", "material_of_face")
    return (
        all(np.array_equal(getattr(first.mesh, name), getattr(second.mesh, name)) for name in arrays)
        and first.items == second.items
        and first.mesh.parts == second.mesh.parts
    )


def test_a_seed_is_a_flat():
    assert same(make_flat(7), make_flat(7))
    assert same(make_flat(np.int64(7)), make_flat(7))
    assert not same(make_flat(7), make_flat(8))
    assert not same(make_flat(7), make_flat(7, FlatSettings(clutter=2.0)))


def test_an_earlier_flat_changes_nothing():
    first = make_flat(31)
    make_flat(30)
    assert same(first, make_flat(31))


def digests(folder) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_same_bytes_in_another_process(tmp_path, repo_dir):
    for seed in (4, 5):
        export_flat(make_flat(seed), tmp_path / "here")
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-m", "sim.rooms", "--seed", "4", "--count", "2", "--out", str(tmp_path / "there")]
    subprocess.run(command, cwd=repo_dir, env=environment, check=True, capture_output=True)
    there = digests(tmp_path / "there")
    here = digests(tmp_path / "here")
    assert set(here) == {f"flat-00000{n}{end}" for n in (4, 5) for end in (".glb", "_objects.json")}
    assert here == {name: there[name] for name in here}
    assert set(there) - set(here) == {"flat-000004_plan.png", "flat-000005_plan.png"}


@pytest.mark.parametrize("seed", [0, 11])
def test_an_exported_flat_reads_back(seed, tmp_path):
    flat = make_flat(seed)
    mesh, objects = export_flat(flat, tmp_path / "new" / "folder")
    lens = WorldSettings(CameraSettings(width_px=64, height_px=64))
    back, env = open_world(mesh, objects, lens), flat_env(seed, lens)
    assert back.scene_id == env.scene_id
    for first, second in zip(env.scene_graph().objects, back.scene_graph().objects, strict=True):
        assert (first.category, first.instance_id) == (second.category, second.instance_id)
        np.testing.assert_allclose(first.box.corners(), second.box.corners(), atol=1e-5)  # float32 of 10 m
    rng = np.random.default_rng(seed)
    for _ in range(4):
        pose = camera_pose(env.sample_navigable(rng), rng.uniform(0, 6.28), env.settings.camera)
        one, two = env.render(pose), back.render(pose)
        # a ray on an edge may go either side of it after rounding to float32
        assert (one.ids == two.ids).mean() > 0.995
        assert (np.abs(one.rgb.astype(int) - two.rgb) <= 2).all(axis=2).mean() > 0.99
        assert np.median(np.abs(one.depth_m - two.depth_m)) < 1e-5


def test_settings_choose_the_rooms():
    for count in range(1, 6):
        assert len(make_flat(3, FlatSettings(count, count)).rooms) == count
    assert {len(make_flat(seed, FlatSettings(2, 3)).rooms) for seed in range(8)} == {2, 3}


def test_clutter_is_how_much_there_is():
    counts = [
        sum(len(make_flat(seed, FlatSettings(2, 2, clutter=clutter)).items) for seed in range(4))
        for clutter in (0.0, 1.0, 3.0)
    ]
    assert counts[0] < counts[1] < counts[2]


def test_flat_env_takes_both_settings():
    env = flat_env(3, WorldSettings(CameraSettings(width_px=32, height_px=24)), flat_settings=FlatSettings(1, 1))
    assert (env.camera.width_px, env.scene_id) == (32, "flat-000003")
    assert env.scene_graph().room_size_m2 == make_flat(3, FlatSettings(1, 1)).graph.room_size_m2


@pytest.mark.parametrize("seed", [-1, 1.5, "3", True, None])
def test_bad_seeds(seed):
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
        make_flat(seed)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"min_rooms": 0}, "min_rooms must be in 1..5, got 0"),
        ({"max_rooms": 9}, "max_rooms must be in 1..5, got 9"),
        ({"min_rooms": 4, "max_rooms": 2}, "min_rooms must be at most max_rooms 2, got 4"),
        ({"min_rooms": 1.5}, "min_rooms must be a whole number"),
        ({"clutter": -1.0}, "clutter must be in 0.0..4.0"),
        ({"size_sigma": 2.0}, "size_sigma must be in 0.0..1.0"),
    ],
)
def test_bad_settings(values, words):
    with pytest.raises(ValueError, match=words):
        FlatSettings(**values)
    assert replace(FlatSettings(), clutter=0.5).clutter == 0.5


def test_command_line(tmp_path, capsys):
    main(["--seed", "6", "--count", "1", "--rooms", "1", "--out", str(tmp_path), "--views"])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"flat-000006" + end for end in (".glb", "_objects.json", "_plan.png", "_views.png")}
    assert "1 flats" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rooms", "9"], "min_rooms must be in 1..5, got 9"),
        (["--rooms", "0"], "got 0"),
        (["--seed", "-1"], "--seed must be a whole number of at least 0, got -1"),
        (["--count", "0"], "--count must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_command_line(arguments, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--out", str(tmp_path / "no")])
    assert stop.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
