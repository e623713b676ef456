"""The built-in world behind the Env protocol: motion, sensors, determinism, and what it refuses."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from worlds import box, painted, quad, room

from sim.camera import CameraSettings, camera_pose
from sim.env import Env, MotionSettings, Move, Velocity
from sim.episode import Episode
from sim.mesh_env import MeshEnv, WorldSettings, open_world
from sim.world.annotation import plain_graph
from sim.world.mesh import mesh_of
from sim.world.sensor import SensorSettings
from sim.world.walkgrid import NavSettings
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.graph import SceneGraph, SceneObject
from vlm3r_core.scene.metadata import write_metadata

LENS = CameraSettings(width_px=40, height_px=30)
TURN_RAD = np.radians(10)
# A position put into its cell is moved by up to a millionth of 5 cm.
NEAR_M = 1e-6
TABLE = SceneObject("table", OrientedBox.aligned([4, 1.5, 0], [5, 2.5, 0.7]), 3)


def world(settings: WorldSettings | None = None) -> MeshEnv:
    """A room with a table, object 3."""
    mesh = room(table=painted(box([4, 1.5, 0], [5, 2.5, 0.7]), (10, 200, 30)))
    ids = np.where(mesh.part_of_face == mesh.parts.index("table"), 3, 0)
    return MeshEnv("room", mesh, ids, plain_graph("room", (TABLE,), 0.0, mesh), settings or WorldSettings(LENS))


def episode(x=1.0, y=2.0, yaw_rad=0.0, **changes) -> Episode:
    values = {"id": "e", "task": "find", "scene": "room", "seed": 5}
    return Episode(**values | {"T_WC_start": camera_pose(np.array([x, y, 0.0]), yaw_rad, LENS)} | changes)


@pytest.fixture
def env():
    return world()


def test_protocol_is_complete():
    wanted = {name for name in vars(Env) if not name.startswith("_")}
    assert {"reset", "step", "observe", "shortest_path", "is_navigable", "sample_navigable", "scene_graph"} <= wanted
    assert wanted <= set(dir(MeshEnv))


def test_reset_puts_the_robot_at_the_start(env):
    now = env.reset(episode(1.0, 2.0, 0.5))
    np.testing.assert_allclose(now.position_m, [1, 2, 0], atol=NEAR_M)
    assert now.yaw_rad == pytest.approx(0.5)
    np.testing.assert_allclose(now.T_WC, camera_pose(now.position_m, now.yaw_rad, LENS))
    assert (now.stamp_ns, now.steps, now.path_m, now.collisions) == (10**9, 0, 0.0, 0)
    assert not now.stopped


def test_discrete_actions(env):
    env.reset(episode())
    ahead = env.step(Move.FORWARD)
    np.testing.assert_allclose(ahead.position_m, [1.25, 2, 0], atol=NEAR_M)
    assert (ahead.stamp_ns, ahead.steps) == (1_500_000_000, 1)
    left = env.step(Move.TURN_LEFT)
    assert left.yaw_rad == pytest.approx(TURN_RAD)
    np.testing.assert_array_equal(left.position_m, ahead.position_m)
    assert env.step(Move.TURN_RIGHT).yaw_rad == pytest.approx(0)
    stopped = env.step(Move.STOP)
    assert (stopped.stopped, stopped.steps) == (True, 4)
    assert stopped.path_m == pytest.approx(0.25, abs=NEAR_M)
    np.testing.assert_array_equal(stopped.position_m, left.position_m)


@pytest.mark.parametrize("turn_deg", [10, 15, 30])
def test_turns_close_a_circle(turn_deg):
    env = world(WorldSettings(LENS, MotionSettings(turn_deg=turn_deg)))
    first = env.reset(episode(yaw_rad=3.0))
    for _ in range(360 // turn_deg):
        now = env.step(Move.TURN_LEFT)
        assert -np.pi <= now.yaw_rad < np.pi
    np.testing.assert_allclose(now.T_WC, first.T_WC, atol=1e-9)


def test_velocity_drives_along_a_circle(env):
    """A quarter turn of radius 0.5 m to the left."""
    env.reset(episode())
    now = env.step(Velocity(0.5, 1.0, np.pi / 2))
    # 32 straight pieces instead of an arc: 1e-4 of its length
    np.testing.assert_allclose(now.position_m, [1.5, 2.5, 0], atol=1e-3)
    assert now.yaw_rad == pytest.approx(np.pi / 2)
    assert now.path_m == pytest.approx(np.pi / 4, rel=1e-3)
    assert (now.stamp_ns, now.steps, now.collided) == (10**9 + round(np.pi / 2 * 1e9), 1, False)
    back = env.step(Velocity(-0.5, -1.0, np.pi / 2))
    np.testing.assert_allclose(back.position_m, [1, 2, 0], atol=1e-3)


def test_collisions_are_counted_and_slide(env):
    env.reset(episode(3.0, 2.0, 0.2))
    steps = [env.step(Move.FORWARD) for _ in range(8)]
    assert any(step.collided for step in steps)
    assert steps[-1].collisions == sum(step.collided for step in steps)
    assert steps[-1].position_m[0] < 3.8  # the table begins at 4, less the radius
    assert steps[-1].position_m[1] > 2.05  # slid along it
    stuck = world(WorldSettings(LENS, MotionSettings(slide=False)))
    stuck.reset(episode(3.0, 2.0, 0.2))
    still = [stuck.step(Move.FORWARD) for _ in range(8)]
    np.testing.assert_allclose(still[-1].position_m, still[-2].position_m, atol=1e-4)


def test_observation_fits_together(env):
    now = env.reset(episode(2.0, 2.0))
    seen = env.observe()
    assert seen.frame.rgb.shape == (30, 40, 3)
    assert (seen.frame.stamp_ns, seen.frame.frame_id) == (now.stamp_ns, "camera_optical_frame")
    np.testing.assert_array_equal(seen.K, LENS.pinhole.K)
    np.testing.assert_array_equal(seen.T_WC, now.T_WC)
    v, u = np.nonzero(seen.semantic_ids == 3)
    assert len(v) > 10
    # Pixels of the table, lifted by depth, K and pose, lie on it: all four agree.
    depth = seen.depth_m[v, u].astype(float)
    points_C = np.linalg.inv(seen.K) @ np.stack([u + 0.5, v + 0.5, np.ones(len(u))]) * depth
    points_W = (seen.T_WC[:3, :3] @ points_C).T + seen.T_WC[:3, 3]
    assert TABLE.box.contains(points_W, margin_m=1e-5).all()


def test_one_moment_has_one_picture(env):
    env.reset(episode())
    assert env.observe() is env.observe()
    before = env.observe()
    env.step(Move.FORWARD)
    assert (env.observe().frame.rgb != before.frame.rgb).any()


NOISY = WorldSettings(
    LENS, sensor=SensorSettings(read_noise=3.0, shot_noise=0.2, depth_noise_per_m=0.01, exposure_s=0.1)
)


def drive(env: MeshEnv, start: Episode, looks: int = 1) -> list:
    env.reset(start)
    moves = [Move.FORWARD, Move.TURN_LEFT, Velocity(0.4, -0.5, 0.3), Move.FORWARD, Move.TURN_RIGHT]
    record = []
    for move in moves:
        now = env.step(move)
        for _ in range(looks):
            seen = env.observe()
        record.append((now, seen))
    return record


def same(first, second) -> bool:
    return all(
        np.array_equal(a.T_WC, b.T_WC)
        and np.array_equal(s.frame.rgb, t.frame.rgb)
        and np.array_equal(s.depth_m, t.depth_m)
        and np.array_equal(s.semantic_ids, t.semantic_ids)
        for (a, s), (b, t) in zip(first, second, strict=True)
    )


def test_same_seed_same_run():
    env = world(NOISY)
    first = drive(env, episode())
    assert same(first, drive(env, episode()))
    assert same(first, drive(env, episode(), looks=3))
    assert same(first, drive(world(NOISY), episode()))
    assert not same(first, drive(env, episode(seed=6)))


def test_noise_differs_from_moment_to_moment():
    env = world(NOISY)
    env.reset(episode())
    first = env.observe()
    env.step(Velocity(0.0, 0.0))
    assert (env.observe().frame.rgb != first.frame.rgb).any()


def test_noise_has_the_stated_size():
    clean, settings = world(), replace(NOISY, sensor=SensorSettings(read_noise=4.0, depth_noise_per_m=0.02))
    noisy = world(settings)
    start = episode(2.0, 2.0)
    for env in (clean, noisy):
        env.reset(start)
    truth, seen = clean.observe(), noisy.observe()
    inner = (truth.frame.rgb > 20) & (truth.frame.rgb < 235)
    spread = np.std((seen.frame.rgb.astype(float) - truth.frame.rgb)[inner])
    # some 3000 values: 5 standard errors are 7 %; rounding adds 0.3
    assert spread == pytest.approx(4.0, rel=0.1)
    hit = truth.depth_m > 0
    scaled = (seen.depth_m - truth.depth_m)[hit] / (0.02 * truth.depth_m[hit] ** 2)
    assert np.std(scaled) == pytest.approx(1.0, rel=0.2)
    assert (seen.depth_m[~hit] == 0).all()
    np.testing.assert_array_equal(seen.semantic_ids, truth.semantic_ids)


def test_motion_blurs_and_standing_does_not():
    blurry = replace(WorldSettings(LENS), sensor=SensorSettings(exposure_s=0.2, blur_samples=4))
    clean, env = world(), world(blurry)
    for each in (clean, env):
        each.reset(episode(2.0, 2.0))
    np.testing.assert_array_equal(env.observe().frame.rgb, clean.observe().frame.rgb)
    for each in (clean, env):
        each.step(Move.TURN_LEFT)
    sharp, soft = clean.observe(), env.observe()
    assert (sharp.frame.rgb != soft.frame.rgb).any()
    np.testing.assert_array_equal(sharp.depth_m, soft.depth_m)
    # The turn takes 0.22 s, so the exposure is its last 90 %: the mean of four poses, the last one now.
    share = 0.2 / (10 / 45)
    yaws = TURN_RAD * (1 - np.linspace(share, 0, 4))
    feet = env.reset(episode(2.0, 2.0)).position_m
    mean = np.mean([env.render(camera_pose(feet, yaw, LENS)).rgb for yaw in yaws], axis=0)
    np.testing.assert_allclose(soft.frame.rgb, mean, atol=0.5 + 1e-4)  # rounding
    env.step(Move.TURN_LEFT)
    env.step(Move.STOP)  # takes no time: nothing moves while the shutter is open
    np.testing.assert_array_equal(env.observe().frame.rgb, env.render(env.observe().T_WC).rgb)


def test_paths_and_points(env):
    rng = np.random.default_rng(0)
    start, goal = env.sample_navigable(rng), env.sample_navigable(rng)
    assert env.is_navigable(start)
    assert not env.is_navigable([4.5, 2.0, 0.0])
    path = env.shortest_path(start, goal)
    assert path.found
    assert path.distance_m >= np.linalg.norm(goal - start) - 1e-9
    assert not env.shortest_path(start, [50.0, 0.0, 0.0]).found


def test_following_the_path_reaches_the_goal(env):
    """Path and motion agree about what is in the way."""
    goal = np.array([5.6, 2.0, 0.0])
    now = env.reset(episode(1.0, 2.0))
    length = env.shortest_path(now.position_m, goal).distance_m
    for _ in range(300):
        path = env.shortest_path(now.position_m, goal)
        if path.distance_m < 0.2:
            break
        heading = path.points[1] - path.points[0]
        turn = (np.arctan2(heading[1], heading[0]) - now.yaw_rad + np.pi) % (2 * np.pi) - np.pi
        near = abs(turn) <= TURN_RAD / 2
        now = env.step(Move.FORWARD if near else Move.TURN_LEFT if turn > 0 else Move.TURN_RIGHT)
    assert path.distance_m < 0.2
    assert now.path_m < 1.1 * length


def test_scene_graph_measures_the_room(env):
    graph = env.scene_graph()
    assert graph.object_by_id(3).category == "table"
    assert graph.room_size_m2 == pytest.approx(6.2 * 4.2, rel=0.02)
    mesh = room()
    given = SceneGraph("room", (), {}, 24.0)
    assert MeshEnv("room", mesh, np.zeros(len(mesh.faces)), given).scene_graph() is given


def test_what_it_refuses(env):
    for action in (lambda: env.step(Move.FORWARD), env.observe):
        with pytest.raises(RuntimeError, match="needs an episode; reset first"):
            action()
    with pytest.raises(ValueError, match="is of scene 'flat', this world is 'room'"):
        env.reset(episode(scene="flat"))
    with pytest.raises(ValueError, match=r"starts at \[4\.5, 2\.0, 0\.0\], where nobody can stand"):
        env.reset(episode(4.5, 2.0))
    env.reset(episode())
    env.step(Move.STOP)
    with pytest.raises(RuntimeError, match="was stopped; reset before the next step"):
        env.step(Move.FORWARD)
    env.reset(episode())
    env.step(Move.FORWARD)
    env.close()
    with pytest.raises(RuntimeError, match="reset first"):
        env.observe()


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"MotionSettings\.turn_deg must be one of 10, 15, 30, got 20"):
        MotionSettings(turn_deg=20)
    with pytest.raises(ValueError, match=r"Velocity\.duration_s must be in"):
        Velocity(1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match=r"SensorSettings\.exposure_s"):
        SensorSettings(exposure_s=-1)


def test_mesh_without_a_floor_and_ten_kilometres_of_it():
    wall = mesh_of({"wall": quad([[0, 0, 0], [4, 0, 0], [4, 0, 3], [0, 0, 3]])})
    with pytest.raises(ValueError, match="there is no walkable area"):
        MeshEnv("w", wall, np.zeros(2), plain_graph("w", (), 0.0, wall))
    plain = mesh_of({"ground": quad([[0, 0, 0], [10_000, 0, 0], [10_000, 10_000, 0], [0, 10_000, 0]])})
    graph = plain_graph("g", (), 0.0, plain)
    with pytest.raises(ValueError, match="use a larger cell_m or cut the mesh"):
        MeshEnv("g", plain, np.zeros(2), graph)
    env = MeshEnv("g", plain, np.zeros(2), graph, WorldSettings(LENS, nav=NavSettings(cell_m=10.0, radius_m=0.0)))
    env.reset(episode(9000.0, 9000.0, scene="g"))
    assert env.observe().depth_m[-1, 20] == pytest.approx(1.5 / (14.5 / 20), rel=1e-4)  # the floor, 14.5 px below


def exported(folder, **parts):
    scene = trimesh.Scene()
    for name, part in parts.items():
        scene.add_geometry(part, node_name=name, geom_name=name)
    scene.export(folder / "flat.glb")
    return folder / "flat.glb"


@pytest.fixture
def flat_files(tmp_path):
    """A GLB of a room (Y up) with a table."""
    turn = trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0])
    parts = {"floor": box([0, 0, -0.1], [6, 4, 0]), "table_1": box([4, 1.5, 0], [5, 2.5, 0.7])}
    for part in parts.values():
        part.apply_transform(turn)
        painted(part, (90, 90, 90))
    return exported(tmp_path, **parts)


def test_world_from_files_with_named_objects(flat_files):
    entry = {"name": "table_1", "category": "table", "id": 9, "aabb_min": [4, 1.5, 0], "aabb_max": [5, 2.5, 0.7]}
    notes = flat_files.with_name("objects.json")
    notes.write_text(json.dumps([entry]))
    env = open_world(flat_files, notes, WorldSettings(LENS))
    assert (env.scene_id, env.scene_graph().counts) == ("flat", {"table": 1})
    np.testing.assert_allclose(env.scene_graph().objects[0].box.bounds(), TABLE.box.bounds(), atol=1e-6)
    env.reset(episode(2.0, 2.0, scene="flat"))
    assert set(np.unique(env.observe().semantic_ids)) == {0, 9}


def test_world_from_files_with_scene_metadata(flat_files):
    graph = SceneGraph("flat", (TABLE,), {"table": 1}, 24.0)
    write_metadata([graph], flat_files.with_name("scenes.json"))
    env = open_world(flat_files, flat_files.with_name("scenes.json"), WorldSettings(LENS))
    assert env.scene_graph().room_size_m2 == 24.0
    env.reset(episode(2.0, 2.0, scene="flat"))
    assert set(np.unique(env.observe().semantic_ids)) == {0, 3}
    with pytest.raises(ValueError, match="has no scene 'other'; it has flat"):
        open_world(flat_files, flat_files.with_name("scenes.json"), scene_id="other")


def test_world_without_annotations(flat_files):
    env = open_world(flat_files, settings=WorldSettings(LENS), scene_id="mine")
    assert (env.scene_id, env.scene_graph().objects) == ("mine", ())
    with pytest.raises(FileNotFoundError):
        open_world(flat_files, flat_files.with_name("absent.json"))


def test_small_house(small_house_dir):
    env = open_world(
        small_house_dir / "small_house.glb", small_house_dir / "small_house_objects.json", WorldSettings(LENS)
    )
    graph, rng = env.scene_graph(), np.random.default_rng(0)
    assert graph.counts["chair"] == 8
    assert graph.room_size_m2 == pytest.approx(19 * 11.4, rel=0.15)  # its outline is no rectangle
    seen_ids, lit = set(), 0
    for _ in range(10):
        now = env.reset(
            Episode("h", "find", "small_house", 0, camera_pose(env.sample_navigable(rng), rng.uniform(0, 6), LENS))
        )
        picture = env.observe()
        hit = picture.depth_m > 0
        np.testing.assert_array_equal(hit, picture.semantic_ids > 0)  # every triangle belongs to an object
        lit += picture.frame.rgb[hit].std() > 10
        seen_ids |= set(np.unique(picture.semantic_ids).tolist())
        assert env.is_navigable(now.position_m)
    assert lit >= 8  # pictures show something
    assert len(seen_ids & {item.instance_id for item in graph.objects}) > 20
    ends = [env.sample_navigable(rng) for _ in range(6)]
    assert all(env.shortest_path(a, b).found for a, b in itertools.pairwise(ends))


def test_view_from_anywhere_leaves_the_robot_alone(env):
    env.reset(episode())
    here = env.observe()
    seen = env.view(here.T_WC, stamp_ns=7)
    assert seen.frame.stamp_ns == 7
    np.testing.assert_array_equal(seen.depth_m, here.depth_m)
    away = env.view(camera_pose(np.array([5.0, 1.0, 0.0]), np.pi, env.settings.camera))
    assert not np.array_equal(away.frame.rgb, here.frame.rgb)
    np.testing.assert_array_equal(env.observe().frame.rgb, here.frame.rgb)
    with pytest.raises(ValueError, match="T_WC must have shape"):
        env.view(np.eye(3))


def test_floor_map_is_where_one_can_stand(env):
    floor, rng = env.floor_map(), np.random.default_rng(0)
    for _ in range(20):
        i, j = ((env.sample_navigable(rng)[:2] - floor.origin_m) / floor.cell_m).astype(int)
        assert floor.free[i, j]
    assert 0.5 < floor.free.sum() * floor.cell_m**2 / 24 < 1
