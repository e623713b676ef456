"""Training as published, at small size: ids, labels, loss and gradients; peft's adapters; the base model alone.

Ids and labels are equal. Loss and gradients go through CUT3R's half rounding, the same in both, so that only the order
of sums differs: the golden data's README allows 1e-4 for gradients, 1e-6 is measured.
"""

from __future__ import annotations

import json
import shutil
import time

import pytest
import torch
from published_golden import SETS, Golden, spec_of, watched
from safetensors.torch import load_file, save_file

import vlm3r_core
from vlm3r_core.checkpoint.adapters import Adapters
from vlm3r_core.checkpoint.fill import fill_weights
from vlm3r_core.checkpoint.published import Published
from vlm3r_core.checkpoint.safe_pickle import read_torch_file
from vlm3r_core.labels import IGNORED, conversation_ids, expand_labels, next_token_loss
from vlm3r_core.loading import build
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import prefix_ids
from vlm3r_core.stream.decoding import greedy_tokens
from vlm3r_core.stream.worker import Worker
from vlm3r_core.types import NoFrame

LOSS, GRADIENT, HALF, FULL = 1e-5, 1e-4, 1e-3, 3e-4
PUBLISHED_NAMES = {
    "projector.": "mm_projector.",
    "fusion.image_norm.": "fusion_block.clip_norm.",
    "fusion.spatial_norm.": "fusion_block.spatial_encoder_norm.",
    "fusion.query.": "fusion_block.clip_query_proj.",
    "fusion.key.": "fusion_block.spatial_encoder_key_proj.",
    "fusion.value.": "fusion_block.spatial_encoder_value_proj.",
    "fusion.attention.": "fusion_block.cross_attention.",
    "fusion.": "fusion_block.",
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=SETS)
def golden(request, golden_dir):
    return Golden.read(golden_dir / request.param, half=True)


def with_adapters(folder, *names: str, dtype: str = "float32") -> VLM3R:
    """A set's model with its adapter attached under each name."""
    spec = spec_of(folder).replace("adapter=", f"adapter={names[0]}:")
    for name in names[1:]:
        spec += f",adapter={name}:{folder / 'adapter'}"
    return vlm3r_core.load(spec, "cpu", dtype)


def messages(golden: Golden, *, instruction: bool) -> list[str]:
    first, *others = golden.facts["conversation"]
    times = golden.facts["time_instruction"] + "\n\n" if instruction else ""
    return [f"<image>\n{times}{first}", *others]


# ---- ids, labels, loss, gradients


@pytest.mark.parametrize(("run", "instruction"), [("train.", True), ("train.plain_", False)])
def test_ids_and_labels(golden, run, instruction):
    ids, labels = conversation_ids(golden.tokenizer, messages(golden, instruction=instruction))
    assert ids == golden.outputs[f"{run}input_ids"].tolist()
    assert labels == golden.outputs[f"{run}labels"].tolist()


@pytest.fixture(scope="module")
def trained(golden, golden_dir):
    """One backward pass: (parameters by name, loss, logits, expanded labels)."""
    model = with_adapters(golden_dir / golden.name, "vsi")
    parameters = model.adapters.trainable()
    ids, labels = conversation_ids(golden.tokenizer, messages(golden, instruction=True))
    logits = model(golden.pixels("frames"), ids)
    expanded = expand_labels(ids, labels, [8 * model.config.tokens_per_frame])
    loss = next_token_loss(logits, expanded)
    loss.backward()
    return parameters, loss.item(), logits, expanded


def test_labels_behind_the_visual_tokens(golden, trained):
    assert trained[3] == golden.outputs["train.expanded_labels"].tolist()


def test_loss_of_the_unmerged_lora(golden, trained):
    _, loss, logits, _ = trained
    assert logits.shape[-1] == golden.outputs["train.vocab_rows"].item()
    assert loss == pytest.approx(golden.outputs["train.loss"].item(), abs=LOSS)


