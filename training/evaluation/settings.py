"""What decides an evaluation's numbers, and the variants of a model without some of its tokens. Reads no file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from training.benchmarks.question import BenchmarkQuestion
from vlm3r_core.config import INFERENCE_PRESETS, TOKEN_SELECTIONS, check_settings, setting
from vlm3r_core.scene.scoring import PARSERS

# Name of a variant and the CUT3R tokens it is left with.
VARIANTS = {
    "full": "",
    "without-camera": "patch_tokens",
    "without-geometry": "camera_tokens",
    "without-both": "none",
}
ABLATIONS = {name.removeprefix("without-"): name for name in VARIANTS if name != "full"}
VIEWS = ("own", "other", "none")


@dataclass(frozen=True)
class EvalSettings:
    """Everything that an answer and its score depend on; kept beside the answers and compared on resuming."""

    benchmark: str = setting("", "name of the benchmark, or the folder of the question set")
    model: str = setting("", "model spec, or the name an endpoint knows its model by")
    endpoint: str = setting("", "URL of an OpenAI-compatible server; empty: the model runs here")
    preset: str = setting(
        "paper-eval", "pooling, time instruction and answer length as published", choices=tuple(INFERENCE_PRESETS)
    )
    frames: int = setting(32, "frames sampled from each video", span=(1, 1024))
    max_new_tokens: int = setting(0, "tokens decoded for one answer at most; 0: the preset's", span=(0, 1024))
    parser: str = setting("published", "how answers are read", choices=PARSERS)
    token_selection: str = setting("", "CUT3R tokens the model sees; empty: its own", choices=("", *TOKEN_SELECTIONS))
    view: str = setting("own", "frames of the question's video, of another one, or none at all", choices=VIEWS)
    dtype: str = setting("auto", "of the weights")
    quantize: str = setting("", "int8 or int4 for the language model; empty: as stored")
    limit: int = setting(0, "questions asked at most; 0: all", span=(0, 10_000_000))
    questions: str = setting("", "fingerprint of the questions with their options and truths")

    def __post_init__(self):
        check_settings(self)

    @property
    def answer_tokens(self) -> int:
        """Tokens of an answer at most."""
        return self.max_new_tokens or INFERENCE_PRESETS[self.preset].max_new_tokens


def fingerprint(questions: Sequence[BenchmarkQuestion]) -> str:
    """A short hash of what is asked and what is right, whatever folder it lies in."""
    digest = hashlib.sha256()
    for q in questions:
        digest.update(repr((q.benchmark, q.id, q.question_type, q.question, q.options, q.truth)).encode())
    return digest.hexdigest()[:16]


def differing(one: EvalSettings, other: dict) -> list[str]:
    """Names of settings in which a kept JSON object differs, with both values."""
    mine = asdict(one)
    names = sorted(mine.keys() | other.keys())
    return [f"{n}: {other.get(n)!r} there, {mine.get(n)!r} here" for n in names if mine.get(n) != other.get(n)]
