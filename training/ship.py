"""A trained model as the one that comes with the package: python -m training.ship RUN/model --scores scores.json.

It is cast to bfloat16, gets a record of how it was made and what it scores, and takes the place of the package's model
(or of --out) when it is whole and small enough. Nothing is trained or measured here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from training.checkpoint import replace_folder
from vlm3r_core.bundled import BLIND, BUNDLED, RECORD, bundled_folder
from vlm3r_core.checkpoint.saved import skeleton, to_json
from vlm3r_core.config import ModelConfig
from vlm3r_core.loading import load
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.weights.convert import save_model

LARGEST_FILE_BYTES, LARGEST_BYTES = 20_000_000, 40_000_000
TRAINED_ON = "simulated flats of one room"
_LICENCE = f"""# Licence of these weights

* Apache-2.0, as the rest of the project. They were trained from nothing, on {TRAINED_ON} that this project renders
  itself: no other weights, pictures or texts are in them. record.json says how.
"""


def ship(model: str, out: Path, record: Mapping) -> int:
    """Writes a model as the bundled one, in place of an older one.

    Args:
        model: spec of the trained model.
        out: the folder to make.
        record: how it was made and what it scores; JSON values.

    Returns:
        Bytes of the folder.

    Raises:
        ValueError: it was never trained, or is too large.
        FileNotFoundError, OSError: it cannot be read, or the folder cannot be written; an older one stays.
    """
    trained = _load_trained(model)
    return _write(trained, replace(trained.config, name=BUNDLED), model, out, record)


def ship_blind(model: str, out: Path, record: Mapping) -> int:
    """Writes a model that was trained without frames as the bundled one's blind twin, without CUT3R and fusion.

    Args, returns and raises as `ship`.
    """
    trained = _load_trained(model)
    config = replace(trained.config, name=BLIND, spatial=False, token_selection="none")
    return _write(trained, config, model, out, record)


def _load_trained(model: str) -> VLM3R:
    trained = load(model, "cpu", "float32")
    if not trained.config.trained:
        raise ValueError(f"{model} has random weights; train it first, `make train-tiny`")
    return trained


def _write(trained: VLM3R, config: ModelConfig, spec: str, out: Path, record: Mapping) -> int:
    names = {name for name, _ in skeleton(config).named_parameters()}
    fresh = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        pairs = ((name, tensor) for name, tensor in trained.named_parameters() if name in names)
        save_model(pairs, config, spec, fresh, dtype="bfloat16")
        (fresh / "LICENCES.md").write_text(_LICENCE, encoding="utf-8")
        (fresh / RECORD).write_text(to_json(dict(record)), encoding="utf-8")
        size = _checked_size(fresh)
        # everybody may read what is installed
        for file in fresh.iterdir():
            file.chmod(0o644)
        replace_folder(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return size


def record_of(scores: Mapping | None = None, **facts) -> dict:
    """A model's record.

    Args:
        scores: what `training.evaluate --json` wrote.
        facts: what else is to be told, such as commands and seeds.

    Returns:
        trained_on, the facts, and of the scores: questions asked, verdicts, averages, ablations, at_chance.
    """
    record = {"trained_on": TRAINED_ON, **facts}
    if scores:
        record["scores"] = {
            "benchmark": scores["settings"]["benchmark"],
            "questions": scores["settings"]["questions"],
            "average": scores.get("average", {}),
            "ablations": {name: part.get("average", {}) for name, part in scores.get("ablations", {}).items()},
            "verdicts": scores.get("verdicts", {}),
        }
        record["at_chance"] = list(scores.get("at_chance", []))
    return record


def _checked_size(folder: Path) -> int:
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    large = [f"{name} has {size:,} bytes" for name, size in sizes.items() if size > LARGEST_FILE_BYTES]
    if sum(sizes.values()) > LARGEST_BYTES:
        large.append(f"all files together have {sum(sizes.values()):,} bytes")
    if large:
        raise ValueError(
            f"too large to come with the package, at most {LARGEST_FILE_BYTES:,} a file and {LARGEST_BYTES:,} in all: "
            f"{'; '.join(large)}; take a smaller preset"
        )
    return sum(sizes.values())


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0, or 2 where the model or a file is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m training.ship", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("model", help="folder that a training run exported, such as out/tiny/run/model")
    add("--scores", type=Path, help="JSON that `python -m training.evaluate --json` wrote of it")
    add("--facts", type=Path, help="JSON object with what else the record shall tell, such as commands and seeds")
    add("--blind", action="store_true", help="it was trained without frames: it becomes the blind twin")
    add("--out", type=Path, help="default: where the package's model, or its twin, lies")
    args = parser.parse_args(argv)
    try:
        scores = json.loads(args.scores.read_text(encoding="utf-8")) if args.scores else None
        facts = json.loads(args.facts.read_text(encoding="utf-8")) if args.facts else {}
        out = args.out or bundled_folder(BLIND if args.blind else BUNDLED)
        size = (ship_blind if args.blind else ship)(args.model, out, record_of(scores, **facts))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{out}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
