"""Our own folder: the same model as its source, quantised near it, mapped from the disk, and every damage told."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from published_golden import SETS, Golden, load_published, spec_of
from safetensors.torch import load_file, save_file

import vlm3r_core
from vlm3r_core.checkpoint.saved import Saved, skeleton
from vlm3r_core.loading import model_config, tokenizer_for
from vlm3r_core.model.quantized import dequantize, is_quantized_weight, quantize_weight
from vlm3r_core.stream.decoding import greedy_tokens
from vlm3r_core.weights.cli import main
from vlm3r_core.weights.convert import convert, save_model
from vlm3r_core.weights.inventory import take_inventory


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny models run many times faster so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A preset as a folder of several shards."""
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    convert("tiny-random", folder, dtype="float32", shard_bytes=2_000_000)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """A folder to damage."""
    return copied(made, tmp_path / "copy")


def copied(folder: Path, target: Path) -> Path:
    """Files that may be changed, whatever the originals are."""
    shutil.copytree(folder, target)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        vlm3r_core.load(str(folder), "cpu")
    return str(error.value)


def assert_equal(model, other) -> None:
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# ---- what is written and read


def test_a_preset_comes_back_as_it_was(made):
    model = vlm3r_core.load(str(made), "cpu")
    assert_equal(model, vlm3r_core.load("tiny-random", "cpu"))
    assert model.config == model_config("tiny-random")
    assert not model.config.trained
    assert model.tokenizer.size == tokenizer_for("tiny-random").size
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert len(list(made.glob("*.safetensors"))) > 2
    assert all(path.stat().st_size < 2_100_000 for path in made.glob("*.safetensors"))


@pytest.mark.parametrize("name", SETS)
def test_a_published_model_comes_back_as_it_was(golden_dir, tmp_path, name):
    spec = spec_of(golden_dir / name)
    convert(spec, tmp_path / "model", dtype="float32")
    model = vlm3r_core.load(str(tmp_path / "model"), "cpu")
    assert_equal(model, load_published(spec))
    assert model.config == model_config(spec)
    assert model.tokenizer.size == 320
    said = json.loads((tmp_path / "model/vlm3r.json").read_text())
    assert said["generation"]["repetition_penalty"] == 1.05
    assert {source["part"] for source in said["sources"]} == {"base", "adapter", "cut3r", "sizes"}
    assert all(len(source["sha256"]) == 64 for source in said["sources"])
    assert said["licences"]["cut3r"].startswith("CC BY-NC-SA 4.0")
    assert "non-commercial" in (tmp_path / "model/LICENCES.md").read_text()
    assert {"vlm3r", "torch", "transformers"} <= said["versions"].keys()


def test_bfloat16_by_default_and_converted_once(golden_dir, tmp_path):
    """Stored in bfloat16 the weights are those that a direct load in bfloat16 has."""
    spec = spec_of(golden_dir / "odd")
    convert(spec, tmp_path / "model")
    assert_equal(
        vlm3r_core.load(str(tmp_path / "model"), "cpu", "bfloat16"), vlm3r_core.load(spec, "cpu", dtype="bfloat16")
    )


def test_a_folder_converts_again(made, tmp_path):
    convert(str(made), tmp_path / "again", dtype="float32")
    assert_equal(vlm3r_core.load(str(tmp_path / "again"), "cpu"), vlm3r_core.load(str(made), "cpu"))


def test_weights_of_the_stored_dtype_stay_mapped_from_the_file(made):
    """Loading takes no memory for them: the process maps the shards, and the tensors lie in the mappings."""
    model = vlm3r_core.load(str(made), "cpu")
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(made) in line]
    spans = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]
    inside = sum(p.nbytes for p in model.parameters() if any(a <= p.data_ptr() < b for a, b in spans))
    assert inside == sum(p.nbytes for p in model.parameters())


def test_a_skeleton_has_no_memory_for_parameters_but_its_buffers():
    config = model_config("vlm3r-7b-random")
    model = skeleton(config)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert {buffer.device.type for buffer in model.buffers()} == {"cpu"}


