"""A small model from nothing to its scores in one command: python -m training.tiny --budget-min 150. docs/tiny.md.

Clips are filmed, encoders pre-trained, questions made, the language model trained and measured, all on the CPU. Stopped
and started again it goes on where it was. The model is in OUT/tiny; --install makes it the one of the package.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from training.recipe.plan import Plan, cpu_precision, make_plan
from training.recipe.runner import State, StepFailed, run_steps
from training.recipe.steps import FIRST_ASKED, FIRST_TRIED, make_steps, mixture
from vlm3r_core.files import write_text

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
BUDGET_MIN = 150.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; returns 0, 1 (a step failed), 2 (bad input) or 130 (interrupted); what is done stays."""
    args = _parser().parse_args(argv)
    # both, for a shell that starts it in the background has it ignore the one
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    started = time.monotonic()
    try:
        _run(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except StepFailed as error:
        print(f"error: {error}\nall that the steps said is in {args.out / 'logs'}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print(f"\nstopped; what is done is in {args.out}, the same command goes on", file=sys.stderr)
        return EXIT_INTERRUPTED
    print(f"{(time.monotonic() - started) / 60:.1f} min")
    return EXIT_OK


def _run(args: argparse.Namespace) -> None:
    plan, precision = make_plan(args.budget_min, len(os.sched_getaffinity(0))), cpu_precision()
    state = State(args.out / "tiny.json", {"plan": plan.to_json(), "precision": precision})
    write_text(args.out / "mixture.yaml", mixture(args.out, plan))
    print(f"{plan.budget_min:g} minutes, {plan.processes} processes side by side, in {args.out}", flush=True)
    steps = make_steps(args.out, plan, precision)
    run_steps(steps, state, args.out / "logs", lambda line: print(line, flush=True))
    _finish(args, plan, precision, state)


def _finish(args: argparse.Namespace, plan: Plan, precision: str, state: State) -> None:
    """Ships the model into OUT/tiny, tells its scores and notes them in the log."""
    # torch is imported by those who need it only
    from training.ship import record_of, ship, ship_blind
    from vlm3r_core.bundled import BLIND, bundled_folder

    scores = json.loads((args.out / "scores.json").read_text(encoding="utf-8"))
    other = json.loads((args.out / "scores-other.json").read_text(encoding="utf-8"))
    minutes = {name: round(seconds / 60, 2) for name, seconds in state.seconds.items()}
    record = record_of(
        scores,
        commands=[f"python -m training.tiny --budget-min {plan.budget_min:g}"],
        plan=plan.to_json(),
        precision=precision,
        seeds={"encoders": 0, "questions": FIRST_ASKED, "tests": FIRST_TRIED},
        minutes=minutes,
        with_frames_of_another_flat=other.get("average", {}),
    )
    size = ship(str(args.out / "run/model"), args.out / "tiny", record)
    print(f"{args.out / 'tiny'}: {size / 1e6:.1f} MB")
    if args.install:
        ship(str(args.out / "run/model"), bundled_folder(), record)
        ship_blind(str(args.out / "blind/model"), bundled_folder(BLIND), record_of(commands=record["commands"]))
        print(f"installed as the package's model, in {bundled_folder()}")
    entry = _entry(plan, minutes, scores, other)
    print(f"\n{entry}")
    log = args.out / "log.md"
    before = log.read_text(encoding="utf-8") if log.is_file() else "# Runs of training.tiny\n"
    write_text(log, f"{before}\n{entry}")


def _entry(plan: Plan, minutes: dict[str, float], scores: dict, other: dict) -> str:
    """What a log tells of a run."""
    from training.evaluation.verdicts import Verdict, verdict_table

    sizes = ", ".join(f"{name} {value:g}" for name, value in plan.to_json().items())
    lines = [f"## {time.strftime('%Y-%m-%d')}, {plan.budget_min:g} minutes", "", f"Plan: {sizes}.", ""]
    lines += ["Minutes: " + ", ".join(f"{name} {value:g}" for name, value in minutes.items()) + ".", ""]
    for found in scores.get("verdicts", {}).values():
        lines += [verdict_table([Verdict(**one) for one in found]), ""]
    averages = {"full": scores, **scores.get("ablations", {}), "frames of another flat": other}
    told = [f"{name} {part['average']['model']:.1f}" for name, part in averages.items() if part.get("average")]
    return "\n".join([*lines, f"Averages: {', '.join(told)}.", ""])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.tiny", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--budget-min", type=float, default=BUDGET_MIN, help="minutes on two cores, about (default: %(default)g)")
    add("--out", type=Path, default=Path("out/tiny"), help="folder of everything (default: %(default)s)")
    add("--install", action="store_true", help="make it the model that comes with the package")
    return parser


if __name__ == "__main__":
    sys.exit(main())