@pytest.mark.parametrize("half", [True, False], ids=["as-shipped", "fp32-rope"])
def test_loss_of_the_merged_model(golden_dir, golden, half):
    """As `load` merges, with the rows of the vocabulary that stand for a token."""
    golden = golden if half else Golden.read(golden_dir / golden.name, half=False)
    ids, labels = conversation_ids(golden.tokenizer, messages(golden, instruction=True))
    with torch.inference_mode():
        logits = golden.model(golden.pixels("frames"), ids)
    expanded = expand_labels(ids, labels, [8 * golden.config.tokens_per_frame])
    for name, rows in (("loss_merged_resized", golden.tokenizer.size), ("loss", logits.shape[-1])):
        loss = next_token_loss(logits[:, :rows], expanded).item()
        assert loss == pytest.approx(golden.outputs[f"train.{name}"].item(), abs=LOSS), name


def test_gradients(golden, golden_dir, trained):
    theirs = load_file(golden_dir / golden.name / "train_grads.safetensors")
    ours = {published_name(name): parameter.grad for name, parameter in trained[0].items()}
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=0, atol=GRADIENT, msg=lambda m, n=name: f"{n}: {m}")


def published_name(name: str) -> str:
    if ".lora_" in name:
        return "base_model.model." + name.removeprefix("language.qwen.").replace(".vsi.", ".")
    ours = next(beginning for beginning in PUBLISHED_NAMES if name.startswith(beginning))
    return "base_model.model.model." + PUBLISHED_NAMES[ours] + name.removeprefix(ours)


def test_a_model_that_serves_holds_no_gradients(golden_dir):
    model = with_adapters(golden_dir / "odd", "vsi", "vsti")
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.adapters.use("vsti")
    assert not any(parameter.requires_grad for parameter in model.parameters())
    trained = set(model.adapters.trainable())
    assert {name.split(".")[0] for name in trained} == {"language", "projector", "fusion"}
    assert not [name for name in trained if ".vsi." in name]
    assert len(trained) == 64


# ---- peft's adapters


@pytest.mark.parametrize("name", SETS)
def test_peft_merges_to_the_same_weights(golden_dir, name):
    """Bit for bit in float32."""
    model = with_adapters(golden_dir / name, "vsi")
    model.adapters.merge()
    assert model.adapters is None
    plain = vlm3r_core.load(spec_of(golden_dir / name), "cpu").state_dict()
    merged = model.state_dict()
    assert merged.keys() == plain.keys()
    assert [key for key in plain if not torch.equal(merged[key], plain[key])] == []


def test_peft_merges_half_precision_within_its_steps(golden_dir):
    """peft rounds B A before it adds it, we round the sum: two roundings of bfloat16, 2**-8 of the value each."""
    folder = golden_dir / "odd"
    model = with_adapters(folder, "vsi", dtype="bfloat16")
    model.adapters.merge()
    plain = vlm3r_core.load(spec_of(folder), "cpu", "bfloat16").state_dict()
    for key, weight in model.state_dict().items():
        largest = plain[key].float().abs().max().item()
        torch.testing.assert_close(weight.float(), plain[key].float(), rtol=0, atol=largest * 2**-7)


@pytest.mark.parametrize("adapter", ["adapter", "extra/adapter_peft040"])
def test_adapter_of_either_peft_kept_apart(golden_dir, adapter):
    """safetensors in bfloat16, and a .bin in float32: the same stages as merged, to the order of sums."""
    folder = golden_dir / "odd"
    model = vlm3r_core.load(spec_of(folder, adapter=folder / adapter), "cpu", merge_adapter=False)
    assert model.adapters.names == ("default",)
    outputs, inputs = load_file(folder / "outputs.safetensors"), Golden.read(folder, half=True)
    ids = outputs["eval.input_ids"].tolist()
    with torch.inference_mode():
        logits = model(inputs.pixels("frames"), ids)[-1, : inputs.tokenizer.size]
    torch.testing.assert_close(logits, outputs["eval.logits_last"], rtol=0, atol=HALF)


