"""Habitat behind the Env protocol, against the apartment's golden data: recorded answers, and the real habitat_sim.

Without habitat_sim the real server process, sockets, messages and client run, only the backend is a recording.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worlds import from_habitat

from sim.camera import CameraSettings, camera_pose
from sim.env import Env, MotionSettings, Move, Velocity
from sim.episode import Episode
from sim.habitat.frames import camera_from_habitat, camera_to_habitat
from sim.habitat_client import habitat_problem
from sim.habitat_env import HabitatEnv, navmesh_settings
from sim.mesh_env import WorldSettings, open_world
from sim.world.walkgrid import NavSettings

REPLAY = Path(__file__).with_name("habitat_replay.py")
LENSES = {
    "A": CameraSettings(256, 256, 90.0, 1.5),
    "B": CameraSettings(320, 240, 79.0, 0.88, float(np.degrees(-0.3))),
}
# Positions are float32 on the other side.
NEAR_M = 1e-5


@pytest.fixture(scope="module", params=["recorded", pytest.param("real", marks=pytest.mark.habitat)])
def server(request) -> dict:
    """How to start the server: with recorded answers, or with habitat_sim."""
    if request.param == "recorded":
        return {"program": REPLAY, "python": sys.executable}
    problem = habitat_problem()
    if problem:
        pytest.skip(f"no habitat_sim; set VLM3R_HABITAT_PYTHON ({problem})")
    return {}


@pytest.fixture(scope="module")
def open_apartment(server, apartment_dir):
    """Opens the apartment with given settings, once for each."""
    opened = {}

    def opener(lens: str = "A", slide: bool = True) -> HabitatEnv:
        if (lens, slide) not in opened:
            settings = WorldSettings(LENSES[lens], MotionSettings(slide=slide))
            annotation = apartment_dir / "apartment.objects.json"
            path = apartment_dir / "apartment.glb"
            opened[lens, slide] = HabitatEnv.start(path, settings, annotation_path=annotation, **server)
        return opened[lens, slide]

    yield opener
    for env in opened.values():
        env.close()


@pytest.fixture(scope="module")
def nav(apartment_dir) -> dict:
    return json.loads((apartment_dir / "nav.json").read_text())


def yaw_from_habitat(wxyz) -> float:
    """Habitat's zero looks along -z, which is our +y; both count left turns as positive."""
    return 2 * np.arctan2(wxyz[2], wxyz[0]) + np.pi / 2


def episode(feet, yaw_rad: float, lens: str = "A") -> Episode:
    return Episode("e", "find", "apartment", 0, camera_pose(np.asarray(feet), yaw_rad, LENSES[lens]))


def test_protocol_is_complete():
    assert {name for name in vars(Env) if not name.startswith("_")} <= set(dir(HabitatEnv))


@pytest.mark.parametrize("lens", ["A", "B"])
def test_pictures_are_those_of_the_built_in_world(open_apartment, apartment_dir, lens):
    """The wanted numbers, between the two worlds, each asked for the same pose in the house's axes."""
    settings = WorldSettings(LENSES[lens], lighting="none")
    ours = open_world(apartment_dir / "apartment.glb", apartment_dir / "apartment.objects.json", settings)
    views = json.loads((apartment_dir / "views.json").read_text())["views"]
    views = [view for view in views if view["camera"] == lens]
    depth_errors, same_id, color_errors = [], [], []
    for view in views:
        feet, yaw = from_habitat(view["agent_position"]), yaw_from_habitat(view["agent_rotation"]["wxyz"])
        T_WC = camera_pose(feet, yaw, LENSES[lens])
        theirs, mine = open_apartment(lens).view(T_WC, stamp_ns=7), ours.view(T_WC)
        np.testing.assert_array_equal(theirs.T_WC, T_WC)
        np.testing.assert_array_equal(theirs.K, mine.K)
        assert (theirs.frame.stamp_ns, theirs.frame.frame_id) == (7, mine.frame.frame_id)
        assert [theirs.frame.rgb.dtype, theirs.depth_m.dtype, theirs.semantic_ids.dtype] == [
            np.uint8,
            np.float32,
            np.int32,
        ]
        np.testing.assert_array_equal(theirs.depth_m > 0, mine.depth_m > 0)
        hit = theirs.depth_m > 0
        depth_errors.append((np.abs(theirs.depth_m - mine.depth_m) / theirs.depth_m)[hit])
        same_id.append((theirs.semantic_ids == mine.semantic_ids).ravel())
        color_errors.append(np.abs(theirs.frame.rgb.astype(int) - mine.frame.rgb).ravel())
    errors = np.concatenate(depth_errors)
    assert len(views) == {"A": 20, "B": 8}[lens]
    assert np.median(errors) <= 1e-4
    assert np.quantile(errors, 0.99) <= 1e-2
    assert np.mean(np.concatenate(same_id)) >= 0.995
    assert np.mean(np.concatenate(color_errors)) <= 3


