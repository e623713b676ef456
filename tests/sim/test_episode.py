"""Episodes as JSON, and messages that name what is wrong with one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sim.episode import Episode, episode_from_json, episode_to_json

ROUTE = Episode(
    *("r1", "route", "flat_3", 7, np.eye(4), "sofa", 12, ("table", "sofa"), np.stack([np.eye(4)] * 3), 200, 30.0),
    *(np.array([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0]]), "Turn Left", (4, 12)),
)


@pytest.mark.parametrize("episode", [ROUTE, Episode("f1", "find", "flat_3", 0, np.eye(4))])
def test_survives_json(episode):
    entry = json.loads(json.dumps(episode_to_json(episode)))
    again = episode_from_json(entry)
    assert episode_to_json(again) == entry
    np.testing.assert_array_equal(again.T_WC_watch, episode.T_WC_watch)
    np.testing.assert_array_equal(again.reference_m, episode.reference_m)
    assert (again.T_WC_watch.shape[1:], again.landmarks) == ((4, 4), episode.landmarks)
    assert again.landmark_ids == episode.landmark_ids


BROKEN = [
    ({"task": "fetch"}, "episode 'r1': task must be one of route, find, got 'fetch'"),
    ({"T_WC_start": [[1, 2], [3, 4]]}, r"episode 'r1': T_WC_start must have shape \(4, 4\)"),
    ({"T_WC_watch": [[1.0] * 4] * 4}, r"episode 'r1': T_WC_watch must have shape \(4, 4, 4\), got \(4, 4\)"),
    ({"reference_m": [[1, 2]]}, r"episode 'r1': reference_m must have shape \(1, 3\), got \(1, 2\)"),
    ({"landmark_ids": [4]}, "episode 'r1': landmark_ids must be as many as landmarks, got 1 for 2"),
    ({"max_steps": 0}, "max_steps must be at least 1"),
    ({"seed": -1}, "seed must be at least 0"),
    ({"color": "red"}, "color is not one of them"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_broken_field_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        episode_from_json({**episode_to_json(ROUTE), **change})


def test_missing_field_is_named():
    entry = episode_to_json(ROUTE)
    del entry["scene"], entry["seed"]
    with pytest.raises(ValueError, match="an episode must have scene, seed, got"):
        episode_from_json(entry)
