"""Makes route-plan questions with their truth from worlds: sets in balance, written as JSON lines. Answers none.

    python -m sim.routes --worlds flat:0..9,PATH --count 200 --seed 0 --out FILE.jsonl --pictures DIR

Source: VLM-3R appendix B, whose generator was not released; sim/route/settings.py says where we differ.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from zlib import crc32

from tqdm import tqdm

from sim.command import check_writable, run_command
from sim.env import Env
from sim.route.item import RouteItem, write_routes
from sim.route.plan import plan_slots
from sim.route.search import Slot, find_routes
from sim.route.settings import RouteSettings
from sim.worlds import open_env, world_specs
from vlm3r_core.answer import turns_text
from vlm3r_core.files import write_text

__all__ = ["RouteItem", "RouteSet", "RouteSettings", "make_route_set", "make_routes"]

_REASONS_SHOWN = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RouteSet:
    """Routes of several worlds, in the order of their numbers, and how often what kept a walk from being one."""

    items: tuple[RouteItem, ...]
    rejected: Counter

    def report(self) -> dict[str, dict[str, int]]:
        """How many items have each answer, letter, template and scene, and the rejections, the most frequent first."""
        parts = {
            "answers": Counter(item.answer_text for item in self.items),
            "letters": Counter(item.answer for item in self.items),
            "templates": Counter(f"{item.template}, {item.answer_text}" for item in self.items),
            "scenes": Counter(item.scene for item in self.items),
        }
        sorted_parts = {name: dict(sorted(part.items())) for name, part in parts.items()}
        return sorted_parts | {"rejected": dict(sorted(self.rejected.items(), key=lambda pair: (-pair[1], pair[0])))}


def make_routes(
    env: Env, count: int, seed: int, settings: RouteSettings | None = None, progress: bool = True
) -> list[RouteItem]:
    """Route questions of one world, answers and letters in balance.

    Args:
        env: the world.
        count: how many, at least 1.
        seed: same seed, same routes.
        settings: the rules.
        progress: show a bar.

    Raises:
        ValueError: the world does not offer so many; the message says how many and why.
    """
    slots = plan_slots(count, (seed, crc32(env.scene_id.encode())), settings)
    with _bar(count, progress) as bar:
        found = find_routes(env, slots, seed, settings, on_found=bar.update)
    if found.open_slots:
        raise ValueError(_too_few(f"scene {env.scene_id!r}", len(found.items), found.open_slots, found.rejected))
    _log.info("%d routes in %s, rejected: %s", count, env.scene_id, dict(found.rejected.most_common()))
    return [found.items[slot.number] for slot in slots]


def make_route_set(
    worlds: Sequence[str],
    count: int,
    seed: int,
    settings: RouteSettings | None = None,
    *,
    progress: bool = True,
    on_world: Callable[[Env, list[RouteItem]], object] | None = None,
) -> RouteSet:
    """Route questions of several worlds, answers and letters in balance over all.

    Every world gets an equal share; what one does not offer is looked for in the others.

    Args:
        worlds: specs, see open_env.
        count: how many in all, at least 1.
        seed: same seed, same routes.
        settings: the rules.
        progress: show a bar.
        on_world: called with a world and its new routes before the world is closed.

    Raises:
        FileNotFoundError, ValueError: a world cannot be opened, two are the same scene, or they do not offer so many.
    """
    items: dict[int, RouteItem] = {}
    rejected, spec_of_scene, known = Counter(), {}, {}
    waiting, left, round_number = plan_slots(count, seed, settings), list(worlds), 0
    with _bar(count, progress) as bar:
        while waiting and left:
            still, fresh = [], []
            for place, spec in enumerate(left):
                share = waiting[place :: len(left)]
                if not share:
                    continue
                env = open_env(spec)
                if spec_of_scene.setdefault(env.scene_id, spec) != spec:
                    raise ValueError(f"{spec_of_scene[env.scene_id]} and {spec} are both scene {env.scene_id!r}")
                texts = known.setdefault(env.scene_id, set())
                found = find_routes(
                    env, share, seed, settings, known=frozenset(texts), round_number=round_number, on_found=bar.update
                )
                if on_world:
                    on_world(env, list(found.items.values()))
                env.close()
                items |= found.items
                texts |= {item.question for item in found.items.values()}
                rejected += found.rejected
                still += found.open_slots
                fresh += [] if found.open_slots else [spec]
            waiting, left, round_number = sorted(still, key=lambda slot: slot.number), fresh, round_number + 1
    if waiting:
        raise ValueError(_too_few(", ".join(worlds), len(items), waiting, rejected))
    return RouteSet(tuple(items[number] for number in sorted(items)), rejected)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, 2 (bad input: one line says what) or 130 (interrupted)."""
    args = _parser().parse_args(arguments)
    return run_command("sim.routes", lambda: _make(args), "no routes were written; the same command makes the same")


def _make(args: argparse.Namespace) -> None:
    settings = RouteSettings(**{field.name: getattr(args, field.name) for field in fields(RouteSettings)})
    worlds = [spec for group in world_specs(args.worlds) for spec in group]
    check_writable(args.out)
    if args.pictures:
        check_writable(args.pictures / "a picture")
    made = make_route_set(worlds, args.count, args.seed, settings, on_world=_painter(args.pictures))
    write_routes(made.items, args.out)
    run = {"worlds": worlds, "count": args.count, "seed": args.seed, "settings": asdict(settings)}
    report = args.out.with_suffix(".report.json")
    write_text(report, json.dumps(run | made.report(), indent=1) + "\n")
    for name, part in made.report().items():
        print(f"{name}: {', '.join(f'{key} {number}' for key, number in part.items())}")
    print(f"{len(made.items)} routes in {args.out}, how they were made in {report}")


def _too_few(where: str, found: int, missing: Sequence[Slot], rejected: Counter) -> str:
    cells = Counter(f"template {slot.template}, {turns_text(slot.turns)}" for slot in missing)
    lacking = "; ".join(f"{number} of {name}" for name, number in sorted(cells.items()))
    why = ", ".join(f"{reason} ({number})" for reason, number in rejected.most_common(_REASONS_SHOWN))
    return (
        f"{where} offers {found} of {found + len(missing)} routes, missing: {lacking}. Most walks failed for: "
        f"{why or 'nothing was tried'}. Ask for fewer, take more or larger worlds, or allow more in RouteSettings"
    )


def _bar(count: int, progress: bool) -> tqdm:
    return tqdm(total=max(count, 0), desc="routes", unit="route", disable=None if progress else True)


def _painter(folder: Path | None) -> Callable[[Env, list[RouteItem]], None] | None:
    if folder is None:
        return None
    from sim.route.picture import route_picture  # Pillow only where pictures are wanted

    def paint(env: Env, items: list[RouteItem]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        plan, graph = env.floor_map(), env.scene_graph()
        for item in items:
            route_picture(item, graph, plan).save(folder / f"{item.id}.png")

    return paint


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sim.routes", description="Makes route-plan questions from worlds.")
    parser.add_argument("--worlds", required=True, help="flat:SEED, flat:FIRST..LAST, mesh files or folders; commas")
    parser.add_argument("--count", type=int, required=True, help="questions in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines to write; FILE.report.json beside it")
    parser.add_argument("--pictures", type=Path, help="folder for a map of every route, for a person to check")
    for field in fields(RouteSettings):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default, help=field.metadata["doc"])
    return parser


if __name__ == "__main__":
    sys.exit(main())
