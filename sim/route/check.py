"""Checks routes by a second method: drives them by compass through the objects. Shares no geometry with their search.

    python -m sim.route.check FILE.jsonl --worlds flat:0..9,PATH --draw 20 --seed 1

All it takes from a route is its start pose, its object ids and its answer. The robot stands at the pose, looks along
it, drives straight ahead until it is near the next object, takes the bearing of the one after, turns there, and so on.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sim.command import EXIT_FAILED, EXIT_OK, run_command
from sim.route.item import RouteItem, read_routes
from sim.worlds import open_env, world_specs
from vlm3r_core.config import check_range
from vlm3r_core.scene.graph import SceneGraph

# Turning this far is a turn, and this far is turning back, degrees.
_TURN_DEG, _BACK_DEG = 30.0, 135.0
# The pose must look at what is faced this well, degrees.
_FACING_DEG = 0.5
# Driving ahead ends this far from an object's box, after steps of this length; it starts nearer to its own.
_NEAR_M, _STEP_M, _BESIDE_M = 0.4, 0.02, 1.0

# How a name tells one of several things apart, and how often distances between boxes are refined.
_CLOSEST, _PROJECTIONS = " closest to the ", 200


@dataclass(frozen=True)
class Verdict:
    """What the second method says of a route: the turns it measured, degrees, left positive, and what is wrong."""

    item: RouteItem
    turns_deg: tuple[float, ...]
    faults: tuple[str, ...]


def check_route(item: RouteItem, graph: SceneGraph) -> Verdict:
    """Drives a route by compass.

    Args:
        item: the route.
        graph: the truth about its scene.
    """
    things = {number: graph.object_by_id(number) for number in (item.start_id, item.facing_id, *item.via_ids)}
    things[item.goal_id] = graph.object_by_id(item.goal_id)
    faults = _name_faults(item, graph)
    x, y = float(item.T_WC_start[0][3]), float(item.T_WC_start[1][3])
    heading = math.atan2(item.T_WC_start[1][2], item.T_WC_start[0][2])
    if abs(_bearing(x, y, heading, things[item.facing_id])) > _FACING_DEG:
        faults.append(f"the start does not face the {item.facing}")
    if _gap(x, y, things[item.start_id]) > _BESIDE_M:
        faults.append(f"the start is not at the {item.start}")
    turns = []
    for ahead, after in zip((None, *item.via_ids), (*item.via_ids, item.goal_id), strict=True):
        if ahead is None and item.template == 1:
            continue
        if ahead is not None:
            x, y = _driven(x, y, heading, things[ahead])
        turns.append(_bearing(x, y, heading, things[after]))
        heading += math.radians(turns[-1])
    told = ", ".join(map(_word, turns))
    option = next((text[3:] for text in item.options if text.startswith(f"{item.answer}. ")), "no option")
    if told != option:
        faults.append(f"measured {told}, the answer is {option}")
    return Verdict(item, tuple(turns), tuple(faults))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, 1 (a route is wrong), 2 (bad input) or 130 (interrupted)."""
    parser = argparse.ArgumentParser(prog="python -m sim.route.check", description="Checks routes by a second method.")
    parser.add_argument("file", type=Path, help="what python -m sim.routes wrote")
    parser.add_argument("--worlds", required=True, help="where its scenes are, as python -m sim.routes takes them")
    parser.add_argument("--draw", type=int, default=20, help="routes drawn at random; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    args = parser.parse_args(arguments)
    return run_command("sim.route.check", lambda: _check(args), "nothing was judged")


def _check(args: argparse.Namespace) -> int:
    check_range("--draw", args.draw, 0)
    items = read_routes(args.file)
    drawn = random.Random(args.seed).sample(items, min(args.draw, len(items))) if args.draw else items
    graphs = _graphs(args.worlds, {item.scene for item in drawn})
    verdicts = [check_route(item, graphs[item.scene]) for item in drawn]
    for verdict in verdicts:
        item, turns = verdict.item, ", ".join(f"{turn:+7.1f}" for turn in verdict.turns_deg)
        places = " > ".join((f"{item.start} (facing {item.facing})", *item.via, item.goal))
        print(f"{item.id}  {turns} deg  {item.answer_text:<10}  {'; '.join(verdict.faults) or 'agrees'}  {places}")
    agreed = sum(not verdict.faults for verdict in verdicts)
    print(f"{agreed} of {len(verdicts)} routes, drawn of {len(items)}, agree with the second method")
    return EXIT_OK if agreed == len(verdicts) else EXIT_FAILED


def _name_faults(item: RouteItem, graph: SceneGraph) -> list[str]:
    names = (item.start, item.facing, *item.via, item.goal)
    numbers = (item.start_id, item.facing_id, *item.via_ids, item.goal_id)
    faults = []
    for name, number in zip(names, numbers, strict=True):
        category, _, neighbour = name.partition(_CLOSEST)
        meant = [thing for thing in graph.objects if thing.category == category]
        if neighbour:
            beside = [thing for thing in graph.objects if thing.category == neighbour]
            if len(beside) != 1:
                faults.append(f"there is not one {neighbour}")
                continue
            meant = [min(meant, key=lambda thing: _apart(thing, beside[0]))]
        if [thing.instance_id for thing in meant] != [number]:
            faults.append(f"{name} does not mean object {number} alone, but {[thing.instance_id for thing in meant]}")
    return faults


def _apart(thing, other) -> float:
    """How far two boxes are apart, metres: from either to the nearest point of the other, until nothing changes."""
    point = thing.box.center_m
    for _ in range(_PROJECTIONS):
        mirror = other.box.nearest_point(point)
        point = thing.box.nearest_point(mirror)
    return math.dist(point, mirror)


def _bearing(x: float, y: float, heading: float, thing) -> float:
    """Where an object's centre is from a place and a heading, degrees in -180..180, left positive."""
    turn = math.degrees(math.atan2(thing.box.center_m[1] - y, thing.box.center_m[0] - x) - heading)
    return (turn + 180.0) % 360.0 - 180.0


def _gap(x: float, y: float, thing) -> float:
    """How far a place is from an object's box seen from above, metres."""
    point = thing.box.nearest_point([x, y, thing.box.center_m[2]])
    return math.hypot(point[0] - x, point[1] - y)


def _driven(x: float, y: float, heading: float, thing) -> tuple[float, float]:
    """Where one is who drives straight ahead until an object is near, or begins to fall behind."""
    gap, ahead = _gap(x, y, thing), True
    while gap > _NEAR_M and ahead:
        x, y = x + _STEP_M * math.cos(heading), y + _STEP_M * math.sin(heading)
        ahead, gap = _gap(x, y, thing) < gap, _gap(x, y, thing)
    return x, y


def _word(turn_deg: float) -> str:
    if abs(turn_deg) < _TURN_DEG:
        return "no turn"
    if abs(turn_deg) >= _BACK_DEG:
        return "Turn Back"
    return "Turn Left" if turn_deg > 0 else "Turn Right"


def _graphs(worlds: str, scenes: set[str]) -> dict[str, SceneGraph]:
    graphs: dict[str, SceneGraph] = {}
    specs = [spec for group in world_specs(worlds) for spec in group]
    for spec in tqdm(specs, desc="worlds", unit="world", disable=None):
        if scenes <= set(graphs):
            break
        env = open_env(spec)
        graphs[env.scene_id] = env.scene_graph()
        env.close()
    missing = sorted(scenes - set(graphs))
    if missing:
        raise ValueError(f"--worlds must have the scenes of the routes, it lacks {', '.join(missing)}")
    return graphs


if __name__ == "__main__":
    sys.exit(main())
