"""Published files: each kind loads completely, and each kind of damage gets its message and loads nothing."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from published_golden import SETS, load_published, spec_of
from safetensors.torch import load_file, save_file

import vlm3r_core
from vlm3r_core.checkpoint.fill import fill_weights
from vlm3r_core.checkpoint.published import Published
from vlm3r_core.checkpoint.safe_pickle import read_torch_file
from vlm3r_core.config import VLM3R_7B
from vlm3r_core.loading import model_config, tokenizer_for
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import Tokenizer
from vlm3r_core.stream.engine import StreamEngine

FUSION = "base_model.model.model.fusion_block."


@pytest.fixture(scope="module")
def weights(golden_dir):
    """The odd set's weights under our names."""
    return load_published(spec_of(golden_dir / "odd")).state_dict()


@pytest.fixture
def files(golden_dir, tmp_path):
    """A copy of the odd set to damage."""
    for path in (golden_dir / "odd").rglob("*"):
        target = tmp_path / path.relative_to(golden_dir / "odd")
        if path.is_file() and "extra" not in path.parts and not path.name.startswith(("outputs", "train_grads")):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return tmp_path


def assert_same_weights(model: VLM3R, weights: dict) -> None:
    ours = model.state_dict()
    assert ours.keys() == weights.keys()
    assert [name for name in weights if not torch.equal(ours[name], weights[name])] == []


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_torch_file(path: Path, edit) -> None:
    """Saves again what a file of tensors holds, after `edit`."""
    content = read_torch_file(path)
    content = {"model": {name: t.clone() for name, t in content["model"].items()}} if "model" in content else content
    changed = edit(content)
    path.unlink()
    torch.save(changed, path)


def edit_safetensors(path: Path, edit) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def shard_with(files: Path, key: str) -> Path:
    index = json.loads((files / "base/model.safetensors.index.json").read_text())
    return files / "base" / index["weight_map"][key]


def refusal(files: Path) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        vlm3r_core.load(spec_of(files), device="cpu")
    return str(error.value)


# ---- what loads


@pytest.mark.parametrize("name", SETS)
def test_load_and_tokenizer(golden_dir, name):
    spec = spec_of(golden_dir / name)
    model = vlm3r_core.load(spec, device="cpu")
    assert model.config == model_config(spec)
    assert model.config.trained
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.config.language.vocab_size == 336
    assert tokenizer_for(spec).size == 320
    assert tokenizer_for("tiny-random").size == Tokenizer().size


def test_sizes_that_only_the_sizes_file_knows(golden_dir):
    odd, even = (model_config(spec_of(golden_dir / name)) for name in SETS)
    assert (odd.cut3r.state_dec_num_heads, even.cut3r.state_dec_num_heads) == (16, 6)
    assert (odd.siglip.num_layers, odd.siglip.num_heads, odd.siglip.grid) == (3, 6, 5)
    assert odd.cut3r.dpt.layer_dims == (4, 4, 8, 8)
    assert odd.repetition_penalty == 1.05


def test_half_precision_rounds_once_after_the_merge(golden_dir, weights):
    model = vlm3r_core.load(spec_of(golden_dir / "odd"), device="cpu", dtype="bfloat16")
    assert_same_weights(model, {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()})


def test_an_adapter_of_old_peft(golden_dir, weights):
    """A .bin with float32 tensors and a shorter adapter_config.json."""
    adapter = golden_dir / "odd/extra/adapter_peft040"
    assert (adapter / "adapter_model.bin").is_file()
    assert_same_weights(load_published(spec_of(golden_dir / "odd", adapter=adapter)), weights)


