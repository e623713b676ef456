"""Route questions between things a walk showed. Finds no way itself."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from sim.env import Env
from sim.route.item import RouteItem
from sim.route.plan import plan_slots
from sim.route.search import find_routes
from sim.route.settings import RouteSettings
from training.scans.scan import ROUTE_TASK
from training.scans.simulated_settings import SimulatedSettings
from vlm3r_core.scene.graph import SceneGraph
from vlm3r_core.scene.tasks import QaItem

# routes looked for for each that is wanted, as some go by things the walk did not show
_SPARE = 2


def route_items(
    env: Env, graph: SceneGraph, seed: int, settings: SimulatedSettings, place: int = 0
) -> tuple[tuple[QaItem, ...], dict[str, int]]:
    """Route questions between things a walk showed.

    Args:
        env: the world.
        graph: what may be asked, with the names of dataset and scan.
        seed: of the routes.
        settings: how many.
        place: which of the world's scans, so that each gets other routes.

    Returns:
        (the questions, how many candidates fell for which reason).
    """
    if not settings.routes:
        return (), {}
    rules = RouteSettings(camera_height_m=settings.height_m, patience=settings.patience)
    slots = plan_slots(settings.routes * _SPARE, (seed, crc32(graph.scene_id.encode())), rules)
    found = find_routes(env, slots, seed, rules, round_number=place)
    shown = {item.instance_id for item in graph.objects}
    routes = [found.items[number] for number in sorted(found.items)]
    kept = [route for route in routes if shown.issuperset(_landmarks(route))]
    rejected = dict(sorted(found.rejected.items()))
    if len(kept) < len(routes):
        rejected["landmark_not_shown"] = len(routes) - len(kept)
    return tuple(_route_item(route, graph, number) for number, route in enumerate(kept[: settings.routes])), rejected


def _landmarks(route: RouteItem) -> Sequence[int]:
    return (route.start_id, route.facing_id, route.goal_id, *route.via_ids)


def _route_item(route: RouteItem, graph: SceneGraph, number: int) -> QaItem:
    names = {"start": route.start, "facing": route.facing, "goal": route.goal}
    return QaItem(
        id=f"{graph.dataset}/{graph.scene_id}/{ROUTE_TASK}/{number:04d}",
        dataset=graph.dataset,
        scene=graph.scene_id,
        video_path=None,
        task=ROUTE_TASK,
        question_type=ROUTE_TASK,
        wording="vsibench",
        names=names | {f"via{place}": name for place, name in enumerate(route.via)},
        question=route.question,
        choices=tuple(option.partition(". ")[2] for option in route.options),
        options=route.options,
        ground_truth=route.answer_text,
        mc_answer=route.answer,
        value=None,
        instance_ids=tuple(dict.fromkeys(_landmarks(route))),
    )