def test_nothing_is_left_where_converting_fails(golden_dir, tmp_path):
    files = copied(golden_dir / "odd", tmp_path / "odd")
    # its reading fails only when its turn comes
    (files / "base/tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError):
        convert(spec_of(files), tmp_path / "out/model")
    assert list((tmp_path / "out").iterdir()) == []


def test_convert_refuses_what_it_would_spoil(made, tmp_path, monkeypatch):
    with pytest.raises(FileExistsError, match="expected a folder yet to be made"):
        convert("tiny-random", made)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    with pytest.raises(OSError, match=r"0\.0 GB free, 0\.1 GB are needed"):
        convert("tiny-random", tmp_path / "model", dtype="float32")
    assert list(tmp_path.iterdir()) == []


# ---- damage


def test_missing_shard(copy):
    (copy / "model-00002.safetensors").unlink()
    text = refusal(copy)
    assert "nothing was loaded" in text
    assert f"no file {copy / 'model-00002.safetensors'}" in text
    assert "missing " in text


def test_truncated_shard(copy):
    path = copy / "model-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} is damaged or cut off" in refusal(copy)


def edit_shard(folder: Path, key: str, edit) -> None:
    path = next(path for path in folder.glob("*.safetensors") if key in load_file(path))
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_renamed_key_wrong_shape_and_wrong_dtype(copy):
    def edit(tensors):
        tensors["fusion.renamed"] = tensors.pop("fusion.query.weight")
        tensors["fusion.key.weight"] = tensors["fusion.key.weight"][:-1].clone()
        tensors["fusion.value.weight"] = tensors["fusion.value.weight"].half()

    edit_shard(copy, "fusion.query.weight", edit)
    text = refusal(copy)
    assert "missing 1: fusion.query.weight" in text
    assert "unexpected 1: fusion.renamed" in text
    assert "fusion.key.weight is float32 [143, 96], not float32 [144, 96]" in text
    assert "fusion.value.weight is float16 [144, 96], not float32 [144, 96]" in text
    assert "bytes, vlm3r.json says" in text


def test_a_folder_that_is_none_of_ours(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model of ours: it has no vlm3r\.json; make one with"):
        vlm3r_core.load(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": 7}, "has format 7, expected 1"),
        ({"shards": None}, "lacks shards; it is damaged"),
        ({"config": {"name": "x", "colour": 1}}, "has no readable config"),
        ({"config": {"name": "x", "pool": "mean"}}, "ModelConfig.pool must be one of"),
    ],
)
def test_damaged_description(copy, change, text):
    path = copy / "vlm3r.json"
    said = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in said.items() if value is not None}))
    assert text in refusal(copy)