def test_adapter_keys_of_other_peft_versions(files, weights):
    def edit(tensors):
        for key in list(tensors):
            renamed = key.removeprefix("base_model.model.").replace("_A.weight", "_A.default.weight")
            tensors[renamed] = tensors.pop(key)

    edit_safetensors(files / "adapter/adapter_model.safetensors", edit)
    edit_json(files / "adapter/adapter_config.json", target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    text = refusal(files)
    assert "LoRA adapter: 42 tensors found, 24 expected" in text
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    edit_json(files / "adapter/adapter_config.json", target_modules=every)
    assert_same_weights(load_published(spec_of(files)), weights)


def test_one_file_of_base_weights_without_index(files, weights):
    whole = {}
    for shard in (files / "base").glob("model-*.safetensors"):
        whole |= load_file(shard)
        shard.unlink()
    (files / "base/model.safetensors.index.json").unlink()
    save_file(whole, files / "base/model.safetensors")
    assert_same_weights(load_published(spec_of(files)), weights)


def test_cut3r_with_module_prefix_and_namespace(files, weights):
    def edit(content):
        model = {f"module.{name}": tensor for name, tensor in content["model"].items()}
        return {"args": argparse.Namespace(model="Net(enc_num_heads=4)"), "model": model, "best_so_far": None}

    edit_torch_file(files / "cut3r.pth", edit)
    assert_same_weights(load_published(spec_of(files)), weights)


def test_cut3r_as_plain_tensors(files, weights):
    edit_torch_file(files / "cut3r.pth", lambda content: content["model"])
    assert_same_weights(load_published(spec_of(files)), weights)


@pytest.mark.parametrize("dropped", [r"layer1_rn", r"layer_rn.0"])
def test_cut3r_with_one_name_of_a_shared_tensor(files, weights, dropped):
    def edit(content):
        return {name: tensor for name, tensor in content["model"].items() if dropped not in name}

    edit_torch_file(files / "cut3r.pth", edit)
    assert_same_weights(load_published(spec_of(files)), weights)


# ---- what does not


def test_published_counts(tmp_path):
    """392 LoRA tensors, 22 others, 1248 of CUT3R, 765 of the base less its projector."""
    modules = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
    targets = [f"model.layers.{layer}.{module}" for layer in range(28) for module in modules]
    config = {"peft_type": "LORA", "bias": "none", "r": 128, "lora_alpha": 256, "target_modules": targets}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    torch.save({"model": {}}, tmp_path / "cut3r.pth")
    with torch.device("meta"):
        model = VLM3R(VLM3R_7B)
    with pytest.raises(ValueError, match="nothing was loaded") as error:
        fill_weights(model, Published(tmp_path, tmp_path, tmp_path / "cut3r.pth"))
    text = str(error.value)
    assert "base model: 0 tensors found, 761 expected" in text
    assert "non_lora_trainables.bin: 0 tensors found, 22 expected" in text
    assert "LoRA adapter: 0 tensors found, 392 expected" in text
    assert "CUT3R checkpoint: 0 tensors found, 1248 expected" in text
    assert f"no file {tmp_path / 'model.safetensors'}" in text


def test_everything_wrong_is_told_at_once_and_nothing_loaded(files, weights):
    (files / "base/model-00002-of-00005.safetensors").unlink()

    def without_bias(content):
        return {name: tensor for name, tensor in content.items() if name != f"{FUSION}out_norm.bias"}

    edit_torch_file(files / "adapter/non_lora_trainables.bin", without_bias)
    edit_torch_file(files / "cut3r.pth", lambda content: content["model"] | {"extra": torch.zeros(1)})
    published = Published.parse(spec_of(files))
    with torch.device("cpu"):
        model = VLM3R(published.config())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="nothing was loaded") as error:
        fill_weights(model, published)
    for part in ("model-00002-of-00005.safetensors", "fusion_block.out_norm.bias", "unexpected 1: extra"):
        assert part in str(error.value)
    assert_same_weights(model, before)


def test_missing_shard(files):
    shard_with(files, "model.norm.weight").unlink()
    assert "model-00002-of-00005.safetensors; the download is incomplete" in refusal(files)


@pytest.mark.parametrize("name", ["base/model-00003-of-00005.safetensors", "adapter/non_lora_trainables.bin"])
def test_cut_off_file(files, name):
    whole = (files / name).read_bytes()
    (files / name).write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refusal(files)
    assert Path(name).name in refusal(files)


def test_renamed_key(files):
    def edit(tensors):
        tensors["model.norme.weight"] = tensors.pop("model.norm.weight")

    edit_safetensors(shard_with(files, "model.norm.weight"), edit)
    text = refusal(files)
    assert "missing 1: model.norm.weight" in text
    assert "unexpected 1: model.norme.weight" in text


def test_wrong_shape(files):
    key = f"{FUSION}clip_query_proj.weight"
    edit_torch_file(files / "adapter/non_lora_trainables.bin", lambda content: content | {key: torch.zeros(9, 72)})
    text = refusal(files)
    assert "misshapen 1: model.fusion_block.clip_query_proj.weight is [9, 72], not [72, 72]" in text
    assert "likely cause: an adapter that was trained on another base" in text


def test_adapter_without_fusion(files):
    def edit(content):
        return {name: tensor for name, tensor in content.items() if "fusion_block" not in name}

    edit_torch_file(files / "adapter/non_lora_trainables.bin", edit)
    text = refusal(files)
    assert "4 tensors found, 22 expected" in text
    assert "likely cause: an adapter without fusion block" in text


def test_base_projector_does_not_stand_in(files):
    """The base holds a projector too; the adapter's must not be missed silently."""

    def edit(content):
        return {name: tensor for name, tensor in content.items() if "mm_projector" not in name}

    edit_torch_file(files / "adapter/non_lora_trainables.bin", edit)
    assert "missing 4: model.mm_projector.0.weight" in refusal(files)


def test_adapter_of_another_base(files, golden_dir):
    text = "the adapter belongs to a base with num_hidden_layers 2, this one has 3"
    with pytest.raises(ValueError, match=text):
        model_config(spec_of(files, adapter=golden_dir / "even/adapter"))


