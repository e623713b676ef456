"""The steps from nothing to a small model with its scores, each as commands. Runs none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.recipe.plan import CLIPS_PER_FLAT, Plan

# Seeds: encoders learn from 0, questions from here, and nothing is learned from those of the tests.
FIRST_ASKED, FIRST_TRIED = 100_000, 900_000
# What helps the language model to learn where things are; none of it is left in the model.
_AIDS = (
    *("--grounding_weight", "1", "--pair_weight", "1", "--grounding_layer", "4", "--align_weight", "0.5"),
    *("--match_start", "1.9"),
)
# Steps and passes that no budget reaches: time ends a run.
_ENDLESS = "100000"


@dataclass(frozen=True)
class Step:
    """Commands that run side by side.

    Args:
        name: what it is for.
        commands: arguments behind `python`, one list each.
        results: files that are there when it is done.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    results: tuple[Path, ...]


def make_steps(out: Path, plan: Plan, precision: str) -> list[Step]:
    """The steps in order.

    Args:
        out: folder of everything.
        plan: sizes and minutes.
        precision: of training, `bfloat16` or `float32`.
    """
    return [*_encoder_steps(out, plan, precision), *_question_steps(out, plan), *_language_steps(out, plan, precision)]


def question_sets(out: Path, plan: Plan) -> list[Path]:
    """The sets that are learned from."""
    return [out / f"questions-{number}" for number in range(plan.processes)]


def mixture(out: Path, plan: Plan) -> str:
    """The YAML that names all that is learned from."""
    files = [folder.name + name for folder in question_sets(out, plan) for name in ("/train.json", "/train_view.json")]
    return "datasets:\n" + "".join(f"  - json_path: {name}\n" for name in files)


def _encoder_steps(out: Path, plan: Plan, precision: str) -> list[Step]:
    clips = (
        *("--clips", str(out / "clips"), "--flats", str(plan.clip_flats), "--clips-per-flat", str(CLIPS_PER_FLAT)),
        *("--held-out-flats", str(plan.held_out_flats)),
    )
    shared = (
        *("--precision", precision, "--steps", _ENDLESS, "--budget-min", str(plan.encoder_min)),
        *("--save-steps", "200", "--measure-steps", "0", "--batch-clips", "16", "--tensorboard", "false"),
    )
    vision = ("--cells", "4", "--frames-per-clip", "4", "--learning-rate", "1.5e-3")
    geometry = ("--cells", "2", "--head-frames", "6", "--learning-rate", "1.2e-3")
    runs = {name: out / name / "encoders" for name in ("vision", "geometry")}
    film = ("-m", "training.film", "vision", *clips, "--workers", str(plan.processes))
    return [
        # no single file tells that all are there; whoever starts it again finds those that are
        Step("clips", (film,), ()),
        Step(
            "encoders",
            tuple(
                ("-m", "training.pretrain", name, "--run-dir", str(out / name), *clips, *shared, *own)
                for name, own in (("vision", vision), ("geometry", geometry))
            ),
            tuple(folder / "encoders.json" for folder in runs.values()),
        ),
        Step(
            "model to start from",
            (
                (
                    *("-m", "training.join_encoders", "--out", str(out / "start")),
                    *(word for name, folder in runs.items() for word in (f"--{name}", str(folder))),
                ),
            ),
            (out / "start/model/vlm3r.json",),
        ),
    ]


def _question_steps(out: Path, plan: Plan) -> list[Step]:
    def asked(first: int, flats: int, folder: Path, *own: str) -> tuple[str, ...]:
        return (
            *("-m", "training.make_qa", "--scans", f"room:{first}..{first + flats - 1}", "--out", str(folder)),
            *("--walk", "look_around", "--blind-proof", "--pictures", "0", *own),
        )

    sets = question_sets(out, plan)
    learned = ("--caps-for", "learning", "--routes-every", "3")
    return [
        Step(
            "questions to learn from",
            tuple(
                asked(FIRST_ASKED + number * plan.question_flats, plan.question_flats, folder, *learned)
                for number, folder in enumerate(sets)
            ),
            tuple(folder / "manifest.json" for folder in sets),
        ),
        Step(
            "questions to be tried on, and about the current view",
            (
                asked(FIRST_TRIED, plan.tried_flats, out / "tried", "--caps-for", "trying"),
                ("-m", "training.qa.view", *map(str, sets)),
            ),
            (out / "tried/manifest.json", *(folder / "train_view.json" for folder in sets)),
        ),
    ]


def _language_steps(out: Path, plan: Plan, precision: str) -> list[Step]:
    data, start, features = str(out / "mixture.yaml"), str(out / "start/model"), str(out / "features")

    def learn(model: str, folder: Path, minutes: float, *own: str) -> tuple[str, ...]:
        return (
            *("-m", "training.train", "tiny", "--data", data, "--model", model, "--out", str(folder), *own),
            *("--budget_min", str(minutes), "--epochs", "1000", "--precision", precision, "--soft_numbers", "0.1"),
            *("--threads", "1", "--workers", "0", "--tensorboard", "false"),
        )

    def together(command: tuple[str, ...]) -> tuple[str, ...]:
        """One run by several processes."""
        if plan.processes == 1:
            return command
        return ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(plan.processes), *command)

    def ask(model: Path, folder: str, *own: str) -> tuple[str, ...]:
        return (
            *("-m", "training.evaluate", "--benchmark", str(out / "tried"), "--model", str(model)),
            *("--out", str(out / folder), "--quiet", *own),
        )

    blind, run = out / "blind", out / "run"
    text = ("--blind", "true", "--questions_per_pack", "96", "--learning_rate", "2e-3")
    aids = (
        *_AIDS,
        "--teachers",
        str(out / "start/encoders"),
        "--questions_per_pack",
        "48",
        "--learning_rate",
        "1.5e-3",
    )
    encode = ("-m", "training.features", "--model", start, "--data", data, "--out", features, "--frames", "16")
    encode += ("--workers", "1")
    scores = ("--ablate", "all", "--blind", str(out / "scores-blind"), "--json", str(out / "scores.json"))
    other = ("--view", "other", "--json", str(out / "scores-other.json"))
    return [
        Step(
            "a run without frames, and features of the videos",
            (learn(start, blind, plan.blind_min, *text), encode),
            (blind / "model/vlm3r.json",),
        ),
        Step(
            "training",
            (together(learn(str(blind / "model"), run, plan.train_min, "--features", features, *aids)),),
            (run / "model/vlm3r.json",),
        ),
        Step(
            "scores without frames, and with another flat's",
            (ask(blind / "model", "scores-blind", "--view", "none"), ask(run / "model", "scores-other", *other)),
            (out / "scores-blind/results.json", out / "scores-other.json"),
        ),
        Step("scores", (ask(run / "model", "scores", *scores),), (out / "scores.json",)),
    ]
