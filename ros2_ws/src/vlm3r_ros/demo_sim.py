"""What `make demo` runs: node and simulator as processes, answers over ROS beside what is true. No model work here."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import median

from std_msgs.msg import String
from tqdm import tqdm

from vlm3r_core.bundled import model_record, trained_frames
from vlm3r_core.scene.scoring import mean_relative_accuracy
from vlm3r_ros.demo import (
    NAMESPACE,
    TARGET,
    add_node_options,
    print_table,
    run_demo,
    said,
    start_child,
    start_node,
    warn_untrained,
)
from vlm3r_ros.demo_client import DemoClient, RequestFailed
from vlm3r_ros.processes import Child

DEFAULT_WORLD, DEFAULT_FRAMES = "flat:7", 36
# for a model that was trained on looks around in one room: one that nobody trained on, looked at in the same way
TRAINED_WORLD, SPIN_DEG, PITCH_DEG = "room:900000", 20.0, -8.0
QUESTIONS_EACH = 2
# a full turn in the simulator's steps of 30 degrees
TURNS = 12
WORLD_TIMEOUT_S = 300.0
POLL_S = 0.2
COLUMNS = (*(("question", 46), ("answer", 30), ("truth", 14), ("verdict", 13), ("confidence", 10), ("latency ms", 10)),)
# a number counts as right from this mean relative accuracy on, which is 30 % off
RIGHT_ACCURACY = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns 0, 1 (something failed), 2 (bad input) or 130 (interrupted)."""
    return run_demo(_run, _parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vlm3r_ros.demo_sim", description="Walks through a simulated world and asks the node about it."
    )
    add_node_options(parser)
    add = parser.add_argument
    add(
        "--world",
        default="1",
        help=f"flat:SEED, room:SEED, a mesh file or a folder with one; 1: {TRAINED_WORLD} for a model that was trained "
        f"to look around, {DEFAULT_WORLD} for others",
    )
    add("--seed", type=int, default=0, help="of the walk and the questions (default: %(default)s)")
    add(
        "--walk-frames",
        type=int,
        help=f"pictures of the walk (default: as many as the model was trained with, {DEFAULT_FRAMES} if unknown)",
    )
    add("--report", default="", help="folder: then play one find-it trial over ROS and write its HTML report there")
    return parser


def _run(arguments: argparse.Namespace, work: Path) -> None:
    if not Path("sim/ros_bridge").is_dir():
        raise FileNotFoundError(f"no folder sim in {Path.cwd()}: the simulator runs from a checkout; start this there")
    # 0 where the model does not tell: then one walks, and turns on command
    spin = trained_frames(arguments.model)
    if arguments.walk_frames is None:
        arguments.walk_frames = spin or DEFAULT_FRAMES
    if arguments.walk_frames < 1:
        raise ValueError(f"--walk-frames must be at least 1, got {arguments.walk_frames}")
    usual = TRAINED_WORLD if spin else DEFAULT_WORLD
    world = usual if arguments.world == "1" else arguments.world
    with ExitStack() as stack:
        print(f"opening the world {world} ...", flush=True)
        command = _simulator_command(arguments, world, work, spin=bool(spin))
        simulator = start_child(stack, "the simulator", command, work / "simulator.log")
        client = start_node(stack, arguments, work, simulator.check_running, use_sim_time=True)
        truths = _truths(client, work)
        _watch(client, truths["frames"], turns=0 if spin else TURNS)
        replies = _ask_all(client, truths)
        print_table(COLUMNS, [row.cells for row in replies])
        _summarize(replies, truths["scene"], client.state, model_record(arguments.model))
        warn_untrained(client.state.trained, arguments.model)
        if arguments.report:
            # the trial brings its own world and clock
            simulator.stop()
            print(f"\nplaying one find-it trial in {world} over ROS ...", flush=True)
            _play_trial(start_child(stack, "the trial", _trial_command(arguments, world), work / "trial.log"))
            print(f"report of the trial: {Path(arguments.report) / 'report.html'}")


def _simulator_command(arguments: argparse.Namespace, world: str, work: Path, *, spin: bool) -> list[str]:
    options = {
        "--world": world,
        "--seed": arguments.seed,
        "--walk-frames": arguments.walk_frames,
        "--questions": work / "questions.json",
        **({"--spin-deg": SPIN_DEG, "--pitch-deg": PITCH_DEG, "--questions-each": QUESTIONS_EACH} if spin else {}),
        # as fast as the node takes pictures
        "--realtime-factor": 0,
        "--wait-for-state": f"{TARGET}/state",
    }
    pairs = [str(part) for pair in options.items() for part in pair]
    return [
        sys.executable,
        "-m",
        "sim.ros_bridge",
        *pairs,
        "--no-idle-pictures",
        "--ros-args",
        "-r",
        f"__ns:={NAMESPACE}",
    ]


