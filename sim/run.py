"""Runs closed-loop trials: makes or reads episodes, lets an agent act in them, writes what came out.

    python -m sim.run --task find --agent oracle --worlds flat:900000..900009 --episodes 40 --out out/find

The same command goes on with a run that was stopped. Same seed, same results.json. It decides nothing itself: agents
are in sim/agent.py, the parts of a trial in sim/loop/.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from sim.agent import AGENTS, AgentSettings, make_agent
from sim.camera import CameraSettings
from sim.command import EXIT_FAILED, EXIT_OK, check_writable, run_command
from sim.env import Env
from sim.episode import TASKS, Episode
from sim.loop.files import EPISODES, RESULTS, TIMINGS, only_one, read_json
from sim.loop.plan import Plan, digest_of, make_plan, read_plan
from sim.loop.play import DIED, Played, not_played, play
from sim.loop.results import Mismatch, RunFolder
from sim.loop.trial import Agent, TrialSettings, WalkPictures
from sim.mesh_env import WorldSettings
from sim.report import write_report
from sim.worlds import open_env

_log = logging.getLogger(__name__)
_SHOWN = "success_1m success_3m oracle_success spl ne_m ndtw path_m collisions answer_accuracy".split()


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides what comes out of given episodes."""

    agent: AgentSettings = field(default_factory=AgentSettings)
    trial: TrialSettings = field(default_factory=TrialSettings)
    world: WorldSettings = field(default_factory=WorldSettings)


def run(plan: Plan, settings: RunSettings, out: Path, agent: Agent | None = None) -> RunFolder:
    """Plays the episodes that have no result yet and writes the files after every one.

    Args:
        plan: the episodes.
        settings: who acts, and in which worlds.
        out: folder of the run; one that holds a part of it is gone on with.
        agent: who acts instead of the one that settings name.

    Raises:
        ValueError: the folder holds another run, an episode does not fit its world, or a setting is wrong.
        FileNotFoundError: a world or a model is missing.
        ImportError, TimeoutError: ROS, or the node that the ros agent asks, is missing.
    """
    head = {"agent": settings.agent.agent, "task": plan.task, "seed": plan.seed, "settings": asdict(settings)}
    folder = RunFolder(out, head, plan)
    todo = [episode for episode in plan.episodes if episode.id not in folder.done]
    if not todo:
        return folder
    worlds = _Worlds(plan, settings.world)
    agent = agent or make_agent(settings.agent)
    done = len(plan.episodes) - len(todo)
    try:
        with tqdm(total=len(plan.episodes), initial=done, desc=head["agent"], unit="episode", disable=None) as bar:
            for episode in todo:
                started = time.perf_counter()
                played = _play(worlds, folder, episode, agent, settings)
                folder.add_pictures(episode.id, played.strip)
                folder.add(played.result | {"agent": head["agent"]}, played.latencies_ms, time.perf_counter() - started)
                bar.update()
    finally:
        agent.close()
        worlds.close()
    return folder


def _play(worlds: _Worlds, folder: RunFolder, episode: Episode, agent: Agent, settings: RunSettings) -> Played:
    """One episode; a world that died in it is not used again."""
    try:
        env = worlds.env_of(episode.scene)
        folder.add_map(episode.scene, env.floor_map())
    except DIED as death:
        worlds.forget()
        return not_played(episode, death)
    played = play(env, episode, agent, settings.trial, worlds.walk)
    if played.result["error"]:
        worlds.forget()
    return played


class _Worlds:
    """Opens worlds as episodes need them, one at a time."""

    def __init__(self, plan: Plan, settings: WorldSettings):
        self._plan, self._settings = plan, settings
        self._env: Env | None = None
        self.walk = WalkPictures()

    def env_of(self, scene: str) -> Env:
        """The world of a scene.

        Raises:
            ValueError: what is found there is another scene, or not as it was when the episodes were made.
        """
        if self._env is None or self._env.scene_id != scene:
            self.close()
            spec, made_in = self._plan.worlds[scene], self._plan.digests.get(scene)
            self._env = open_env(spec, self._settings)
            if self._env.scene_id != scene:
                raise ValueError(f"{spec} is scene {self._env.scene_id!r}, the episodes want {scene!r}")
            if made_in not in (None, digest_of(self._env)):
                raise ValueError(f"{spec} has changed since the episodes were made; make them anew")
        return self._env

    def forget(self) -> None:
        """Closes a world that may be dead; the next episode gets a fresh one."""
        try:
            self.close()
        except DIED as death:
            _log.warning("closing a world that died: %s", death)
            self._env = None

    def close(self) -> None:
        """Closes what is open."""
        if self._env is not None:
            self._env.close()
            self._env = None


