"""From flats to questions, a trained tiny adapter and a table of scores in one command: python -m training.smoke.

It shows that every part works together, in minutes on two cores; what can be learned in minutes is little.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

EXIT_OK, EXIT_FAILED = 0, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs every step; returns 0, or 1 where a step failed. What was done already is kept."""
    arguments = _parser().parse_args(argv)
    started = time.perf_counter()
    for name, command in steps(arguments.out, arguments.flats, arguments.frames, arguments.steps):
        print(f"\n== {name}\n{' '.join(command)}", flush=True)
        done = subprocess.run([sys.executable, *command])
        if done.returncode:
            print(f"smoke: {name} failed with exit status {done.returncode}; see above", file=sys.stderr)
            return EXIT_FAILED
    print(
        f"\nsmoke: all steps in {(time.perf_counter() - started) / 60:.1f} min; the table is in {arguments.out}/scores"
    )
    return EXIT_OK


def steps(out: Path, flats: int, frames: int, train_steps: int) -> list[tuple[str, list[str]]]:
    """The commands in order, each with what it is for.

    Args:
        out: folder of everything that is made.
        flats: how many are learned from; half as many unseen ones are asked about.
        frames: of each video.
        train_steps: steps of the run.
    """
    unseen = max(1, flats // 2)
    look = ["--frames", str(frames), "--size", "168", "--routes", "1", "--pictures", "1"]
    sets = {"train": f"flat:0..{flats - 1}", "unseen": f"flat:900000..{900000 + unseen - 1}"}
    make = [
        (
            f"questions about {name} flats",
            ["-m", "training.make_qa", "--scans", flat, "--out", str(out / name), *look],
        )
        for name, flat in sets.items()
    ]
    train = ["-m", "training.train", "smoke", "--data", str(out / "train"), "--out", str(out / "run")]
    train += ["--frames", str(frames), "--max_steps", str(train_steps)]
    score = ["-m", "training.evaluate", "--benchmark", str(out / "unseen"), "--model", str(out / "run" / "model")]
    score += ["--out", str(out / "scores"), "--frames", str(frames), "--ablate", "all"]
    return [*make, ("training", train), ("scores, baselines and ablations", score)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.smoke", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("out/smoke"), help="folder of all results (default: %(default)s)")
    add("--flats", type=int, default=4, help="flats to learn from (default: %(default)s)")
    add("--frames", type=int, default=8, help="frames of a video (default: %(default)s)")
    add("--steps", type=int, default=20, help="training steps (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
