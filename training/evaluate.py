"""Scores a model on a benchmark, into the paper's tables: python -m training.evaluate. docs/evaluation.md tells more.

python -m training.evaluate --benchmark vsi --root DATA --model SPEC --out RUN
python -m training.evaluate merge RUN0 RUN1 ... --out RUN      shards of one run
python -m training.evaluate table RUN_A RUN_B ... --out DIR    several models in one table
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vlm3r_core.cpu import share_cores


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        0 where it worked, 2 where something impossible was asked for, 3 where a server or the disk failed: what was
        answered until then is kept.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # It must come before torch is imported.
    share_cores()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments and arguments[0] in ("merge", "table"):
        return _combine(arguments[0], arguments[1:])
    from training.evaluation.endpoint import EndpointError

    parser = _parser()
    args = parser.parse_args(arguments)
    try:
        print(_evaluate(args))
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    except (EndpointError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 3
    return 0


def _combine(command: str, arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m training.evaluate {command}")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args(arguments)
    from training.evaluation.merge import compare, merge

    try:
        print((merge if command == "merge" else compare)(args.runs, args.out))
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    return 0


def _evaluate(args: argparse.Namespace) -> str:
    """Does what was asked; the table or a line that says what to do next."""
    from training.evaluation.rooms import write_summary
    from training.evaluation.settings import VARIANTS
    from training.evaluation.tables import markdown
    from training.evaluation.variants import Job, evaluate

    questions = _questions(args)
    settings = _settings(args, questions)
    out = args.out or Path("out/evaluation") / _folder_name(settings)
    if args.baselines_only:
        results = [_baselines(questions, settings, out)]
    else:
        job = Job(questions, out, shard=args.shard, workers=args.workers, progress=not args.quiet)
        results = evaluate(job, settings, _answer_maker(args), _ablations(args))
    if not results:
        return f"shard {args.shard[0]} of {args.shard[1]} is in {out}; merge the shards for the tables"
    blind_run = args.blind or _blind_twin(args, questions, settings, out)
    blind, judged = _blind(blind_run), _verdicts(args, out, blind_run)
    if args.json:
        names = {selection: name for name, selection in VARIANTS.items()}
        others = {names[result["settings"]["token_selection"]]: result for result in results[1:]}
        write_summary(args.json, results[0], others, blind=blind, judged=judged)
    return f"{markdown(results)}\n{_told(judged)}written to {out}"


def _blind_twin(args: argparse.Namespace, questions: Sequence, settings, out: Path) -> Path | None:
    """The run of the package's blind twin, asked the same; None where another model answers, or a part is asked."""
    from training.evaluation.variants import Job, evaluate
    from vlm3r_core.bundled import BLIND, BUNDLED, has_bundled

    own = settings.model == BUNDLED and not settings.endpoint
    whole = args.shard[1] == 1 and not args.baselines_only
    if not own or not whole or not has_bundled(BLIND):
        return None
    job = Job(questions, out / "blind", workers=args.workers, progress=not args.quiet)
    evaluate(job, replace(settings, model=BLIND, view="none", quantize=""), _answer_maker(args))
    return job.out


def _blind(run: Path | None) -> dict | None:
    """Results of the blind model's run."""
    from training.evaluation.report import read_results

    return read_results(_full(run)) if run else None


def _verdicts(args: argparse.Namespace, out: Path, blind_run: Path | None) -> dict:
    """Whether the full model is better than its baselines; nothing of baselines alone."""
    from training.evaluation.records import RecordFile
    from training.evaluation.run import ANSWERS
    from training.evaluation.verdicts import verdicts

    if args.baselines_only:
        return {}
    blind = RecordFile(_full(blind_run) / ANSWERS).read() if blind_run else None
    return verdicts(RecordFile(_full(out) / ANSWERS).read(), blind)


