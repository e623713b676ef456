"""The model of the package: found by its name where it is, and told how to get where it is not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from vlm3r_core import bundled
from vlm3r_core.config import MODEL_PRESETS
from vlm3r_core.loading import build, load, model_config, randomize, tokenizer_for
from vlm3r_core.stream.engine import StreamEngine
from vlm3r_core.weights.convert import save_model


@pytest.fixture(scope="module")
def small_model():
    """A trained-looking model without pooling that watched 16 frames."""
    config = replace(MODEL_PRESETS["tiny-random"], pool="none", newline="no_token", trained_frames=16)
    model = build(config, torch.device("cpu"), torch.float32)
    randomize(model, 0)
    return model


@pytest.fixture
def folder(small_model, tmp_path, monkeypatch):
    """The place of the bundled model, with a model in it."""
    place = tmp_path / "assets" / "tiny"
    monkeypatch.setattr(bundled, "bundled_folder", lambda name=bundled.BUNDLED: place.with_name(name))
    config = replace(small_model.config, random_seed=None)
    save_model(small_model.named_parameters(), config, "tiny-random", place, dtype="bfloat16")
    return place


def test_the_bundled_model_by_its_name(folder):
    assert bundled.default_model() == "tiny"
    assert model_config("tiny").trained
    model = load("tiny", device="cpu", preset="demo")
    # a model without pooling keeps none whatever the preset
    assert model.config.pool == "none"
    assert StreamEngine(model).config.max_frames == 16
    assert tokenizer_for("tiny").size == model.tokenizer.size


def test_no_weights_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "bundled_folder", lambda name=bundled.BUNDLED: tmp_path / name)
    assert bundled.default_model() == "tiny-random"
    with pytest.raises(FileNotFoundError, match="run `make train-tiny"):
        load("tiny")
    assert bundled.model_record("tiny") == {}


def test_a_preset_still_pools():
    assert load("tiny-random", device="cpu", preset="demo").config.pool == "average"


def test_the_record_of_a_folder(tmp_path):
    (tmp_path / bundled.RECORD).write_text(json.dumps({"seed": 3}))
    assert bundled.model_record(str(tmp_path)) == {"seed": 3}
    assert bundled.model_record("tiny-random") == {}
    (tmp_path / bundled.RECORD).write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        bundled.model_record(str(tmp_path))


def test_what_the_preset_starts_from_speaks_alike(tmp_path, monkeypatch):
    place = tmp_path / "assets" / "tiny"
    monkeypatch.setattr(bundled, "bundled_folder", lambda name=bundled.BUNDLED: place.with_name(name))
    other = bundled.preset_tokenizer("tiny-random")
    assert bundled.preset_tokenizer("tiny-start") == other != place / "tokenizer.json"
    place.mkdir(parents=True)
    (place / "tokenizer.json").write_text("{}")
    assert bundled.preset_tokenizer("tiny-start") == place / "tokenizer.json"
    assert bundled.preset_tokenizer("tiny-random") == other


def test_what_comes_with_the_package():
    """Small enough, trained, each with its licence; the twin has the same words and language model, and no eyes."""
    sizes = [path.stat().st_size for path in bundled.bundled_folder().parent.rglob("*") if path.is_file()]
    assert max(sizes) <= 20_000_000
    assert sum(sizes) <= 40_000_000
    model, twin = (load(name, device="cpu") for name in (bundled.BUNDLED, bundled.BLIND))
    assert model.config.trained
    assert twin.config.trained
    assert model.config.language == twin.config.language
    assert model.config.number_decoding == twin.config.number_decoding
    assert (model.config.spatial, twin.config.spatial) == (True, False)
    for name in (bundled.BUNDLED, bundled.BLIND):
        assert "Apache-2.0" in (bundled.bundled_folder(name) / "LICENCES.md").read_text()
        assert bundled.model_record(name)["questions_learned"]
    record = bundled.model_record(bundled.BUNDLED)
    assert record["scores"]["average"]["model"] > record["scores"]["average"]["blind"] + 8
    assert "object_rel_direction" in record["at_chance"]
