"""The whole model against numbers recorded from the published code at small size, stage by stage.

Tolerances are those of the golden data's README (absolute). Float32 kernels that sum in another order differ by up to
1e-5; half rounding in CUT3R may let a value fall to the other side of an edge, which costs up to 1e-3. Token ids are
equal: the scores of the best two tokens lie 0.018 and more apart.
"""

from __future__ import annotations

import pytest
import torch
from golden_stages import MAX_NEW_TOKENS, fusion_attention, prompt, text_stages, visual_stages
from published_golden import SETS, Golden, spec_of, variant, watched
from safetensors.torch import load_file
from torch import Tensor

import vlm3r_core
from vlm3r_core.config import StreamConfig
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import IMAGE_TOKEN_ID, PRE_PROMPT, prefix_ids, question_message, suffix_ids, time_instruction
from vlm3r_core.stream.engine import StreamEngine
from vlm3r_core.types import Frame
from vlm3r_core.weights.convert import convert

PIXELS, TOKENS, LOGITS, HALF, UNIT = 1e-6, 5e-5, 3e-4, 1e-3, 1e-4
TOLERANCE = {"pixel_values": PIXELS, "cut3r_pixel_values": PIXELS}
AFTER_CUT3R = (
    "camera_tokens patch_tokens fused fusion_attn projected pooled visual_tokens inputs_embeds llm_hidden_states "
    "logits logits_last step_logits step_logits_no_penalty"
).split()
CHAIRS = "How many chair(s) are in this room?"
CLOSEST = (
    "Measuring from the closest point of each object, which of these objects (table, door, sofa, lamp) is the closest "
    "to the window?"
)
WAYS = ("as-shipped", "fp32-rope", "converted")


@pytest.fixture(scope="module", params=[f"{name} {way}" for name in SETS for way in WAYS])
def golden(request, golden_dir, tmp_path_factory):
    """A set's model from its files with and without half rounding, and as shipped from a converted folder."""
    name, way = request.param.split()
    if way != "converted":
        return Golden.read(golden_dir / name, way == "as-shipped")
    folder = tmp_path_factory.mktemp("converted") / name
    convert(spec_of(golden_dir / name), folder, dtype="float32")
    return Golden.read(golden_dir / name, True, vlm3r_core.load(str(folder), "cpu", "float32"))


