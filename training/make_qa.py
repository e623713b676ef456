"""Command line that turns scans into a question set: python -m training.make_qa --scans ROOT --out DIR.

Knows no task and no file format; see training/qa and training/scans.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from vlm3r_core.cpu import share_cores

_FRAMES = 32
EXIT_OK, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, 2 (bad input: one line says what) or 130 (interrupted)."""
    args = _parser().parse_args(argv)
    share_cores()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    from training.qa.make import make_question_set
    from training.qa.readers import AUTO, SIMULATED, reader_of, scans_of

    try:
        reader = reader_of(args.scans) if args.reader == AUTO else args.reader
        options = _options(args, reader)
        made = make_question_set(
            scans_of(reader, args.scans, **options),
            args.out,
            _settings(args, reader == SIMULATED),
            origin={"scans": args.scans, "reader": reader, **options},
            processes=args.workers,
            ray_address=args.ray or "",
        )
    except (OSError, ValueError, RuntimeError) as error:
        print(f"make_qa: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("make_qa: interrupted; give the same command to go on, finished scenes stay", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(made)
    return EXIT_OK


def _settings(args: argparse.Namespace, simulated: bool):
    from training.qa.caps import TRIES
    from training.qa.settings import QaSettings
    from vlm3r_core.scene.tasks import GeneratorSettings

    generator = GeneratorSettings(
        truth=args.truth or ("exact" if simulated else "benchmark"),
        as_published=args.as_published,
        wording=args.wording,
        per_scene=args.per_scene,
        caps=_caps(args.per_scene_caps, args.caps_for, train=args.train_caps),
        **({"tries": TRIES} if args.caps_for else {}),
        numeric_options=args.numeric_options,
        # where pictures are rendered, a person looking at them must agree
        clear_in_image=simulated and not args.as_published,
        fps=args.fps,
    )
    return QaSettings(
        tuple(args.tasks.split(",")),
        args.seed,
        generator,
        balance=not args.no_balance,
        blind_proof=args.blind_proof,
        pictures=args.pictures,
    )


def _caps(text: str, usual: str, *, train: bool) -> tuple[tuple[str, int], ...]:
    from training.qa.caps import CAPS
    from vlm3r_core.scene.tasks import VSTI_TRAIN_CAPS, expand_tasks

    found: dict[str, int] = CAPS.get(usual, {}) | (dict(VSTI_TRAIN_CAPS) if train else {})
    for pair in filter(None, text.split(",")):
        name, _, number = pair.partition("=")
        if not number.isdigit():
            raise ValueError(f"--per-scene-caps wants TASK=NUMBER,..., got {pair!r}")
        found |= dict.fromkeys(expand_tasks([name]), int(number))
    return tuple(found.items())


def _options(args: argparse.Namespace, reader: str) -> dict:
    """Of the reader's read_scans."""
    from training.qa.readers import RECORDED, SIMULATED

    if reader in RECORDED:
        shared = {
            "seed": args.seed,
            "frames": args.frames or _FRAMES,
            "split": args.split,
            "as_published": args.as_published,
        }
        return shared | dict(_pair(text) for text in args.scan_option)
    if args.scan_option:
        raise ValueError(f"--scan-option is for {', '.join(RECORDED)}, the scans are read by {reader}")
    if reader == SIMULATED:
        return {"seed": args.seed} | _simulated(args)
    return {}


def _simulated(args: argparse.Namespace) -> dict:
    from dataclasses import asdict

    from training.scans.simulated_settings import settings_for

    given = {"frames": args.frames, "size_px": args.size, "places": args.places}
    given |= {"routes": args.routes, "routes_every": args.routes_every}
    return asdict(settings_for(args.walk, **given))


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise ValueError(f"--scan-option wants NAME=VALUE, got {text!r}")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.make_qa", description=__doc__.partition(":")[0])
    add = parser.add_argument
    add("--scans", required=True, metavar="ROOT", help="folder of the scans; flat:0..19 for simulated flats")
    add("--out", type=Path, required=True, help="folder of the question set")
    add("--tasks", default="all", help="all, vsi, vsti, no_frames or names of tasks, with commas (default: all)")
    add("--seed", type=int, default=0, help="same seed, same questions (default: %(default)s)")
    readers = ("auto", "vsi_scenes", "scannet", "scannetpp", "arkitscenes", "simulated")
    add("--reader", choices=readers, default="auto", help="how to read the scans (default: %(default)s)")
    add(
        "--truth",
        choices=("benchmark", "exact"),
        help="how distances are measured (default: benchmark; simulated: exact)",
    )
    add("--as-published", action="store_true", help="with the published generator's known defects")
    add("--wording", choices=("vlm3r", "vsibench"), default="vlm3r", help="of the questions (default: %(default)s)")
    add("--per-scene", type=int, default=0, help="questions of a task from a scene at most (default: as published)")
    add("--per-scene-caps", default="", metavar="TASK=N,...", help="the same for single tasks")
    add("--caps-for", choices=("learning", "trying"), default="", help="usual caps for looking around, see qa/caps.py")
    add("--train-caps", action="store_true", help="camera tasks as often as in the published training files, not test")
    add("--numeric-options", action="store_true", help="options for questions whose answer is a number, too")
    add("--no-balance", action="store_true", help="leave answers and letters as scene by scene makes them")
    add("--blind-proof", action="store_true", help="leave out questions whose answer their texts give away")
    add("--fps", type=float, default=0.0, help="frames a second of the raw videos (default: known by dataset)")
    add("--pictures", type=int, default=2, help="sample pictures of a task on the page (default: %(default)s)")
    add("--workers", type=int, default=1, help="processes on this machine (default: %(default)s)")
    add("--ray", metavar="ADDRESS", help="a Ray cluster instead: its address, or local; folders must be shared")
    add("--frames", type=int, help=f"that questions are about (default: {_FRAMES}, looking around: 16)")
    add("--split", choices=("train", "val", "all"), default="train", help="of recorded scans (default: %(default)s)")
    add("--scan-option", action="append", default=[], metavar="NAME=VALUE", help="of their reader, see docs/scans.md")
    add("--walk", choices=("tour", "look_around"), default="tour", help="simulated: how (default: %(default)s)")
    add("--places", type=int, help="simulated: places of a world to look around, a scan each (default: 1)")
    add("--size", type=int, help="simulated: edge of a frame, pixels (default: 224, looking around: 144)")
    add("--routes", type=int, help="simulated: route questions of a scan at most (default: 3, looking around: 2)")
    add("--routes-every", type=int, metavar="N", help="simulated: only every Nth scan has routes (default: 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
