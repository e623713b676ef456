"""Speed of the simulator: python -m benchmarks.bench_sim. It asserts nothing; the target is printed beside.

Where Habitat is installed (docs/habitat.md) it is measured in the same run, through the same door.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.bench_stream import write_json
from benchmarks.machine import describe_machine, load_average, machine_line
from benchmarks.sim_worlds import scanned_flat, textured_flat
from benchmarks.tables import markdown_table
from sim.camera import CameraSettings, camera_pose
from sim.env import Env
from sim.episode import TASKS
from sim.habitat_client import habitat_problem
from sim.habitat_env import HabitatEnv
from sim.loop.episodes import HELD_OUT_FLATS
from sim.loop.files import TIMINGS, read_json
from sim.mesh_env import WorldSettings, open_world
from sim.run import main as play_trials
from sim.world.render import Picture

_SIDES_PX = (224, 432)
_TARGET = ("flat", 224, 40.0)  # frames a second on two cores


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark, prints its table and writes it as JSON."""
    args = parse_arguments(argv)
    result = run(args)
    write_json(args.out, result)
    print(markdown(result))
    print(f"\nwritten to {args.out}")
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_sim", description=__doc__)
    parser.add_argument("--frames", type=int, default=60, help="pictures timed for each world and size")
    parser.add_argument("--paths", type=int, default=60, help="path queries timed for each world")
    parser.add_argument("--episodes", type=int, default=6, help="closed-loop trials of each task timed, in one flat")
    parser.add_argument("--triangles", type=int, default=1_000_000, help="triangles of the scan")
    parser.add_argument(
        "--small-house",
        type=Path,
        default=Path("../shared/data/small_house"),
        help="folder with small_house.glb and small_house_objects.json; left out where absent (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=Path("out/bench_sim.json"), help="JSON file to write")
    args = parser.parse_args(argv)
    for name in ("frames", "paths", "episodes", "triangles"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    return args


def run(args: argparse.Namespace) -> dict:
    """All measurements."""
    machine = describe_machine(torch.device("cpu"))
    with tempfile.TemporaryDirectory(prefix="vlm3r_bench_") as folder:
        worlds = write_worlds(Path(folder), args.triangles, args.small_house)
        problem = habitat_problem()
        measures = [measure_world] if problem else [measure_world, measure_habitat]
        steps = len(measures) * len(worlds) * (len(_SIDES_PX) * args.frames + args.paths)
        with tqdm(total=steps, unit="step", disable=None) as bar:
            rows = [measure(*world, args, bar.update) for world in worlds.items() for measure in measures]
        trials = {task: episodes_per_hour(Path(folder) / task, task, args.episodes) for task in TASKS}
    machine["load_average_after"] = load_average()
    return {
        "machine": machine,
        "worlds": rows,
        "episodes_per_hour": trials,
        "target": target(rows),
        "habitat_problem": problem,
    }


def episodes_per_hour(folder: Path, task: str, count: int) -> float:
    """Trials of the oracle in a flat, making them not counted: what the simulator takes, and not the model."""
    command = ["--task", task, "--agent", "oracle", "--worlds", f"flat:{HELD_OUT_FLATS}", "--episodes", str(count)]
    with contextlib.redirect_stdout(io.StringIO()):
        status = play_trials([*command, "--out", str(folder), "--no-report"])
    if status:
        raise RuntimeError(f"python -m sim.run {' '.join(command)} ended with exit status {status}")
    return read_json(folder / TIMINGS)["episodes_per_hour"]


def write_worlds(folder: Path, triangles: int, small_house: Path) -> dict[str, list[Path]]:
    """Files of every world to measure, by its name."""
    textured_flat().export(folder / "flat.glb")
    scanned_flat(triangles).export(folder / "scan.ply")
    worlds = {"flat": [folder / "flat.glb"], "scan": [folder / "scan.ply"]}
    house = [small_house / "small_house.glb", small_house / "small_house_objects.json"]
    return worlds | ({"small_house": house} if all(path.is_file() for path in house) else {})


def measure_world(name: str, files: Sequence[Path], args: argparse.Namespace, advance: Callable[[], object]) -> dict:
    """Opens a world, photographs it from random places and asks for random paths."""
    started = time.perf_counter()
    env = open_world(*files)
    opened_s = time.perf_counter() - started
    row = {"name": name, "triangles": env.renderer.triangle_count, "open_s": opened_s}
    for side in _SIDES_PX:
        camera = CameraSettings(width_px=side, height_px=side)
        render = partial(env.renderer.render, camera.pinhole)
        times = picture_times(env, render, camera, args.frames, advance)
        row[f"frame_{side}_ms"] = float(np.median(times) * 1e3)
        row[f"frames_{side}_per_s"] = len(times) / sum(times)
    times = path_times(env, args.paths, advance)
    return row | {"path_ms": float(np.median(times) * 1e3), "paths_per_s": len(times) / sum(times)}


def measure_habitat(name: str, files: Sequence[Path], args: argparse.Namespace, advance: Callable[[], object]) -> dict:
    """The same in Habitat, its process and the way there and back included."""
    row = {"name": f"{name}, Habitat", "triangles": None}
    for side in _SIDES_PX:
        camera = CameraSettings(width_px=side, height_px=side)
        started = time.perf_counter()
        env = HabitatEnv.start(files[0], WorldSettings(camera), annotation_path=files[1] if files[1:] else None)
        row["open_s"] = time.perf_counter() - started
        times = picture_times(env, env.render, camera, args.frames, advance)
        row[f"frame_{side}_ms"] = float(np.median(times) * 1e3)
        row[f"frames_{side}_per_s"] = len(times) / sum(times)
        if side == _SIDES_PX[-1]:
            times = path_times(env, args.paths, advance)
            row |= {"path_ms": float(np.median(times) * 1e3), "paths_per_s": len(times) / sum(times)}
        env.close()
    return row


def picture_times(
    env: Env,
    render: Callable[[np.ndarray], Picture],
    camera: CameraSettings,
    count: int,
    advance: Callable[[], object],
) -> list[float]:
    """Seconds for each of some pictures (RGB, depth and ids), each from another place."""
    rng = np.random.default_rng(0)

    def photograph() -> Picture:
        return render(camera_pose(env.sample_navigable(rng), rng.uniform(0, 2 * np.pi), camera))

    photograph()  # the first one makes the rays
    return [_timed(photograph, advance) for _ in range(count)]


def path_times(env: Env, count: int, advance: Callable[[], object]) -> list[float]:
    """Seconds for each of some shortest paths between random points, no goal asked twice."""
    rng = np.random.default_rng(0)
    ends = [(env.sample_navigable(rng), env.sample_navigable(rng)) for _ in range(count + 1)]
    env.shortest_path(*ends[-1])  # the first one makes the graph
    return [_timed(lambda pair=pair: env.shortest_path(*pair), advance) for pair in ends[:-1]]


def target(rows: Sequence[dict]) -> dict:
    """The target beside what was measured."""
    name, side, wanted = _TARGET
    value = next(row[f"frames_{side}_per_s"] for row in rows if row["name"] == name)
    return {"name": f"frames/s, {name}, {side}x{side}", "value": value, "at_least": wanted, "met": value >= wanted}


def markdown(result: dict) -> str:
    """The result as a table."""
    header = ("world", "triangles", "open s", "224x224 frames/s", "432x432 frames/s", "paths/s", "median path ms")
    names = ("triangles", "open_s", "frames_224_per_s", "frames_432_per_s", "paths_per_s", "path_ms")
    rows = [[row["name"], *[row[name] for name in names]] for row in result["worlds"]]
    goal = result["target"]
    verdict = "met" if goal["met"] else "missed"
    problem = result["habitat_problem"]
    habitat = f"Habitat is not installed ({problem})" if problem else "Habitat's rows include its process and socket"
    trials = ", ".join(f"{value:,.0f} ({task})" for task, value in result["episodes_per_hour"].items())
    return (
        f"RGB, depth and ids on one thread. {habitat}. Machine: {machine_line(result['machine'])}.\n\n"
        f"{markdown_table(header, rows)}\n\n"
        f"Episodes an hour, oracle in a flat: {trials}.\n\n"
        f"{goal['name']}: {goal['value']:.0f}, wanted at least {goal['at_least']:.0f}: {verdict}"
    )


def _timed(action: Callable[[], object], advance: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    elapsed = time.perf_counter() - started
    advance()
    return elapsed


if __name__ == "__main__":
    raise SystemExit(main())
