"""Which numbers a benchmark's table has and how scores of question types are averaged into them. Computes none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlm3r_core.scene.scoring import CHOICE_TYPES, MERGED, NUMBER_TYPES

OVERALL, OVERALL_GROUPED = "overall", "overall_grouped"
# Order and headings of the paper's tables.
TITLES = {
    "object_counting": "Obj. Count",
    "object_abs_distance": "Abs. Dist.",
    "object_size_estimation": "Obj. Size",
    "room_size_estimation": "Room Size",
    "object_rel_distance": "Rel. Dist.",
    "object_rel_direction": "Rel. Dir.",
    "object_rel_direction_easy": "Rel. Dir. left/right",
    "object_rel_direction_medium": "Rel. Dir. left/right/back",
    "object_rel_direction_hard": "Rel. Dir. quadrants",
    "route_planning": "Route Plan",
    "obj_appearance_order": "Appr. Order",
    "camera_obj_abs_dist": "Cam-Obj Abs. Dist.",
    "camera_displacement": "Cam. Displace.",
    "camera_obj_dist_change": "Cam-Obj Dist. Change",
    "camera_movement_direction": "Cam. Mov. Dir.",
    "obj_obj_relative_pos": "Obj-Obj Pos.",
    "obj_obj_relative_pos_nf": "Obj-Obj Pos. near/far",
    "obj_obj_relative_pos_lr": "Obj-Obj Pos. left/right",
    "obj_obj_relative_pos_ud": "Obj-Obj Pos. up/down",
    "camera_obj_rel_dist": "Cam-Obj Rel. Dist.",
    "camera_obj_rel_dist_v1": "Cam-Obj Rel. Dist. 4 options",
    "camera_obj_rel_dist_v2": "Cam-Obj Rel. Dist. 3 options",
    "camera_obj_rel_dist_v3": "Cam-Obj Rel. Dist. 2 options",
    OVERALL: "Avg.",
    OVERALL_GROUPED: "Avg. of 5 tasks",
}
# Settings of MindCube that its overall accuracy leaves out.
_UNCOUNTED = {"mindcube": ("translation",)}


@dataclass(frozen=True)
class Column:
    """A number of a table.

    Args:
        name: its key in results.
        groups: the mean over groups of the mean over their cells, a cell being the questions of one type; with none,
            the mean over all questions.
        main: whether the paper's table has it; else it is a part of another one.
        without: cells that a mean over all questions leaves out.
        by_subset: cells are the questions of a subset, not of a type.
    """

    name: str
    groups: tuple[tuple[str, ...], ...] = ()
    main: bool = True
    without: tuple[str, ...] = ()
    by_subset: bool = False

    @property
    def title(self) -> str:
        """Its heading."""
        return TITLES.get(self.name, self.name)

    @property
    def average(self) -> bool:
        """Whether it sums up others."""
        return self.name in (OVERALL, OVERALL_GROUPED)


def columns_of(benchmark: str, types: Sequence[str]) -> list[Column]:
    """The columns of a benchmark's table, averages first.

    Args:
        benchmark: of BenchmarkQuestion.
        types: question types that occur; a benchmark's other tasks get no column.
    """
    present = [kind for kind in _in_order(types) if kind in types]
    if benchmark == "cv-bench":
        overall = Column(OVERALL, (("ADE20K", "COCO"), ("Omni3D",)), by_subset=True)
        return [overall, *(Column(kind, ((kind,),)) for kind in present)]
    if benchmark not in MERGED:
        left_out = _UNCOUNTED.get(benchmark, ())
        return [Column(OVERALL, without=left_out), *(Column(kind, ((kind,),)) for kind in present)]
    merged = {name: tuple(k for k in members.split() if k in types) for name, members in MERGED[benchmark].items()}
    part_of = {kind: name for name, members in merged.items() for kind in members}
    tasks: dict[str, tuple[str, ...]] = {}
    for kind in present:
        name = part_of.get(kind, kind)
        tasks[name] = merged.get(name, (kind,))
    grouped = [Column(name, (cells,)) for name, cells in tasks.items()]
    parts = [Column(kind, ((kind,),), main=False) for kind in present if kind in part_of]
    if benchmark == "vsi":
        return [Column(OVERALL, tuple(tasks.values())), *grouped, *parts]
    raw = tuple((kind,) for kind in present)
    return [Column(OVERALL, raw), Column(OVERALL_GROUPED, tuple(tasks.values())), *grouped, *parts]


def _in_order(types: Sequence[str]) -> list[str]:
    """The paper's order, then the alphabet's."""
    every = {kind for names in (*CHOICE_TYPES.values(), *NUMBER_TYPES.values()) for kind in names}
    known = [kind for kind in TITLES if kind in every]
    return [*known, *sorted(set(types) - set(known))]
