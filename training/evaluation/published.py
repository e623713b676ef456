"""Rows other people printed, to stand beside ours. Nothing here was measured by us."""

from __future__ import annotations

# By the benchmark that was asked for: name of the row and its numbers by column; columns the paper does not have are
# left out. Our own question sets have no such rows.
# Source: VLM-3R (arXiv 2505.20279), tables 1 and 2; VSTI-Bench with its labels before the erratum.
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "vsi": {
        "VLM-3R-7B (paper)": {
            "overall": 60.9,
            "object_counting": 70.2,
            "object_abs_distance": 49.4,
            "object_size_estimation": 69.2,
            "room_size_estimation": 67.1,
            "object_rel_distance": 65.4,
            "object_rel_direction": 80.5,
            "route_planning": 45.4,
            "obj_appearance_order": 40.1,
        },
    },
    "vsti": {
        "VLM-3R-7B (paper, labels before the erratum)": {
            "overall": 58.8,
            "camera_obj_abs_dist": 39.4,
            "camera_displacement": 39.6,
            "camera_movement_direction": 60.6,
            "obj_obj_relative_pos": 86.5,
            "camera_obj_rel_dist": 68.6,
        },
    },
}
PUBLISHED["vsti-published"] = PUBLISHED["vsti-corrected"] = PUBLISHED["vsti"]
