"""Metrics of trials against cases worked out by hand."""

from __future__ import annotations

from math import exp, inf

import numpy as np
import pytest

from sim.metrics import (
    dtw,
    interval_95,
    mean_with_interval,
    ndtw,
    oracle_success,
    percentiles,
    resampled,
    spl,
    success,
)

LINE = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0], [4, 0]])


@pytest.mark.parametrize(
    ("stopped", "distance_m", "expected"), [(True, 1.0, True), (True, 1.001, False), (False, 0.0, False)]
)
def test_success_needs_a_stop_near_enough(stopped, distance_m, expected):
    assert success(stopped, distance_m, 1.0) is expected


def test_oracle_success_forgives_going_on():
    assert oracle_success([5.0, 0.9, 4.0], 1.0)
    assert not oracle_success([5.0, 1.1, inf], 1.0)
    assert not oracle_success([], 1.0)


@pytest.mark.parametrize(
    ("succeeded", "shortest_m", "path_m", "expected"),
    [
        (True, 4.0, 8.0, 0.5),
        (True, 4.0, 4.0, 1.0),
        (True, 4.0, 3.0, 1.0),  # stopped short, but near enough: not more than 1
        (True, 0.0, 0.0, 1.0),
        (True, 0.0, 2.0, 0.0),
        (False, 4.0, 4.0, 0.0),
    ],
)
def test_spl(succeeded, shortest_m, path_m, expected):
    assert spl(succeeded, shortest_m, path_m) == expected


@pytest.mark.parametrize("lengths", [(inf, 1.0), (-1.0, 1.0), (1.0, float("nan"))])
def test_spl_refuses_what_is_no_length(lengths):
    with pytest.raises(ValueError, match="spl needs finite lengths"):
        spl(True, *lengths)


def test_dtw_matches_every_point_to_one():
    # 0-0, 1-0 or 1-2 at cost 1, 2-2
    assert dtw(np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [2.0]])) == 1.0
    # the way back and forth cannot be matched backwards: 0-0, 3-3, 0-3
    assert dtw(np.array([[0.0], [3.0], [0.0]]), np.array([[0.0], [3.0]])) == 3.0
    with pytest.raises(ValueError, match="at least one point on both ways, got 0 and 1"):
        dtw(np.zeros((0, 2)), np.zeros((1, 2)))


def test_ndtw_of_hand_computed_ways():
    assert ndtw(LINE, LINE) == 1.0
    # five points, each 1 m beside: exp(-5 / (5 * 3))
    assert ndtw(LINE + np.array([0, 1]), LINE) == pytest.approx(exp(-1 / 3))
    # one point at the start against five: (0+1+2+3+4) / (5 * 3)
    assert ndtw(LINE[:1], LINE) == pytest.approx(exp(-10 / 15))
    # the length of the reference counts, not that of the way
    assert ndtw(LINE, LINE[:1]) == pytest.approx(exp(-10 / 3))
    assert ndtw(LINE + np.array([0, 1]), LINE, within_m=1.0) == pytest.approx(exp(-1))


def test_resampled_spaces_evenly_and_forgets_pauses():
    way = np.array([[0.0, 0], [0, 0], [1, 0], [1, 0], [1, 1.2]])
    points = resampled(way, 0.25)
    assert len(points) == 10  # 2.2 m in nine parts
    np.testing.assert_allclose(points[[0, -1]], way[[0, -1]])
    steps = np.abs(np.diff(points, axis=0)).sum(axis=1)  # along the way; it has one right angle
    np.testing.assert_allclose(steps, 2.2 / 9)
    np.testing.assert_array_equal(resampled(np.zeros((4, 2))), np.zeros((1, 2)))
    np.testing.assert_array_equal(resampled(np.ones((1, 2))), np.ones((1, 2)))
    np.testing.assert_allclose(resampled(np.array([[0.0], [0.75]]))[:, 0], [0, 0.25, 0.5, 0.75])


def test_interval_holds_the_mean_and_narrows():
    few, many = [0.0, 1.0] * 5, [0.0, 1.0] * 200
    low, high = interval_95(few)
    assert low < 0.5 < high
    assert np.subtract(*interval_95(many)[::-1]) < (high - low) / 3
    # 95 % of a mean of 400 coins: 0.5 +- 1.96 * 0.025
    np.testing.assert_allclose(interval_95(many), [0.451, 0.549], atol=0.006)
    assert interval_95(few) == (low, high)
    assert interval_95([3.0]) == (3.0, 3.0)
    with pytest.raises(ValueError, match="at least one value"):
        interval_95([])


def test_mean_leaves_out_what_is_unknown():
    assert mean_with_interval([1, None, 1]) == {"mean": 1.0, "low": 1.0, "high": 1.0, "count": 2}
    assert mean_with_interval([None]) == {"mean": None, "low": None, "high": None, "count": 0}
    assert mean_with_interval([True, False])["mean"] == 0.5


def test_percentiles():
    assert percentiles(range(101)) == {"p50": 50.0, "p99": 99.0, "count": 101}
    assert percentiles([]) == {"p50": None, "p99": None, "count": 0}
