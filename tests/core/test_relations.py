"""Geometry between boxes, points and cameras, against independent solutions and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from vlm3r_core.scene import relations as rel
from vlm3r_core.scene.box import OrientedBox
from vlm3r_core.scene.distances import Boxes, box_distance, box_distances, point_distance
from vlm3r_core.scene.graph import CameraFrame, PinholeCamera, VisibleObject
from vlm3r_core.scene.sampling import sample_box, sampled_distance, sampled_point_distances

optimize = pytest.importorskip("scipy.optimize", reason="the independent solver is scipy's")


def random_rotation(rng) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


def yaw(angle_rad: float) -> np.ndarray:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def random_box(rng, *, upright: bool = False, flat: bool = False) -> OrientedBox:
    lengths = rng.uniform(0.05, 2.0, 3)
    if flat:
        lengths[rng.integers(3)] = 0.0
    return OrientedBox(rng.uniform(-1.2, 1.2, 3), lengths, yaw(rng.uniform(0, 7)) if upright else random_rotation(rng))


def solver_distance(a: OrientedBox, b: OrientedBox) -> float:
    """The same distance as a bounded least squares problem in the two boxes' own coordinates."""
    matrix, limit = np.hstack([a.R_WB, -b.R_WB]), np.concatenate([a.lengths_m, b.lengths_m]) / 2 + 1e-12
    found = optimize.lsq_linear(matrix, b.center_m - a.center_m, (-limit, limit), method="bvls", tol=1e-14)
    return float(np.sqrt(2 * found.cost))


@pytest.mark.parametrize("kind", [{}, {"upright": True}, {"flat": True}])
def test_box_distance_equals_a_solver(kind):
    rng = np.random.default_rng(1)
    pairs = [(random_box(rng, **kind), random_box(rng, **kind)) for _ in range(300)]
    ours = box_distances(Boxes.of([a for a, _ in pairs]), Boxes.of([b for _, b in pairs]))
    wanted = np.array([solver_distance(a, b) for a, b in pairs])
    assert (wanted < 1e-6).sum() >= 5
    assert (wanted > 0.1).sum() > 30
    np.testing.assert_allclose(ours, wanted, atol=1e-6)  # the solver stops there; overlaps are 0 in ours


def test_box_distance_in_closed_form():
    unit = OrientedBox.aligned(np.zeros(3), np.ones(3))
    assert box_distance(unit, OrientedBox.aligned(np.array([3, 0, 0]), np.array([4, 1, 1]))) == 2.0
    assert box_distance(unit, OrientedBox.aligned(np.array([2, 2, 2]), np.array([3, 3, 3]))) == pytest.approx(3**0.5)
    assert box_distance(unit, OrientedBox.aligned(np.array([0.2] * 3), np.array([0.4] * 3))) == 0.0
    # crossed rods one above the other: no corner is near, only the insides of edges
    rod = OrientedBox(np.zeros(3), np.array([4.0, 0.2, 0.2]), np.eye(3))
    across = OrientedBox(np.array([0.0, 0.0, 1.0]), np.array([4.0, 0.2, 0.2]), yaw(1.0))
    assert box_distance(rod, across) == pytest.approx(0.8)
    # plates that pass through each other without a corner or an edge crossing inside
    plate = OrientedBox(np.zeros(3), np.array([2.0, 2.0, 0.0]), np.eye(3))
    needle = OrientedBox(np.zeros(3), np.array([0.0, 0.0, 2.0]), np.eye(3))
    assert box_distance(plate, needle) == 0.0


def test_box_distance_is_symmetric_and_never_above_points_between():
    rng = np.random.default_rng(2)
    for _ in range(50):
        a, b = random_box(rng), random_box(rng)
        distance = box_distance(a, b)
        assert distance == pytest.approx(box_distance(b, a), abs=1e-9)
        inside = a.center_m + (rng.uniform(-0.5, 0.5, (200, 3)) * a.lengths_m) @ a.R_WB.T
        assert distance <= point_distance(inside, b).min() + 1e-9


def test_box_distances_want_two_equal_lists():
    boxes = Boxes.of([OrientedBox.aligned(np.zeros(3), np.ones(3))] * 2)
    assert len(box_distances(boxes[:0], boxes[:0])) == 0
    with pytest.raises(ValueError, match="as many boxes on both sides, got 2 and 1"):
        box_distances(boxes, boxes[:1])


def test_point_distance_is_zero_inside():
    box = OrientedBox(np.array([1.0, 0.0, 0.0]), np.array([2.0, 1.0, 1.0]), yaw(np.pi / 2))
    assert point_distance(np.array([[1.0, 0.4, 0.0], [1.0, 2.0, 0.0]]), box) == pytest.approx([0.0, 1.0])


def test_sampled_points_lie_in_the_hollow_box():
    box = OrientedBox(np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.6, 0.4]), yaw(0.3))
    points = sample_box(box)
    inside = (points - box.center_m) @ box.R_WB
    assert (np.abs(inside) <= box.lengths_m / 2 + 1e-12).all()
    assert not (np.abs(inside) < box.lengths_m / 4 - 1e-9).all(axis=1).any()


def test_sampled_distance_equals_all_pairs_and_is_never_below_the_exact_one():
    rng = np.random.default_rng(3)
    for _ in range(15):
        a, b = random_box(rng), random_box(rng)
        points_a, points_b = sample_box(a, 0.1), sample_box(b, 0.1)
        sampled = sampled_distance(points_a, a, points_b, b)
        assert sampled == pytest.approx(sampled_point_distances(points_a, points_b).min(), abs=1e-12)
        assert sampled >= box_distance(a, b) - 1e-9


