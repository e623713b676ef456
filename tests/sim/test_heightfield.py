"""Rasterisation against dense sampling of the triangles, and merging of overlapping solids."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import box, room

from sim.world import heightfield
from sim.world.heightfield import build_heightfield
from sim.world.mesh import mesh_of

CELL_M = 0.1
SLOPE_RAD = np.radians(45)


def built(corners, cell_m=CELL_M, merge_m=0.0):
    return build_heightfield(np.asarray(corners, float), cell_m, SLOPE_RAD, merge_m)


def samples_by_cell(triangle, field) -> dict[int, tuple[float, float]]:
    """Lowest and highest of very many points of a triangle in every cell it meets."""
    steps = np.linspace(0, 1, 1200)
    v, w = np.meshgrid(steps, steps)
    keep = v + w <= 1
    v, w = v[keep], w[keep]
    points = triangle[0] + np.outer(v, triangle[1] - triangle[0]) + np.outer(w, triangle[2] - triangle[0])
    cell = np.floor((points[:, :2] - field.origin_m) / field.cell_m).astype(int)
    cell = np.clip(cell, 0, np.array(field.shape) - 1)  # rounding may leave the triangle's own bounds
    column = cell[:, 0] * field.shape[1] + cell[:, 1]
    return {int(c): (points[column == c, 2].min(), points[column == c, 2].max()) for c in np.unique(column)}


@pytest.mark.parametrize("seed", range(6))
def test_cells_of_a_triangle_and_its_heights_in_them(seed):
    triangle = np.random.default_rng(seed).uniform(0, 0.6, (3, 3))
    field = built([triangle])
    expected = samples_by_cell(triangle, field)
    found = {int(c): (lo, hi) for c, lo, hi in zip(field.column, field.bottom_m, field.top_m, strict=True)}
    assert set(expected) <= set(found)
    # A cell no sample fell into is touched at a corner only: its slice is thinner than the samples' spacing.
    assert all(found[c][1] - found[c][0] < 2e-3 for c in set(found) - set(expected))
    for column, (low, high) in expected.items():
        # The samples are 0.5 mm apart, on slopes up to a few times that in height.
        assert found[column][0] == pytest.approx(low, abs=3e-3)
        assert found[column][1] == pytest.approx(high, abs=3e-3)
        assert found[column][0] <= low + 1e-9
        assert found[column][1] >= high - 1e-9


def test_a_vertical_triangle_fills_only_its_own_height_in_each_cell():
    field = built([[[0, 0.05, 0], [1, 0.05, 0], [1, 0.05, 1]]])
    np.testing.assert_allclose(field.bottom_m, 0, atol=1e-12)
    np.testing.assert_allclose(field.top_m, np.arange(1, 11) / 10, atol=1e-9)
    assert not field.flat.any()


def test_small_and_large_triangles_agree():
    """A floor of two triangles and the same floor of many give the same columns."""
    coarse = mesh_of({"floor": box([0, 0, -0.1], [1, 1, 0])}).triangles_m()
    part = box([0, 0, -0.1], [1, 1, 0])
    for _ in range(5):
        part = part.subdivide()
    fine = mesh_of({"floor": part}).triangles_m()
    one, many = built(coarse), built(fine)
    np.testing.assert_array_equal(one.column, many.column)
    np.testing.assert_allclose(one.top_m, many.top_m, atol=1e-9)
    np.testing.assert_array_equal(one.flat, many.flat)


def test_what_ends_on_a_border_does_not_fill_the_next_cell():
    floor = [[[0, 0, 0], [1, 0, 0], [1, 1, 0]], [[0, 0, 0], [1, 1, 0], [0, 1, 0]]]
    wall = [[[0, 0.5, 0], [1, 0.5, 0], [1, 0.5, 1]]]
    half = [[[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]]]
    assert built(floor, cell_m=0.125).shape == (8, 8)
    assert (built(floor + wall, cell_m=0.125).top_m > 0.01).sum() == 8
    # cells on the diagonal are half covered, those beyond it touched at a corner
    reached = built([*half, [[1, 1, 0], [1, 0.9, 0], [0.9, 1, 0]]], cell_m=0.125).column
    assert not {4, 4 * 8} & set(reached.tolist())


def test_chunks_do_not_change_the_result(monkeypatch):
    corners = room().triangles_m()
    whole = built(corners)
    monkeypatch.setattr(heightfield, "_CHUNK_PAIRS", 97)
    parts = built(corners)
    for name in ("column", "bottom_m", "top_m", "flat"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def square(z, *, down=False):
    a, b, c, d = [0, 0, z], [0.09, 0, z], [0.09, 0.09, z], [0, 0.09, z]
    return [[a, c, b], [a, d, c]] if down else [[a, b, c], [a, c, d]]


def test_solids_that_touch_are_one_and_others_stay_apart():
    # each square alone is a solid without thickness
    field = built(square(0.0) + square(0.5) + square(0.5 + 5e-6))
    np.testing.assert_allclose(field.top_m, [0.0, 0.500005])
    assert field.flat.all()


def test_surfaces_that_face_down_or_are_steep_are_not_flat():
    steep = [[[0, 0, 0], [0.09, 0, 0.1], [0, 0.09, 0]]]
    gentle = [[[0, 0, 0], [0.09, 0, 0.08], [0, 0.09, 0]]]
    assert [built(c).flat.tolist() for c in (square(0.0, down=True), steep, gentle)] == [[False], [False], [True]]


def test_a_flat_top_just_below_the_highest_keeps_the_column_flat():
    skirting = [[[0, 0, 0], [0.05, 0, 0], [0.05, 0, 0.15]]]
    assert built(square(0.0) + skirting, merge_m=0.2).flat.tolist() == [True]
    assert built(square(0.0) + skirting, merge_m=0.1).flat.tolist() == [False]


def test_a_scene_of_ten_kilometres_is_refused_with_advice():
    ground = [[[0, 0, 0], [10_000, 0, 0], [10_000, 10_000, 0]]]
    with pytest.raises(
        ValueError, match=r"covers 10,000 m x 10,000 m; .*cells of 0\.05 m.*larger cell_m or cut the mesh"
    ):
        built(ground, cell_m=0.05)
    assert len(built(ground, cell_m=50.0).column) > 0


def test_level_triangles_cover_the_cells_that_tilted_ones_do():
    """They take a shorter way through the code; a tilt of a hundredth of a millimetre takes the long one."""
    rng = np.random.default_rng(4)
    for _ in range(40):
        level = np.pad(rng.uniform(0, 1, (1, 3, 2)), ((0, 0), (0, 0), (0, 1)))
        tilted = level + np.array([[[0, 0, 0], [0, 0, 1e-5], [0, 0, 0]]])
        one, two = (build_heightfield(corners, 0.05, 0.8, 0.2) for corners in (level, tilted))
        np.testing.assert_array_equal(one.column, two.column)
        np.testing.assert_array_equal(one.flat, two.flat)
        assert (one.top_m == 0).all()


def test_a_level_sliver_without_area_covers_only_its_line():
    line = np.array([[[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1.0, 1.0, 0.0]]])
    field = build_heightfield(line, 0.1, 0.8, 0.2)
    assert len(field.column) < 40  # of 100 cells
