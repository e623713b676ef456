"""Walking: against Habitat's navmesh, and against worlds whose distances can be told by hand."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from scipy.sparse.csgraph import dijkstra
from worlds import box, from_habitat, quad, room

from sim.navmesh import NavMesh
from sim.world.geodesic import path_length
from sim.world.mesh import load_mesh, mesh_of
from sim.world.walkgrid import NavSettings

RADIUS_M, CELL_M = 0.2, 0.05
# What an eroded border may lie off the true one: the cell a wall touches is lost whole.
BORDER_M = CELL_M + 1e-3


def navmesh(mesh, **settings) -> NavMesh:
    return NavMesh(mesh.triangles_m(), NavSettings(**settings))


@pytest.fixture(scope="module")
def empty_room() -> NavMesh:
    return navmesh(room())


@pytest.fixture(scope="module")
def split_room() -> NavMesh:
    """A wall across the room at x = 3, open from y = 3 on."""
    return navmesh(room(wall=box([2.95, 0, 0], [3.05, 3, 2.5])))


@pytest.fixture(scope="module")
def apartment(apartment_dir):
    """(our navmesh with Habitat's settings, what Habitat said)."""
    said = json.loads((apartment_dir / "nav.json").read_text())
    given = said["navmesh_settings"]
    settings = {
        "radius_m": given["agent_radius"],
        "height_m": given["agent_height"],
        "climb_m": given["agent_max_climb"],
        "slope_deg": given["agent_max_slope"],
        "cell_m": given["cell_size"],
        "min_area_m2": given["region_min_size"] ** 2 * given["cell_size"] ** 2,
    }
    # Habitat stores its settings as float32.
    mesh = load_mesh(apartment_dir / "apartment.glb")
    return navmesh(mesh, **{key: round(value, 6) for key, value in settings.items()}), said


def test_habitats_shortest_paths(apartment):
    """The wanted numbers: reachability of all 50 pairs, distances of the reachable ones."""
    ours, said = apartment
    errors = []
    for pair in said["pairs"]:
        path = ours.shortest_path(from_habitat(pair["start"]), from_habitat(pair["end"]))
        assert path.found == pair["found"], pair
        if path.found:
            errors.append(abs(path.distance_m / pair["geodesic_distance"] - 1))
    assert len(said["pairs"]) == 50
    assert len(errors) == 45
    assert np.median(errors) <= 0.03
    assert np.max(errors) <= 0.08


def test_habitats_navigable_points_and_islands(apartment):
    ours, said = apartment
    agree = [ours.is_navigable(from_habitat(q["point"])) == q["is_navigable"] for q in said["queries"]]
    # Habitat rounds heights to 0.2 m, which alone decides a few of the points.
    assert np.mean(agree) >= 0.93
    theirs = sorted(island["area"] for island in said["islands"])
    # Habitat draws its borders with edges of up to 1.3 cells error: 7 % of the small islands.
    np.testing.assert_allclose(sorted(ours.island_areas_m2), theirs, rtol=0.07)
    start = said["pairs"][0]["start"]
    assert said["pairs"][0]["found"]
    assert ours.island_of(from_habitat(start)) == ours.main_island  # not the larger roof


def test_habitats_moves(apartment):
    """Beyond the wanted numbers: single moves from Habitat's walks, which mostly run into something."""
    ours, said = apartment
    for slide, key in ((True, "try_step"), (False, "try_step_no_sliding")):
        errors = []
        for move in said["try_step"]:
            start = ours.snap(from_habitat(move["start"]))
            end, _ = ours.move(start, (from_habitat(move["end"]) - start)[:2], slide=slide)
            errors.append(np.linalg.norm((end - from_habitat(move[key]))[:2]))
        # Borders differ by up to a cell, and Habitat's slanting edges are our stairs.
        assert np.median(errors) <= 1e-3
        assert np.quantile(errors, 0.9) <= CELL_M


def test_area_is_the_floor_less_the_radius(empty_room):
    wanted = (6 - 2 * RADIUS_M) * (4 - 2 * RADIUS_M)
    least = (6 - 2 * (RADIUS_M + BORDER_M)) * (4 - 2 * (RADIUS_M + BORDER_M))
    assert least <= empty_room.island_areas_m2[empty_room.main_island] <= wanted
    assert empty_room.is_navigable([3, 2, 0])
    assert not empty_room.is_navigable([3, RADIUS_M - 0.01, 0])
    assert empty_room.is_navigable([3, RADIUS_M + 2 * BORDER_M, 0])
    assert not empty_room.is_navigable([3, 2, 0.6])
    assert empty_room.is_navigable([3, 2, 0.6], max_height_diff_m=0.7)
    assert not empty_room.is_navigable([100, 100, 0])
    assert empty_room.footprint_m2 == pytest.approx(6.2 * 4.2, rel=0.02)


def test_straight_paths_are_straight(empty_room):
    rng = np.random.default_rng(0)
    for _ in range(20):
        start, goal = empty_room.sample(rng), empty_room.sample(rng)
        path = empty_room.shortest_path(start, goal)
        assert path.distance_m == pytest.approx(np.linalg.norm(goal - start), abs=1e-6)
        np.testing.assert_allclose(path.points, [start, goal], atol=1e-6)


def taut_length(radius_m: float) -> float:
    """From (1, 1) to (5, 1) around the wall's end, corners (2.95, 3) and (3.05, 3), always a radius away from it."""
    distance = np.hypot(1.95, 2.0)
    # half the way: to the tangent point, along the arc to the top, half the wall's thickness
    turned = np.arctan2(1.95, 2.0) + np.arccos(radius_m / distance)
    return 2 * (np.sqrt(distance**2 - radius_m**2) + radius_m * (np.pi - turned) + 0.05)


def test_a_path_around_a_wall_is_pulled_tight(split_room):
    start, goal = np.array([1.0, 1.0, 0.0]), np.array([5.0, 1.0, 0.0])
    path = split_room.shortest_path(start, goal)
    # Waypoints are the middles of cells: half a cell beyond the border.
    assert taut_length(RADIUS_M) <= path.distance_m <= taut_length(RADIUS_M + BORDER_M + CELL_M / 2) * 1.002
    assert 3 <= len(path.points) <= 7
    np.testing.assert_allclose(path.points[[0, -1]], [start, goal], atol=1e-6)
    assert path_length(path.points) == path.distance_m
    back = split_room.shortest_path(goal, start)
    assert back.distance_m == pytest.approx(path.distance_m, rel=5e-3)  # pulled from the other end


def clear_lines(ours: NavMesh, points: np.ndarray) -> np.ndarray:
    """Lengths between all pairs of points that see each other, infinite for others, by sampling along the lines."""
    share = np.linspace(0, 1, 200)[None, :, None]
    first, second = np.triu_indices(len(points), 1)
    lengths = np.full((len(points), len(points)), np.inf)
    free = np.zeros(ours.grid.shape, bool)
    free[tuple(ours.grid.xy.T)] = True
    for part in np.array_split(np.arange(len(first)), 50):
        a, b = points[first[part], None, :2], points[second[part], None, :2]
        cells = np.floor((a + share * (b - a) - ours.grid.origin_m) / ours.grid.cell_m).astype(int)
        x, y = cells[..., 0], cells[..., 1]
        # Where a line jumps to a cell diagonally beside, one of the two between must be free.
        between = free[x[:, 1:], y[:, :-1]] | free[x[:, :-1], y[:, 1:]]
        seen = part[free[x, y].all(axis=1) & between.all(axis=1)]
        distance = np.linalg.norm(points[second[seen]] - points[first[seen]], axis=1)
        lengths[first[seen], second[seen]] = lengths[second[seen], first[seen]] = distance
    return lengths


@pytest.mark.parametrize("seed", range(3))
def test_paths_are_near_the_optimum_over_all_lines_of_sight(seed):
    """Among random boxes, against Dijkstra over every pair of cells that see each other."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0.3, 4.2, (7, 2))
    boxes = {f"box{i}": box([*low, 0], [*(low + rng.uniform(0.2, 1.2, 2)), 2]) for i, low in enumerate(corners)}
    ours = navmesh(room(5, 5, **boxes), cell_m=0.2, radius_m=0.0)
    cells = np.flatnonzero(ours.grid.island == ours.main_island)
    points = ours.grid.centers()[cells]
    lengths = clear_lines(ours, points)
    best = dijkstra(np.where(np.isfinite(lengths), lengths, 0), indices=range(0, len(points), 40))
    ratios = []
    for row, start in enumerate(range(0, len(points), 40)):
        for goal in range(7, len(points), 23):
            if np.isfinite(best[row, goal]) and goal != start:
                ratios.append(ours.shortest_path(points[start], points[goal]).distance_m / best[row, goal])
    assert len(ratios) > 50
    # The samples refuse some lines exactly through a corner, which ours may take; a pulled path may miss the optimum by
    # a fraction of a cell (0.2 m here) at each turn.
    assert np.median(ratios) < 1.001
    assert np.min(ratios) > 0.97
    assert np.max(ratios) < 1.02


def test_pulling_leaves_no_more_slack_from_one_end_than_from_the_other():
    rng = np.random.default_rng(3)
    posts = {}
    for index in range(14):
        low = rng.uniform(0.5, 5.2, 2)
        posts[f"post{index}"] = box([*low, 0], [*(low + rng.uniform(0.1, 0.5, 2)), 2])
    ours = navmesh(room(6, 6, **posts))
    ends = [(ours.sample(rng), ours.sample(rng)) for _ in range(60)]
    there = np.array([ours.shortest_path(a, b).distance_m for a, b in ends])
    back = np.array([ours.shortest_path(b, a).distance_m for a, b in ends])
    # One turn may be a cell further out: 0.4 % of paths of some 3 m.
    assert np.abs(there / back - 1).max() < 4e-3


def test_distance_is_symmetric_and_keeps_the_triangle_inequality(split_room):
    rng = np.random.default_rng(1)
    points = [split_room.sample(rng) for _ in range(5)]
    d = {(i, j): split_room.shortest_path(points[i], points[j]).distance_m for i in range(5) for j in range(5)}
    for i, j, k in itertools.permutations(range(5), 3):
        assert d[i, j] == pytest.approx(d[j, i], rel=0.01)
        assert d[i, k] <= (d[i, j] + d[j, k]) * 1.01  # pulling stops a cell short of the optimum
    assert all(d[i, i] == 0 for i in range(5))


def test_unreachable_and_far_goals():
    ours = navmesh(room(wall=box([2.95, 0, 0], [3.05, 4, 2.5])))
    path = ours.shortest_path([1, 1, 0], [5, 1, 0])
    assert (path.found, path.distance_m, len(path.points)) == (False, np.inf, 0)
    assert not ours.shortest_path([1, 1, 0], [50, 1, 0]).found
    assert ours.snap([50, 1, 0]) is None
    assert len(ours.island_areas_m2) == 2


def test_snapping(empty_room):
    np.testing.assert_allclose(empty_room.snap([3, 2, 0.4]), [3, 2, 0], atol=1e-9)
    snapped = empty_room.snap([3, -0.5, 0])
    assert snapped[0] == pytest.approx(3, abs=1e-6)
    assert 0.2 <= snapped[1] <= 0.3
    assert empty_room.snap([3, -0.5, 0], (0.3, 0.3, 1.0)) is None
    assert empty_room.snap([3, 2, 4.5]) is None
    assert empty_room.snap([3, 2, 0], island=empty_room.main_island) is not None
    assert empty_room.snap([3, 2, 0], island=99) is None


def test_snapping_prefers_the_floor_under_a_point_to_a_nearer_step_beside():
    ours = navmesh(room(step=box([3, 0, 0], [6, 4, 0.18])))
    np.testing.assert_allclose(ours.snap([2.9, 2, 0.17]), [2.9, 2, 0], atol=1e-6)


def test_samples_are_navigable_uniform_and_seeded(split_room):
    points = np.array([split_room.sample(np.random.default_rng(3)) for _ in range(2)])
    np.testing.assert_array_equal(points[0], points[1])
    rng = np.random.default_rng(0)
    points = np.array([split_room.sample(rng) for _ in range(400)])
    assert all(split_room.is_navigable(point) for point in points)
    # 400 coin flips: 5 standard deviations are 12 %.
    assert np.mean(points[:, 0] < 3) == pytest.approx(0.5, abs=0.125)
    with pytest.raises(ValueError, match=r"island must be in 0\.\.0, got 5"):
        split_room.sample(rng, island=5)


def test_the_roof_is_not_the_main_island():
    ours = navmesh(room(ceiling=True))
    assert ours.sample(np.random.default_rng(0))[2] == pytest.approx(0, abs=1e-6)
    assert len(ours.island_areas_m2) == 2
    assert ours.grid.z_m[ours.grid.island != ours.main_island].min() > 2


def stairs(rise_m: float) -> dict:
    """Steps of 0.3 m depth up to a platform from x = 4 on."""
    steps = {f"step{i}": box([2.5 + 0.3 * i, 0, 0], [4.0, 4, rise_m * (i + 1)]) for i in range(5)}
    return steps | {"platform": box([4.0, 0, 0], [6, 4, 5 * rise_m])}


def test_stairs_are_climbed_up_to_the_limit():
    low, high = navmesh(room(**stairs(0.18))), navmesh(room(**stairs(0.25)))
    up = low.shortest_path([1, 2, 0], [5, 2, 0.9])
    assert up.points[-1][2] == pytest.approx(0.9)
    assert np.hypot(4, 0.9) <= up.distance_m <= 4 + 0.9
    assert not high.shortest_path([1, 2, 0], [5, 2, 1.25]).found
    assert navmesh(room(**stairs(0.25)), climb_m=0.3).shortest_path([1, 2, 0], [5, 2, 1.25]).found


def test_ramps_are_climbed_up_to_the_limit():
    def ramp(top):
        slope = quad([[2, 0, 0], [4, 0, top], [4, 4, top], [2, 4, 0]])
        return navmesh(room(ramp=slope, platform=box([4, 0, 0], [6, 4, top])))

    gentle = ramp(1.0).shortest_path([1, 2, 0], [5, 2, 1])
    assert gentle.found
    assert gentle.distance_m >= np.hypot(4, 1)
    assert not ramp(2.5).shortest_path([1, 2, 0], [5, 2, 2.5]).found
    assert (
        navmesh(
            room(ramp=quad([[2, 0, 0], [4, 0, 1], [4, 4, 1], [2, 4, 0]]), platform=box([4, 0, 0], [6, 4, 1])),
            slope_deg=20,
        ).island_of([3, 2, 0.5])
        == -1
    )


def test_floors_above_each_other_are_told_apart():
    """A deck 2 m above half of the room, reached by stairs: the same x and y on two floors."""
    steps = {f"step{i}": box([1 + 0.25 * i, 0, 0], [1.25 + 0.25 * i, 1, 0.2 * (i + 1)]) for i in range(10)}
    ours = navmesh(room(8, 4, deck=box([3.5, 0, 1.9], [8, 4, 2.0]), **steps))
    below, above = np.array([5.0, 2.0, 0.0]), np.array([5.0, 2.0, 2.0])
    assert ours.is_navigable(below)
    assert ours.is_navigable(above)
    assert not ours.is_navigable([5.0, 2.0, 1.0])
    path = ours.shortest_path(below, above)
    assert path.points[0][2] == pytest.approx(0)
    assert path.points[-1][2] == pytest.approx(2)
    assert path.distance_m > 8  # out from under the deck, up the stairs and back
    moved, _ = ours.move(above, [0.5, 0.0])
    assert moved[2] == pytest.approx(2)


def test_headroom():
    table = box([2, 1, 0.9], [4, 3, 1.0])
    assert navmesh(room(table=table)).island_of([3, 2, 0]) == -1
    assert navmesh(room(table=table), height_m=0.8).island_of([3, 2, 0]) >= 0


def test_where_two_heights_meet_there_must_be_headroom_for_the_step():
    """Right of x = 3 the floor is 0.15 m higher, and so is the ceiling: each side alone is high enough."""

    def is_passable(left_m):
        floors = {"low": box([0, 0, -0.5], [3, 4, 0]), "high": box([3, 0, -0.5], [6, 4, 0.15])}
        ceilings = {"left": box([0, 0, left_m], [2.97, 4, 2.5]), "right": box([3, 0, 1.75], [6, 4, 2.5])}
        # Cells end exactly at x = 3, so that none has both heights in it.
        ours = navmesh(mesh_of(floors | ceilings), cell_m=0.0625)
        return ours.shortest_path([1, 2, 0], [5, 2, 0.15]).found

    assert is_passable(1.7)
    assert not is_passable(1.6)


def test_low_things_above_the_floor_are_stepped_over():
    """A cable, steep on every side, that hangs a little above the floor across the whole room."""

    def reaches(top_m):
        cable = quad([[3, 0, 0.05], [3, 4, 0.05], [3, 4, top_m], [3, 0, top_m]], doubleSided=True)
        return navmesh(room(cable=cable)).shortest_path([1, 2, 0], [5, 2, 0]).found

    assert reaches(0.15)
    assert not reaches(0.3)


def test_edges_to_fall_from_are_kept_away_from():
    """A platform of 3 x 3 m in the air: a cell along its edge, then the radius, are left out."""
    ours = navmesh(mesh_of({"platform": box([0, 0, -0.1], [3, 3, 0])}))
    assert ours.island_areas_m2[0] == pytest.approx((3 - 2 * (CELL_M + RADIUS_M)) ** 2)
    above_floor = navmesh(room(platform=box([2, 1, 1.8], [5, 4, 1.9])), min_area_m2=0.5)
    # at y = 4 it touches the wall
    wanted = (3 - 2 * (CELL_M + RADIUS_M)) * (3 - CELL_M - RADIUS_M - RADIUS_M)
    on_it = above_floor.grid.z_m > 1.8
    assert on_it.sum() * CELL_M**2 == pytest.approx(wanted, abs=3 * 1.5 * CELL_M)


def test_small_areas_are_dropped():
    podium = box([2, 1, 0], [3.2, 2.2, 1.0])  # 0.8 m on a side to stand on
    assert navmesh(room(podium=podium)).island_of([2.6, 1.6, 1.0]) == -1
    assert navmesh(room(podium=podium), min_area_m2=0.3).island_of([2.6, 1.6, 1.0]) >= 0


def test_moves(empty_room):
    end, collided = empty_room.move([3, 2, 0], [0.25, 0.1])
    np.testing.assert_allclose(end, [3.25, 2.1, 0], atol=1e-6)
    assert not collided
    end, collided = empty_room.move([3, 3.6, 0], [0.0, 0.5])
    assert collided
    assert 4 - RADIUS_M - BORDER_M <= end[1] <= 4 - RADIUS_M
    with pytest.raises(ValueError, match="a move must start where one can stand"):
        empty_room.move([3, 0.05, 0], [0.1, 0])


def test_sliding_along_a_wall_keeps_the_part_along_it(empty_room):
    start = empty_room.snap([3, 3.9, 0])
    end, collided = empty_room.move(start, [0.2, 0.2])
    assert collided
    np.testing.assert_allclose(end[:2] - start[:2], [0.2, 0], atol=1e-4)
    end, collided = empty_room.move(start, [0.2, 0.2], slide=False)
    assert collided
    np.testing.assert_allclose(end[:2], start[:2], atol=1e-4)


def test_sliding_near_a_corner_keeps_to_the_wall_that_was_met(empty_room):
    start = empty_room.snap([0.35, 3.9, 0])
    end, collided = empty_room.move(start, [-0.02, 0.2])
    assert collided
    np.testing.assert_allclose(end[:2] - start[:2], [-0.02, 0], atol=1e-4)


def test_sliding_along_a_slanting_wall_makes_way():
    """Walls at 45 degrees are stairs of cells; the agent must not stick in them."""
    wall = quad([[1, 0, 0], [5, 4, 0], [5, 4, 2.5], [1, 0, 2.5]])
    ours = navmesh(room(wall=wall))
    point = ours.snap([1.5, 1.2, 0])
    begin = point
    for _ in range(12):
        point, _ = ours.move(point, [0.25, 0.05])
    along = (point - begin)[:2]
    # 12 moves have 0.85 of 0.25 m along the wall; the way up to the wall and the stairs cost some.
    assert along @ [1, 1] / np.sqrt(2) > 0.7 * 12 * 0.25 * 0.85
    assert point[1] > point[0] - 1  # still on its side of the wall


def test_moves_never_leave_the_walkable_area_or_jump(split_room):
    rng = np.random.default_rng(0)
    point = split_room.sample(rng)
    for _ in range(400):
        offset = rng.normal(0, 0.3, 2)
        after, collided = split_room.move(point, offset)
        assert split_room.is_navigable(after)
        moved = np.linalg.norm((after - point)[:2])
        assert moved <= np.linalg.norm(offset) + 1e-4  # ends are put a millionth of a cell inside
        assert collided == (moved**2 + 1e-5 < offset @ offset)
        point = after


def test_same_answers_twice():
    first, second = (navmesh(room(wall=box([2.95, 0, 0], [3.05, 3, 2.5]))) for _ in range(2))
    path = [nav.shortest_path([1, 1, 0], [5, 1, 0]).points for nav in (first, second)]
    np.testing.assert_array_equal(*path)


NO_FLOOR = [
    {"wall": quad([[0, 0, 0], [4, 0, 0], [4, 0, 3], [0, 0, 3]])},
    {"ceiling": quad([[0, 0, 2], [0, 4, 2], [4, 4, 2], [4, 0, 2]])},
    {"tile": box([0, 0, 0], [0.5, 0.5, 0.1])},
]


@pytest.mark.parametrize("parts", NO_FLOOR)
def test_a_mesh_without_a_floor_is_named(parts):
    with pytest.raises(ValueError, match=r"there is no walkable area for an agent of radius 0\.2 m and height 1\.5 m"):
        navmesh(mesh_of(parts))


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"NavSettings\.cell_m must be in 0\.005\.\.10\.0, got 0"):
        NavSettings(cell_m=0)
    with pytest.raises(ValueError, match=r"NavSettings\.radius_m"):
        NavSettings(radius_m=-1)
    with pytest.raises(ValueError, match=r"climb_m must be less than half of height_m 1\.0, got 0\.5"):
        NavSettings(height_m=1.0, climb_m=0.5)
