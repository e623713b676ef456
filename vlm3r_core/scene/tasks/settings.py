"""Which tasks there are and how their questions are generated. No geometry, no wording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vlm3r_core.config import check_choice, check_range, check_settings, setting
from vlm3r_core.scene.questions import WORDINGS

TRUTHS = ("benchmark", "exact")
# the published driver's number of questions a scene; None where it takes all
VSI_TASKS = {
    "object_counting": None,
    "object_size_estimation": None,
    "room_size_estimation": None,
    "object_abs_distance": 50,
    "object_rel_distance_v1": 100,
    "object_rel_distance_v2": 100,
    "object_rel_distance_v3": 100,
    "object_rel_direction_v1": 20,
    "object_rel_direction_v2": 20,
    "object_rel_direction_v3": 20,
    "obj_appearance_order": 30,
}
VSTI_TASKS = {
    "camera_obj_abs_dist": 3,
    "camera_obj_rel_dist_v1": 100,
    "camera_obj_rel_dist_v2": 100,
    "camera_obj_rel_dist_v3": 5,
    "camera_displacement": 3,
    "camera_movement_direction_v1": 1,
    "camera_movement_direction_v2": 1,
    "camera_movement_direction_v3": 1,
    "obj_obj_relative_pos_nf": 6,
    "obj_obj_relative_pos_lr": 3,
    "obj_obj_relative_pos_ud": 6,
}
# as far as the published training files tell theirs, for GeneratorSettings.caps
VSTI_TRAIN_CAPS = (
    ("camera_obj_abs_dist", 2000),
    ("obj_obj_relative_pos_nf", 120),
    ("obj_obj_relative_pos_lr", 60),
    ("obj_obj_relative_pos_ud", 120),
)
_CAPS = VSI_TASKS | VSTI_TASKS
# The published 100 candidates a version are drawn before the filters and leave about 20 questions a scene in the
# training data; we draw until the cap is kept, so that ours is what is left.
_KEPT_CAPS = {f"object_rel_distance_v{version}": 7 for version in (1, 2, 3)}
TASKS = tuple(_CAPS)
_SETS = {"all": TASKS, "vsi": tuple(VSI_TASKS), "vsti": tuple(VSTI_TASKS)}
_VERSIONS = ("v1", "v2", "v3", "nf", "lr", "ud")
_NO_FRAMES = ("object_counting", "object_size_estimation", "room_size_estimation", "object_abs_distance")


@dataclass(frozen=True)
class GeneratorSettings:
    """How questions are made; the defaults give right answers in the benchmark's sense of distance."""

    truth: str = setting("benchmark", "distances over the published 5 cm grid, or exact", choices=TRUTHS)
    as_published: bool = setting(False, "with the published generator's known defects, to reproduce released data")
    wording: str = setting("vlm3r", "of the training data, or of VSI-Bench's items", choices=WORDINGS)
    per_scene: int = setting(0, "questions of a task from a scene at most; 0: about as published", span=(0, 10**6))
    caps: tuple[tuple[str, int], ...] = setting((), "(task, number) pairs: questions of single tasks at most")
    tries: int = setting(10, "candidates judged at most for each question wanted", span=(1, 10**4))
    balance_answers: bool = setting(True, "as many questions of every fixed answer (left, right, ...) in a scene")
    numeric_options: bool = setting(False, "give questions for a number four options too; as_published always does")
    clear_in_image: bool = setting(False, "left, right, up and down must also hold between the 2-D boxes")
    min_box_px: int = setting(0, "area of a 2-D box from which its object counts as seen, pixels", span=(0, 10**9))
    fps: float = setting(0.0, "of the raw video, for times of appearance; 0: by dataset", span=(0.0, 1000.0))

    def __post_init__(self):
        check_settings(self)
        for task, cap in self.caps:
            check_choice("task in GeneratorSettings.caps", task, TASKS)
            check_range(f"GeneratorSettings.caps of {task}", cap, 0)

    def cap(self, task: str) -> int | None:
        """How many questions of a task a scene may give, None for all.

        Raises:
            ValueError: no such task.
        """
        check_choice("task", task, TASKS)
        usual = _CAPS | ({} if self.as_published else _KEPT_CAPS)
        return dict(self.caps).get(task, self.per_scene or usual[task])


def expand_tasks(names: Iterable[str]) -> tuple[str, ...]:
    """Tasks in their standing order from names of tasks, of tasks without version, and of sets.

    Args:
        names: such as `all`, `vsi`, `vsti`, `no_frames`, `object_rel_distance`, `object_rel_distance_v2`.

    Raises:
        ValueError: a name is none of them.
    """
    wanted: set[str] = set()
    for name in names:
        versions = {f"{name}_{version}" for version in _VERSIONS}
        found = _SETS.get(name) or tuple(task for task in TASKS if task == name or task in versions)
        if name == "no_frames":
            found = tuple(t for t in TASKS if t in _NO_FRAMES or t.startswith("object_rel_"))
        if not found:
            check_choice("task", name, (*_SETS, "no_frames", *TASKS))
        wanted.update(found)
    return tuple(task for task in TASKS if task in wanted)
