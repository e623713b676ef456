"""One closed-loop trial as data: where it starts, what is asked, when it ends. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np

from vlm3r_core.config import check_choice, check_range
from vlm3r_core.scene.box import frozen_array

TASKS = ("route", "find")


@dataclass(frozen=True, eq=False)
class Episode:
    """A trial; what a task does not need stays empty.

    Args:
        id: unique within a set of episodes.
        task: "route" or "find".
        scene: name of the scene it takes place in.
        seed: of everything random in it, sensor noise included.
        T_WC_start: [4, 4] pose of the camera at the start; position and heading count, the robot's own height and tilt
            replace the others.
        goal_category: what to reach; goal_object_id its instance id, 0 where any of the category will do.
        landmarks: names on the way, in order; of a route the start, what is faced there, then what it goes via.
        landmark_ids: instance ids of the landmarks, as many.
        T_WC_watch: [N, 4, 4] camera poses of the walk watched beforehand.
        reference_m: [N, 3] feet along the way to follow, the first at the start, of a route.
        turns: the true turns in words as answers give them, "Turn Left, Turn Back", of a route.
        max_steps: actions after which it ends; max_path_m metres after which it ends.
    """

    id: str
    task: str
    scene: str
    seed: int
    T_WC_start: np.ndarray
    goal_category: str = ""
    goal_object_id: int = 0
    landmarks: tuple[str, ...] = ()
    T_WC_watch: np.ndarray = ()
    max_steps: int = 500
    max_path_m: float = 100.0
    reference_m: np.ndarray = ()
    turns: str = ""
    landmark_ids: tuple[int, ...] = ()

    def __post_init__(self):
        where = f"episode {self.id!r}"
        check_choice(f"{where}: task", self.task, TASKS)
        check_range(f"{where}: max_steps", self.max_steps, 1)
        check_range(f"{where}: max_path_m", self.max_path_m, 0)
        check_range(f"{where}: seed", self.seed, 0)
        start = frozen_array(f"{where}: T_WC_start", self.T_WC_start, (4, 4))
        poses = self.T_WC_watch if len(self.T_WC_watch) else np.zeros((0, 4, 4))
        watch = frozen_array(f"{where}: T_WC_watch", poses, (len(poses), 4, 4))
        points = self.reference_m if len(self.reference_m) else np.zeros((0, 3))
        reference = frozen_array(f"{where}: reference_m", points, (len(points), 3))
        object.__setattr__(self, "T_WC_start", start)
        object.__setattr__(self, "T_WC_watch", watch)
        object.__setattr__(self, "reference_m", reference)
        object.__setattr__(self, "landmarks", tuple(self.landmarks))
        object.__setattr__(self, "landmark_ids", tuple(self.landmark_ids))
        if self.landmark_ids and len(self.landmark_ids) != len(self.landmarks):
            raise ValueError(
                f"{where}: landmark_ids must be as many as landmarks, got {len(self.landmark_ids)} for "
                f"{len(self.landmarks)}"
            )


def episode_to_json(episode: Episode) -> dict:
    """The episode as plain lists and numbers."""
    entry = asdict(episode)
    return entry | {
        "T_WC_start": episode.T_WC_start.tolist(),
        "T_WC_watch": episode.T_WC_watch.tolist(),
        "reference_m": episode.reference_m.tolist(),
        "landmarks": list(episode.landmarks),
        "landmark_ids": list(episode.landmark_ids),
    }


def episode_from_json(entry: Mapping) -> Episode:
    """Reads what episode_to_json made.

    Raises:
        ValueError: a field is missing, unknown or malformed.
    """
    known = {item.name for item in fields(Episode)}
    odd = sorted(set(entry) - known)
    if odd:
        raise ValueError(f"an episode has the fields {', '.join(sorted(known))}; {', '.join(odd)} is not one of them")
    missing = sorted({"id", "task", "scene", "seed", "T_WC_start"} - set(entry))
    if missing:
        raise ValueError(f"an episode must have {', '.join(missing)}, got {', '.join(sorted(entry))}")
    return Episode(**entry)
