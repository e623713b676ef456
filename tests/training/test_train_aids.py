"""What is learned beside answers: it is learned, goes on bit for bit, is not exported, and says what it lacks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import ALONE, assert_same, journal, train, weights
from train_nano import NANO

from training.aids import Aids, _pairs
from training.pretraining.geometry import LinearPoints
from training.pretraining.teachers import Teachers
from training.pretraining.vision import DenseClasses
from training.qa.files import SCENES
from training.running.session import run_training
from training.samples.mixture import read_samples
from vlm3r_core.loading import build, load, randomize
from vlm3r_core.weights.convert import save_model


@pytest.fixture(scope="module")
def words_folder(tmp_path_factory) -> str:
    """A model with the tokenizer of superwords."""
    config = replace(NANO, language=replace(NANO.language, vocab_size=1216, text_only_heads=2))
    model = build(config, torch.device("cpu"), torch.float32)
    randomize(model, 0)
    folder = tmp_path_factory.mktemp("model") / "words"
    plain = replace(config, random_seed=None)
    save_model(model.named_parameters(), plain, "tiny-start", folder, dtype="float32")
    return str(folder)


@pytest.fixture
def grounded_set(own_set) -> Path:
    """The question set with what its rooms hold."""
    scenes = {}
    for room in range(6):
        box = {"centroid": [room, 1.0, 0.5], "axesLengths": [1.0, 2.0, 0.5], "instance_id": 1}
        scenes[f"room{room}"] = {
            "video_path": f"videos/room{room}",
            "object_counts": {"chair": 3, "bed": 1},
            "object_bboxes": {"chair": [box, box, box], "bed": [box]},
        }
    (own_set / SCENES).write_text(json.dumps(scenes))
    return own_set


@pytest.fixture
def make_aided(make_run, grounded_set, words_folder):
    def make(**changes):
        settings = {"data": str(grounded_set), "model": words_folder, "train": "language", "attention": "fold"}
        settings |= {"grounding_weight": 1.0, "grounding_layer": 1, "soft_numbers": 0.1}
        return make_run(**settings | changes)

    return make


def make_teachers(_: str, model) -> Teachers:
    """Heads as pre-training has them, unlearned."""
    torch.manual_seed(0)
    vision = DenseClasses(model.config.siglip.hidden_size, 1, len(Teachers.names))
    return Teachers(model, vision, LinearPoints(model.config.cut3r.dec_embed_dim, 1))


def test_words_learn_what_they_name(make_aided, make_run):
    config = make_aided(epochs=4)
    assert train(config).finished
    steps = journal(config)
    assert steps[-1]["grounding"] < 0.9 * steps[0]["grounding"]
    checkpoint, exported = weights(config), load(str(Path(config.out) / "model"), "cpu")
    assert any(name.startswith("aids.grounding") for name in checkpoint.weights)
    assert not any("aids" in name for name, _ in exported.named_parameters())


def test_pairs_tell_distance_and_side():
    """Stand at the origin, face along z: what lies along x is to the right."""
    at = {"bed": (0.0, 0.0, 0.0), "door": (0.0, 0.5, 2.0), "lamp": (4.0, 0.0, 0.0)}
    talk = [(10 * number, name, np.array(at[name])) for number, name in enumerate(at)]
    (first, *values), (second, *others) = (np.hstack(pair) for pair in _pairs(talk))
    assert (first, second) == (10, 20)
    np.testing.assert_allclose(values, [np.hypot(2, 0.5) / 2, np.nan, np.nan])
    np.testing.assert_allclose(others, [2.0, 0.0, 1.0], atol=1e-9)
    # in options, which name things again, the distance is to what is asked about
    again = [*talk[:2], (20, "lamp", np.array(at["lamp"])), (30, "bed", talk[0][2]), (40, "door", talk[1][2])]
    told = {place: values[0] for place, values in _pairs(again)}
    assert told[30] == pytest.approx(4.0 / 2)
    assert told[40] == pytest.approx(np.linalg.norm(np.subtract(at["door"], at["lamp"])) / 2)


def test_pairs_are_learned(make_aided):
    config = make_aided(grounding_weight=0.0, pair_weight=1.0, epochs=1)
    assert train(config).finished
    assert any(name.startswith("aids.pairs") for name in weights(config).weights)


def test_alignment_teaches_the_projector(make_aided, tmp_path):
    config = make_aided(grounding_weight=0.0, align_weight=1.0, teachers="heads", epochs=3)
    assert run_training(config, ALONE, make_teachers).finished
    steps = journal(config)
    assert steps[-1]["alignment"] < steps[0]["alignment"]


def test_it_goes_on_bit_for_bit(make_aided, tmp_path):
    straight = make_aided(epochs=2, align_weight=0.5, teachers="heads")
    run_training(straight, ALONE, make_teachers)
    halves = replace(straight, out=str(tmp_path / "halves"), max_steps=2)
    run_training(halves, ALONE, make_teachers)
    run_training(replace(halves, max_steps=0), ALONE, make_teachers)
    assert_same(weights(halves), weights(straight))


def test_soft_numbers_pull_towards_neighbours(make_aided):
    """A run with bells gives a wrong neighbour more than a run without."""
    outcomes = []
    for spread in (0.0, 0.4):
        config = make_aided(grounding_weight=0.0, soft_numbers=spread, epochs=12, out=make_aided().out + str(spread))
        train(config)
        outcomes.append(journal(config)[-1]["loss"])
    assert outcomes[1] > outcomes[0] + 0.2


def test_what_it_refuses(make_aided, question_set, make_run):
    with pytest.raises(ValueError, match="attention fold"):
        make_aided(attention="split")
    with pytest.raises(ValueError, match="--teachers"):
        make_aided(align_weight=1.0)
    config = make_aided(data=str(question_set))
    model = load(config.model, "cpu")
    samples = read_samples(question_set)
    with pytest.raises(FileNotFoundError, match="--grounding_weight 0"):
        Aids(model, config, samples)
    with pytest.raises(ValueError, match=r"training\.train"):
        Aids(model, replace(config, grounding_weight=0.0, align_weight=1.0, teachers="x"), samples)
    digits = replace(config, grounding_weight=0.0, soft_numbers=0.1, model=make_run().model)
    with pytest.raises(ValueError, match="digit by digit"):
        Aids(load("tiny-random", "cpu"), digits, samples)