# ---- the command line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns 0, 1 (every episode failed with an error), 2 (bad input) or 130 (interrupted)."""
    arguments = _parser().parse_args(argv)
    left = f"what is done is in {arguments.out}, the same command goes on"
    return run_command("sim.run", lambda: _run(arguments), left)


def _run(arguments: argparse.Namespace) -> int:
    camera = CameraSettings(pitch_deg=arguments.pitch)
    settings = RunSettings(agent=_agent_settings(arguments), world=WorldSettings(camera=camera))
    check_writable(arguments.out / RESULTS)
    with logging_redirect_tqdm(), only_one(arguments.out):
        folder = run(_plan(arguments, settings.world), settings, arguments.out)
    print(_table(folder))
    if arguments.report and folder.results:
        print(f"report: {write_report(arguments.out)}")
    summary = folder.summary
    return EXIT_FAILED if summary["errors"] == summary["episodes"] else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, default = parser.add_argument, AgentSettings()
    add("--task", choices=TASKS, help="follow a route in words, or find a thing; needed without --episodes-file")
    add("--agent", choices=AGENTS, default=default.agent, help="who acts (default: %(default)s)")
    add("--worlds", default="", help="flat:SEED, flat:FIRST..LAST, room:SEED, mesh files, folders; commas between")
    add("--episodes", default="10", help="how many in all, or one number for each part of --worlds, commas between")
    add("--seed", type=int, default=0, help="of the episodes (default: %(default)s)")
    add("--episodes-file", type=Path, help=f"run these episodes, an {EPISODES} of another run")
    add("--out", type=Path, required=True, help="folder of the run")
    add("--model", default=default.model, help="model spec of the engine agent (default: %(default)s)")
    add("--device", default=default.device, help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add(
        "--pitch",
        type=float,
        default=0.0,
        help="tilt of the camera, degrees, up is positive; `tiny` was trained with -8",
    )
    add("--node", default=default.node, help="name of the node the ros agent asks (default: %(default)s)")
    add("--report", action=argparse.BooleanOptionalAction, default=True, help="write report.html")
    return parser


def _agent_settings(arguments: argparse.Namespace) -> AgentSettings:
    return AgentSettings(arguments.agent, arguments.model, arguments.device, arguments.node)


def _plan(arguments: argparse.Namespace, world: WorldSettings) -> Plan:
    """Episodes from a file, from the folder of a run that was stopped, or new ones.

    Raises:
        ValueError: arguments that are missing, or contradict the file.
    """
    if arguments.episodes_file:
        plan = read_plan(arguments.episodes_file)
        if arguments.worlds or arguments.task not in (None, plan.task):
            raise ValueError(
                f"{arguments.episodes_file} has {plan.task} episodes with their worlds; leave out --worlds"
            )
        return plan
    if not arguments.task or not arguments.worlds:
        raise ValueError("give --task and --worlds, or --episodes-file")
    try:
        counts = [int(part) for part in arguments.episodes.split(",")]
    except ValueError:
        raise ValueError(f"--episodes are whole numbers with commas between, got {arguments.episodes!r}") from None
    asked = {"worlds": arguments.worlds, "episodes": counts}
    path = arguments.out / EPISODES
    if path.is_file():
        found = read_plan(path)
        if found.settings == found.settings | asked and (found.task, found.seed) == (arguments.task, arguments.seed):
            return found
        if (arguments.out / RESULTS).is_file():
            raise Mismatch(
                f"{arguments.out} holds a run of {found.settings.get('episodes')} {found.task} episodes in "
                f"{found.settings.get('worlds')} with seed {found.seed}; give the command that began it to go on with "
                "it, or another --out"
            )
    return make_plan(arguments.task, arguments.worlds, counts, arguments.seed, world=world)


def _table(folder: RunFolder) -> str:
    """The summary as text."""
    lines = []
    for name in _SHOWN:
        value = folder.summary[name]
        if value["mean"] is not None:
            lines.append(
                f"{name:16} {value['mean']:8.3f}  [{value['low']:.3f}, {value['high']:.3f}]  n={value['count']}"
            )
    timings = read_json(folder.path / TIMINGS) if folder.results else {}
    latency = timings.get("latency_ms", {})
    if latency.get("count"):
        lines.append(f"{'latency':16} p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms, n={latency['count']}")
    if timings:
        lines.append(f"{'episodes/hour':16} {timings['episodes_per_hour']:8.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