@pytest.fixture
def other_adapter(golden_dir, tmp_path):
    """The odd set's adapter, retrained: another fusion, projector, LoRA and token selection."""
    folder = tmp_path / "vsti"
    folder.mkdir()
    for path in (golden_dir / "odd/adapter").iterdir():
        shutil.copyfile(path, folder / path.name)
    lora = load_file(folder / "adapter_model.safetensors")
    save_file({name: -2 * t for name, t in lora.items()}, folder / "adapter_model.safetensors")
    own = read_torch_file(folder / "non_lora_trainables.bin")
    torch.save({name: 0.5 * t for name, t in own.items()}, folder / "non_lora_trainables.bin")
    settings = json.loads((folder / "config.json").read_text()) | {"spatial_tower_select_feature": "camera_tokens"}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_switching_adapters_is_loading_the_other(golden_dir, other_adapter):
    folder = golden_dir / "odd"
    spec = spec_of(folder).replace("adapter=", "adapter=vsi:") + f",adapter=vsti:{other_adapter}"
    model = vlm3r_core.load(spec, "cpu")
    assert (model.adapters.names, model.adapters.active) == (("vsi", "vsti"), "vsi")
    golden = Golden.read(folder, half=True)
    frames, ids = golden.pixels("frames"), golden.outputs["eval.input_ids"].tolist()
    alone = {
        "vsi": vlm3r_core.load(spec_of(folder), "cpu"),
        "vsti": vlm3r_core.load(spec_of(folder, adapter=other_adapter), "cpu"),
    }
    for name in ("vsi", "vsti", "vsi"):
        model.adapters.use(name)
        assert model.config == alone[name].config
        with torch.inference_mode():
            ours, theirs = model(frames, ids), alone[name](frames, ids)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=FULL)
    with torch.inference_mode():
        assert (alone["vsi"](frames, ids) - alone["vsti"](frames, ids)).abs().max() > 0.1


def test_a_stream_starts_anew_after_a_switch(golden_dir):
    golden = Golden.read(golden_dir / "odd", half=True)
    model = with_adapters(golden_dir / "odd", "vsi", "vsti")
    engine = watched(golden, golden.inputs["frames4"], model)
    before = engine.ask("How many chairs are there?", ["1", "2"])
    model.adapters.use("vsti")
    with pytest.raises(NoFrame):
        engine.ask("How many chairs are there?", ["1", "2"])
    assert engine.stats().session_id != before.session_id
    for frame in range(4):
        engine.push(vlm3r_core.Frame(golden.inputs["frames4"][frame].numpy(), frame * 10**9))
    after = engine.ask("How many chairs are there?", ["1", "2"])
    # the same files under both names
    assert (after.text, after.confidence) == (before.text, pytest.approx(before.confidence, abs=1e-6))


def test_a_worker_switches_between_questions(golden_dir):
    golden = Golden.read(golden_dir / "odd", half=True)
    model = with_adapters(golden_dir / "odd", "vsi", "vsti")
    worker = Worker(lambda: watched(golden, golden.inputs["frames4"][:1], model))
    worker.start()
    try:
        wait_for(lambda: worker.stats().state == "ready")
        worker.use_adapter("vsi").result(60)
        session = worker.ask("Which is it?", ["1", "2"]).result(60).session_id
        assert session == worker.stats().session_id
        worker.use_adapter("vsti").result(60)
        with pytest.raises(NoFrame):
            worker.ask("Which is it?", ["1", "2"]).result(60)
        with pytest.raises(ValueError, match="adapter must be one of vsi, vsti, got 'other'"):
            worker.use_adapter("other").result(60)
    finally:
        assert worker.stop(60)
    with pytest.raises(ValueError, match="keeps no adapters apart"):
        watched(golden, golden.inputs["frames4"][:1]).use_adapter("vsi")


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_adapters_that_do_not_fit(golden_dir):
    model = with_adapters(golden_dir / "odd", "vsi")
    keys = set(model.state_dict())
    with pytest.raises(ValueError, match="nothing was loaded\nadapter's non_lora"):
        model.adapters.attach(golden_dir / "even/adapter", "other")
    with pytest.raises(ValueError, match="a name of letters and digits that is free, got 'vsi'"):
        model.adapters.attach(golden_dir / "odd/adapter", "vsi")
    with pytest.raises(ValueError, match="adapter must be one of vsi, got 'vsti'"):
        model.adapters.use("vsti")
    assert set(model.state_dict()) == keys


