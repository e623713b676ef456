"""Questions a robot asks about its current view, for question sets that exist: python -m training.qa.view SET...

Writes SET/train_view.json beside SET/train.json: where a thing is and how far, seen from the last frame. They are no
task of a benchmark; a model that shall drive (sim.run) needs them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
from tqdm import tqdm

from training.benchmarks.rows import read_rows
from training.qa import files
from training.qa.rows import write_training
from vlm3r_core.scene.graph import SceneGraph, SceneObject
from vlm3r_core.scene.metadata import read_metadata
from vlm3r_core.scene.questions import view_direction_text, view_distance_text
from vlm3r_core.scene.relations import QUADRANT_EDGES_DEG, QUADRANTS, planar_angles_deg, sector
from vlm3r_core.scene.tasks import QaItem

VIEW_TRAIN = "train_view.json"
# names the published training format has for such questions
DIRECTION, DISTANCE = "camera_obj_rel_dir", "camera_obj_abs_dist"
_NEAREST_M, _FARTHEST_M = 0.2, 10.0
_LETTERS = "ABCD"


def view_items(graph: SceneGraph, video: str, rng: np.random.Generator, most: int = 4) -> list[QaItem]:
    """Questions about things of which there is one, which a scene's frames show.

    Args:
        graph: with frames; the last one is the current view.
        video: as the rows of the set name it.
        rng: of the choice among things, and of the options' order.
        most: questions of either kind at most; the sides things are on take turns.

    Returns:
        Directions, then distances; none of a scene whose last frame has no pose.
    """
    posed = [frame for frame in graph.frames if frame.has_pose]
    if not posed or posed[-1] is not graph.frames[-1]:
        return []
    T_WC = posed[-1].T_WC
    shown = {item.instance_id for frame in posed for item in frame.visible}
    things = [item for item in graph.objects if graph.counts[item.category] == 1 and item.instance_id in shown]
    things = [things[place] for place in rng.permutation(len(things))]
    # a thing right overhead is on no side
    beside = [thing for thing in things if np.hypot(*(thing.box.center_m - T_WC[:3, 3])[:2]) > 1e-6]
    items = [_direction(graph, video, thing, T_WC, rng) for thing in beside]
    chosen = _taking_turns(items, most)
    far = [_distance(graph, video, thing, T_WC) for thing in things]
    chosen += [item for item in far if _NEAREST_M <= item.value <= _FARTHEST_M][:most]
    return chosen


def write_view_questions(folder: Path, *, seed: int = 0, most: int = 4, progress: bool = True) -> int:
    """Writes SET/train_view.json.

    Args:
        folder: a question set of training.make_qa with videos.
        seed: with a scene's name, decides its questions.
        most: questions of either kind and scene at most.
        progress: show a bar.

    Returns:
        How many questions there are.

    Raises:
        FileNotFoundError: a file of the set is missing.
        ValueError: a file of the set is malformed, or no scene has frames to ask about.
    """
    videos = {}
    for row in read_rows(folder / files.QUESTIONS):
        if row.get("video"):
            videos[row["scene_name"]] = row["video"]
    graphs = read_metadata(folder / files.SCENES, folder / files.FRAMES)
    items = list(_items(graphs, videos, seed, most, progress))
    if not items:
        raise ValueError(f"no scene of {folder} has a video and frames with poses; nothing can be asked about a view")
    write_training(folder / VIEW_TRAIN, items, as_published=False)
    return len(items)


def _items(graphs: dict, videos: dict, seed: int, most: int, progress: bool) -> Iterator[QaItem]:
    for name in tqdm(sorted(graphs.keys() & videos.keys()), "views", disable=None if progress else True):
        yield from view_items(graphs[name], videos[name], np.random.default_rng((seed, crc32(name.encode()))), most)


def _direction(graph: SceneGraph, video: str, thing: SceneObject, T_WC: np.ndarray, rng: np.random.Generator) -> QaItem:
    eye, ahead = T_WC[:3, 3], T_WC[:3, 3] + T_WC[:3, 2]
    angle = float(planar_angles_deg(eye, ahead, thing.box.center_m[None])[0])
    answer = QUADRANTS[int(sector(np.array([angle]), QUADRANT_EDGES_DEG)[0])]
    choices = tuple(QUADRANTS[place] for place in rng.permutation(len(QUADRANTS)))
    asked = (view_direction_text(thing.category), DIRECTION, choices, _LETTERS[choices.index(answer)])
    return _item(graph, video, thing, asked, answer, angle)


def _distance(graph: SceneGraph, video: str, thing: SceneObject, T_WC: np.ndarray) -> QaItem:
    eye = T_WC[:3, 3]
    apart = float(np.linalg.norm(thing.box.nearest_point(eye) - eye))
    asked = (view_distance_text(thing.category), DISTANCE, (), None)
    return _item(graph, video, thing, asked, float(np.round(apart, 1)), apart)


def _item(graph: SceneGraph, video: str, thing: SceneObject, asked: tuple, answer: str | float, value: float) -> QaItem:
    text, kind, choices, letter = asked
    options = tuple(f"{mark}. {choice}" for mark, choice in zip(_LETTERS, choices, strict=False))
    return QaItem(
        id=f"{graph.scene_id}/view/{kind}/{thing.instance_id}",
        dataset=graph.dataset,
        scene=graph.scene_id,
        video_path=video,
        task=kind,
        question_type=kind,
        wording="vlm3r",
        names={"object": thing.category},
        question=text,
        choices=choices,
        options=options or None,
        ground_truth=answer,
        mc_answer=letter,
        value=value,
        instance_ids=(thing.instance_id,),
    )


def _taking_turns(items: Sequence[QaItem], most: int) -> list[QaItem]:
    """Some of the items, their answers as evenly as they come."""
    sides: dict[str, list[QaItem]] = {}
    for item in items:
        sides.setdefault(item.ground_truth, []).append(item)
    longest = max(map(len, sides.values()), default=0)
    return [group[turn] for turn in range(longest) for group in sides.values() if turn < len(group)][:most]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns 0, or 2 where a set is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m training.qa.view", description=__doc__.splitlines()[0])
    parser.add_argument("sets", type=Path, nargs="+", help="folders of question sets")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--most", type=int, default=4, help="questions of a kind and scene at most (default: 4)")
    args = parser.parse_args(argv)
    try:
        for folder in args.sets:
            count = write_view_questions(folder, seed=args.seed, most=args.most)
            print(f"{count:,} questions in {folder / VIEW_TRAIN}")
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