@pytest.fixture(scope="module", params=SETS)
def shipped(request, golden_dir):
    """A set as shipped, for what the half rounding does not touch."""
    return Golden.read(golden_dir / request.param, half=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the numbers were recorded; on a busy machine tiny models also run many times faster so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_grad():
    with torch.inference_mode():
        yield


def tolerance(golden: Golden, stage: str) -> float:
    if golden.half and stage in AFTER_CUT3R:
        return HALF
    return TOLERANCE.get(stage, LOGITS if "logits" in stage or stage == "llm_hidden_states" else TOKENS)


def assert_run(golden: Golden, prefix: str, ours: dict[str, Tensor]) -> None:
    """Every stage recorded under the prefix has its counterpart in ours."""
    theirs = golden.run(prefix)
    assert theirs
    for stage, value in theirs.items():
        if value.dtype == torch.int64:
            assert ours[stage].tolist() == value.tolist(), stage
        else:
            limit = tolerance(golden, stage)
            torch.testing.assert_close(ours[stage], value, rtol=0, atol=limit, msg=lambda m, s=stage: f"{s}: {m}")


def test_eval_run(golden):
    model, values, encoded = golden.model, golden.pixels("frames"), golden.encoded("frames")
    message = question_message(CHAIRS)
    assert message == golden.facts["question"]
    stages = visual_stages(model, encoded)
    tower = model.siglip.vision
    ours = {
        "pixel_values": encoded.pixel_values[:4],
        "cut3r_pixel_values": model.cut3r_pixels(values[:1]),
        "siglip_hidden_states": torch.stack(siglip_levels(model, values[:4])),
        "siglip_last_hidden_state_postln_UNUSED": tower.post_layernorm(encoded.siglip[:1]),
        **stages,
        **text_stages(golden, model, prompt(golden, message), [stages["visual_tokens"]]),
    }
    assert_run(golden, "eval.", ours)


def siglip_levels(model: VLM3R, values: Tensor) -> list[Tensor]:
    """Embeddings, then the output of each layer."""
    levels = [model.siglip.vision.embeddings(values)]
    for layer in model.siglip.vision.encoder.layers:
        levels.append(layer(levels[-1], attention_mask=None))
    return levels


def test_demo_run(golden):
    """Average pooling, and a prompt that tells the times of the frames."""
    model = variant(golden.model, pool="average")
    video = golden.video
    times = [index / video.fps for index in video.frame_idx_8]
    instruction = time_instruction(times, video.duration)
    assert instruction == golden.facts["time_instruction"]
    # the demo takes a question as it is typed, without the evaluation's opening sentence
    question = question_message(CLOSEST, ["table", "door", "sofa", "lamp"]).removeprefix(PRE_PROMPT + "\n")
    assert question == golden.facts["second_question"]
    stages = visual_stages(model, golden.encoded("frames"))
    ids = prompt(golden, instruction + "\n" + question)
    assert_run(golden, "demo.", stages | text_stages(golden, model, ids, [stages["visual_tokens"]]))


@pytest.mark.parametrize(
    ("run", "selection"), [("all", "all"), ("no_geometry", "camera_tokens"), ("no_camera", "patch_tokens")]
)
def test_token_selections(golden, run, selection):
    model = variant(golden.model, token_selection=selection)
    stages = visual_stages(model, golden.encoded("frames4"))
    ids = prompt(golden, question_message(CHAIRS))
    assert_run(golden, f"v4.{run}.", stages | text_stages(golden, model, ids, [stages["visual_tokens"]]))
    if golden.half:
        assert ids == golden.outputs["v4.input_ids"].tolist()


def test_pooling_and_newline_modes(shipped):
    encoded = shipped.encoded("frames4")
    stored = {name.removeprefix("v4.all."): t for name, t in shipped.outputs.items() if name.startswith("v4.all.")}
    ours = {}
    for mode in ("average", "max", "bilinear"):
        ours[f"pooled.{mode}"] = variant(shipped.model, pool=mode).project(encoded.fused)[1]
    for mode in ("frame", "one_token", "no_token"):
        model = variant(shipped.model, newline=mode)
        ours[f"visual_tokens.newline_{mode}"] = model.visual_sequence(model.project(encoded.fused)[2])
    assert ours.keys() == {name for name in stored if "." in name}
    for name, value in ours.items():
        torch.testing.assert_close(value, stored[name], rtol=0, atol=HALF, msg=lambda m, n=name: f"{n}: {m}")


def test_stills(golden):
    """Three images, each at its own place in the prompt, without pooling."""
    model = variant(golden.model, pool="none")
    encoded = model.encode(golden.pixels("frames4")[:3])
    between = [IMAGE_TOKEN_ID, *golden.tokenizer.encode("\n")]
    tail = suffix_ids(golden.tokenizer, question_message(CHAIRS))
    ids = [*prefix_ids(golden.tokenizer), *between, *between, IMAGE_TOKEN_ID, *tail]
    ours = visual_stages(model, encoded) | text_stages(golden, model, ids, list(encoded.visual_tokens))
    assert_run(golden, "stills.", ours)


def test_forward_equals_the_stages(golden):
    values, ids = golden.pixels("frames"), prompt(golden, question_message(CHAIRS))
    last = golden.model(values, ids)[-1, : golden.tokenizer.size]
    torch.testing.assert_close(last, golden.outputs["eval.logits_last"], rtol=0, atol=tolerance(golden, "logits_last"))
    stills = variant(golden.model, pool="none")
    # the same three places that test_stills checks one by one
    ids = [token for token in ids if token != IMAGE_TOKEN_ID]
    place, newline = len(prefix_ids(golden.tokenizer)), golden.tokenizer.encode("\n")
    ids[place:place] = [IMAGE_TOKEN_ID, *newline, IMAGE_TOKEN_ID, *newline, IMAGE_TOKEN_ID]
    last = stills(golden.pixels("frames4")[:3], ids)[-1, : golden.tokenizer.size]
    theirs = golden.outputs["stills.logits_last"]
    torch.testing.assert_close(last, theirs, rtol=0, atol=tolerance(golden, "logits_last"))


def test_text_alone(shipped):
    ids = shipped.outputs["text.input_ids"].tolist()
    assert_text_run(shipped, "text.", text_stages(shipped, shipped.model, ids, []))


def assert_text_run(golden: Golden, prefix: str, ours: dict[str, Tensor]) -> None:
    """No image, so the half rounding plays no part."""
    for stage, value in golden.run(prefix).items():
        if value.dtype == torch.int64:
            assert ours[stage].tolist() == value.tolist(), stage
        elif stage != "step_scores":
            torch.testing.assert_close(ours[stage], value, rtol=0, atol=LOGITS, msg=lambda m, s=stage: f"{s}: {m}")


def test_answers_end_at_either_end_token(shipped):
    ends = {"im_end": shipped.tokenizer.im_end, "endoftext": shipped.tokenizer.end_of_text}
    runs = [name for name in ends if f"stop.{name}.input_ids" in shipped.outputs]
    assert runs
    for name in runs:
        ids = shipped.outputs[f"stop.{name}.input_ids"].tolist()
        stages = text_stages(shipped, shipped.model, ids, [])
        assert_text_run(shipped, f"stop.{name}.", stages)
        assert stages["generated"][-1] == ends[name]
        assert len(stages["generated"]) < MAX_NEW_TOKENS


def test_repetition_penalty_tells(golden_dir):
    """Without the base's penalty the odd set's answer is another one."""
    golden = Golden.read(golden_dir / "odd", half=True)
    assert golden.config.repetition_penalty == 1.05
    assert golden.run("v4.all.")["generated"].tolist() != golden.run("v4.all.")["generated_no_penalty"].tolist()


def test_merged_weights(shipped):
    weights = shipped.model.language.qwen.state_dict()
    merged = {name.removeprefix("merged."): t for name, t in shipped.outputs.items() if name.startswith("merged.")}
    assert len(merged) == 2
    for name, value in merged.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-6)


