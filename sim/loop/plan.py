"""What a run is to do: its episodes, and how to open the world of each. Runs none of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sim.env import Env
from sim.episode import TASKS, Episode, episode_from_json, episode_to_json
from sim.loop.episodes import EpisodeSettings, find_episodes, route_episodes
from sim.loop.files import read_json
from sim.mesh_env import WorldSettings
from sim.route.plan import plan_slots
from sim.route.search import find_routes
from sim.worlds import open_env, world_specs
from vlm3r_core.config import check_choice, check_range

_SAFE_NAME = re.compile(r"[\w-][\w.-]*")  # of a file in any folder, and none that is hidden


@dataclass(frozen=True, eq=False)
class Plan:
    """Episodes to run.

    Args:
        task: "route" or "find"; seed: they were made from; settings: they were made with.
        worlds: how to open each scene, by its name.
        episodes: in the order they are run.
        digests: of each scene's floor and objects, see digest_of; a scene that has none is not checked.

    Raises:
        ValueError: an id or scene is no plain name, an id is there twice, a world is missing, or an episode is of
            another task.
    """

    task: str
    seed: int
    settings: Mapping
    worlds: Mapping[str, str]
    episodes: tuple[Episode, ...]
    digests: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        ids = [episode.id for episode in self.episodes]
        names = [*ids, *self.worlds]  # of files and folders, too
        for rule, broken in (
            (
                "ids and scenes are made of letters, digits, ., - and _",
                [n for n in names if not _SAFE_NAME.fullmatch(n)],
            ),
            ("ids must be unique", sorted({name for name in ids if ids.count(name) > 1})),
            ("worlds must say how to open every scene", sorted({e.scene for e in self.episodes} - set(self.worlds))),
            ("all episodes must be of its task", sorted({e.task for e in self.episodes} - {self.task})),
        ):
            if broken:
                raise ValueError(f"{rule}, got {', '.join(broken[:3])}")

    def to_json(self) -> dict:
        """As episodes.json holds it."""
        entry = {"task": self.task, "seed": self.seed, "settings": dict(self.settings), "worlds": dict(self.worlds)}
        return entry | {
            "digests": dict(self.digests),
            "episodes": [episode_to_json(episode) for episode in self.episodes],
        }


def read_plan(path: Path) -> Plan:
    """Reads an episodes.json.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is malformed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no episodes at {path}; expected a file that `python -m sim.run` wrote")
    entry = read_json(path)
    missing = [key for key in ("task", "seed", "settings", "worlds", "episodes") if key not in entry]
    if missing:
        raise ValueError(f"{path} must have task, seed, settings, worlds and episodes; {', '.join(missing)} is missing")
    try:
        episodes = tuple(episode_from_json(item) for item in entry["episodes"])
        return Plan(
            entry["task"], entry["seed"], entry["settings"], entry["worlds"], episodes, entry.get("digests", {})
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def make_plan(
    task: str,
    worlds: str,
    counts: Sequence[int],
    seed: int,
    settings: EpisodeSettings | None = None,
    world: WorldSettings | None = None,
) -> Plan:
    """Makes episodes, the parts of `worlds` in order.

    Args:
        task: "route" or "find".
        worlds: parts with commas between, see world_specs.
        counts: episodes of each part, or one number for all parts together; evenly over its worlds.
        seed: of everything random.
        settings: what episodes are like.
        world: camera, motion, who walks, and looks.

    Raises:
        FileNotFoundError, ValueError: a world cannot be opened or does not offer so many episodes; other counts than
            parts.
    """
    check_choice("task", task, TASKS)
    check_range("seed", seed, 0)
    for count in counts:
        check_range("number of episodes", count, 1)
    settings, world, groups = settings or EpisodeSettings(), world or WorldSettings(), world_specs(worlds)
    if len(counts) == 1:
        groups = [[spec for group in groups for spec in group]]
    if len(counts) != len(groups):
        raise ValueError(f"give one number of episodes, or one for each of the {len(groups)} worlds, got {len(counts)}")
    everywhere = [spec for group in groups for spec in group]
    twice = sorted({spec for spec in everywhere if everywhere.count(spec) > 1})
    if twice:
        raise ValueError(f"name each world once, {', '.join(twice)} is there several times")
    maker = _Maker(seed, settings, world)
    make = maker.routes if task == "route" else maker.finds
    episodes = [episode for specs, count in zip(groups, counts, strict=True) for episode in make(specs, count)]
    places = {scene: place for place, scene in enumerate(maker.specs)}
    episodes.sort(key=lambda episode: places[episode.scene])  # a world is opened once
    made_with = asdict(settings) | {"world": asdict(world), "episodes": list(counts), "worlds": worlds}
    return Plan(task, seed, json.loads(json.dumps(made_with)), maker.specs, tuple(episodes), maker.digests)


class _Maker:
    """Makes episodes in world after world, and notes how to open each and what it is like."""

    def __init__(self, seed: int, settings: EpisodeSettings, world: WorldSettings):
        self._seed, self._settings, self._world = seed, settings, world
        self.specs: dict[str, str] = {}
        self.digests: dict[str, str] = {}

    def finds(self, specs: list[str], count: int) -> list[Episode]:
        """Evenly over the worlds; what one does not offer is asked of those after it."""
        episodes: list[Episode] = []
        with tqdm(total=count, desc="find episodes", unit="episode", disable=None) as bar:
            for place, spec in enumerate(specs):
                share = -(-(count - len(episodes)) // (len(specs) - place))
                if share <= 0:
                    continue
                env = self._open(spec)
                for episode in find_episodes(env, share, self._seed, self._settings, self._world.camera):
                    episodes.append(episode)
                    bar.update()
                env.close()
        if len(episodes) < count:
            raise ValueError(_too_few(specs, "find", len(episodes), count))
        return episodes

    def routes(self, specs: list[str], count: int) -> list[Episode]:
        """Answers in balance over all worlds; what one does not offer is looked for in the others, round by round."""
        rules, episodes = self._settings.routes, []
        waiting, left, round_number = plan_slots(count, self._seed, rules), list(specs), 0
        with tqdm(total=count, desc="route episodes", unit="episode", disable=None) as bar:
            while waiting and left:
                still, fresh = [], []
                for place, spec in enumerate(left):
                    slots = waiting[place :: len(left)]
                    if not slots:
                        continue
                    env = self._open(spec)
                    before = [episode for episode in episodes if episode.scene == env.scene_id]
                    search = {"round_number": round_number, "on_found": bar.update}
                    found = find_routes(env, slots, self._seed, rules, **search)
                    items = list(found.items.values())
                    episodes += route_episodes(env, items, before, self._seed, self._settings, self._world.camera)
                    env.close()
                    still += found.open_slots
                    fresh += [] if found.open_slots else [spec]
                waiting, left, round_number = sorted(still, key=lambda slot: slot.number), fresh, round_number + 1
        if waiting:
            raise ValueError(_too_few(specs, "route", len(episodes), count))
        return episodes

    def _open(self, spec: str) -> Env:
        env = open_env(spec, self._world)
        if env.scene_id not in self.specs:
            self.specs[env.scene_id], self.digests[env.scene_id] = spec, digest_of(env)
        if self.specs[env.scene_id] != spec:
            raise ValueError(f"{self.specs[env.scene_id]} and {spec} are both scene {env.scene_id!r}; name one of them")
        return env


def digest_of(env: Env) -> str:
    """Sixteen hex digits that change with a world's floor or objects, so that episodes of another version are told."""
    floor = env.floor_map()
    objects = [
        (item.category, item.instance_id, *item.box.bounds().round(3).ravel().tolist())
        for item in env.scene_graph().objects
    ]
    told = repr((floor.free.shape, floor.origin_m.round(6).tolist(), round(floor.cell_m, 6), objects))
    return sha256(np.packbits(floor.free).tobytes() + told.encode()).hexdigest()[:16]


def _too_few(specs: list[str], task: str, found: int, wanted: int) -> str:
    where = ", ".join(specs)
    return f"{where} offer {found} {task} episodes of the {wanted} asked for; ask for fewer, or add larger worlds"
