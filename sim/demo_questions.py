"""A handful of questions about a world with their true answers, for a demo. Asks nobody; benchmarks have their own."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from sim.env import Env
from sim.live import LiveSettings
from sim.recording.truth import walk_graph
from sim.routes import RouteSettings, make_routes
from sim.walks import Walk
from vlm3r_core.files import write_text
from vlm3r_core.scene.graph import SceneGraph
from vlm3r_core.scene.tasks import GeneratorSettings, QaItem, SceneTruth, generate

# Tasks of the demo with the unit of their numbers.
TASKS = {
    "object_counting": "",
    "object_abs_distance": "m",
    "object_size_estimation": "cm",
    "room_size_estimation": "m^2",
    "object_rel_direction_v2": "",
    "object_rel_distance_v1": "",
    "obj_appearance_order": "",
}
# An object was seen if it once filled this share of a picture.
_SEEN_SHARE = 0.002
# Nobody asks where the walls are.
_SHELL = frozenset({"wall", "floor", "ceiling"})
# A demo does not search a world without routes for minutes.
_ROUTE_PATIENCE = 200
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrueQuestion:
    """A question, and what is true.

    Args:
        text: as the benchmarks word it.
        truth: the true option, or the number with its unit.
        options: to choose from; empty for a number.
        answer_type: choice or number.
        task: the benchmark's name of its task.
    """

    text: str
    truth: str
    options: tuple[str, ...] = ()
    answer_type: str = "number"
    task: str = ""


def seen_ids(env: Env, T_WC: np.ndarray) -> set[int]:
    """Instance ids that show well from at least one of the poses [N, 4, 4]."""
    return _clear_ids([env.view(pose).semantic_ids for pose in T_WC])


def true_questions(graph: SceneGraph, seen: set[int], seed: int, each: int = 1) -> list[TrueQuestion]:
    """Some questions of each of TASKS, of things that were seen; none of a task that the scene offers nothing for.

    Args:
        graph: the truth; with frames the order of appearance is asked too.
        seen: instance ids that may be asked about.
        seed: chooses among what can be asked.
        each: questions of a task at most.
    """
    truth = SceneTruth(graph, GeneratorSettings(truth="exact", per_scene=100))
    found = []
    for number, (task, unit) in enumerate(TASKS.items()):
        if task == "obj_appearance_order" and not graph.frames:
            continue
        items = [item for item in generate(truth, task, seed=seed).items if _is_fair(item, seen)]
        for place in np.random.default_rng((seed, number)).permutation(len(items))[:each]:
            item = items[int(place)]
            kind, told = "choice" if item.is_choice else "number", f"{item.ground_truth} {unit}".strip()
            name = task.partition("_v")[0]
            found.append(TrueQuestion(item.question, told, item.choices, kind, name))
    return found


def write_questions(path: str, env: Env, T_WC: np.ndarray, settings: LiveSettings, each: int = 1) -> None:
    """Writes what can be asked after a walk as JSON, whole or not at all.

    Args:
        path: the file: {"scene", "frames", "questions": [TrueQuestion], "route": {start, facing, goal, via, truth}};
            route is null where the world has none.
        env: the world.
        T_WC: [N, 4, 4] poses of the walk.
        settings: the robot's; its seed is that of every choice.
        each: questions of a task at most.
    """
    pictures = [env.view(pose) for pose in T_WC]
    least = max(1, round(_SEEN_SHARE * pictures[0].semantic_ids.size))
    # a second each, so that what two pictures show first has an order
    walk = Walk(T_WC, np.arange(len(T_WC), dtype=np.int64) * 10**9)
    graph = walk_graph(env.scene_graph(), walk, pictures, min_pixels=least)
    seen = _clear_ids([picture.semantic_ids for picture in pictures])
    content = {
        "scene": env.scene_id,
        "frames": len(T_WC),
        "questions": [asdict(item) for item in true_questions(graph, seen, settings.seed, each)],
        "route": _route(env, settings),
    }
    write_text(path, json.dumps(content, indent=1))


def _clear_ids(pictures: Iterable[np.ndarray]) -> set[int]:
    found: set[int] = set()
    for picture in pictures:
        ids, pixels = np.unique(picture, return_counts=True)
        found.update(ids[pixels >= _SEEN_SHARE * pixels.sum()].tolist())
    return found - {0}


def _is_fair(item: QaItem, seen: set[int]) -> bool:
    """Whether all it is about was seen and is a thing; the size of the room is about no thing."""
    return set(item.instance_ids) <= seen and not _SHELL & set(item.names.values())


def _route(env: Env, settings: LiveSettings) -> dict | None:
    rules = RouteSettings(camera_height_m=settings.camera_height_m, patience=_ROUTE_PATIENCE)
    try:
        (item,) = make_routes(env, 1, settings.seed, rules, progress=False)
    except ValueError as error:
        _log.warning("no route is asked for: %s", error)
        return None
    way = {"start": item.start, "facing": item.facing, "goal": item.goal, "via": list(item.via)}
    return way | {"truth": item.answer_text}
