"""What `make demo` runs: node and camera as processes, questions over ROS, a table of answers. No model work here."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions
from tqdm import tqdm

from vlm3r_core.bundled import BUNDLED, default_model, model_record
from vlm3r_core.clip import Clip, open_clip
from vlm3r_ros.demo_client import DemoClient, RequestFailed
from vlm3r_ros.demo_room import DEFAULT_FRAMES, write_walk
from vlm3r_ros.interfaces import SpatialState
from vlm3r_ros.processes import Child, ProcessFailed, interrupt_once, interrupts_deferred

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
NAMESPACE = "/vlm3r"
TARGET = f"{NAMESPACE}/spatial_qa"
LOAD_TIMEOUT_S = 900.0
LAST_STATE_TIMEOUT_S = 10.0
# Linux gives ports above these domains to programs that ask for any port
DOMAINS = range(1, 101)
COLUMNS = (("question", 44), ("answer", 34), ("confidence", 10), ("latency ms", 10), ("frames", 9))


@dataclass(frozen=True)
class Question:
    """One question of the demo."""

    text: str
    options: tuple[str, ...] = ()
    answer_type: str = "auto"


QUESTIONS = (
    Question("How many chairs are in this room?", answer_type="number"),
    Question("What is the size of this room in square meters?", answer_type="number"),
    Question("What is the distance between the table and the door in meters?", answer_type="number"),
    Question("Which of these objects is closest to the table?", ("chair", "bed", "door", "window")),
    Question(
        "I am standing by the door and facing the table. Is the window to my left, to my right or behind me?",
        ("left", "right", "back"),
    ),
    Question("What is in front of the camera now?", answer_type="text"),
)
STREAMED = Question("Describe this room.", answer_type="text")
ROUTE = {"start": "door", "facing": "table", "goal": "window", "via": ("table", "chair")}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns 0, 1 (something failed), 2 (bad clip) or 130 (interrupted)."""
    return run_demo(_run, _parser().parse_args(argv))


def chosen_model(model: str) -> str:
    """The model that was named, else the one of the package, else random weights; says so where it is those."""
    if model:
        return model
    if default_model() != BUNDLED:
        print(f"the model {BUNDLED} has no weights here yet (`make train-tiny ARGS=--install`): tiny-random answers")
    return default_model()


def run_demo(body: Callable[[argparse.Namespace, Path], None], arguments: argparse.Namespace) -> int:
    """Runs a demo in a ROS domain of its own with a folder for its files, and says what went wrong.

    Args:
        body: does the work with the arguments and the folder; raises ValueError or FileNotFoundError for bad input.
        arguments: of the command line.

    Returns:
        0, 1 (something failed; the folder stays), 2 (bad input) or 130 (interrupted).
    """
    # one run must not hear another; a person's own choice is kept
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.choice(DOMAINS)))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    interrupt_once()
    arguments.model = chosen_model(arguments.model)
    logs = Path(tempfile.mkdtemp(prefix="vlm3r_demo_"))
    try:
        body(arguments, logs)
    except (FileNotFoundError, ValueError) as error:
        return _failed(f"{error}", logs, EXIT_BAD_INPUT)
    except (ProcessFailed, RequestFailed) as error:
        return _failed(f"{error}\nlogs of all processes: {logs}", None, EXIT_FAILED)
    except KeyboardInterrupt:
        return _failed("interrupted", logs, EXIT_INTERRUPTED)
    shutil.rmtree(logs)
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vlm3r_demo", description="Plays a clip to the node and asks about it.")
    add = parser.add_argument
    add_node_options(parser)
    add("--clip", default="", help="video, folder of images or bag; default: a walk through a generated room")
    add("--max-clip-frames", type=int, default=300, help="frames to play at most, spread evenly (default: %(default)s)")
    add("--room-frames", type=int, default=DEFAULT_FRAMES, help="frames of the generated room (default: %(default)s)")
    return parser


