"""Question sets of simulated flats, for training and for evaluation. Films nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from training.qa.make import make_question_set
from training.qa.readers import SIMULATED
from training.qa.settings import QaSettings
from training.scans.simulated import read_scans
from training.scans.simulated_settings import LOOK_AROUND, SimulatedSettings, settings_for
from vlm3r_core.scene.tasks import TASKS, GeneratorSettings

# Candidates judged for each question wanted: an answer like "back" is rare.
_TRIES = 40
# Questions of a look around at most, by task; a task that is not named gives all it has. A model that learns sees many
# of each clip, as clips cost more than questions; one that is tried sees few of each of many.
LEARNED = {
    "object_abs_distance": 12,
    "object_rel_distance_v1": 5,
    "object_rel_distance_v2": 2,
    "object_rel_distance_v3": 2,
    "object_rel_direction_v1": 4,
    "object_rel_direction_v2": 4,
    "object_rel_direction_v3": 4,
    "obj_appearance_order": 5,
    "camera_obj_abs_dist": 3,
    "camera_obj_rel_dist_v1": 1,
    "camera_obj_rel_dist_v2": 1,
    "camera_obj_rel_dist_v3": 1,
    "camera_displacement": 1,
    "camera_movement_direction_v1": 1,
    "camera_movement_direction_v2": 1,
    "camera_movement_direction_v3": 1,
    "obj_obj_relative_pos_nf": 2,
    "obj_obj_relative_pos_lr": 1,
    "obj_obj_relative_pos_ud": 1,
}
TRIED = dict.fromkeys(TASKS, 1) | {
    "object_counting": 4,
    "object_size_estimation": 3,
    "object_abs_distance": 2,
    "object_rel_distance_v1": 2,
    "object_rel_distance_v2": 0,
    "object_rel_distance_v3": 0,
}


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
        qa: what is asked; by default every task, with exact distances, and few questions of a flat.
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
    qa = qa or QaSettings(generator=simulated_generator(TRIED), pictures=0)
    origin = {"scans": root, "reader": SIMULATED, "seed": qa.seed, **filmed}
    scans = read_scans(root, seed=qa.seed, **filmed)
    return make_question_set(scans, folder, qa, origin=origin, processes=processes, progress=progress).folder


def simulated_generator(caps: Mapping[str, int] | None = None) -> GeneratorSettings:
    """How questions about rendered videos are made: exact distances, sides as the picture has them.

    Args:
        caps: questions of a scan at most, by task, such as LEARNED or TRIED; by default as published.
    """
    settings = GeneratorSettings(truth="exact", clear_in_image=True, tries=_TRIES)
    return replace(settings, caps=tuple(caps.items())) if caps else settings
