"""Benchmark questions answered a second, cached and from frames: python -m benchmarks.bench_eval. Asserts nothing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vlm3r_core.cpu import share_cores


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark, prints its table and writes it as JSON."""
    args = _parser().parse_args(argv)
    # As the evaluator does; it must come before torch is imported.
    share_cores()
    from benchmarks import eval_steps
    from benchmarks.bench_stream import write_json

    result = eval_steps.run(
        args.model,
        args.device,
        args.dtype,
        counts=args.counts,
        frames=args.frames,
        tokens=args.tokens,
        repeats=args.repeats,
    )
    write_json(args.out, result)
    print(eval_steps.markdown(result))
    print(f"\nwritten to {args.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_eval", description=__doc__)
    add = parser.add_argument
    add("--model", default="tiny-random", help="model preset (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    add("--counts", type=int, nargs="+", default=[1, 18], help="questions a video (VSI-Bench has 18 on average)")
    add("--frames", type=int, default=32, help="frames of the video (default: %(default)s)")
    add("--tokens", type=int, default=3, help="tokens of every answer, its end included (default: %(default)s)")
    add("--repeats", type=int, default=3, help="rounds for each median (default: %(default)s)")
    add("--out", type=Path, default=Path("out/bench_eval.json"), help="JSON file to write")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