def test_camera_poses_convert_both_ways(apartment_dir):
    """Habitat's own matrix of each view is the same pose."""
    listed = json.loads((apartment_dir / "views.json").read_text())
    R_WH = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    for view in listed["views"]:
        wxyz = np.array(view["camera_rotation"]["wxyz"])
        T_WC = camera_from_habitat(view["camera_position"], wxyz)
        matrix = np.array(view["camera_to_world"])
        # 1e-6: their matrices come from float32 quaternions
        np.testing.assert_allclose(T_WC[:3, :3], R_WH @ matrix[:3, :3] @ np.diag([1, -1, -1]), atol=1e-6)
        np.testing.assert_allclose(T_WC[:3, 3], R_WH @ matrix[:3, 3], atol=1e-6)
        position, rotation = camera_to_habitat(T_WC)
        np.testing.assert_allclose(position, view["camera_position"], atol=1e-9)
        np.testing.assert_allclose(rotation * np.sign(rotation @ wxyz), wxyz, atol=1e-6)
    with pytest.raises(ValueError, match="rotation"):
        camera_to_habitat(np.diag([1.0, 1.0, -1.0, 1.0]))


def test_paths_come_through(open_apartment, nav):
    """Reachability, lengths and converted waypoints of all recorded pairs."""
    env, found = open_apartment(), 0
    for pair in nav["pairs"]:
        path = env.shortest_path(from_habitat(pair["start"]), from_habitat(pair["end"]))
        assert path.found == pair["found"]
        if pair["found"]:
            found += 1
            # a float32 metre
            assert path.distance_m == pytest.approx(pair["geodesic_distance"], abs=NEAR_M)
            np.testing.assert_allclose(path.points, [from_habitat(p) for p in pair["points"]], atol=NEAR_M)
            length = np.linalg.norm(np.diff(path.points, axis=0), axis=1).sum()
            assert length == pytest.approx(path.distance_m, abs=1e-4)
        else:
            assert path.points.shape == (0, 3)
    assert (len(nav["pairs"]), found) == (50, sum(pair["found"] for pair in nav["pairs"]))
    assert 40 <= found < 50


def test_navigable_answers_and_snapping(open_apartment, nav):
    env = open_apartment()
    for query in nav["queries"]:
        point = from_habitat(query["point"])
        assert env.is_navigable(point) == query["is_navigable"]
        snapped = env.snap(point)
        if query["snap"] is None or None in query["snap"]:
            assert snapped is None
        else:
            np.testing.assert_allclose(snapped, from_habitat(query["snap"]), atol=NEAR_M)
            moved = np.abs(snapped - point).max()
            assert moved < 0.01 or env.snap(point, (moved / 2,) * 3) is None


@pytest.mark.parametrize("slide", [True, False])
def test_random_walks_replay(open_apartment, apartment_dir, slide):
    """Positions, headings and collisions of 3 walks of 80 actions each, every step taken by the robot itself."""
    env = open_apartment(slide=slide)
    walks = json.loads((apartment_dir / "trajectories.json").read_text())["random_walks"]
    walks = [walk for walk in walks if walk["allow_sliding"] == slide]
    names = {"move_forward": Move.FORWARD, "turn_left": Move.TURN_LEFT, "turn_right": Move.TURN_RIGHT}
    for walk in walks:
        yaw = yaw_from_habitat(walk["start_rotation"]["wxyz"])
        env.reset(episode(from_habitat(walk["start_position"]), yaw))
        for step in walk["steps"]:
            now = env.step(names[step["action"]])
            np.testing.assert_allclose(now.position_m, from_habitat(step["position"]), atol=NEAR_M)
            turned = now.yaw_rad - yaw_from_habitat(step["rotation"]["wxyz"])
            # 80 turns in float32
            assert abs((turned + np.pi) % (2 * np.pi) - np.pi) < 1e-4
            assert now.collided == step["collided"]
        assert now.collisions == sum(step["collided"] for step in walk["steps"])
        assert now.collisions > 0
    assert len(walks) == 3