def _full(run: Path) -> Path:
    """Where a run's answers are: with ablations, in the full model's folder."""
    return run / "full" if (run / "full").is_dir() else run


def _told(judged: dict) -> str:
    from training.evaluation.tables import BENCHMARK_TITLES
    from training.evaluation.verdicts import verdict_table

    return "".join(
        f"## {BENCHMARK_TITLES.get(name, name)}: better than who sees nothing?\n\n{verdict_table(found)}\n\n"
        for name, found in judged.items()
        if found
    )


def _questions(args: argparse.Namespace) -> list:
    from training.benchmarks.catalogue import read_questions
    from training.evaluation.rooms import make_rooms

    benchmark = args.benchmark
    if benchmark == "rooms":
        folder = args.root or Path("out/rooms") / f"{args.seed}-{args.rooms}"
        benchmark = str(make_rooms(folder, seed=args.seed, rooms=args.rooms))
    questions = read_questions(benchmark, args.root)
    return questions[: args.limit] if args.limit else questions


def _settings(args: argparse.Namespace, questions: Sequence):
    from training.evaluation.settings import EvalSettings, fingerprint
    from vlm3r_core.bundled import trained_frames
    from vlm3r_core.config import USUAL_FRAMES

    if bool(args.endpoint) != bool(args.endpoint_model):
        raise ValueError("an endpoint needs both --endpoint URL and --endpoint-model NAME")
    if bool(args.model) == bool(args.endpoint) and not (args.baselines_only and not args.model):
        raise ValueError("give either --model SPEC or --endpoint URL with --endpoint-model NAME, or --baselines-only")
    if args.endpoint and (args.ablate or args.preset != "paper-eval" or args.quantize):
        raise ValueError("--ablate, --preset and --quantize belong to a model that runs here, not to an endpoint")
    return EvalSettings(
        benchmark=_benchmark_name(args),
        model=args.model or args.endpoint_model or "",
        endpoint=args.endpoint or "",
        preset=args.preset,
        frames=(trained_frames(args.model or "") or USUAL_FRAMES) if args.frames is None else args.frames,
        max_new_tokens=args.max_new_tokens,
        parser=args.parser,
        view=args.view,
        dtype=args.dtype,
        quantize=args.quantize or "",
        limit=args.limit,
        questions=fingerprint(questions),
    )


def _benchmark_name(args: argparse.Namespace) -> str:
    """A folder's own name: the same set elsewhere gives the same tables."""
    path = Path(args.benchmark).expanduser()
    return path.resolve().name if path.is_dir() else args.benchmark


def _folder_name(settings) -> str:
    model = Path(settings.model).name or "baselines"
    kept = "".join(c if c.isalnum() or c in "-._" else "-" for c in f"{settings.benchmark}-{model}")
    return kept[:80]


def _ablations(args: argparse.Namespace) -> list[str]:
    from training.evaluation.settings import ABLATIONS

    return list(ABLATIONS) if "all" in args.ablate else args.ablate


def _baselines(questions: Sequence, settings, out: Path) -> dict:
    """The table without any model."""
    from training.evaluation.records import score_record
    from training.evaluation.report import write_results
    from training.evaluation.said import Said

    unasked = Said("", error="not asked")
    records = [score_record(place, one, unasked, settings.parser) for place, one in enumerate(questions)]
    return write_results(out, settings, records, scored=False)


def _answer_maker(args: argparse.Namespace):
    """What makes answers under some settings: of a server, or of a model that is loaded once for all variants."""
    loaded = []

    def make(settings):
        if settings.endpoint:
            return _endpoint(args, settings)
        from training.evaluation.model_answers import ModelAnswers
        from vlm3r_core.loading import load

        if not loaded:
            quantize = settings.quantize or None
            model = load(settings.model, args.device, settings.dtype, quantize, preset=settings.preset)
            loaded.append((model, model.config))
        model, model.config = loaded[0]
        return ModelAnswers(model, settings, batch=args.batch).answer

    return make


