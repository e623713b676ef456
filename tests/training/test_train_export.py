"""What a run leaves behind: adapters in the published layout, which load and answer the same, and folders of ours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vlm3r_core
from training.checkpoint import checkpoints, read_checkpoint
from training.config import RunConfig
from training.lora import lora_targets, make_trainable
from training.running.processes import Processes
from training.running.session import run_training
from training.running.start import start_model
from training.samples.video import read_pixels
from vlm3r_core.checkpoint.fill import fill_start
from vlm3r_core.checkpoint.published import Published
from vlm3r_core.checkpoint.safe_pickle import read_torch_file
from vlm3r_core.labels import conversation_ids
from vlm3r_core.loading import load

CPU = torch.device("cpu")
# LoRA kept apart and merged: two orders of sums
TOLERANCE = 1e-4


def spec_of(folder: Path, *parts: str) -> str:
    places = {"base": "base", "adapter": "adapter", "cut3r": "cut3r.pth", "sizes": "tower_config.json"}
    return ",".join(f"{part}={folder / places[part]}" for part in parts)


@pytest.fixture(params=["odd", "even"])
def golden(request, shared_dir) -> Path:
    folder = shared_dir / "golden/vlm3r_tiny" / request.param
    if not folder.is_dir():
        pytest.skip(f"golden data not found: {folder}")
    return folder


def trained_model(config: RunConfig):
    """The model as the run had it at its end: LoRA apart, weights of the newest checkpoint."""
    model = start_model(config, CPU)
    parameters = make_trainable(model, config)
    weights = read_checkpoint(checkpoints(Path(config.out))[-1]).weights
    assert weights.keys() == parameters.keys()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    return model.eval()


def logits_of(model, question_set) -> torch.Tensor:
    pixels, _ = read_pixels(question_set / "videos/room0", 3, model.config.siglip.image_size)
    ids, _ = conversation_ids(model.tokenizer, ["<image>\nHow many chair(s) are in this room?", "3"], "answer")
    with torch.inference_mode():
        return model(pixels, ids)


def train(config: RunConfig) -> str:
    run_training(config, Processes(0, 1, CPU))
    return json.loads(Path(config.out, "result.json").read_text())["model"]


@pytest.mark.parametrize(
    ("golden", "parts"),
    [("odd", ("base", "cut3r", "sizes")), ("even", ("base", "adapter", "cut3r", "sizes"))],
    ids=["new", "on"],
    indirect=["golden"],
)
def test_adapter_loads_and_answers_the_same(golden, make_run, question_set, parts):
    """Two steps on the published base, from a new adapter or from the published one."""
    start = spec_of(golden, *parts)
    config = make_run(model=start, max_steps=2, warmup_ratio=0, lora_rank=8, lora_alpha=16)
    spec = train(config)
    assert spec == start.replace(f"adapter={golden}/adapter,", "").replace(
        ",cut3r", f",adapter={config.out}/adapter,cut3r"
    )
    model = trained_model(config)
    expected = logits_of(model, question_set)
    torch.testing.assert_close(logits_of(load(spec, "cpu"), question_set), expected, rtol=0, atol=TOLERANCE)
    apart = load(spec, "cpu", merge_adapter=False)
    torch.testing.assert_close(logits_of(apart, question_set), expected, rtol=0, atol=1e-6)
    if "adapter" in parts:
        before = logits_of(load(start, "cpu"), question_set)
        assert (before - expected).abs().max() > 100 * TOLERANCE  # it did learn something


def test_adapter_has_the_published_layout(golden, make_run):
    theirs = json.loads((golden / "adapter/adapter_config.json").read_text())
    sizes = {"lora_rank": theirs["r"], "lora_alpha": theirs["lora_alpha"]}
    config = make_run(model=spec_of(golden, "base", "cut3r", "sizes"), max_steps=1, **sizes)
    train(config)
    ours, theirs = Path(config.out, "adapter"), golden / "adapter"
    assert {p.name for p in ours.iterdir()} == {p.name for p in theirs.iterdir()} | {"README.md"}
    lora, published = load_file(ours / "adapter_model.safetensors"), load_file(theirs / "adapter_model.safetensors")
    assert {k: t.shape for k, t in lora.items()} == {k: t.shape for k, t in published.items()}
    trained, published = (read_torch_file(p / "non_lora_trainables.bin") for p in (ours, theirs))
    assert {k: t.shape for k, t in trained.items()} == {k: t.shape for k, t in published.items()}
    assert len(trained) == 22
    settings = [json.loads((p / "adapter_config.json").read_text()) for p in (ours, theirs)]
    for name in ("r", "lora_alpha", "lora_dropout", "bias", "peft_type", "task_type", "modules_to_save"):
        assert settings[0][name] == settings[1][name], name
    assert settings[0]["target_modules"] == sorted(settings[1]["target_modules"])
    first, second = (json.loads((p / "config.json").read_text()) for p in (ours, theirs))
    # settings of single images, which video does not use, and what the base is called
    unlike = {"_name_or_path", "image_aspect_ratio", "image_crop_resolution", "image_grid_pinpoints"}
    unlike |= {"image_split_resolution", "transformers_version", "torch_dtype", "vision_tower_pretrained"}
    for name in second.keys() - unlike:
        assert first.get(name) == second[name], name


@pytest.mark.parametrize("golden", ["odd"], indirect=True)
def test_new_adapter_starts_from_the_base(golden):
    """Its projector is the base's, its LoRA changes nothing yet, its fusion block is new."""
    spec = spec_of(golden, "base", "cut3r", "sizes")
    config = RunConfig(model=spec, lora_rank=8, lora_alpha=16)
    model, published = start_model(config, CPU), load(spec_of(golden, "base", "adapter", "cut3r", "sizes"), "cpu")
    base = load(spec_of(golden, "base", "sizes"), "cpu")
    for name, tensor in base.projector.state_dict().items():
        assert torch.equal(model.projector.state_dict()[name], tensor)
    for name, tensor in published.cut3r.state_dict().items():
        assert torch.equal(model.cut3r.state_dict()[name], tensor)
    assert model.fusion.query.weight.std() == pytest.approx(0.02, rel=0.1)
    pixels = torch.zeros(2, 3, *[model.config.siglip.image_size] * 2)
    ids, _ = conversation_ids(model.tokenizer, ["<image>\nHow many?", "3"], "answer")
    with torch.inference_mode():
        before = model(pixels, ids)
        make_trainable(model, config)
        assert torch.equal(model.eval()(pixels, ids), before)
    assert len(lora_targets(model)) == 7 * model.config.language.num_layers
    other = start_model(replace(config, seed=1), CPU)
    assert not torch.equal(other.fusion.query.weight, model.fusion.query.weight)