def test_specs_with_several_adapters(golden_dir):
    folder = golden_dir / "odd/adapter"
    published = Published.parse(spec_of(golden_dir / "odd", adapter=f"a:{folder}") + f",adapter=b:{folder}")
    assert published.named == (("a", folder), ("b", folder))
    assert published.adapter == folder
    for second in (f"{folder}", f"a:{folder}", "b:"):
        with pytest.raises(ValueError, match="several adapters need names that differ"):
            Published.parse(spec_of(golden_dir / "odd", adapter=f"a:{folder}") + f",adapter={second}")
    with pytest.raises(FileNotFoundError, match=r"adapter=.*nowhere"):
        Published.parse(spec_of(golden_dir / "odd", adapter=f"a:{folder}") + ",adapter=b:nowhere")
    with pytest.raises(ValueError, match="takes no adapters kept apart"):
        vlm3r_core.load(spec_of(golden_dir / "odd"), "cpu", quantize="int8", merge_adapter=False)
    with pytest.raises(ValueError, match="only published files keep an adapter apart"):
        vlm3r_core.load("tiny-random", "cpu", merge_adapter=False)


# ---- the base model alone


@pytest.fixture(scope="module")
def base_alone(golden_dir, golden):
    folder = golden_dir / golden.name
    return vlm3r_core.load(f"base={folder / 'base'},sizes={folder / 'tower_config.json'}", "cpu")


def test_base_alone(golden, base_alone):
    """No CUT3R, so no half rounding either."""
    theirs, model = golden.run("base_only."), base_alone
    assert theirs.keys() == {"projected", "visual_tokens", "logits_last", "generated", "step_logits"}
    ids, rows = golden.outputs["v4.input_ids"].tolist(), golden.tokenizer.size
    with torch.inference_mode():
        encoded = model.encode(golden.pixels("frames4"))
        visual = model.visual_sequence(encoded.visual_tokens)
        prompt = model.embed_prompt(ids, [visual])
        cache = model.language.new_cache(len(prompt) + 12)
        steps = greedy_tokens(
            model.language,
            cache,
            model.language.next_logits(prompt, cache),
            vocab_size=rows,
            stop_ids=(golden.tokenizer.im_end, golden.tokenizer.end_of_text),
            max_new_tokens=12,
            repetition_penalty=model.config.repetition_penalty,
        )
        said = [token for token, _ in steps]
        whole = model.language.logits(torch.cat([prompt, model.embed_prompt(said[:-1], [])]))[:, :rows]
    assert said == theirs["generated"].tolist()
    ours = {
        "projected": (encoded.projected, 5e-5),
        "visual_tokens": (visual, 5e-5),
        "logits_last": (whole[len(prompt) - 1], FULL),
        "step_logits": (whole[len(prompt) - 1 :], FULL),
    }
    for name, (value, limit) in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=limit, msg=lambda m, n=name: f"{n}: {m}")


def test_base_alone_streams(golden, base_alone, tmp_path):
    engine = watched(golden, golden.inputs["frames4"], base_alone)
    engine.save(tmp_path / "stream.safetensors")
    tokens = load_file(tmp_path / "stream.safetensors")["visual_tokens"].flatten(0, 1)
    torch.testing.assert_close(tokens, golden.outputs["base_only.visual_tokens"], rtol=0, atol=5e-5)
    engine.load(tmp_path / "stream.safetensors")
    assert engine.ask("How many chairs are there?", ["1", "2"]).frames_used == 4
    assert base_alone.cut3r is None
    assert not [name for name in base_alone.state_dict() if name.startswith(("cut3r", "fusion"))]


def test_base_alone_takes_no_adapter(base_alone, golden_dir, golden):
    with pytest.raises(ValueError, match="a base model alone; an adapter needs CUT3R"):
        Adapters(base_alone)
    published = Published(golden_dir / golden.name / "base", None, None, golden_dir / golden.name / "tower_config.json")
    with pytest.raises(ValueError, match=r"missing \d+"):
        fill_weights(build(golden.config, torch.device("cpu"), torch.float32), published)


def test_prompt_prefix_is_the_training_one(golden):
    """What the stream puts before the visual tokens is how training begins; none of the visual tokens is learned."""
    ids, labels = conversation_ids(golden.tokenizer, messages(golden, instruction=False))
    start = prefix_ids(golden.tokenizer)
    assert ids[: len(start)] == start
    assert labels[len(start)] == IGNORED