def _endpoint(args: argparse.Namespace, settings):
    from training.evaluation.endpoint import EndpointAnswers, EndpointSettings

    server = EndpointSettings(
        url=settings.endpoint,
        model=settings.model,
        key=os.environ.get(args.endpoint_key_env, ""),
        timeout_s=args.endpoint_timeout,
        retries=args.endpoint_retries,
        per_minute=args.endpoint_per_minute,
        concurrency=args.endpoint_concurrency,
        logprobs=args.endpoint_logprobs,
    )
    return EndpointAnswers(server, settings.answer_tokens).answer


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise argparse.ArgumentTypeError(f"expected i/n with 0 <= i < n, such as 0/4, got {text!r}")
    return int(number), int(count)


def _parser() -> argparse.ArgumentParser:
    from training.benchmarks.catalogue import BENCHMARKS
    from training.evaluation.settings import ABLATIONS, VIEWS
    from vlm3r_core.config import INFERENCE_PRESETS
    from vlm3r_core.scene.scoring import PARSERS

    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = ", ".join(BENCHMARKS)
    add("--benchmark", required=True, help=f"{names}, rooms, or the folder of a question set")
    add("--root", type=Path, help="the benchmark's folder (default: its name under $HF_HOME)")
    add("--model", help="model spec: a preset, a folder, or base=PATH,adapter=PATH,cut3r=PATH")
    add("--out", type=Path, help="folder of the run (default: out/evaluation/BENCHMARK-MODEL)")
    add("--limit", type=int, default=0, help="ask the first N questions only")
    add("--parser", default="published", choices=PARSERS, help="how answers are read (default: %(default)s)")
    add("--ablate", nargs="+", default=[], choices=(*ABLATIONS, "all"), help="also without these CUT3R tokens")
    add("--preset", default="paper-eval", choices=tuple(INFERENCE_PRESETS), help="default: %(default)s")
    add("--frames", type=int, help="frames sampled from each video (default: as the model was trained, 32 if unknown)")
    add("--max-new-tokens", type=int, default=0, help="tokens of an answer at most (default: the preset's)")
    add("--view", default="own", choices=VIEWS, help="frames of the video, of another one, or none")
    add("--shard", type=_shard, default=(0, 1), metavar="i/n", help="ask about this share of the videos only")
    add("--baselines-only", action="store_true", help="the table without a model")
    add("--json", type=Path, help="also write scores and baselines by task to this file")
    add("--blind", type=Path, metavar="RUN", help="the run of a model trained without frames; `tiny` has one with it")
    add("--seed", type=int, default=0, help="rooms: seed of the first flat")
    add("--rooms", type=int, default=100, help="rooms: number of flats")
    add("--quiet", action="store_true", help="no progress bar where the output is no terminal")
    here = parser.add_argument_group("a model that runs here").add_argument
    here("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    here("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    here("--quantize", help="int8 or int4")
    here("--batch", type=int, default=32, help="questions of a video decoded together at most")
    here("--workers", type=int, default=2, help="threads that decode videos ahead")
    there = parser.add_argument_group("a model behind an OpenAI-compatible endpoint").add_argument
    there("--endpoint", metavar="URL", help="such as http://localhost:8000/v1")
    there("--endpoint-model", metavar="NAME", help="the name the server knows the model by")
    there("--endpoint-key-env", default="OPENAI_API_KEY", metavar="NAME", help="variable with the key")
    there("--endpoint-timeout", type=float, default=120.0, help="seconds one request may take")
    there("--endpoint-retries", type=int, default=5, help="times a failed request is sent again")
    there("--endpoint-per-minute", type=float, default=0.0, help="requests a minute at most (default: no limit)")
    there("--endpoint-concurrency", type=int, default=4, help="requests under way at once")
    there("--endpoint-logprobs", action="store_true", help="ask for likelihoods, for the reliability plot")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