def test_lora_of_another_base(files, golden_dir):
    shutil.copyfile(golden_dir / "even/adapter/adapter_model.safetensors", files / "adapter/adapter_model.safetensors")
    text = refusal(files)
    assert "LoRA adapter: 28 tensors found, 42 expected" in text
    assert "likely cause: an adapter that was trained on another base" in text


def test_target_that_the_base_lacks(files):
    edit_json(files / "adapter/adapter_config.json", target_modules=["model.layers.7.self_attn.q_proj"])
    assert "its target model.layers.7.self_attn.q_proj is no linear layer" in refusal(files)


@pytest.mark.parametrize("change", [{"use_dora": True}, {"peft_type": "IA3"}, {"alpha_pattern": {"q_proj": 1}}])
def test_other_adapters_than_plain_lora(files, change):
    edit_json(files / "adapter/adapter_config.json", **change)
    text = refusal(files)
    assert "must describe a plain LoRA" in text
    assert f"got {next(iter(change))}" in text


def test_cut3r_without_state_decoder(files):
    def edit(content):
        return {name: tensor for name, tensor in content["model"].items() if "_state." not in name}

    edit_torch_file(files / "cut3r.pth", edit)
    assert "likely cause: the file has no state decoder" in refusal(files)


def test_cut3r_names_that_disagree(files):
    key = "downstream_head.dpt_self.scratch.layer1_rn.weight"
    edit_torch_file(files / "cut3r.pth", lambda content: content["model"] | {key: content["model"][key] + 1})
    assert f"{key} and downstream_head.dpt_self.scratch.layer_rn.0.weight are one tensor" in refusal(files)


def test_head_counts_that_contradict(files):
    sizes = json.loads((files / "tower_config.json").read_text())
    edit_json(files / "tower_config.json", cut3r=sizes["cut3r"] | {"enc_num_heads": 8})
    assert "was trained with enc_num_heads=4" in refusal(files)
    assert "says 8" in refusal(files)


def test_without_sizes_the_published_ones_are_expected(files):
    spec = spec_of(files).rsplit(",", 1)[0]
    with pytest.raises(ValueError, match="SigLIP width of 72, not 1152; give its sizes with sizes=PATH"):
        model_config(spec)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"fusion_block": "mlp"}, "fusion_block 'mlp', only 'cross_attention' is built here"),
        ({"spatial_tower": "vggt"}, "spatial_tower 'vggt', only 'cut3r' is built here"),
        ({"mm_projector_type": "linear"}, "mm_projector_type 'linear', only 'mlp2x_gelu' is built here"),
        ({"spatial_tower_select_feature": "some"}, "token selection must be one of"),
    ],
)
def test_other_networks_than_the_published(files, change, text):
    edit_json(files / "adapter/config.json", **change)
    assert text in refusal(files)


class _Call:
    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("name", ["cut3r.pth", "adapter/non_lora_trainables.bin"])
def test_malicious_file(files, name):
    marker = files / "marker"
    edit_torch_file(files / name, lambda content: content | {"epoch": _Call(f"touch {marker}")})
    text = refusal(files)
    assert "was refused: besides tensors it asks for" in text
    assert not marker.exists()


def test_base_without_tokenizer(files):
    (files / "base/tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected a tokenizer\.json"):
        tokenizer_for(spec_of(files))


def test_a_trained_model_does_not_take_the_bundled_tokenizer(golden_dir):
    model = load_published(spec_of(golden_dir / "odd"))
    with pytest.raises(ValueError, match="pass tokenizer_for"):
        StreamEngine(model)


# ---- specs


def test_spec_errors(tmp_path):
    with pytest.raises(ValueError, match="lacks base, cut3r: expected base=PATH"):
        Published.parse(f"adapter={tmp_path}")
    with pytest.raises(ValueError, match="did you mean 'adapter'"):
        Published.parse("base=a,adaptor=b,cut3r=c")
    with pytest.raises(ValueError, match="one path for base="):
        Published.parse("base=a,base=b,adapter=b,cut3r=c")
    with pytest.raises(FileNotFoundError, match=r"adapter=.*nowhere, cut3r="):
        vlm3r_core.load(f"base={tmp_path},adapter={tmp_path}/nowhere,cut3r={tmp_path}")


def test_spec_with_a_comma_in_a_path(tmp_path):
    folder = tmp_path / "a,b"
    folder.mkdir()
    (folder / "c.pth").touch()
    published = Published.parse(f"base={folder},adapter={folder},cut3r={folder}/c.pth")
    assert published == Published(folder, folder, folder / "c.pth")


def test_incomplete_config(tmp_path):
    (tmp_path / "c.pth").touch()
    spec = f"base={tmp_path},adapter={tmp_path},cut3r={tmp_path}/c.pth"
    with pytest.raises(FileNotFoundError, match=r"no file .*config\.json"):
        model_config(spec)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="must hold a JSON object, got list"):
        model_config(spec)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        model_config(spec)
