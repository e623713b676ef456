"""CUT3R against numbers recorded from the published code.

Tolerances are those of the golden data's README. Float32 kernels that sum in another order differ by up to 3e-5 after
several frames. With half rounding a value on the edge between two float16 numbers may fall to the other side, which
costs up to 1e-3; a missing rounding costs 2.7e-3 and more.
"""

import importlib.util
import json
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vlm3r_core.config import Cut3rConfig
from vlm3r_core.model.cut3r import Cut3r
from vlm3r_core.model.rope import grid_positions, state_positions

SETS = ("square", "rect")
TOLERANCE_HALF = 1.5e-3
TOLERANCE = 5e-5
LOOSER = {"mem": 1e-4, "pts3d_self": 1e-4, "pts3d_world": 1e-4}
TOLERANCE_FULL = 1e-4
FLAGS = ("ray_map", "img_mask", "ray_mask", "update", "reset")
FULL_MODEL_BYTES = 6e9


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Matrices of the small sets are too small to share; waiting for a second thread costs more on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def golden_dir(shared_dir):
    path = shared_dir / "golden/cut3r"
    if not path.is_dir():
        pytest.skip(f"golden data not found: {path}")
    return path


@cache
def tensors(path):
    return load_file(path)


def published_config(folder, **changes):
    return replace(Cut3rConfig.from_published(json.loads((folder / "config.json").read_text())), **changes)


def published_model(folder, **changes):
    model = Cut3r(published_config(folder, **changes)).eval()
    model.load_state_dict(tensors(folder / "weights.safetensors"), strict=True)
    return model


def outputs_file(folder, half):
    return folder / ("outputs.safetensors" if half else "outputs_fp32rope.safetensors")


def token_record(state, tokens):
    return {
        "state": state.tokens,
        "mem": state.memory,
        "enc_feat": tokens.feature,
        "camera_token": tokens.camera,
        "patch_tokens": tokens.patch,
        "dec_hook_half": tokens.hook_half,
        "dec_hook_3quarter": tokens.hook_three_quarters,
    }


def geometry_record(geometry):
    return {
        "pts3d_world": geometry.points_world,
        "conf_world": geometry.conf_world,
        "pts3d_self": geometry.points_self,
        "conf_self": geometry.conf_self,
        "camera_pose": geometry.camera_pose,
        "rgb": geometry.rgb,
    }


@torch.inference_mode()
def roll(model, views):
    """Steps through views (keyword arguments of step) from a fresh state; outputs by name, frames first."""
    seen = defaultdict(list)
    watch = model.dec_blocks[0].register_forward_pre_hook(lambda _, inputs: seen["pose_in"].append(inputs[0][:, :1]))
    state = model.init_state(len(views[0]["image"]))
    for view in views:
        state, tokens = model.step(state, **view)
        for name, value in (token_record(state, tokens) | geometry_record(model.geometry(tokens))).items():
            seen[name].append(value)
    watch.remove()
    return {name: torch.stack(values) for name, values in seen.items()}


def assert_parity(ours, theirs, half, names):
    assert names
    for name in names:
        tolerance = TOLERANCE_HALF if half else LOOSER.get(name, TOLERANCE)
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def plain_views(folder):
    return [{"image": image} for image in tensors(folder / "inputs.safetensors")["frames"]]


@pytest.mark.parametrize("half", [True, False], ids=["as shipped", "fp32 rope"])
@pytest.mark.parametrize("name", SETS)
def test_video(golden_dir, name, half):
    folder = golden_dir / name
    theirs = tensors(outputs_file(folder, half))
    ours = roll(published_model(folder, rope_half_rounding=half), plain_views(folder))
    names = ours.keys() & theirs.keys()
    assert len(names) == (14 if half else 11)
    assert_parity(ours, theirs, half, names)


@pytest.mark.parametrize("name", SETS)
def test_half_rounding_is_told_apart(golden_dir, name):
    folder = golden_dir / name
    ours = roll(published_model(folder, rope_half_rounding=False), plain_views(folder))["enc_feat"]
    assert (ours - tensors(outputs_file(folder, True))["enc_feat"]).abs().max() > TOLERANCE_HALF


@pytest.mark.parametrize("name", SETS)
def test_initial_state(golden_dir, name):
    theirs = tensors(outputs_file(golden_dir / name, True))
    state = published_model(golden_dir / name).init_state(2)
    torch.testing.assert_close(state.tokens, theirs["state_init"], rtol=0, atol=TOLERANCE)
    assert torch.equal(state.memory, theirs["mem_init"])