def add_node_options(parser: argparse.ArgumentParser) -> None:
    """What every demo wants to know about the node."""
    add = parser.add_argument
    add("--model", default="", help=f"model spec (default: {BUNDLED}; tiny-random where that has no weights yet)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    add("--timeout", type=float, default=120.0, help="seconds one frame or answer may take (default: %(default)s)")


def _failed(message: str, remove: Path | None, code: int) -> int:
    if remove:
        shutil.rmtree(remove, ignore_errors=True)
    print(f"\ndemo: {message}", file=sys.stderr)
    return code


def _run(arguments: argparse.Namespace, work: Path) -> None:
    clip = _prepare_clip(arguments, work)
    with ExitStack() as stack:
        client = start_node(stack, arguments, work)
        _play(arguments, clip, client, work)
        rows = _ask_all(client)
        print_table(COLUMNS, rows)
        print("frames: in the model's view, of all seen. confidence: 0 to 1, the probability behind the answer.")
        trained = client.state.trained
    warn_untrained(trained, arguments.model)
    warn_elsewhere(arguments.model, "the rendered room" if not arguments.clip else "a real clip")


def warn_untrained(trained: bool, model: str) -> None:
    """Says what answers of random weights are worth."""
    if not trained:
        print(
            f"\nThe weights of {model} are random: these answers mean nothing. "
            "The run shows that every part works together."
        )


def warn_elsewhere(model: str, seen: str) -> None:
    """Says what answers about anything but simulated flats are worth, of a model that learned from those alone.

    Args:
        model: its spec; its record tells what it learned from.
        seen: what it was shown instead.
    """
    learned = model_record(model).get("trained_on", "")
    if learned:
        print(
            f"\n{model} was trained on {learned} only. It has never seen anything like {seen}: its answers above are "
            "not to be trusted."
        )


def start_node(
    stack: ExitStack, arguments: argparse.Namespace, work: Path, check: Callable[[], None] | None = None, **parameters
) -> DemoClient:
    """Starts the node as a process and waits for its model; both end with the stack.

    Args:
        stack: ends what is started.
        arguments: with those of add_node_options.
        work: folder for the log.
        check: called while waiting beside the check of the node itself.
        parameters: of the node, over the demo's.

    Raises:
        ProcessFailed: the node ended.
        RequestFailed: its model failed to load.
    """
    print(f"starting {TARGET} with model {arguments.model} ...", flush=True)
    node = start_child(stack, "the node", node_command(arguments, parameters), work / "node.log")
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    stack.callback(rclpy.try_shutdown)

    def check_all() -> None:
        node.check_running()
        if check:
            check()

    client = DemoClient(TARGET, check_all, arguments.timeout)
    stack.callback(client.destroy)
    client.wait_for_model(LOAD_TIMEOUT_S)
    return client


def _prepare_clip(arguments: argparse.Namespace, work: Path) -> Clip:
    """The clip to play; its frame count is exact except for images that cannot be read."""
    path = arguments.clip
    if not path:
        print(f"rendering a walk through a small room, {arguments.room_frames} frames ...", flush=True)
        path = write_walk(work / "room", arguments.room_frames)
    clip = open_clip(path)
    chosen = clip.sampled(arguments.max_clip_frames)
    if clip.frame_count is None or clip.frame_count > arguments.max_clip_frames:
        total = "unknown" if clip.frame_count is None else clip.frame_count
        print(f"the clip has {total} frames, {len(chosen)} of them are played, spread evenly (--max-clip-frames)")
    return chosen


def start_child(stack: ExitStack, name: str, command: Sequence[str], log_path: Path) -> Child:
    """A child that is stopped when the stack closes, even if an interrupt comes while it starts."""
    with interrupts_deferred():
        child = Child(name, command, log_path)
        stack.callback(child.stop)
    return child


def ros_command(module: str, remaps: dict[str, str], parameters: dict[str, object]) -> list[str]:
    """The command that runs a program of this package with remappings and parameters."""
    arguments = [part for name, target in remaps.items() for part in ("-r", f"{name}:={target}")]
    arguments += [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    return [sys.executable, "-m", f"vlm3r_ros.{module}", "--ros-args", *arguments]


def node_command(arguments: argparse.Namespace, more: dict[str, object]) -> list[str]:
    """The command that runs the node, with parameters beyond the demo's."""
    parameters = {
        "model": arguments.model,
        "device": arguments.device,
        "answer_timeout_s": float(arguments.timeout),
        # the questions come after the walk, however long answering takes
        "max_frame_age_s": 0.0,
        "exit_on_failure": True,
        **more,
    }
    return ros_command("spatial_qa_node", {"__ns": NAMESPACE}, parameters)


def _player_command(arguments: argparse.Namespace, clip: Clip) -> list[str]:
    parameters = {
        "clip": clip.path.resolve(),
        "max_frames": arguments.max_clip_frames,
        # as fast as the node takes them
        "rate_hz": 1000.0,
        "wait_for_state": f"{TARGET}/state",
        "state_timeout_s": float(arguments.timeout),
    }
    return ros_command("camera_player", {"__ns": NAMESPACE}, parameters)


def _play(arguments: argparse.Namespace, clip: Clip, client: DemoClient, work: Path) -> None:
    """Plays the clip until the node has processed its last frame.

    Raises:
        ProcessFailed: the player failed.
        RequestFailed: the node dropped frames.
    """
    with ExitStack() as stack:
        player = start_child(stack, "the camera player", _player_command(arguments, clip), work / "player.log")
        bar = stack.enter_context(tqdm(total=len(clip), desc="frames seen", unit="frame", file=sys.stderr))

        def is_over() -> bool:
            if client.state.frames_seen != bar.n:
                bar.update(client.state.frames_seen - bar.n)
            return player.exit_code() is not None

        client.wait_for(is_over, "end of the clip", (len(clip) + 1) * arguments.timeout)
        if player.exit_code() != 0:
            raise player.failure("failed")
        last = client.state
        client.wait_for(lambda: client.state is not last, "state of the node", LAST_STATE_TIMEOUT_S)
        is_over()
    _check_frames(clip, client.state)


def _check_frames(clip: Clip, state: SpatialState) -> None:
    if state.frames_dropped or not state.frames_seen:
        raise RequestFailed(
            f"the node saw {state.frames_seen} of {len(clip)} frames and dropped {state.frames_dropped}"
        )
    if state.frames_seen < len(clip):
        print(f"{len(clip) - state.frames_seen} of {len(clip)} frames of the clip could not be read and were left out")
    print(f"frames seen: {state.frames_seen}, {state.step_mean_ms:.0f} ms each\n", flush=True)


def _ask_all(client: DemoClient) -> list[tuple[str, ...]]:
    """Asks everything; a row of the table for each."""
    seen = client.state.frames_seen
    rows = []
    for question in tqdm(QUESTIONS, desc="questions", unit="question", file=sys.stderr):
        reply = client.ask(question.text, question.options, question.answer_type)
        options = f" ({', '.join(question.options)})" if question.options else ""
        rows.append(_row(question.text + options, said(reply), reply, seen))
    print(f"\naction, as it is decoded: {STREAMED.text}\n  ", end="", flush=True)
    reply = client.stream(STREAMED.text, _live_printer())
    print("\n")
    rows.append(_row(f"{STREAMED.text} (action)", said(reply), reply, seen))
    route = client.plan_route(**ROUTE)
    way = ", ".join([ROUTE["start"], *ROUTE["via"], ROUTE["goal"]])
    rows.append(_row(f"Route by {way}, facing {ROUTE['facing']}", route.text, route, seen))
    return rows


def _live_printer():
    """Prints what is new in a growing text."""
    shown = ""

    def on_text(text: str) -> None:
        nonlocal shown
        # a later text may revise the end of an earlier one: it is shown again from the start
        new = text[len(shown) :] if text.startswith(shown) else f"\n  {text}"
        shown = text
        print(new.replace("\n", "\n  "), end="", flush=True)

    return on_text


def said(reply) -> str:
    """The answer with the number that was understood."""
    if reply.kind != "number":
        return reply.text
    value = "no number" if reply.value != reply.value else f"{reply.value:g} {reply.unit}".strip()
    return f"{reply.text} [{value}]"


def _row(question: str, answer: str, reply, seen: int) -> tuple[str, ...]:
    frames = f"{reply.frames_used} of {seen}"
    return question, answer, f"{reply.confidence:.2f}", f"{reply.latency_total_ms:.0f}", frames


def print_table(columns: Sequence[tuple[str, int]], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of texts under columns, each a name with its width in characters."""
    widths = [width for _, width in columns]
    rule = "-+-".join("-" * width for width in widths)
    print(" | ".join(name.ljust(width) for name, width in columns))
    for row in rows:
        print(rule)
        cells = [textwrap.wrap(_printable(cell), width) or [""] for cell, width in zip(row, widths, strict=True)]
        for line in range(max(map(len, cells))):
            parts = [cell[line] if line < len(cell) else "" for cell in cells]
            print(" | ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip())
    print(rule)


def _printable(text: str) -> str:
    """Untrained models say anything, control characters included."""
    return "".join(character if character.isprintable() else " " for character in text)


if __name__ == "__main__":
    sys.exit(main())
