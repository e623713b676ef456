"""The golden runs from folders converted with int8 and int4 weights, within a tolerance of their own.

Only the language model's linear layers are quantised: every stage before them keeps the plain tolerance. Behind them
the measure is the error's root mean square over that of the recorded scores, with the recorded answer read along: at
most 0.05 for int8 and 0.6 for int4. The golden weights are random, so that nothing in them evens rounding out and the
best two scores lie close together; int8 keeps the answer's first token in every run.
"""

from __future__ import annotations

import pytest
import torch
from golden_stages import visual_stages
from published_golden import SETS, Golden, spec_of, variant
from torch import Tensor

import vlm3r_core
from vlm3r_core.weights.convert import convert

LIMIT = {"int8": 0.05, "int4": 0.6}
HALF = 1e-3
CLIPS = {
    "eval": ("frames", {}),
    "demo": ("frames", {"pool": "average"}),
    "v4.all": ("frames4", {}),
    "v4.no_geometry": ("frames4", {"token_selection": "camera_tokens"}),
    "v4.no_camera": ("frames4", {"token_selection": "patch_tokens"}),
}
TEXTS = ("text", "stop.im_end", "stop.endoftext")


@pytest.fixture(scope="module", params=[(name, kind) for name in SETS for kind in LIMIT], ids="-".join)
def quantized(request, golden_dir, tmp_path_factory):
    name, kind = request.param
    folder = tmp_path_factory.mktemp("quantized") / name
    convert(spec_of(golden_dir / name), folder, quantize=kind, dtype="float32")
    return kind, Golden.read(golden_dir / name, True, vlm3r_core.load(str(folder), "cpu", "float32"))


@pytest.fixture(autouse=True)
def no_grad():
    with torch.inference_mode():
        yield


def assert_scores(kind: str, golden: Golden, run: str, ids: list[int], visual: list[Tensor]) -> None:
    """Scores of the prompt's last place and along the recorded answer; the best one first, for int8."""
    theirs = golden.run(f"{run}.")
    said = theirs["generated"].tolist()
    model = golden.model
    embeddings = torch.cat([model.embed_prompt(ids, visual), model.embed_prompt(said[:-1], [])])
    ours = model.language.logits(embeddings)[-len(said) :, : golden.tokenizer.size]
    recorded = theirs["step_logits"]
    error = (ours - recorded).square().mean().sqrt() / recorded.square().mean().sqrt()
    assert error <= LIMIT[kind], run
    if kind == "int8":
        assert ours[0].argmax() == recorded[0].argmax(), run


@pytest.mark.parametrize("run", CLIPS)
def test_clips(quantized, run):
    kind, golden = quantized
    frames, changes = CLIPS[run]
    stages = visual_stages(variant(golden.model, **changes), golden.encoded(frames))
    theirs = golden.run(f"{run}.")
    compared = stages.keys() & theirs.keys()
    assert {"pooled", "visual_tokens"} <= compared
    for stage in compared:
        torch.testing.assert_close(stages[stage], theirs[stage], rtol=0, atol=HALF, msg=lambda m, s=stage: f"{s}: {m}")
    ids = golden.outputs[f"{run}.input_ids" if f"{run}.input_ids" in golden.outputs else "v4.input_ids"].tolist()
    assert_scores(kind, golden, run, ids, [stages["visual_tokens"]])


def test_stills(quantized):
    kind, golden = quantized
    encoded = variant(golden.model, pool="none").encode(golden.pixels("frames4")[:3])
    assert_scores(kind, golden, "stills", golden.outputs["stills.input_ids"].tolist(), list(encoded.visual_tokens))


def test_texts(quantized):
    kind, golden = quantized
    runs = [run for run in TEXTS if f"{run}.input_ids" in golden.outputs]
    assert len(runs) >= 2
    for run in runs:
        assert_scores(kind, golden, run, golden.outputs[f"{run}.input_ids"].tolist(), [])