def test_a_flat_box_cannot_be_sampled():
    with pytest.raises(ValueError, match=r"positive lengths, got \[1.0, 0.0, 1.0\]"):
        sample_box(OrientedBox(np.zeros(3), np.array([1.0, 0.0, 1.0]), np.eye(3)))


def test_angles_run_counter_clockwise_from_the_facing_direction():
    stand, face = np.zeros(3), np.array([0.0, 1.0, 5.0])
    points = np.array([[-1, 1, 0], [-1, 0, 9], [0, -1, 0], [1, -1, 0], [1, 0, 0], [0, 0, 3]])
    np.testing.assert_allclose(rel.planar_angles_deg(stand, face, points), [45, 90, 180, 225, 270, np.nan])
    assert rel.QUADRANTS[rel.sector(np.array([45.0]), rel.QUADRANT_EDGES_DEG)[0]] == "front-left"
    assert rel.QUADRANTS[rel.sector(np.array([225.0]), rel.QUADRANT_EDGES_DEG)[0]] == "back-right"
    sides = rel.sector(np.array([0.0, 134.0, 135.0, 224.0, 225.0, 360.0]), rel.SIDE_EDGES_DEG)
    assert [rel.SIDES[side] for side in sides] == ["left", "left", "back", "back", "right", "right"]
    assert rel.margin_deg(357.0, rel.SIDE_EDGES_DEG) == pytest.approx(3.0)


def pose(position, R=None) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = np.eye(3) if R is None else R
    T[:3, 3] = position
    return T


def test_the_published_camera_position_is_the_world_origin_seen_from_the_camera():
    T = pose([1.0, 2.0, 3.0], yaw(0.7))
    np.testing.assert_allclose(rel.camera_position(T), [1, 2, 3])
    np.testing.assert_allclose(rel.camera_position(T, as_published=True), np.linalg.inv(T)[:3, 3])


def test_movement_is_told_in_the_starting_camera():
    # camera looks along world +y: right is +x, down is -z
    R = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    moved = rel.camera_movement(pose([0, 0, 0], R), pose([0.2, 3.0, 1.0]))
    np.testing.assert_allclose(moved, [0.2, -1.0, 3.0])
    assert rel.movement_direction(moved, 1.0) == "Forward"
    assert rel.movement_direction(np.array([-1.5, 9.0, 1.4]), 1.0) == "Left"
    assert rel.movement_direction(np.array([2.0, 0.0, -2.0]), 1.0) == "Backward"
    assert rel.movement_direction(np.array([1.0, 9.0, 1.0]), 1.0) is None
    assert rel.movement_direction(np.full(3, np.nan), 1.0) is None


def test_relative_position_needs_a_gap_along_the_axis():
    T = pose([0, 0, 0])
    near, far = OrientedBox.aligned([-0.5, 0, 1], [0, 1, 2]), OrientedBox.aligned([0.1, -2, 2.5], [1, -1, 3])
    a, b = rel.camera_extent(near, T), rel.camera_extent(far, T)
    assert rel.relative_position(a, b, "z", 0.15) == ("Near", 0.5)
    assert rel.relative_position(b, a, "z", 0.15) == ("Far", 0.5)
    assert rel.relative_position(a, b, "y", 0.15) == ("Down", 1.0)
    assert rel.relative_position(a, b, "x", 0.15)[0] is None


def test_first_seen_takes_any_object_of_a_group():
    def frame(number, *ids):
        return CameraFrame(number, None, tuple(VisibleObject(i, (0, 0, 1, 1)) for i in ids))

    found = rel.first_seen([frame(0), frame(5, 2), frame(9, 1, 3)], {"a": {1, 2}, "b": {3}, "never": {8}})
    assert {name: item.frame_id for name, item in found.items()} == {"a": 5, "b": 9}


def test_visibility_knows_the_field_of_view_and_what_stands_in_front():
    camera = PinholeCamera(100.0, 100.0, 50.0, 40.0, 100, 80)
    points = np.array([[0, 0, 2], [0, 0, -2], [2, 0, 2], [0.5, 0, 2]], float)
    assert rel.visible_points(points, pose([0, 0, 0]), camera).tolist() == [True, False, False, True]
    depth = np.full((40, 50), 2.0)
    depth[:, :30] = 1.5
    assert rel.visible_points(points, pose([0, 0, 0]), camera, depth).tolist() == [False, False, False, True]
    assert not rel.visible_points(points, pose([0, 0, 0]), camera, np.zeros((40, 50))).any()


def test_room_area_fills_holes_and_keeps_bays():
    room = pytest.importorskip("vlm3r_core.scene.room", reason="room areas need scipy")
    rng = np.random.default_rng(4)
    square = rng.uniform(0, 4, (40_000, 3))
    assert room.room_area(square) == pytest.approx(16.0, rel=0.02)
    hole = square[~((np.abs(square[:, :2] - 2) < 0.5).all(axis=1))]
    assert room.room_area(hole) == pytest.approx(16.0, rel=0.02)
    bay = square[(square[:, 0] < 2) | (square[:, 1] < 1)]
    assert room.room_area(bay) == pytest.approx(10.0, rel=0.02)
    assert room.room_area(square, seed=3) == room.room_area(square, seed=3)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((2, 3)), "at least three points"),
        (np.full((9, 3), np.nan), "finite points"),
        (np.tile(np.arange(9.0)[:, None], 3), "on one line"),
    ],
)
def test_room_area_names_what_is_wrong(points, message):
    room = pytest.importorskip("vlm3r_core.scene.room", reason="room areas need scipy")
    with pytest.raises(ValueError, match=message):
        room.room_area(points)