def test_missing_tokenizer(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected a tokenizer\.json"):
        vlm3r_core.load(str(copy), "cpu")


# ---- quantised


def answer(golden: Golden, model, run: str) -> list[int]:
    """Greedy tokens of a recorded prompt over the recorded visual tokens."""
    ids = golden.outputs.get(f"{run}.input_ids", golden.outputs["v4.input_ids"]).tolist()
    embeddings = model.embed_prompt(ids, [golden.outputs[f"{run}.visual_tokens"]])
    cache = model.language.new_cache(len(embeddings) + 12)
    steps = greedy_tokens(
        model.language,
        cache,
        model.language.next_logits(embeddings, cache),
        vocab_size=golden.tokenizer.size,
        stop_ids=(golden.tokenizer.im_end, golden.tokenizer.end_of_text),
        max_new_tokens=12,
        repetition_penalty=golden.config.repetition_penalty,
    )
    return [token for token, _ in steps]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(("quantize", "agreement"), [("int8", 0.9), ("int4", 0.4)])
def test_quantised_model_near_the_golden_one(golden_dir, tmp_path, name, quantize, agreement):
    """Share of positions of the golden prompts whose best token stays; measured int8 0.95 and more, int4 0.49 and more.

    The golden weights are random and their best two tokens close together; int4 in particular says little here.
    """
    golden = Golden.read(golden_dir / name, half=True)
    convert(spec_of(golden_dir / name), tmp_path / "model", quantize=quantize, dtype="float32")
    model = vlm3r_core.load(str(tmp_path / "model"), "cpu")
    same = total = 0
    with torch.inference_mode():
        for run in ("eval", "v4.all"):
            ids = golden.outputs.get(f"{run}.input_ids", golden.outputs["v4.input_ids"]).tolist()
            embeddings = model.embed_prompt(ids, [golden.outputs[f"{run}.visual_tokens"]])
            ours, theirs = (m.language.logits(embeddings)[:, : golden.tokenizer.size] for m in (model, golden.model))
            same, total = same + int((ours.argmax(1) == theirs.argmax(1)).sum()), total + len(ours)
        if quantize == "int8":
            told = answer(golden, model, "eval")
            assert told[0] == golden.outputs["eval.generated"][0]
    assert same / total >= agreement


def test_quantised_while_loading_is_quantised_when_converted(made, tmp_path):
    """Three ways to the same weights: stored, from a plain folder, from the source."""
    convert("tiny-random", tmp_path / "int4", quantize="int4", dtype="float32")
    tokens = torch.randn(5, model_config("tiny-random").language.hidden_size)
    with torch.inference_mode():
        stored = vlm3r_core.load(str(tmp_path / "int4"), "cpu").language.logits(tokens)
        folder = vlm3r_core.load(str(made), "cpu", quantize="int4").language.logits(tokens)
        source = vlm3r_core.load("tiny-random", "cpu", quantize="int4").language.logits(tokens)
        plain = vlm3r_core.load("tiny-random", "cpu").language.logits(tokens)
    assert torch.equal(stored, folder)
    assert torch.equal(stored, source)
    assert not torch.equal(stored, plain)
    assert Saved.open(tmp_path / "int4").quantize == "int4"
    with pytest.raises(ValueError, match="is stored as int4, it cannot be loaded as int8"):
        vlm3r_core.load(str(tmp_path / "int4"), quantize="int8")
    with pytest.raises(ValueError, match="is quantised already"):
        convert(str(tmp_path / "int4"), tmp_path / "again")
    with pytest.raises(ValueError, match="did you mean 'int4'"):
        vlm3r_core.load("tiny-random", quantize="in4")


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_fused_model_equals_the_one_multiplied_out(quantize):
    """Float32 through six layers: sums in another order, 1e-4 of logits of size 4 and less."""
    fused, plain = vlm3r_core.load("tiny-random", "cpu", quantize=quantize), vlm3r_core.load("tiny-random", "cpu")
    for name, weight in plain.named_parameters():
        if is_quantized_weight(name):
            weight.copy_(dequantize(quantize_weight(weight, quantize)))
    ids = torch.arange(40)
    with torch.inference_mode():
        ours, theirs = (model.language.logits(model.language.embed(ids)) for model in (fused, plain))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert torch.equal(ours.argmax(1), theirs.argmax(1))


# ---- check


def test_check_of_complete_files(golden_dir, made, capsys):
    for spec, words in (
        (spec_of(golden_dir / "odd"), ("LoRA adapter", "42 ", "CC BY-NC-SA 4.0", "bfloat16")),
        (str(made), ("siglip", "language", "float32")),
    ):
        assert main(["check", spec]) == 0
        said = capsys.readouterr().out
        assert "complete: every tensor is there and fits" in said
        assert [word for word in words if word not in said] == []


def test_check_reads_no_tensors(golden_dir, tmp_path):
    """Tensor data full of other bytes is not noticed, for it is not looked at."""
    files = copied(golden_dir / "odd", tmp_path / "odd")
    before = take_inventory(spec_of(files))
    path = files / "base/model-00003-of-00005.safetensors"
    content = bytearray(path.read_bytes())
    content[-1000:] = b"\xff" * 1000
    path.write_bytes(content)
    assert take_inventory(spec_of(files)) == before
    assert before.faults == []


def test_check_of_damaged_files(golden_dir, copy, tmp_path, capsys):
    files = copied(golden_dir / "odd", tmp_path / "odd")
    (files / "base/model-00002-of-00005.safetensors").unlink()
    assert main(["check", spec_of(files)]) == 1
    said = capsys.readouterr().out
    assert "model-00002-of-00005.safetensors; the download is incomplete" in said
    assert "CUT3R checkpoint" in said
    (copy / "model-00001.safetensors").unlink()
    assert main(["check", str(copy)]) == 1


def test_check_of_hashes(golden_dir, copy, capsys):
    """A byte of a tensor that changed shows in no header."""
    assert main(["check", "--hashes", str(copy)]) == 0
    path = copy / "model-00002.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert main(["check", str(copy)]) == 0
    assert main(["check", "--hashes", str(copy)]) == 1
    assert f"{path} was altered: its SHA-256" in capsys.readouterr().out
    assert main(["check", "--hashes", spec_of(golden_dir / "odd")]) == 2


def test_check_of_settings_that_contradict(golden_dir, tmp_path, capsys):
    files = copied(golden_dir / "odd", tmp_path / "odd")
    sizes = json.loads((files / "tower_config.json").read_text())
    sizes["cut3r"]["enc_num_heads"] = 8
    (files / "tower_config.json").write_text(json.dumps(sizes))
    assert main(["check", spec_of(files)]) == 1
    assert "was trained with enc_num_heads=4" in capsys.readouterr().out


def test_check_of_several_adapters_and_of_a_base_alone(golden_dir, tmp_path):
    files = copied(golden_dir / "odd", tmp_path / "odd")
    second = copied(files / "adapter", files / "second")
    parts = dict(part.split("=") for part in spec_of(files).split(","))
    spec = f"base={parts['base']},sizes={parts['sizes']}"
    alone = take_inventory(spec)
    assert ([row.name for row in alone.rows], alone.faults) == (["base model"], [])
    convert(spec, tmp_path / "base", dtype="float32")
    assert_equal(vlm3r_core.load(str(tmp_path / "base"), "cpu"), vlm3r_core.load(spec, "cpu"))
    spec += f",cut3r={parts['cut3r']},adapter=vsi:{parts['adapter']},adapter=vsti:{second}"
    assert [row.name for row in take_inventory(spec).rows][4:] == [
        "adapter's non_lora_trainables.bin (vsti)",
        "LoRA adapter (vsti)",
    ]
    (second / "adapter_model.safetensors").unlink()
    (fault, *_) = take_inventory(spec).faults
    assert fault.startswith("adapter vsti, LoRA adapter: 0 tensors found, 42 expected")
    with pytest.raises(ValueError, match=r"a folder holds one adapter, .* names 2; convert each by itself"):
        convert(spec, tmp_path / "model")


def test_check_of_bad_specs(tmp_path, capsys):
    assert main(["check", "tiny-random"]) == 2
    assert "is a preset without files" in capsys.readouterr().err
    assert main(["check", str(tmp_path)]) == 2
    assert "holds no model of ours" in capsys.readouterr().err
    assert main(["check", f"base={tmp_path}/none,adapter={tmp_path},cut3r={tmp_path}"]) == 2
    assert "not found: base=" in capsys.readouterr().err


def test_command_line_as_a_module(golden_dir, tmp_path):
    command = [sys.executable, "-m", "vlm3r_core.weights", "convert", spec_of(golden_dir / "odd"), str(tmp_path / "m")]
    done = subprocess.run([*command, "--quantize", "int8"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"wrote {tmp_path / 'm'}" in done.stdout
    assert Saved.open(tmp_path / "m").description["dtype"] == "bfloat16"


def test_a_model_in_memory_is_written_as_one_from_files(tmp_path):
    model = vlm3r_core.load("tiny-random", "cpu")
    config = replace(model.config, random_seed=None)
    save_model(model.named_parameters(), config, "tiny-random", tmp_path / "m", dtype="float32", shard_bytes=10**6)
    loaded = vlm3r_core.load(str(tmp_path / "m"), "cpu", "float32")
    assert loaded.config == config
    for name, parameter in model.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter)
    pairs = list(model.named_parameters())
    for wrong, words in ((pairs[1:], "1 parameters of tiny-random are missing"), ([*pairs, pairs[0]], "came twice")):
        with pytest.raises(ValueError, match=words):
            save_model(wrong, config, "tiny-random", tmp_path / "n", dtype="float32")
    with pytest.raises(FileExistsError):
        save_model(pairs, config, "tiny-random", tmp_path / "m", dtype="float32")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
