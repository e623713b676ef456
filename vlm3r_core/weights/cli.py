"""python -m vlm3r_core.weights check | convert | fetch: a person's way to the published weights. No work of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vlm3r_core.checkpoint.saved import Saved
from vlm3r_core.loading import open_spec
from vlm3r_core.model.quantized import QUANTIZATIONS
from vlm3r_core.weights.convert import convert
from vlm3r_core.weights.fetch import KNOWN, FetchError, fetch
from vlm3r_core.weights.inventory import take_inventory

EXIT_OK, EXIT_INCOMPLETE, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
_SPEC = "base=PATH,adapter=PATH,cut3r=PATH[,sizes=PATH], or a folder that convert made"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, 1 (files are incomplete or do not fit), 2 (bad input) or 130 (interrupted)."""
    arguments = _parser().parse_args(argv)
    try:
        return {"check": _check, "convert": _convert, "fetch": _fetch}[arguments.command](arguments)
    except FetchError as error:
        print(f"weights: {error}", file=sys.stderr)
        return EXIT_INCOMPLETE
    except (OSError, ValueError) as error:
        print(f"weights: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("weights: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vlm3r_core.weights", description="Published weights.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="say what lies in the files and what is missing; reads headers only")
    check.add_argument("spec", help=_SPEC)
    check.add_argument("--hashes", action="store_true", help="read every byte of a folder that convert made, too")
    make = commands.add_parser("convert", help="write one folder that loads at once")
    make.add_argument("spec", help=f"{_SPEC}, or a preset")
    make.add_argument("out", type=Path, help="the folder to make")
    make.add_argument("--quantize", choices=QUANTIZATIONS, help="the language model's linear layers, weights only")
    make.add_argument("--dtype", default="bfloat16", help="bfloat16, float16 or float32 (default: bfloat16)")
    get = commands.add_parser("fetch", help="download what the hub has, and say where the rest is")
    get.add_argument("model", choices=sorted(KNOWN))
    get.add_argument("folder", type=Path, help="where to; an interrupted download goes on there")
    return parser


def _check(arguments: argparse.Namespace) -> int:
    found, source = take_inventory(arguments.spec), open_spec(arguments.spec)
    faults = list(found.faults)
    if arguments.hashes:
        if not isinstance(source, Saved):
            raise ValueError("--hashes needs a folder that convert made; published files record no hashes of their own")
        faults += source.altered_shards()
    print(found.table())
    print("\n".join(["", *faults] if faults else ["", "complete: every tensor is there and fits"]))
    return EXIT_INCOMPLETE if faults else EXIT_OK


def _convert(arguments: argparse.Namespace) -> int:
    convert(arguments.spec, arguments.out, quantize=arguments.quantize, dtype=arguments.dtype)
    print(f"wrote {arguments.out}; load it with vlm3r_core.load({str(arguments.out)!r})")
    return EXIT_OK


def _fetch(arguments: argparse.Namespace) -> int:
    report = fetch(arguments.model, arguments.folder)
    print(report.text)
    return EXIT_OK if report.complete else EXIT_INCOMPLETE
