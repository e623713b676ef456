"""What `make demo SIM=1` runs: node and simulator as processes, answers over ROS beside what is true. No model work."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from std_msgs.msg import String
from tqdm import tqdm

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

DEFAULT_WORLD = "flat:7"
DEFAULT_FRAMES = 36
# a full turn in the simulator's steps of 30 degrees
TURNS = 12
WORLD_TIMEOUT_S = 300.0
POLL_S = 0.2
COLUMNS = (("question", 46), ("answer", 30), ("truth", 14), ("confidence", 10), ("latency ms", 10))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns 0, 1 (something failed), 2 (bad input) or 130 (interrupted)."""
    return run_demo(_run, _parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vlm3r_ros.demo_sim", description="Walks through a simulated world and asks the node about it."
    )
    add_node_options(parser)
    add = parser.add_argument
    add("--world", default="1", help=f"flat:SEED, a mesh file or a folder with one; 1: {DEFAULT_WORLD}")
    add("--seed", type=int, default=0, help="of the walk and the questions (default: %(default)s)")
    add("--walk-frames", type=int, default=DEFAULT_FRAMES, help="pictures of the walk (default: %(default)s)")
    add("--report", default="", help="folder: then play one find-it trial over ROS and write its HTML report there")
    return parser


def _run(arguments: argparse.Namespace, work: Path) -> None:
    if not Path("sim/ros_bridge").is_dir():
        raise FileNotFoundError(f"no folder sim in {Path.cwd()}: the simulator runs from a checkout; start this there")
    if arguments.walk_frames < 1:
        raise ValueError(f"--walk-frames must be at least 1, got {arguments.walk_frames}")
    world = DEFAULT_WORLD if arguments.world == "1" else arguments.world
    with ExitStack() as stack:
        print(f"opening the world {world} ...", flush=True)
        command = _simulator_command(arguments, world, work)
        simulator = start_child(stack, "the simulator", command, work / "simulator.log")
        client = start_node(stack, arguments, work, simulator.check_running, use_sim_time=True)
        truths = _truths(client, work)
        _watch(client, truths["frames"])
        print_table(COLUMNS, _ask_all(client, truths))
        print(f"truth: of {truths['scene']}, from its scene graph and walkable area.")
        warn_untrained(client.state.trained, arguments.model)
        if arguments.report:
            # the trial brings its own world and clock
            simulator.stop()
            print(f"\nplaying one find-it trial in {world} over ROS ...", flush=True)
            _play_trial(start_child(stack, "the trial", _trial_command(arguments, world), work / "trial.log"))
            print(f"report of the trial: {Path(arguments.report) / 'report.html'}")


def _simulator_command(arguments: argparse.Namespace, world: str, work: Path) -> list[str]:
    options = {
        "--world": world,
        "--seed": arguments.seed,
        "--walk-frames": arguments.walk_frames,
        "--questions": work / "questions.json",
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


def _watch(client: DemoClient, walk_frames: int) -> None:
    """Lets the node see the walk and, on command, a look around at its end.

    Raises:
        RequestFailed: the node dropped pictures, or none came.
    """
    commands = client.create_publisher(String, f"{NAMESPACE}/command", TURNS)
    with tqdm(total=walk_frames + TURNS, desc="frames seen", unit="frame", file=sys.stderr) as bar:

        def see(count: int) -> None:
            for wanted in range(bar.n + 1, count + 1):
                client.wait_for(lambda least=wanted: client.state.frames_seen >= least, f"picture {wanted} seen")
                bar.update(client.state.frames_seen - bar.n)

        see(walk_frames)
        client.wait_for(lambda: commands.get_subscription_count() > 0, "simulator that takes commands")
        for turn in range(1, TURNS + 1):
            commands.publish(String(data="TURN_LEFT"))
            see(walk_frames + turn)
    state = client.state
    if state.frames_dropped:
        raise RequestFailed(f"the node saw {state.frames_seen} frames and dropped {state.frames_dropped}")
    print(f"frames seen: {state.frames_seen}, {state.step_mean_ms:.0f} ms each\n", flush=True)


def _ask_all(client: DemoClient, truths: dict) -> list[tuple[str, ...]]:
    """Asks everything; a row of the table for each."""
    rows = []
    for item in tqdm(truths["questions"], desc="questions", unit="question", file=sys.stderr):
        reply = client.ask(item["text"], item["options"], item["answer_type"])
        rows.append(_row(item["text"], said(reply), item["truth"], reply))
    route = truths["route"]
    if route:
        reply = client.plan_route(route["start"], route["facing"], route["goal"], route["via"])
        way = ", ".join([route["start"], *route["via"], route["goal"]])
        rows.append(_row(f"Route by {way}, facing {route['facing']}", reply.text, route["truth"], reply))
    return rows


def _row(question: str, answer: str, truth: str, reply) -> tuple[str, ...]:
    return question, answer, truth, f"{reply.confidence:.2f}", f"{reply.latency_total_ms:.0f}"


def _play_trial(trial: Child) -> None:
    while trial.exit_code() is None:
        time.sleep(POLL_S)
    if trial.exit_code() != 0:
        raise trial.failure("failed")


if __name__ == "__main__":
    sys.exit(main())
