"""A model that trains in milliseconds, as a preset and as a folder, and small question sets with videos."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from train_nano import NANO

from training.config import RunConfig
from vlm3r_core.config import MODEL_PRESETS
from vlm3r_core.loading import build, randomize
from vlm3r_core.weights.convert import save_model

QUESTIONS = (
    ("How many chair(s) are in this room?", "3"),
    ("What is the size of this room (in square meters)?", "21.5"),
    ("How many table(s) are in this room?", "2"),
    ("Which is closer to the bed?\nOptions:\nA. sofa\nB. lamp", "B"),
    ("How many window(s) are in this room?", "4"),
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def nano_spec(monkeypatch) -> str:
    """The spec of a model preset that exists for a test."""
    monkeypatch.setitem(MODEL_PRESETS, "nano-random", NANO)
    return "nano-random"


@pytest.fixture(scope="session")
def nano_folder(tmp_path_factory) -> Path:
    """The model as a folder, which other processes find too."""
    model = build(NANO, torch.device("cpu"), torch.float32)
    randomize(model, 0)
    folder = tmp_path_factory.mktemp("model") / "nano"
    config = replace(NANO, random_seed=None)
    save_model(model.named_parameters(), config, "tiny-random", folder, dtype="float32")
    return folder


def write_images(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))).save(folder / f"{index:03d}.png")


def rows_of(scene: str, count: int) -> list[dict]:
    """Rows in the published training format."""
    return [
        {
            "id": f"{scene}-{number}",
            "data_source": "test",
            "scene_name": scene,
            "question_type": "object_counting",
            "video": f"videos/{scene}",
            "conversations": [
                {"from": "human", "value": f"<image>\nThese are frames of a video.\n{question}"},
                {"from": "gpt", "value": answer},
            ],
        }
        for number, (question, answer) in enumerate(QUESTIONS[:count])
    ]


@pytest.fixture(scope="session")
def question_set(tmp_path_factory) -> Path:
    """Six scenes of four images, three to five questions each: train.json and videos."""
    folder, rows = tmp_path_factory.mktemp("set"), []
    for scene in range(6):
        write_images(folder / "videos" / f"room{scene}", 4, scene)
        rows += rows_of(f"room{scene}", 3 + scene % 3)
    (folder / "train.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def own_set(question_set, tmp_path) -> Path:
    """A copy of the question set that a test may change."""
    return Path(shutil.copytree(question_set, tmp_path / "own_set"))


@pytest.fixture
def make_run(question_set, nano_spec, tmp_path):
    """Settings of a run of the nano model on the question set: three steps a pass."""

    def make(**changes) -> RunConfig:
        settings = {
            "data": str(question_set),
            "out": str(tmp_path / "run"),
            "model": nano_spec,
            "frames": 3,
            "questions_per_pack": 2,
            "batch_questions": 8,
            "lora_rank": 4,
            "lora_alpha": 8,
            "learning_rate": 1e-2,
            "workers": 0,
            "device": "cpu",
            "tensorboard": False,
            "gradient_checkpointing": False,
        }
        return RunConfig(**settings | changes)

    return make
