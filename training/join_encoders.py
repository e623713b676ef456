"""Puts a tower and a CUT3R that were pre-trained side by side into one model: `python -m training.join_encoders`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.pretraining.encoders import join_encoders


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns 0, or 2 where encoders are missing or do not fit."""
    parser = argparse.ArgumentParser(prog="python -m training.join_encoders", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--vision", type=Path, required=True, help="encoders folder of a vision run")
    add("--geometry", type=Path, required=True, help="encoders folder of a geometry run")
    add("--out", type=Path, required=True, help="folder that gets `encoders` and `model`")
    add(
        "--rest",
        default="tiny-start",
        help="model that all but the encoders are from: a folder, or a preset for random ones (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of random weights (default: 0)")
    given = parser.parse_args(words)
    try:
        print(join_encoders(given.out, given.vision, given.geometry, given.rest, given.seed))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