def test_small_inputs_show_the_epsilons(shipped):
    unit = {name.removeprefix("unit."): t for name, t in shipped.outputs.items() if name.startswith("unit.")}
    model = shipped.model
    image, spatial = unit["fusion.clip_features"], unit["fusion.spatial_features"]
    layer = model.siglip.vision.encoder.layers[0]
    ours = {
        "fusion.fused": model.fusion(image, spatial),
        "fusion.attn": fusion_attention(model, image, spatial),
        "siglip_layer0.out": layer(unit["siglip_layer0.in"], attention_mask=None),
        "final_rmsnorm.out": model.language.qwen.model.norm(unit["final_rmsnorm.in"]),
    }
    for name, value in ours.items():
        torch.testing.assert_close(value, unit[name], rtol=0, atol=UNIT, msg=lambda m, n=name: f"{n}: {m}")


def test_nothing_recorded_is_left_out(shipped):
    """Training and the base alone are compared in test_train_golden.py, all else that was recorded above."""
    compared = ("eval.", "demo.", "v4.", "stills.", "text.", "stop.", "merged.", "unit.")
    rest = {name for name in shipped.outputs if not name.startswith(compared)}
    assert {name.split(".")[0] for name in rest} == {"train", "base_only"}


# ---- the stream


def assert_answer(golden: Golden, engine: StreamEngine, run: str, suffix: str = "") -> None:
    """Text and confidence of an answer are those of the published ids and logits."""
    *_, last = engine.ask_stream(CHAIRS, answer_type="number", max_new_tokens=MAX_NEW_TOKENS)
    ids = golden.outputs[f"{run}.generated{suffix}"]
    assert last.tokens == len(ids)
    assert last.answer.text == golden.tokenizer.decode(ids.tolist()).strip()
    log_probs = golden.outputs[f"{run}.step_logits{suffix}"].log_softmax(-1).gather(1, ids[:, None])
    assert last.answer.confidence == pytest.approx(log_probs.mean().exp().item(), rel=tolerance(golden, "logits"))
    assert last.answer.trained


@pytest.mark.parametrize(("run", "frames"), [("eval", "frames"), ("v4.all", "frames4")])
def test_stream_gives_the_published_tokens_and_answer(golden, tmp_path, run, frames):
    engine = watched(golden, golden.inputs[frames])
    engine.save(tmp_path / "stream.safetensors")
    tokens = load_file(tmp_path / "stream.safetensors")["visual_tokens"].flatten(0, 1)
    theirs = golden.outputs[f"{run}.visual_tokens"]
    torch.testing.assert_close(tokens, theirs, rtol=0, atol=tolerance(golden, "visual_tokens"))
    assert_answer(golden, engine, run)
    if golden.half:
        assert engine.ask(CHAIRS, max_new_tokens=MAX_NEW_TOKENS).text == golden.facts["meta"][f"{run}.text"]


def test_demo_preset_pools_as_the_demo(golden_dir, shipped, tmp_path):
    model = vlm3r_core.load(spec_of(golden_dir / shipped.name), "cpu", preset="demo")
    engine = watched(shipped, shipped.inputs["frames"], model)
    engine.save(tmp_path / "stream.safetensors")
    tokens = load_file(tmp_path / "stream.safetensors")["visual_tokens"].flatten(0, 1)
    torch.testing.assert_close(tokens, shipped.outputs["demo.visual_tokens"], rtol=0, atol=HALF)


def test_stream_without_penalty(golden):
    model = variant(golden.model, repetition_penalty=1.0)
    assert_answer(golden, watched(golden, golden.inputs["frames4"], model), "v4.all", "_no_penalty")


def test_a_question_after_every_frame_changes_nothing(golden, tmp_path):
    engine = StreamEngine(golden.model, StreamConfig(), golden.tokenizer)
    for second, frame in enumerate(golden.inputs["frames"]):
        engine.push(Frame(frame.numpy(), stamp_ns=second * 10**9))
        engine.ask(CHAIRS, ["1", "2"])
    assert_answer(golden, engine, "eval")
