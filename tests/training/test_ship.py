"""A trained model as the package's: bfloat16, with its record, small enough, in place of what was there."""

from __future__ import annotations

import json

import pytest
import torch

from training import ship as shipping
from training.ship import main, record_of, ship
from vlm3r_core.bundled import model_record
from vlm3r_core.checkpoint.saved import Saved
from vlm3r_core.loading import load

SCORES = {
    "settings": {"benchmark": "eval", "questions": "abc"},
    "average": {"model": 50.0, "blind": 37.0},
    "ablations": {"without-camera": {"average": {"model": 45.0}, "tasks": {}}},
    "verdicts": {"vsi": [{"task": "route_planning", "word": "chance"}]},
    "at_chance": ["route_planning"],
}


def test_a_run_becomes_the_package_s_model(nano_folder, tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps(SCORES))
    (tmp_path / "facts.json").write_text(json.dumps({"seeds": {"train": 100_000}}))
    out = tmp_path / "assets" / "tiny"
    out.mkdir(parents=True)
    (out / "tokenizer.json").write_text("older")
    words = [str(nano_folder), "--out", str(out), "--scores", f"{tmp_path}/scores.json"]
    assert main([*words, "--facts", f"{tmp_path}/facts.json"]) == 0
    assert Saved.open(out).description["dtype"] == "bfloat16"
    model = load(str(out), "cpu")
    assert (model.config.name, model.config.trained) == ("tiny", True)
    record = model_record(str(out))
    assert record["at_chance"] == ["route_planning"]
    assert record["seeds"] == {"train": 100_000}
    assert record["scores"]["ablations"] == {"without-camera": {"model": 45.0}}
    assert "Apache-2.0" in (out / "LICENCES.md").read_text()
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]


def test_a_blind_twin_has_neither_cut3r_nor_fusion(nano_folder, tmp_path):
    out = tmp_path / "tiny-blind"
    assert main([str(nano_folder), "--blind", "--out", str(out)]) == 0
    whole, twin = (load(str(folder), "cpu", "float32") for folder in (nano_folder, out))
    assert (twin.config.name, twin.config.spatial, twin.config.token_selection) == ("tiny-blind", False, "none")
    kept = dict(twin.named_parameters())
    assert not [name for name in kept if name.startswith(("cut3r", "fusion"))]
    given = {name: tensor.bfloat16().float() for name, tensor in whole.named_parameters()}
    assert all(torch.equal(tensor, given[name]) for name, tensor in kept.items())


def test_what_is_too_large_leaves_what_was_there(nano_folder, tmp_path, monkeypatch):
    out = tmp_path / "tiny"
    out.mkdir()
    (out / "tokenizer.json").write_text("older")
    monkeypatch.setattr(shipping, "LARGEST_FILE_BYTES", 1000)
    with pytest.raises(ValueError, match=r"model-00001\.safetensors has .* bytes"):
        ship(str(nano_folder), out, record_of())
    assert [path.name for path in out.iterdir()] == ["tokenizer.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_random_weights_are_not_shipped(nano_spec, tmp_path, capsys):
    assert main([nano_spec, "--out", str(tmp_path / "tiny")]) == 2
    assert "has random weights; train it first" in capsys.readouterr().err
