"""How many questions a look around gives to learn from, and how many to be tried on. Makes none."""

from __future__ import annotations

from vlm3r_core.scene.tasks import TASKS

# Candidates judged for each question wanted: an answer like "back" is rare.
TRIES = 40
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
    "object_size_estimation": 6,
    "object_abs_distance": 2,
    "object_rel_distance_v1": 2,
    "object_rel_distance_v2": 0,
    "object_rel_distance_v3": 0,
    "obj_appearance_order": 3,
    # of these two few rooms have any
    "camera_displacement": 2,
    "camera_movement_direction_v1": 3,
    "camera_movement_direction_v2": 3,
    "camera_movement_direction_v3": 3,
}
CAPS = {"learning": LEARNED, "trying": TRIED}
