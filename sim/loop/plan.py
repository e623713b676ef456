"""What a run is to do: its episodes, and how to open the world of each. Runs none of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from sim.episode import Episode, episode_from_json, episode_to_json
from sim.loop.episodes import EpisodeSettings, make_episodes
from sim.loop.files import read_json
from sim.mesh_env import WorldSettings
from sim.worlds import FLAT, open_env

EPISODES = "episodes.json"
_SAFE_NAME = re.compile(r"[\w.-]+")
_FLAT_RANGE = re.compile(r"flat:(\d+)\.\.(\d+)")


@dataclass(frozen=True, eq=False)
class Plan:
    """Episodes to run.

    Args:
        task: "route" or "find"; seed: they were made from; settings: they were made with.
        worlds: how to open each scene, by its name.
        episodes: in the order they are run.
    """

    task: str
    seed: int
    settings: Mapping
    worlds: Mapping[str, str]
    episodes: tuple[Episode, ...]

    def to_json(self) -> dict:
        """As episodes.json holds it."""
        entry = {"task": self.task, "seed": self.seed, "settings": dict(self.settings), "worlds": dict(self.worlds)}
        return entry | {"episodes": [episode_to_json(episode) for episode in self.episodes]}


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
    episodes = tuple(episode_from_json(item) for item in entry["episodes"])
    ids = [episode.id for episode in episodes]
    odd = [name for name in [*ids, *entry["worlds"]] if not _SAFE_NAME.fullmatch(name) or set(name) <= {"."}]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    lost = sorted({episode.scene for episode in episodes} - set(entry["worlds"]))
    wrong = sorted({episode.task for episode in episodes} - {entry["task"]})
    for what, names in (
        ("ids and scenes are made of letters, digits, ., - and _", odd),
        ("ids must be unique", twice),
        ("worlds must say how to open every scene", lost),
        ("all episodes must be of its task", wrong),
    ):
        if names:
            raise ValueError(f"{path}: {what}, got {', '.join(names[:3])}")
    return Plan(entry["task"], entry["seed"], entry["settings"], entry["worlds"], episodes)


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
    settings, world, groups = settings or EpisodeSettings(), world or WorldSettings(), world_specs(worlds)
    if len(counts) == 1:
        groups = [[spec for group in groups for spec in group]]
    if len(counts) != len(groups):
        raise ValueError(f"give one number of episodes, or one for each of the {len(groups)} worlds, got {len(counts)}")
    shares = [
        (spec, share)
        for specs, total in zip(groups, counts, strict=True)
        for spec, share in zip(specs, shared_out(total, len(specs)), strict=True)
        if share
    ]
    names, episodes = {}, []
    with tqdm(total=sum(counts), desc=f"making {task} episodes", unit="episode", disable=None) as bar:
        for spec, share in shares:
            env = open_env(spec, world)
            if env.scene_id in names:
                raise ValueError(f"{names[env.scene_id]} and {spec} are both scene {env.scene_id!r}; name one of them")
            names[env.scene_id] = spec
            episodes += make_episodes(env, task, share, seed, settings, world.camera, bar.update)
            env.close()
    made_with = asdict(settings) | {"world": asdict(world), "episodes": list(counts), "worlds": worlds}
    return Plan(task, seed, json.loads(json.dumps(made_with)), names, tuple(episodes))


def world_specs(text: str) -> list[list[str]]:
    """The worlds of a command line: parts between commas, `flat:A..B` standing for each flat from A to B.

    Raises:
        ValueError: a part is empty, or a range runs backwards.
    """
    groups = []
    for part in (part.strip() for part in text.split(",")):
        found = _FLAT_RANGE.fullmatch(part)
        first, last = (int(number) for number in found.groups()) if found else (0, 0)
        if not part or first > last:
            raise ValueError(
                f"worlds are flat:SEED, flat:FIRST..LAST, a mesh file or a folder, with commas between, got {text!r}"
            )
        groups.append([f"{FLAT}{number}" for number in range(first, last + 1)] if found else [part])
    return groups


def shared_out(total: int, places: int) -> list[int]:
    """A number in parts as equal as can be, the larger ones first."""
    return [total // places + (index < total % places) for index in range(places)]
