"""A world that goes on: what moves the robot, what stops it, and time that only grows."""

import numpy as np
import pytest
from worlds import room

from sim.live import LiveSettings, LiveWorld, look_around
from sim.mesh_env import MeshEnv
from sim.world.annotation import plain_graph

SETTINGS = LiveSettings(seed=3, fps=10.0, width_px=32, height_px=24, camera_height_m=1.2, hold_s=0.5, walk_frames=7)
TICK_NS = 100_000_000


def make_live(settings: LiveSettings = SETTINGS) -> LiveWorld:
    mesh = room(8.0, 6.0)
    graph = plain_graph("room", (), 0.0, mesh)
    env = MeshEnv("room", mesh, np.zeros(len(mesh.faces), np.int32), graph, settings.world_settings)
    return LiveWorld(env, settings)


@pytest.fixture
def live():
    one = make_live()
    one.advance()
    return one


def heading(T_WC) -> float:
    return float(np.arctan2(T_WC[1, 2], T_WC[0, 2]))


def turned_deg(before, after) -> float:
    return float(np.degrees((heading(after) - heading(before) + np.pi) % (2 * np.pi) - np.pi))


def test_without_orders_time_passes_and_the_robot_stands():
    live = make_live()
    # where it was put is news once
    start = live.advance()
    assert start.moved
    moments = [live.advance() for _ in range(5)]
    assert [moment.stamp_ns - start.stamp_ns for moment in moments] == [TICK_NS * n for n in range(1, 6)]
    assert not any(moment.moved for moment in moments)
    np.testing.assert_array_equal(moments[-1].T_WC, start.T_WC)


def test_velocity_is_held_and_then_ends(live):
    start = live.now
    live.drive(0.0, 1.0)
    moments = [live.advance() for _ in range(9)]
    # hold_s 0.5 s at 1 rad/s in pictures of 0.1 s
    assert [moment.moved for moment in moments] == [True] * 5 + [False] * 4
    assert turned_deg(start.T_WC, moments[-1].T_WC) == pytest.approx(np.degrees(0.5), abs=1e-6)
    live.drive(0.4, 0.0)
    before = live.now.T_WC
    moved = live.advance().T_WC[:3, 3] - before[:3, 3]
    np.testing.assert_allclose(moved, 0.04 * before[:3, 2], atol=1e-9)


def test_a_new_velocity_renews_the_hold_and_zero_ends_it(live):
    live.drive(0.1, 0.0)
    for _ in range(4):
        live.advance()
    live.drive(0.1, 0.0)
    assert all(live.advance().moved for _ in range(5))
    live.drive(0.1, 0.0)
    live.drive(0.0, 0.0)
    assert not live.advance().moved


@pytest.mark.parametrize("speeds", [(np.nan, 0.0), (0.0, np.inf), (99.0, 0.0)])
def test_a_velocity_that_is_none_stops_the_robot(live, speeds):
    live.drive(0.3, 0.0)
    with pytest.raises(ValueError, match="Velocity"):
        live.drive(*speeds)
    assert not live.advance().moved


def test_commands_are_done_in_order_and_take_their_time(live):
    start = live.now
    for word in ("TURN_LEFT", "FORWARD", "TURN_RIGHT"):
        live.command(word)
    left, forward, right, after = (live.advance() for _ in range(4))
    assert [moment.move for moment in (left, forward, right, after)] == ["TURN_LEFT", "FORWARD", "TURN_RIGHT", None]
    assert turned_deg(start.T_WC, left.T_WC) == pytest.approx(30.0)
    assert np.linalg.norm(forward.T_WC[:3, 3] - left.T_WC[:3, 3]) == pytest.approx(0.25)
    # 0.25 m at 0.5 m/s
    assert forward.stamp_ns - left.stamp_ns == 500_000_000
    np.testing.assert_allclose(right.T_WC[:3, :3], start.T_WC[:3, :3], atol=1e-9)


def test_stop_drops_what_waits_and_the_world_goes_on(live):
    live.command("FORWARD")
    live.command("STOP")
    moment = live.advance()
    assert moment.move is None
    assert not moment.moved
    live.command("TURN_LEFT")
    assert live.advance().move == "TURN_LEFT"


def test_commands_that_are_none_or_too_many(live):
    with pytest.raises(ValueError, match="FORWARD, TURN_LEFT, TURN_RIGHT, STOP, got 'FORWORD'; did you mean 'FORWARD'"):
        live.command("FORWORD")
    for _ in range(100):
        live.command("TURN_LEFT")
    with pytest.raises(ValueError, match="at most 100 commands may wait"):
        live.command("TURN_LEFT")


def test_a_collision_is_told(live):
    moments = []
    while not moments or not moments[-1].collided:
        assert len(moments) < 100
        live.command("FORWARD")
        moments.append(live.advance())
    assert moments[-1].move == "FORWARD"


def test_reset_puts_the_robot_back_but_not_the_time(live):
    first = live.now.T_WC
    live.drive(0.5, 0.5)
    for _ in range(3):
        before = live.advance()
    live.command("FORWARD")
    live.reset()
    np.testing.assert_array_equal(live.now.T_WC, first)
    after = live.advance()
    assert after.stamp_ns == before.stamp_ns + TICK_NS
    assert after.moved
    assert not live.advance().moved


def test_a_walk_is_shown_pose_by_pose_and_the_robot_stands_at_its_end(live):
    T_WC, stamps_ns = look_around(live.env, live.settings)
    assert len(T_WC) == 7
    begin = live.now.stamp_ns
    live.play(T_WC, stamps_ns)
    shown = []
    while live.walking:
        shown.append(live.advance())
        # orders wait until the walk is over
        live.drive(1.0, 0.0)
        assert live.look().frame.rgb.shape == (24, 32, 3)
    live.halt()
    np.testing.assert_allclose([moment.T_WC for moment in shown], T_WC, atol=1e-5)
    assert [m.stamp_ns - begin for m in shown] == (stamps_ns - stamps_ns[0] + TICK_NS).tolist()
    still = live.advance()
    assert not still.moved
    np.testing.assert_allclose(still.T_WC, T_WC[-1], atol=1e-5)
    assert still.stamp_ns == shown[-1].stamp_ns + TICK_NS


def test_a_reset_ends_a_walk(live):
    live.play(*look_around(live.env, live.settings))
    live.advance()
    live.reset()
    assert not live.walking


def test_the_same_seed_gives_the_same_world():
    one, two, other = make_live(), make_live(), make_live(LiveSettings(seed=4, width_px=32, height_px=24))
    np.testing.assert_array_equal(one.now.T_WC, two.now.T_WC)
    assert not np.allclose(one.now.T_WC, other.now.T_WC)
    np.testing.assert_array_equal(look_around(one.env, one.settings)[0], look_around(two.env, two.settings)[0])


def test_settings_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"LiveSettings.fps must be in 0.1..1000.0, got 0.0"):
        LiveSettings(fps=0.0)
    with pytest.raises(ValueError, match="10, 15, 30, got 20"):
        LiveSettings(turn_deg=20).world_settings  # noqa: B018 - the property checks
