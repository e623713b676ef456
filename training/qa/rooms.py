"""Question sets of simulated flats, for training and for evaluation. Films nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from training.qa.caps import CAPS, TRIES
from training.qa.make import make_question_set
from training.qa.readers import SIMULATED
from training.qa.settings import QaSettings
from training.scans.simulated import read_scans
from training.scans.simulated_settings import LOOK_AROUND, SimulatedSettings, settings_for
from vlm3r_core.config import check_choice
from vlm3r_core.scene.tasks import GeneratorSettings


def write_question_set(
    folder: Path,
    *,
    seed: int,
    rooms: int,
    settings: SimulatedSettings | None = None,
    qa: QaSettings | None = None,
    processes: int = 1,
    progress: bool = True,
) -> Path:
    """A question set of so many flats; a set that is whole already stays, one that was begun is gone on with.

    Args:
        folder: of the set.
        seed: of the first flat; walks and questions depend on qa.seed.
        rooms: how many flats, at least 1.
        settings: how they are filmed; by default one looks around in flats of one room, as a small model can follow.
            Tours go through flats of several rooms.
        qa: what is asked; by default every task, with exact distances, few questions of a
            flat, and none that its text gives away.
        processes: that share the work.
        progress: show a bar.

    Returns:
        The folder.

    Raises:
        ValueError: no flat is wanted, or the folder holds another set.
    """
    if rooms < 1:
        raise ValueError(f"a question set needs at least one flat, got rooms={rooms}")
    settings = settings or settings_for(LOOK_AROUND)
    kind = "room" if settings.walk == LOOK_AROUND else "flat"
    filmed, root = asdict(settings), f"{kind}:{seed}..{seed + rooms - 1}"
    qa = qa or qa_settings("trying")
    origin = {"scans": root, "reader": SIMULATED, "seed": qa.seed, **filmed}
    scans = read_scans(root, seed=qa.seed, **filmed)
    return make_question_set(scans, folder, qa, origin=origin, processes=processes, progress=progress).folder


def qa_settings(caps_for: str, *, seed: int = 0) -> QaSettings:
    """What is asked after a look around: every task, nothing that its text gives away.

    Args:
        caps_for: `learning` or `trying`, see caps.py.
        seed: same seed, same questions.

    Raises:
        ValueError: caps_for is neither.
    """
    check_choice("caps_for", caps_for, tuple(CAPS))
    return QaSettings(seed=seed, generator=simulated_generator(CAPS[caps_for]), blind_proof=True, pictures=0)


def simulated_generator(caps: Mapping[str, int] | None = None) -> GeneratorSettings:
    """How questions about rendered videos are made: exact distances, sides as the picture has them.

    Args:
        caps: questions of a scan at most, by task, such as those of caps.py; by default as published.
    """
    settings = GeneratorSettings(truth="exact", clear_in_image=True, tries=TRIES)
    return replace(settings, caps=tuple(caps.items())) if caps else settings
