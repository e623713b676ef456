"""Pre-training runs of a nano model from beginning to end: they learn, go on bit for bit, and leave encoders behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.checkpoint import WEIGHTS, checkpoints
from training.pretrain import main
from training.pretraining.batches import Batch
from training.pretraining.encoders import WEIGHTS as ENCODER_WEIGHTS
from training.pretraining.encoders import encoders_config, load_encoders, record_json, save_encoders
from training.pretraining.geometry import Geometry
from training.pretraining.session import start_encoders
from training.pretraining.settings import FIRST_HELD_OUT, PretrainConfig
from training.pretraining.vision import Vision
from vlm3r_core.config import MODEL_PRESETS, ModelConfig
from vlm3r_core.loading import build, load

SCORES = "scores.jsonl"


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
def words(nano_spec, clips, tmp_path):
    """The command line of a small run."""

    def make(objective: str, run: str, **changes) -> list[str]:
        settings = {
            "model": nano_spec,
            "clips": clips,
            "run_dir": tmp_path / run,
            "flats": 8,
            "held_out_flats": 8,
            "clips_per_flat": 1,
            "clip_frames": 4,
            "frames_per_clip": 2,
            "batch_clips": 4,
            "steps": 4,
            "save_steps": 2,
            "motion_columns": 8,
            "head_frames": 2,
            "device": "cpu",
            "tensorboard": "false",
        }
        pairs = [(f"--{name}", str(value)) for name, value in (settings | changes).items()]
        return [objective, *(word for pair in pairs for word in pair)]

    return make


@pytest.fixture
def nano(nano_spec) -> ModelConfig:
    """The sizes of the preset that exists for a test."""
    return MODEL_PRESETS[nano_spec]


@pytest.fixture
def tower(words, tmp_path) -> Path:
    """Encoders folder of a vision run."""
    assert main(words("vision", "tower", steps=2)) == 0
    return tmp_path / "tower" / "encoders"


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def same_tensors(one: Path, other: Path) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_vision_learns(words, tmp_path, capsys):
    assert main(words("vision", "run", steps=40, learning_rate=1e-2, save_steps=100)) == 0
    losses = [line["loss"] for line in log_of(tmp_path / "run")]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    scores = json.loads((tmp_path / "run" / SCORES).read_text().splitlines()[-1])
    assert scores["step"] == 40
    assert scores["accuracy"] > 1.5 / scores["classes"]
    assert "40 steps" in capsys.readouterr().out
    assert record_json(tmp_path / "run" / "encoders")["scores"]["miou"] == scores["miou"]


def test_geometry_learns(words, tmp_path):
    changes = {"steps": 30, "learning_rate": 5e-3, "save_steps": 100, "siglip_input": "false", "train_frames": 2}
    assert main(words("geometry", "run", **changes)) == 0
    losses = [line["loss"] for line in log_of(tmp_path / "run")]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head": "dpt", "rgb_weight": 1.0, "head_frames": 1},
        {"siglip_input": "false", "motion_columns": 0, "bptt_frames": 2, "train_frames": 3},
    ],
    ids=["linear", "dpt", "plain"],
)
def test_geometry_goes_on_bit_for_bit(words, tower, tmp_path, changes):
    assert main(words("geometry", "straight", vision=tower, **changes)) == 0
    first, last = checkpoints(tmp_path / "straight")
    shutil.copytree(first, tmp_path / "resumed" / first.name)
    assert main(words("geometry", "resumed", vision=tower, **changes)) == 0
    again = checkpoints(tmp_path / "resumed")[-1]
    assert again.name == last.name == "checkpoint-00000004"
    assert same_tensors(again / WEIGHTS, last / WEIGHTS)
    assert not same_tensors(first / WEIGHTS, last / WEIGHTS)
    assert same_tensors(again / "optimizer.safetensors", last / "optimizer.safetensors")
    begin = log_of(tmp_path / "straight")[2:]
    drop = ("seconds",)
    assert [{k: v for k, v in line.items() if k not in drop} for line in log_of(tmp_path / "resumed")] == [
        {k: v for k, v in line.items() if k not in drop} for line in begin
    ]


def random_batch(clips: int) -> Batch:
    draw = torch.Generator().manual_seed(0)
    T_WC = torch.eye(4).repeat(clips, 3, 1, 1)
    T_WC[:, :, 0, 3] = torch.arange(3) * 0.1
    return Batch(
        torch.rand(clips, 3, 3, 56, 56, generator=draw) * 2 - 1,
        (torch.rand(clips, 3, 8, 8, generator=draw) * 3 - 0.3).clamp(min=0),
        torch.randint(0, 12, (clips, 3, 8, 8), generator=draw, dtype=torch.uint8),
        T_WC,
        torch.rand(clips, 8, 8, 3, generator=draw),
    )


def nano_objective(spec: str, objective: str, **changes) -> Geometry | Vision:
    settings = {"siglip_input": False, "motion_columns": 8, "clip_frames": 3}
    config = PretrainConfig(objective=objective, model=spec, **settings | changes)
    made = {"geometry": Geometry, "vision": Vision}[objective](start_encoders(config, torch.device("cpu")), config)
    for parameter in made.learned().values():
        parameter.requires_grad_(True)
    return made


@pytest.mark.parametrize("changes", [{"head": "linear"}, {"head": "dpt", "rgb_weight": 1.0}], ids=["linear", "dpt"])
def test_all_that_learns_gets_a_gradient(nano_spec, changes):
    """A weight without one would only decay."""
    geometry = nano_objective(nano_spec, "geometry", **changes)
    geometry(random_batch(2), 0)["loss"].backward()
    assert [name for name, parameter in geometry.learned().items() if parameter.grad is None] == []


@pytest.mark.parametrize("objective", ["vision", "geometry"])
def test_processes_that_share_the_clips_minimise_the_same(nano_spec, objective):
    made, batch = nano_objective(nano_spec, objective), random_batch(4)
    halves = [Batch(*(getattr(batch, item.name)[part] for item in fields(batch))) for part in (slice(2), slice(2, 4))]
    with torch.no_grad():
        whole, parts = made(batch, 5)["loss"], [made(half, 5)["loss"] for half in halves]
    assert sum(parts).item() / 2 == pytest.approx(whole.item(), rel=1e-5)


def test_a_signal_saves_and_the_run_goes_on(words, tmp_path):
    command = words("vision", "run", steps=3000, save_steps=10_000, batch_clips=1, frames_per_clip=1)
    log = tmp_path / "run" / "log.jsonl"

    def interrupt():
        while not (log.is_file() and log.read_text().count("\n") >= 3):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert main(command) == 128 + signal.SIGTERM
    thread.join()
    (saved,) = checkpoints(tmp_path / "run")
    assert int(saved.name.removeprefix("checkpoint-")) == len(log_of(tmp_path / "run")) >= 3
    assert not (tmp_path / "run" / "encoders").exists()


def test_a_budget_ends_a_run_with_encoders(words, tmp_path):
    assert main(words("vision", "run", steps=100_000, budget_min=0.01)) == 0
    steps = len(log_of(tmp_path / "run"))
    assert 1 <= steps < 1000
    assert (tmp_path / "run" / "encoders" / ENCODER_WEIGHTS).is_file()


def test_other_settings_are_another_run(words, tmp_path, capsys):
    assert main(words("vision", "run", steps=2)) == 0
    assert main(words("vision", "run", steps=4)) == 2
    assert "steps: 2 there, 4 now" in capsys.readouterr().err
    assert main(words("vision", "run", steps=2, workers=0, keep_checkpoints=1)) == 0


def test_a_run_that_falls_apart_says_so(words, tower, tmp_path, capsys):
    weights = load_file(tower / ENCODER_WEIGHTS)
    next(iter(weights.values())).fill_(float("nan"))
    save_file(weights, tower / ENCODER_WEIGHTS)
    assert main(words("vision", "run", start=tower, max_bad_steps=1)) == 2
    assert "2 steps in a row had no finite gradient" in capsys.readouterr().err


def test_geometry_leaves_a_model_to_train(words, tower, tmp_path):
    assert main(words("geometry", "run", vision=tower, siglip_input="true", steps=1)) == 0
    model = load(str(tmp_path / "run" / "model"), "cpu")
    assert (model.config.cut3r.motion_columns, model.config.cut3r.siglip_width) == (8, 24)
    stored = load_file(tmp_path / "run" / "encoders" / ENCODER_WEIGHTS)
    named = dict(model.named_parameters())
    assert all(torch.equal(named[name], tensor) for name, tensor in stored.items())
    assert all(torch.equal(tensor, stored[name]) for name, tensor in load_file(tower / ENCODER_WEIGHTS).items())
    assert torch.isfinite(model.encode(torch.rand(2, 3, 56, 56)).visual_tokens).all()


def test_encoders_there_and_back(nano, tmp_path):
    model = build(nano, torch.device("cpu"), torch.float32)
    save_encoders(tmp_path / "both", model, ("siglip", "cut3r"), {"steps": 3})
    deeper = replace(nano, siglip=replace(nano.siglip, num_layers=3), cut3r=replace(nano.cut3r, state_size=20))
    other = build(encoders_config(tmp_path / "both", deeper), torch.device("cpu"), torch.float32)
    assert load_encoders(other, tmp_path / "both") == ("siglip", "cut3r")
    theirs = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        if name.startswith(("siglip.", "cut3r.")):
            assert torch.equal(parameter, theirs[name])
    assert record_json(tmp_path / "both") == {"steps": 3}


def test_encoders_that_do_not_fit_are_refused(nano, tmp_path):
    model = build(nano, torch.device("cpu"), torch.float32)
    save_encoders(tmp_path / "tower", model, ("siglip",), {})
    with pytest.raises(ValueError, match="holds siglip, not cut3r"):
        load_encoders(model, tmp_path / "tower", ("cut3r",))
    with pytest.raises(FileNotFoundError, match="no encoders"):
        load_encoders(model, tmp_path)
    wider = build(replace(nano, siglip=replace(nano.siglip, num_layers=2)), torch.device("cpu"), torch.float32)
    with pytest.raises(ValueError, match="num_layers 1 there, 2 here"):
        load_encoders(wider, tmp_path / "tower")
    os.truncate(tmp_path / "tower" / ENCODER_WEIGHTS, 100)
    with pytest.raises(ValueError, match="cannot be read"):
        load_encoders(model, tmp_path / "tower")


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="kept for tests"):
        PretrainConfig(siglip_input=False, first_flat=FIRST_HELD_OUT - 10, flats=11)
    with pytest.raises(ValueError, match="first_held_out"):
        PretrainConfig(siglip_input=False, first_held_out=5)
    with pytest.raises(ValueError, match="needs --vision"):
        PretrainConfig(siglip_input=True)
    with pytest.raises(ValueError, match="rgb_weight needs --head dpt"):
        PretrainConfig(siglip_input=False, rgb_weight=1.0)
    with pytest.raises(ValueError, match="did you mean 'geometry'"):
        PretrainConfig(objective="geomtry")


def test_command_line_says_what_is_wrong(capsys):
    assert main(["geometry", "--siglip-input", "true"]) == 2
    assert "needs --vision" in capsys.readouterr().err