@pytest.mark.parametrize("slide", [True, False])
def test_driving_uses_habitats_steps(open_apartment, nav, slide):
    """A drive short enough to be one step is a recorded try_step; half of them backwards."""
    env = open_apartment(slide=slide)
    driven = [step for step in nav["try_step"] if np.linalg.norm(np.subtract(step["end"], step["start"])) < 0.5]
    for number, step in enumerate(driven):
        start, end = from_habitat(step["start"]), from_habitat(step["end"])
        sign = (-1) ** number
        x, y = sign * (end - start)[:2]
        env.reset(episode(start, np.arctan2(y, x)))
        now = env.step(Velocity(sign * np.hypot(x, y) / 0.05, 0.0, 0.05))
        expected = from_habitat(step["try_step" if slide else "try_step_no_sliding"])
        np.testing.assert_allclose(now.position_m, expected, atol=NEAR_M)
    assert len(driven) > 30


def test_start_nobody_can_stand_at(open_apartment, nav):
    query = max(nav["queries"], key=lambda q: np.linalg.norm(np.subtract(q["snap"], q["point"])))
    with pytest.raises(ValueError, match="nobody can stand"):
        open_apartment().reset(episode(from_habitat(query["point"]), 0.0))
    with pytest.raises(ValueError, match="scene 'elsewhere'"):
        open_apartment().reset(replace(episode([5, -5, 0], 0.0), scene="elsewhere"))


def test_samples_are_on_the_main_area_and_repeat(open_apartment, apartment_dir, nav):
    """The largest area is the roof; the main one is the largest with a ceiling."""
    env = open_apartment()
    points = [env.sample_navigable(np.random.default_rng((3, number))) for number in range(200)]
    again = [env.sample_navigable(np.random.default_rng((3, number))) for number in range(200)]
    np.testing.assert_array_equal(points, again)
    island = nav["islands"][nav["main_island"]]
    corners = np.sort([from_habitat(island["min"]), from_habitat(island["max"])], axis=0)
    assert (points >= corners[0] - NEAR_M).all()
    assert (points <= corners[1] + NEAR_M).all()
    assert len(np.unique(points, axis=0)) == 200
    floor = env.floor_map()
    cells = ((np.array(points)[:, :2] - floor.origin_m) / floor.cell_m).astype(int)
    # a point near a border may share its cell with what is not walkable
    assert np.mean(floor.free[cells[:, 0], cells[:, 1]]) > 0.95


def test_floor_map_is_habitats_top_down_view(open_apartment, apartment_dir, nav):
    floor = open_apartment().floor_map()
    theirs = np.load(apartment_dir / "topdown_islands_0.05m.npy") == nav["main_island"]
    size = nav["topdown"]["meters_per_pixel"]
    rows, columns = np.indices(theirs.shape)
    low = nav["bounds"][0]
    x, y = low[0] + (columns + 0.5) * size, -(low[2] + (rows + 0.5) * size)
    cells = ((np.stack([x, y], axis=-1) - floor.origin_m) / floor.cell_m).astype(int)
    agree = floor.free[cells[..., 0], cells[..., 1]] == theirs
    # The two grids are shifted by part of a cell, so cells on borders differ.
    assert agree.mean() > 0.97
    assert floor.free.sum() * floor.cell_m**2 == pytest.approx(nav["islands"][nav["main_island"]]["area"], rel=0.01)


def test_objects_are_the_annotated_ones(open_apartment, server, apartment_dir):
    """Without an annotation file Habitat's own semantic scene names the same objects at the same places."""
    annotated = {item.instance_id: item for item in open_apartment().scene_graph().objects}
    env = HabitatEnv.start(apartment_dir / "apartment.glb", WorldSettings(LENSES["A"]), **server)
    graph = env.scene_graph()
    env.close()
    assert {item.instance_id for item in graph.objects} == set(annotated)
    for item in graph.objects:
        other = annotated[item.instance_id]
        assert item.category == other.category
        np.testing.assert_allclose(item.box.center_m, other.box.center_m, atol=1e-4)
        corners = [np.sort(box.corners(), axis=0) for box in (item.box, other.box)]
        np.testing.assert_allclose(corners[0], corners[1], atol=1e-4)
    assert graph.room_size_m2 == open_apartment().scene_graph().room_size_m2 > 0


def test_who_walks_is_told_as_recorded(nav):
    told = navmesh_settings(NavSettings())
    recorded = nav["navmesh_settings"]
    assert {key: pytest.approx(recorded[key]) for key in told} == told


@pytest.mark.parametrize(("climb_m", "voxels"), [(0.0, 0), (0.07, 1), (0.2, 1), (0.3, 2), (0.45, 3), (0.6, 3)])
def test_climbs_are_whole_voxels(climb_m, voxels):
    """Recast divides in float32 and rounds down: no climb may be lost."""
    told = navmesh_settings(NavSettings(climb_m=climb_m))
    assert np.floor(np.float32(climb_m) / np.float32(told["cell_height"])) == voxels
    assert told["cell_height"] <= 0.2