def _trial_command(arguments: argparse.Namespace, world: str) -> list[str]:
    options = {
        "--task": "find",
        "--agent": "ros",
        "--node": TARGET,
        "--worlds": world,
        "--episodes": 1,
        "--seed": arguments.seed,
        "--out": arguments.report,
    }
    return [sys.executable, "-m", "sim.run", *(str(part) for pair in options.items() for part in pair)]


def _truths(client: DemoClient, work: Path) -> dict:
    """What the simulator says can be asked after its walk."""
    path = work / "questions.json"
    client.wait_for(path.exists, "world from the simulator", WORLD_TIMEOUT_S)
    return json.loads(path.read_text(encoding="utf-8"))


def _watch(client: DemoClient, walk_frames: int, turns: int) -> None:
    """Lets the node see the walk and, on command, so many turns at its end.

    Raises:
        RequestFailed: the node dropped pictures, or none came.
    """
    commands = client.create_publisher(String, f"{NAMESPACE}/command", max(1, turns))
    with tqdm(total=walk_frames + turns, desc="frames seen", unit="frame", file=sys.stderr) as bar:

        def see(count: int) -> None:
            for wanted in range(bar.n + 1, count + 1):
                client.wait_for(lambda least=wanted: client.state.frames_seen >= least, f"picture {wanted} seen")
                bar.update(client.state.frames_seen - bar.n)

        see(walk_frames)
        if turns:
            client.wait_for(lambda: commands.get_subscription_count() > 0, "simulator that takes commands")
        for turn in range(1, turns + 1):
            commands.publish(String(data="TURN_LEFT"))
            see(walk_frames + turn)
    state = client.state
    if state.frames_dropped:
        raise RequestFailed(f"the node saw {state.frames_seen} frames and dropped {state.frames_dropped}")
    print(f"frames seen: {state.frames_seen}, {state.step_mean_ms:.0f} ms each\n", flush=True)


@dataclass(frozen=True)
class Asked:
    """A question with its reply: the cells of its row, its task, whether it was right, and how long it took."""

    cells: tuple[str, ...]
    task: str
    right: bool
    latency_ms: float


def _ask_all(client: DemoClient, truths: dict) -> list[Asked]:
    """Asks everything; a row of the table for each."""
    found = []
    for item in tqdm(truths["questions"], desc="questions", unit="question", file=sys.stderr):
        reply = client.ask(item["text"], item["options"], item["answer_type"])
        listed = ", ".join(item["options"])
        options = "" if listed in item["text"] else f" ({listed})"
        right, verdict = judge(reply, item["truth"])
        found.append(_asked(item["task"], (item["text"] + options, said(reply), item["truth"], verdict), right, reply))
    route = truths["route"]
    if route:
        reply = client.plan_route(route["start"], route["facing"], route["goal"], route["via"])
        way = ", ".join([route["start"], *route["via"], route["goal"]])
        # the likeliest turns, as the benchmark has them
        right = bool(reply.alternatives) and reply.alternatives[0] == route["truth"]
        cells = (f"Route by {way}, facing {route['facing']}", reply.text, route["truth"], _word(right))
        found.append(_asked("route_planning", cells, right, reply))
    return found


def judge(reply, truth: str) -> tuple[bool, str]:
    """Whether a reply is right, and how that is told.

    Args:
        reply: with kind, text and value.
        truth: the true option, or the true number, with its unit behind it.
    """
    if reply.kind != "number":
        return reply.text == truth, _word(reply.text == truth)
    true = float(truth.split()[0])
    accuracy = mean_relative_accuracy(None if isnan(reply.value) else reply.value, true)
    right = accuracy >= RIGHT_ACCURACY
    off = "" if isnan(reply.value) or not true else f", {100 * abs(reply.value - true) / true:.0f} % off"
    return right, _word(right) + off


def _word(right: bool) -> str:
    return "right" if right else "WRONG"


def _asked(task: str, told: tuple[str, ...], right: bool, reply) -> Asked:
    cells = (*told, f"{reply.confidence:.2f}", f"{reply.latency_total_ms:.0f}")
    return Asked(cells, task, right, reply.latency_total_ms)


def _summarize(asked: Sequence[Asked], scene: str, state, record: dict) -> None:
    """What is said below the table: of the truth, the score, the speed, and tasks that the model has not learned."""
    print(f"truth: of {scene}, from its scene graph and walkable area.")
    print(f"right: {sum(one.right for one in asked)} of {len(asked)}; a number is right up to 30 % off.")
    latency = median(one.latency_ms for one in asked)
    print(f"speed: {1e3 / max(state.step_mean_ms, 1e-3):.0f} frames/s, median answer latency {latency:.0f} ms.")
    tasks = {one.task for one in asked}
    for task in record.get("at_chance", []):
        if task in tasks:
            print(f"{task.replace('_', ' ')}: at chance on unseen flats, right or wrong means nothing here.")


def _play_trial(trial: Child) -> None:
    while trial.exit_code() is None:
        time.sleep(POLL_S)
    if trial.exit_code() != 0:
        raise trial.failure("failed")


if __name__ == "__main__":
    sys.exit(main())
