"""Speed and memory of one stream: python -m benchmarks.bench_stream. It asserts nothing; targets are printed beside."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from vlm3r_core.cpu import share_cores
from vlm3r_core.files import write_text


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark, prints its tables and writes them as JSON."""
    parser = _parser()
    args = parser.parse_args(argv)
    # As the node does; it must come before torch is imported.
    share_cores()
    import torch

    from benchmarks import report, stream
    from vlm3r_core.loading import load

    try:
        plan = stream.Plan(
            frames=tuple(sorted(set(args.frames))),
            stage_frames=args.stage_frames,
            warm_up=args.warm_up,
            repeats=args.repeats,
            memory_since=args.memory_since,
            memory_frames=args.memory_frames,
        )
        if args.threads:
            torch.set_num_threads(args.threads)
        model = load(args.model, args.device, args.dtype)
    except ValueError as error:
        parser.error(str(error))
    result = stream.run(model, plan)
    write_json(args.out, result)
    print(report.markdown(result))
    print(f"\nwritten to {args.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_stream", description=__doc__)
    parser.add_argument("--model", default="tiny-random", help="model preset (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--threads", type=int, help="CPU threads of torch (default: torch's choice)")
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 32, 128, 512], help="ask after so many frames")
    parser.add_argument("--stage-frames", type=int, default=100, help="frames whose stages are timed")
    parser.add_argument("--warm-up", type=int, default=32, help="frames before them that are not timed")
    parser.add_argument("--repeats", type=int, default=9, help="questions for each median")
    parser.add_argument("--memory-since", type=int, default=100, help="memory is to stay flat after so many frames")
    parser.add_argument("--memory-frames", type=int, default=2000, help="frames of the memory run")
    parser.add_argument("--out", type=Path, default=Path("out/bench_stream.json"), help="JSON file to write")
    return parser


def write_json(path: Path, result: dict) -> None:
    """Writes the result whole or not at all; the folder is made if need be."""
    write_text(path, json.dumps(result, indent=1))


if __name__ == "__main__":
    raise SystemExit(main())
