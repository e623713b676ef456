"""Places from which most of a scene comes into view, in an order worth walking. Makes no walk."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np

from sim.camera import CameraSettings, camera_pose
from sim.env import Env, Observation

# What fills a smaller share of the picture is not counted as seen.
_SEEN_SHARE = 1e-3
_FLOOR_CELL_M = 0.5
_FLOOR_RISE_M = 0.1
_SAMPLES_ACROSS = 80


def choose_lookouts(
    env: Env, rng: np.random.Generator, start: np.ndarray, camera: CameraSettings, *, candidates: int, share: float
) -> list[np.ndarray]:
    """Places that together see a share of what can be seen, the most useful first.

    Args:
        env: the world; its own pictures say what is seen, so walls and furniture hide what they hide.
        rng: draws the candidates.
        start: [3], one of the candidates; the others can be reached from it.
        camera: height and tilt of the camera; the lens is the world's.
        candidates: how many places are tried.
        share: of the objects, and of the floor, seen from all candidates together, in 0..1.

    Returns:
        Feet [3] of each.
    """
    places = [start, *(env.sample_navigable(rng) for _ in range(candidates - 1))]
    places = [place for place in places if env.shortest_path(place, start).found]
    objects = {item.instance_id for item in env.scene_graph().objects}
    seen = [_seen_around(env, place, camera, objects) for place in places]
    union = set().union(*seen)
    count = {kind: sum(item[0] == kind for item in union) for kind in ("object", "floor")}
    chosen, known = [], set()
    while True:
        lacking = [kind for kind in count if sum(item[0] == kind for item in known) < share * count[kind]]
        if not lacking:
            break
        gains = [sum(1 / count[item[0]] for item in sorted(items - known) if item[0] in lacking) for items in seen]
        best = int(np.argmax(gains))
        chosen.append(places[best])
        known |= seen[best]
    return chosen


def distances_between(env: Env, stops: list[np.ndarray]) -> np.ndarray:
    """Lengths of the walkable ways between all pairs of places: [N, N], metres."""
    distance = np.zeros((len(stops), len(stops)))
    for goal in range(len(stops)):
        for other in range(goal):
            distance[goal, other] = distance[other, goal] = env.shortest_path(stops[other], stops[goal]).distance_m
    return distance


def short_order(distance: np.ndarray) -> tuple[list[int], float]:
    """An order that makes a short walk over all places, and its length.

    Args:
        distance: [N, N] between the places; the walk starts at place 0.

    Returns:
        (the places by number, 0 first; metres).
    """
    order, rest = [0], list(range(1, len(distance)))
    while rest:
        order.append(min(rest, key=lambda stop: distance[order[-1], stop]))
        rest.remove(order[-1])
    order = _untangled(order, distance)
    return order, _length(order, distance)


def _untangled(order: list[int], distance: np.ndarray) -> list[int]:
    """Turns parts of the order round, and moves single places, while that makes it shorter; the start stays first."""
    while True:
        better = min(_neighbors(order), key=lambda other: _length(other, distance), default=order)
        if _length(better, distance) >= _length(order, distance) - 1e-6:
            return order
        order = better


def _neighbors(order: list[int]) -> Iterator[list[int]]:
    for first in range(1, len(order)):
        for last in range(first + 1, len(order)):
            yield order[:first] + order[first : last + 1][::-1] + order[last + 1 :]
        without = order[:first] + order[first + 1 :]
        for place in range(1, len(order)):
            yield [*without[:place], order[first], *without[place:]]


def _length(order: list[int], distance: np.ndarray) -> float:
    return float(distance[order[:-1], order[1:]].sum())


def _seen_around(env: Env, feet: np.ndarray, camera: CameraSettings, objects: set[int]) -> set[tuple[str, Hashable]]:
    """Objects and cells of the floor seen by turning around at a place."""
    seen: set[tuple[str, Hashable]] = set()
    yaw, turned = 0.0, 0.0
    while turned < 2 * np.pi:
        picture = env.view(camera_pose(feet, yaw, camera))
        lens_rad = 2 * np.arctan(picture.depth_m.shape[1] / 2 / picture.K[0, 0])
        seen |= {("object", number) for number in _large_ids(picture) & objects}
        seen |= {("floor", cell) for cell in _floor_cells(picture, feet[2])}
        yaw, turned = yaw + lens_rad, turned + lens_rad
    return seen


def _large_ids(picture: Observation) -> set[int]:
    numbers, pixels = np.unique(picture.semantic_ids, return_counts=True)
    return set(numbers[pixels >= _SEEN_SHARE * picture.semantic_ids.size].tolist())


def _floor_cells(picture: Observation, floor_z_m: float) -> set[tuple[int, int]]:
    stride = max(1, picture.depth_m.shape[1] // _SAMPLES_ACROSS)
    depth = picture.depth_m[::stride, ::stride]
    rows, columns = np.nonzero(depth)
    far = depth[rows, columns].astype(np.float64)
    pixels = np.stack([columns * stride + 0.5, rows * stride + 0.5, np.ones(len(rows))])
    points = picture.T_WC[:3, :3] @ (np.linalg.inv(picture.K) @ pixels * far) + picture.T_WC[:3, 3:]
    on_floor = points[:2, np.abs(points[2] - floor_z_m) < _FLOOR_RISE_M]
    return set(map(tuple, np.unique(np.floor(on_floor.T / _FLOOR_CELL_M).astype(int), axis=0).tolist()))