@pytest.mark.parametrize("name", SETS)
def test_positions(golden_dir, name):
    theirs, config = tensors(outputs_file(golden_dir / name, True)), published_config(golden_dir / name)
    height, width = tensors(golden_dir / name / "inputs.safetensors")["frames"].shape[-2:]
    assert torch.equal(grid_positions(height // 16, width // 16), theirs["enc_pos"][0, 0])
    assert torch.equal(state_positions(config.state_size, config.state_pe), theirs["state_pos"][0])


@pytest.mark.parametrize("name", SETS)
def test_masks_ray_maps_updates_and_resets(golden_dir, name):
    folder = golden_dir / name
    inputs = tensors(folder / "inputs.safetensors")
    views = [
        {"image": image, **{flag: inputs[f"masked.{flag}"][i] for flag in FLAGS}}
        for i, image in enumerate(inputs["frames"])
    ]
    stored = tensors(outputs_file(folder, True))
    theirs = {key.removeprefix("masked."): value for key, value in stored.items() if key.startswith("masked.")}
    assert len(theirs) == 8
    assert_parity(roll(published_model(folder), views), theirs, True, theirs.keys())


@pytest.mark.parametrize("half", [True, False], ids=["as shipped", "fp32 rope"])
@pytest.mark.parametrize("name", SETS)
def test_ttt3r_gate(golden_dir, name, half):
    folder = golden_dir / name
    prefix = "half." if half else "fp32rope."
    stored = tensors(folder / "ttt3r_batch0.safetensors")
    ours = roll(published_model(folder, rope_half_rounding=half, state_gate="ttt3r"), plain_views(folder))
    names = [key.removeprefix(prefix) for key in stored if key.startswith(prefix)]
    assert sorted(names) == ["camera_pose", "mem", "state"]
    assert_parity({n: ours[n][:, :1] for n in names}, {n: stored[prefix + n] for n in names}, half, names)


@pytest.mark.parametrize("name", SETS)
def test_every_decoder_level(golden_dir, name):
    folder = golden_dir / name
    theirs = tensors(outputs_file(folder, True))
    model = published_model(folder)
    levels = defaultdict(list)
    for label, blocks in (("dec_img", model.dec_blocks), ("dec_state", model.dec_blocks_state)):
        for level, block in enumerate(blocks[:-1], 1):
            block.register_forward_hook(lambda _, __, out, at=f"{label}.{level}": levels[at].append(out[0]))
    depth = len(model.dec_blocks)
    for at, norm in ((f"dec_img.{depth}", model.dec_norm), (f"dec_state.{depth}", model.dec_norm_state)):
        norm.register_forward_hook(lambda _, __, out, at=at: levels[at].append(out))
    roll(model, plain_views(folder)[:2])
    names = [key for key in theirs if key.startswith("debug.") and not key.endswith(".0")]
    assert len(names) == 4 * depth
    ours = {f"debug.frame{i}.{at}": value for at, values in levels.items() for i, value in enumerate(values)}
    assert_parity(ours, theirs, True, names)


@pytest.fixture(scope="module")
def full_keys(golden_dir):
    return json.loads((golden_dir / "full_keys.json").read_text())


def meta_model():
    with torch.device("meta"):
        return Cut3r(Cut3rConfig()).eval()


def test_full_keys_and_shapes(full_keys):
    model = meta_model()
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == full_keys["keys"]
    assert sum(parameter.numel() for parameter in model.parameters()) == full_keys["num_parameters_unique"]
    assert not list(model.buffers())


def available_bytes():
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.is_file() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), 0)


@pytest.fixture(scope="module")
def recipe(golden_dir):
    spec = importlib.util.spec_from_file_location("cut3r_recipe", golden_dir / "full_recipe/recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def full_model(golden_dir, full_keys, recipe):
    """The full-size network with the recipe's weights, 3.2 GB."""
    if available_bytes() < FULL_MODEL_BYTES:
        pytest.skip(f"the full-size model needs 6 GB of free memory, {available_bytes() / 1e9:.1f} GB are free")
    names = sorted({recipe.canon(key) for key in full_keys["keys"]})
    with ThreadPoolExecutor(2) as pool:
        drawn = pool.map(lambda name: torch.from_numpy(recipe.weight(name, full_keys["keys"][name])), names)
        weights = dict(zip(names, drawn, strict=True))
    for key, sample in json.loads((golden_dir / "full_recipe/meta.json").read_text())["samples"].items():
        assert weights[recipe.canon(key)].flatten()[:3].tolist() == pytest.approx(sample["first"], abs=1e-7)
    model = meta_model()
    model.load_state_dict({key: weights[recipe.canon(key)] for key in full_keys["keys"]}, strict=True, assign=True)
    return model


def subsampled(name, value):
    """What the golden file keeps of an output [F, B, ...]."""
    step = {"enc_feat": 9, "patch_tokens": 9, "state": 8, "mem": 8}.get(name, 27 if name.startswith("dec_hook") else 1)
    if name.startswith(("pts3d", "conf", "rgb")):
        return value[:, :, 4::8, 4::8]
    return value if name == "camera_pose" else value[:, :, ::step]


# half a minute on two free cores, minutes on busy ones
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("half", [True, False], ids=["as shipped", "fp32 rope"])
def test_full_size(golden_dir, full_model, recipe, half):
    torch.set_num_threads(min(os.cpu_count() or 1, 2))
    theirs = tensors(outputs_file(golden_dir / "full_recipe", half))
    for block in full_model.enc_blocks:
        block.attn.half_rounding = half
    views = [{"image": torch.from_numpy(image)} for image in recipe.frames(3, 1, 432, 432)]
    ours = roll(full_model, views)
    names = ours.keys() & theirs.keys()
    assert len(names) == 14
    for name in names:
        error = (subsampled(name, ours[name]) - theirs[name]).abs().max().item()
        assert error <= TOLERANCE_FULL, f"{name}: {error}"
