"""Walks stay where one can walk, keep to what was asked of them, and show the scene."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from worlds import box, painted, room

from sim.camera import CameraSettings, yaw_of
from sim.mesh_env import MeshEnv, WorldSettings, open_world
from sim.record import watch
from sim.recording.truth import walk_graph
from sim.walking.lookouts import choose_lookouts, distances_between, short_order
from sim.walks import Walk, WalkSettings, make_walk
from sim.world.annotation import plain_graph
from sim.world.mesh import Mesh
from sim.world.walkgrid import NavSettings
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import SceneObject

LENS = CameraSettings(width_px=48, height_px=36)
# Rounding of positions and angles.
LEAST = 1e-6


def world_of(mesh: Mesh, *names: str) -> MeshEnv:
    """A world of a mesh in which some parts are objects."""
    ids, objects = np.zeros(len(mesh.faces), np.int32), []
    for number, name in enumerate(names, 1):
        mine = mesh.part_of_face == mesh.parts.index(name)
        ids[mine] = number
        objects.append(SceneObject(name, OrientedBox.around(mesh.triangles_m()[mine].reshape(-1, 3)), number))
    graph = plain_graph("home", tuple(objects), 0.0, mesh)
    return MeshEnv("home", mesh, ids, graph, WorldSettings(LENS))


@cache
def two_rooms() -> MeshEnv:
    """Two rooms of 5 x 5 m, a door of 0.9 m between them, a table in one and a cupboard around the corner."""
    things = {
        "wall_a": box([4.95, 0, 0], [5.05, 3.6, 2.5]),
        "wall_b": box([4.95, 4.5, 0], [5.05, 5, 2.5]),
        "table": box([1.8, 1.8, 0], [3.2, 3.2, 0.7]),
        "cupboard": box([5.1, 0.2, 0], [5.6, 1.4, 1.8]),
        "lamp": box([9.4, 4.4, 0], [9.7, 4.7, 1.4]),
    }
    mesh = room(10, 5, **{name: painted(part, (90, 120, 150)) for name, part in things.items()})
    return world_of(mesh, "table", "cupboard", "lamp")


def feet_of(walk: Walk, settings: WalkSettings) -> np.ndarray:
    return walk.T_WC[:, :3, 3] - [0.0, 0.0, settings.height_m]


def turns_of(walk: Walk) -> np.ndarray:
    """Changes of heading from pose to pose, radians."""
    return np.diff(np.unwrap([yaw_of(T_WC) for T_WC in walk.T_WC]))


def assert_keeps_the_rules(env: MeshEnv, walk: Walk, settings: WalkSettings):
    feet, seconds = feet_of(walk, settings), np.diff(walk.stamps_ns) / 1e9
    assert all(env.is_navigable(point) for point in feet)
    speeds = np.linalg.norm(np.diff(feet, axis=0), axis=1) / seconds
    assert speeds.max() <= settings.speed_m_s + LEAST
    turn_speeds = np.degrees(np.abs(turns_of(walk))) / seconds
    assert turn_speeds.max() <= settings.turn_speed_deg_s + LEAST
    assert walk.stamps_ns[0] == 1_000_000_000
    np.testing.assert_allclose(seconds, 1 / settings.fps, atol=2e-9)
    np.testing.assert_allclose(feet[:, 2], 0.0, atol=1e-6)  # flat floors in these worlds
    assert walk.T_WC.dtype == np.float64
    level = walk.T_WC[:, :3, 2][:, 2]
    np.testing.assert_allclose(level, np.sin(np.radians(settings.pitch_deg)), atol=1e-9)


SETTINGS = [
    WalkSettings(),
    WalkSettings(height_m=0.5, fps=30.0, speed_m_s=0.4, turn_speed_deg_s=45.0, pitch_deg=-10.0),
    WalkSettings(fps=5.0, speed_m_s=1.5, turn_speed_deg_s=120.0, sweep_deg=90.0, glance_deg=0.0, margin_m=0.05),
    WalkSettings(sweep_deg=0.0, glance_deg=30.0, glance_s=6.0, fps=15.0, stops=6),
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_pose_keeps_the_rules(settings, seed):
    walk = make_walk(two_rooms(), np.random.default_rng(seed), settings)
    assert_keeps_the_rules(two_rooms(), walk, settings)
    assert np.ptp(feet_of(walk, settings)[:, 0]) > 2.0  # it went somewhere


@pytest.mark.parametrize("seed", range(4))
def test_speed_and_direction_change_gently(seed):
    settings = WalkSettings(fps=30.0)
    walk = make_walk(two_rooms(), np.random.default_rng(seed), settings)
    velocity = np.diff(feet_of(walk, settings), axis=0) * settings.fps
    acceleration = np.linalg.norm(np.diff(velocity, axis=0), axis=1) * settings.fps
    # Starting, and rounding a corner, may add up; points lie half a centimetre apart, which shakes a little more.
    assert acceleration.max() < 3 * settings.acceleration_m_s2
    assert np.percentile(acceleration, 99) < 1.6 * settings.acceleration_m_s2
    moving = np.linalg.norm(velocity, axis=1) > 0.3
    ways = np.unwrap(np.arctan2(velocity[:, 1], velocity[:, 0]))
    bends = np.abs(np.diff(ways))[moving[1:] & moving[:-1]]
    assert np.degrees(bends).max() < 15.0  # no corner: at 0.8 m/s a pose is 2.7 cm further
    turn_change = np.abs(np.diff(turns_of(walk))) * settings.fps
    assert np.degrees(turn_change).max() < 10.0  # degrees a second from pose to pose


def test_corners_are_rounded_through_the_door():
    """From beside the wall through the door: the straight path has corners, the walk has not, and keeps a distance."""
    env, settings = two_rooms(), WalkSettings(fps=30.0, sweep_deg=0.0, glance_deg=0.0)
    start, goal = np.array([4.3, 0.6, 0.0]), np.array([6.5, 0.6, 0.0])
    straight = env.shortest_path(start, goal)
    walk = make_walk(env, np.random.default_rng(0), settings, start=start, via=[goal])
    feet = feet_of(walk, settings)
    assert_keeps_the_rules(env, walk, settings)
    length = np.linalg.norm(np.diff(feet, axis=0), axis=1).sum()
    assert straight.distance_m < length < 1.15 * straight.distance_m
    np.testing.assert_allclose(feet[[0, -1], :2], [start[:2], goal[:2]], atol=0.02)
    in_door = np.abs(feet[:, 0] - 5.0) < 0.05
    # The walkable part of the door is 0.5 m wide: the straight path goes along its border, the walk stays off.
    assert np.abs(straight.points[:, 1] - 4.05).min() > 0.17
    assert (np.abs(feet[in_door, 1] - 4.05) < 0.15).all()


def test_it_looks_where_it_goes_and_around_at_stops():
    env, settings = two_rooms(), WalkSettings(fps=20.0, glance_deg=0.0)
    start, goal = np.array([1.0, 4.0, 0.0]), np.array([9.0, 4.0, 0.0])
    walk = make_walk(env, np.random.default_rng(0), settings, start=start, via=[goal])
    velocity = np.diff(feet_of(walk, settings), axis=0) * settings.fps
    speed = np.linalg.norm(velocity, axis=1)
    ahead = walk.T_WC[:-1, :2, 2]
    toward = (ahead * velocity[:, :2]).sum(axis=1)[speed > 0.3] / speed[speed > 0.3]
    assert toward.min() > np.cos(np.radians(25))
    still = speed == 0
    moved = np.flatnonzero(~still)
    for part in (slice(0, moved[0]), slice(moved[-1] + 1, None)):
        assert np.degrees(np.abs(turns_of(walk)[part].sum())) >= 360 - 1


def test_glances_go_both_ways_and_end_ahead():
    env, start, goal = two_rooms(), np.array([1.0, 4.0, 0.0]), np.array([9.0, 4.0, 0.0])
    plain, glancing = (
        make_walk(
            env,
            np.random.default_rng(0),
            WalkSettings(fps=20.0, sweep_deg=0.0, glance_deg=angle, turn_speed_deg_s=90.0, margin_m=0.05),
            start=start,
            via=[goal],
        )
        for angle in (0.0, 20.0)
    )
    yaws = [np.degrees(np.unwrap([yaw_of(T) for T in walk.T_WC])) for walk in (plain, glancing)]
    assert np.abs(yaws[0]).max() < 8
    assert yaws[1].max() > 15
    assert yaws[1].min() < -15
    assert abs(yaws[1][-1] - yaws[0][-1]) < 1


def test_height_is_that_of_the_settings():
    env = two_rooms()
    for height_m in (0.5, 1.5):
        walk = make_walk(env, np.random.default_rng(3), WalkSettings(height_m=height_m, stops=1))
        np.testing.assert_allclose(walk.T_WC[:, 2, 3], height_m, atol=1e-6)


def test_same_seed_same_walk():
    for settings in (WalkSettings(), WalkSettings(cover=True, cover_candidates=8)):
        first, second, other = (make_walk(two_rooms(), np.random.default_rng(seed), settings) for seed in (5, 5, 6))
        assert first.T_WC.tobytes() == second.T_WC.tobytes()
        np.testing.assert_array_equal(first.stamps_ns, second.stamps_ns)
        assert first.T_WC.tobytes() != other.T_WC.tobytes()


def test_a_closet_is_only_looked_around_in():
    """One can stand on 0.4 m x 0.4 m, hardly walk."""
    mesh = room(0.8, 0.8, shelf=painted(box([0, 0.7, 1.0], [0.8, 0.8, 1.2]), (1, 2, 3)))
    env = MeshEnv(
        "closet",
        mesh,
        np.zeros(len(mesh.faces), np.int32),
        plain_graph("closet", (), 0.0, mesh),
        WorldSettings(LENS, nav=NavSettings(min_area_m2=0.0)),
    )
    for settings in (WalkSettings(), WalkSettings(cover=True, cover_candidates=4)):
        walk = make_walk(env, np.random.default_rng(0), settings)
        assert_keeps_the_rules(env, walk, settings)
        assert np.degrees(np.abs(turns_of(walk)).sum()) >= 360 - 6
        assert len(walk) > 30


def test_covering_walks_show_what_random_ones_miss():
    env = two_rooms()
    settings = WalkSettings(fps=4.0, cover=True, cover_candidates=16, sweep_deg=360.0)
    start = np.array([0.6, 4.4, 0.0])
    walk = make_walk(env, np.random.default_rng(0), settings, start=start)
    assert_keeps_the_rules(env, walk, settings)
    graph = walk_graph(env.scene_graph(), walk, watch(env, walk), min_pixels=5)
    assert {item.instance_id for frame in graph.frames for item in frame.visible} == {1, 2, 3}
    assert walk.duration_s <= settings.max_duration_s
    one_look = make_walk(env, np.random.default_rng(0), WalkSettings(fps=4.0, stops=0), start=start)
    graph = walk_graph(env.scene_graph(), one_look, watch(env, one_look), min_pixels=5)
    assert 2 not in {item.instance_id for frame in graph.frames for item in frame.visible}


def test_walks_of_ones_own_choice_are_bounded():
    for settings in (WalkSettings(stops=50, max_duration_s=60.0), WalkSettings(cover=True, max_duration_s=40.0)):
        walk = make_walk(two_rooms(), np.random.default_rng(1), settings)
        assert walk.duration_s <= 1.25 * settings.max_duration_s  # the time of bends and starts is estimated
    given = make_walk(
        two_rooms(), np.random.default_rng(1), WalkSettings(max_duration_s=1.0), start=[1, 1, 0], via=[[9, 1, 0]]
    )
    np.testing.assert_allclose(given.T_WC[-1, :2, 3], [9, 1], atol=0.02)  # given stops are never left out


def test_lookouts_are_few_and_well_ordered():
    env, rng = two_rooms(), np.random.default_rng(0)
    start = np.array([0.6, 4.4, 0.0])
    places = choose_lookouts(env, rng, start, LENS, candidates=16, share=0.95)
    assert 2 <= len(places) <= 8
    assert {place[0] > 5 for place in places} == {True, False}  # both rooms
    stops = [np.array([x, 0.8, 0.0]) for x in (0.6, 8.0, 1.0, 6.5, 4.0)]
    distance = distances_between(env, stops)
    np.testing.assert_array_equal(distance, distance.T)
    assert distance[1, 2] == pytest.approx(env.shortest_path(stops[1], stops[2]).distance_m)
    order, length_m = short_order(distance)
    assert order == [0, 2, 4, 3, 1]
    assert length_m == pytest.approx(sum(distance[a, b] for a, b in itertools.pairwise(order)))


def test_an_order_without_detours():
    """Nearest first would leave the far end of one arm for last."""
    places = np.array([0.0, 1.0, -1.5, 3.0, 3.1, 3.2])
    order, length = short_order(np.abs(places[:, None] - places))
    assert order == [0, 2, 1, 3, 4, 5]
    assert length == pytest.approx(1.5 + 4.7)


def test_small_house(small_house_dir):
    env = open_world(small_house_dir / "small_house.glb", settings=WorldSettings(LENS))
    walk = make_walk(env, np.random.default_rng(0), WalkSettings(stops=2))
    feet = feet_of(walk, WalkSettings())
    assert all(env.is_navigable(point) for point in feet)
    assert np.linalg.norm(np.diff(feet, axis=0), axis=1).sum() > 5


def test_what_it_refuses():
    env, rng = two_rooms(), np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"start \[50, 50, 0\] is not near where one can stand in scene 'home'"):
        make_walk(env, rng, start=[50, 50, 0])
    with pytest.raises(ValueError, match=r"via\[1\] \[50\.0, 0\.0, 0\.0\] is not near where"):
        make_walk(env, rng, start=[1, 1, 0], via=[[1, 4, 0], [50, 0, 0]])
    with pytest.raises(ValueError, match=r"WalkSettings\.fps must be in"):
        WalkSettings(fps=0)
    with pytest.raises(ValueError, match=r"glances of 60\.0 degrees in 4\.0 s turn by 109 degrees a second, turn_spee"):
        WalkSettings(glance_deg=60.0)
    with pytest.raises(ValueError, match=r"Walk\.T_WC must have shape \(2, 4, 4\)"):
        Walk(np.eye(4)[None], np.array([1, 2]))
