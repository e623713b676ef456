"""Small synthetic copies of benchmarks in their published layouts, and videos for them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import numpy as np
from PIL import Image

VSI_ROWS = [
    ("object_counting", "How many chair(s) are in this room?", None, "4"),
    (
        "object_size_estimation",
        "What is the longest dimension of the tv, measured in centimeters?",
        None,
        "90",
    ),
    ("room_size_estimation", "What is the size of this room (in square meters)?", None, "21.5"),
    (
        "object_rel_direction_easy",
        "If I am standing by the tv and facing the sofa, is the door to the left or the right of the sofa?",
        ["A. left", "B. right"],
        "B",
    ),
    (
        "object_rel_direction_hard",
        "If I am standing by the tv and facing the sofa, is the door to my front-left, front-right, back-left, or "
        "back-right?",
        ["A. front-left", "B. back-left", "C. back-right", "D. front-right"],
        "C",
    ),
    (
        "object_rel_distance",
        "Which of these objects (sofa, tv, bed) is the closest to the door?",
        ["A. sofa", "B. tv", "C. bed"],
        "A",
    ),
]
VSTI_ROWS = [
    ("camera_obj_abs_dist", "How far is the camera from the tv in frame 3 of 32?", None, "1.2", None),
    ("obj_obj_relative_pos_nf", "In frame 3 of 32, is the tv [Near/Far]?", ["A. Near", "B. Far"], "Far", "B"),
    ("camera_movement_direction", "Which way did the camera move?", ["A. Left", "B. Right"], "Left", "A"),
]


def video_frames(seed: int, count: int = 6, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """Coarse random pictures, each another one."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return [np.kron(block, np.ones((size[0] // 6, size[1] // 8, 1), np.uint8)) for block in blocks]


def write_video(path: Path, seed: int, count: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for image in video_frames(seed, count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


def picture(seed: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(video_frames(seed, 1)[0]).save(data, "PNG")
    return data.getvalue()


def write_picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(seed))
    return path


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict], **options) -> Path:
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)
    return path


def vsi_rows(scenes: int, per_scene: int = len(VSI_ROWS)) -> list[dict]:
    """Rows with VSI-Bench's fields, question after question of each scene."""
    rows = []
    for scene in range(scenes):
        for number in range(per_scene):
            kind, question, options, truth = VSI_ROWS[number % len(VSI_ROWS)]
            again = f" ({number})" if number >= len(VSI_ROWS) else ""
            rows.append(
                {
                    "id": len(rows),
                    "dataset": ("scannet", "arkitscenes")[scene % 2],
                    "scene_name": f"scene{scene:04d}_00",
                    "question_type": kind,
                    "question": question + again,
                    "options": options,
                    "ground_truth": truth,
                    "pruned": number % 3 == 0,
                }
            )
    return rows


def write_vsi(root: Path, scenes: int = 3, per_scene: int = len(VSI_ROWS)) -> Path:
    """VSI-Bench with a video a scene."""
    rows = vsi_rows(scenes, per_scene)
    write_lines(root / "test.jsonl", rows)
    for number, row in enumerate({row["scene_name"]: row for row in rows}.values()):
        write_video(root / row["dataset"] / f"{row['scene_name']}.mp4", number)
    return root


def vsti_rows(scenes: int) -> list[dict]:
    return [
        {
            "id": scene * len(VSTI_ROWS) + number,
            "video_path": f"ScanNet/videos/val/scene{scene:04d}_00.mp4",
            "question_type": kind,
            "question": question,
            "options": options,
            "ground_truth": truth,
            "mc_answer": letter,
        }
        for scene in range(scenes)
        for number, (kind, question, options, truth, letter) in enumerate(VSTI_ROWS)
    ]


def write_question_set(root: Path, scenes: int = 2) -> Path:
    """A folder as training.make_qa writes it, with questions of both benchmarks."""
    rows = []
    for scene in range(scenes):
        name = f"flat-{scene:06d}"
        write_video(root / "videos" / f"{name}.mp4", scene)
        shared = {"dataset": "simulated", "scene_name": name, "video": f"videos/{name}.mp4"}
        for kind, question, options, truth in VSI_ROWS:
            row = {"question_type": kind, "question": question, "options": options, "ground_truth": truth}
            rows.append({"id": len(rows)} | shared | row | {"mc_answer": truth if options else None})
        for kind, question, options, truth, letter in VSTI_ROWS:
            row = {"question_type": kind, "question": question, "options": options, "ground_truth": truth}
            rows.append({"id": len(rows)} | shared | row | {"mc_answer": letter, "frame_indices": [2]})
    write_lines(root / "questions.jsonl", rows)
    return root
