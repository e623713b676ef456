"""Asks questions about a recording from the command line. Everything happens in StreamEngine; nothing is kept."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import isnan

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from vlm3r_core.bundled import default_model
from vlm3r_core.clip import DEFAULT_FOLDER_FPS, Clip, open_clip
from vlm3r_core.config import INFERENCE_PRESETS, USUAL_FRAMES, StreamConfig
from vlm3r_core.cpu import share_cores
from vlm3r_core.types import ANSWER_TYPES, Answer

EXIT_OK, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, 2 (bad input: one line says what) or 130 (interrupted)."""
    arguments = _parser().parse_args(argv)
    share_cores()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        clip = _clip(arguments)
        with logging_redirect_tqdm():
            engine = _watched(clip, arguments)
            answers = [
                engine.ask(question, arguments.option, arguments.answer_type, max_new_tokens=arguments.max_new_tokens)
                for question in arguments.question
            ]
    except (FileNotFoundError, ValueError) as error:
        print(f"vlm3r: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("vlm3r: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    report = _json_report if arguments.json else _text_report
    print(report(arguments, engine.stats().frames_seen, answers))
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vlm3r_core", description="Watches a recording and answers questions about what it shows."
    )
    add = parser.add_argument
    add("clip", help="video file, folder of images, image, rosbag2 folder, .mcap or .db3 file")
    add("question", nargs="+", help="one or more questions")
    add("--option", action="append", default=[], metavar="TEXT", help="an answer to choose from; repeat for each")
    add("--answer-type", choices=ANSWER_TYPES, default="auto", help="form of the answer (default: auto)")
    add("--model", default=default_model(), help="model spec (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (default: auto)")
    add(
        "--max-frames",
        type=_count,
        default=None,
        metavar="N",
        help="frames to watch, spread evenly over the recording; 0: all of them (default: as many as the model was "
        f"trained with, {USUAL_FRAMES} if unknown)",
    )
    add(
        "--preset",
        choices=tuple(INFERENCE_PRESETS),
        default=StreamConfig.preset,
        help="how the model is asked (default: %(default)s)",
    )
    add("--max-new-tokens", type=_count, default=None, metavar="N", help="tokens of an open answer at most")
    add("--fps", type=float, default=DEFAULT_FOLDER_FPS, help="images a second of a folder (default: %(default)s)")
    add("--topic", default="", help="image topic of a bag that has several")
    add("--json", action="store_true", help="print one JSON object instead of text")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {value}")
    return value


def _clip(arguments: argparse.Namespace) -> Clip:
    return open_clip(arguments.clip, fps=arguments.fps, topic=arguments.topic)


def _watched(clip: Clip, arguments: argparse.Namespace):
    """An engine that has seen the whole clip."""
    # torch takes seconds to import: a wrong path is told before that
    from vlm3r_core import StreamEngine, load

    model = load(arguments.model, device=arguments.device, dtype=arguments.dtype, preset=arguments.preset)
    kept = arguments.max_frames or model.config.trained_frames or USUAL_FRAMES
    config = StreamConfig(
        preset=arguments.preset, max_frames=kept, max_pool_frames=max(kept, StreamConfig.max_pool_frames)
    )
    engine = StreamEngine(model, config)
    clip = clip if arguments.max_frames == 0 else clip.sampled(kept)
    for frame in tqdm(clip, total=clip.frame_count, desc="watching", unit="frame", file=sys.stderr):
        engine.push(frame)
    return engine


def _text_report(arguments: argparse.Namespace, frames_seen: int, answers: Sequence[Answer]) -> str:
    lines = []
    for question, answer in zip(arguments.question, answers, strict=True):
        lines += [
            f"question:   {question}",
            f"answer:     {answer.text}",
            f"confidence: {answer.confidence:.2f} ({answer.confidence_meaning})",
            f"rests on:   {answer.frames_used} frames in view of the model, {frames_seen} seen",
            f"latency:    {answer.latency_ms.total:.0f} ms, first token after {answer.latency_ms.first_token:.0f} ms",
            "",
        ]
    return "\n".join([*lines, *_warning(arguments.model, answers)]).rstrip()


def _warning(model: str, answers: Sequence[Answer]) -> list[str]:
    if all(answer.trained for answer in answers):
        return []
    return [f"The weights of {model} are random: these answers mean nothing, they only show that the path works."]


def _json_report(arguments: argparse.Namespace, frames_seen: int, answers: Sequence[Answer]) -> str:
    report = {
        "clip": arguments.clip,
        "model": arguments.model,
        "frames_seen": frames_seen,
        "trained": all(answer.trained for answer in answers),
        "warnings": _warning(arguments.model, answers),
        "answers": [
            {"question": question, "options": arguments.option, **asdict(answer)}
            for question, answer in zip(arguments.question, answers, strict=True)
        ],
    }
    for entry in report["answers"]:
        entry["value"] = None if isnan(entry["value"]) else entry["value"]
    return json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