@pytest.mark.parametrize("golden", ["odd"], indirect=True)
def test_starts_that_are_refused(golden, tmp_path):
    spec = spec_of(golden, "base", "cut3r", "sizes")
    with pytest.raises(ValueError, match="trained with --train lora"):
        start_model(RunConfig(model=spec, train="language"), CPU)
    with pytest.raises(ValueError, match="a new adapter is trained on base=PATH,cut3r=PATH"):
        Published.parse_start(spec_of(golden, "base", "sizes"))
    with pytest.raises(FileNotFoundError, match="not found: cut3r="):
        Published.parse_start(f"base={golden / 'base'},cut3r={tmp_path / 'none.pth'}")
    published = Published.parse_start(spec)
    wrong = vlm3r_core.load("tiny-random", "cpu")
    with pytest.raises(ValueError, match="nothing was loaded"):
        fill_start(wrong, published)


@pytest.mark.parametrize("what", ["lora", "language"])
def test_a_folder_of_ours_loads_and_answers_the_same(make_run, nano_spec, question_set, what):
    config = make_run(train=what, max_steps=2, warmup_ratio=0)
    spec = train(config)
    assert spec == f"{config.out}/model"
    expected = logits_of(trained_model(config), question_set)
    model = load(spec, "cpu")
    assert model.config.trained
    torch.testing.assert_close(logits_of(model, question_set), expected, rtol=0, atol=TOLERANCE)
    assert (logits_of(load(nano_spec, "cpu"), question_set) - expected).abs().max() > 100 * TOLERANCE
    # it can be trained further, and a later export takes the place of an earlier one
    again = replace(config, model=spec, out=f"{config.out}2", max_steps=1)
    assert train(again) == f"{config.out}2/model"
    before = Path(config.out, "model/vlm3r.json").stat().st_mtime_ns
    train(replace(config, max_steps=3))
    assert Path(config.out, "model/vlm3r.json").stat().st_mtime_ns > before
    assert not list(Path(config.out).glob(".*"))
