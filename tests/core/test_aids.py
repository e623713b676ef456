"""Aids of small models: what CUT3R is told beyond what the published one sees. Off unless a preset says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from nano import NANO, build_nano

from vlm3r_core.config import MODEL_PRESETS, VLM3R_7B
from vlm3r_core.model.cut3r_state import Cut3rState
from vlm3r_core.model.motion import ColumnMotion
from vlm3r_core.model.vlm3r import Encoded

# what the small model is trained from is the one preset that has them
PUBLISHED = [config for name, config in MODEL_PRESETS.items() if name != "tiny-start"]
AIDED = replace(NANO, cut3r=replace(NANO.cut3r, motion_columns=10, siglip_width=NANO.siglip.hidden_size))


@pytest.fixture(scope="module")
def aided():
    return build_nano(AIDED)


@pytest.fixture(scope="module")
def frames():
    return torch.rand(4, 3, 70, 70, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("config", [VLM3R_7B, *PUBLISHED], ids=lambda config: config.name)
def test_presets_leave_them_out(config):
    assert (config.cut3r.motion_columns, config.cut3r.siglip_width) == (0, 0)


def test_without_them_the_network_has_no_such_weights():
    names = dict(build_nano().named_parameters())
    assert not [name for name in names if "motion" in name or "siglip_embed" in name]


def test_columns_of_a_turned_camera_match_shifted_ones():
    motion = ColumnMotion(8, 4)
    image = torch.rand(1, 3, 24, 64, generator=torch.Generator().manual_seed(1))
    before, now = motion.describe(image), motion.describe(image.roll(16, dims=-1))  # by two of eight columns
    likeness = before.transpose(1, 2) @ now
    assert likeness[0].argmax(dim=1).tolist() == [(column + 2) % 8 for column in range(8)]
    assert torch.allclose(likeness[0].max(dim=1).values, torch.ones(8))


@torch.no_grad()
def test_each_aid_reaches_the_camera_token(aided, frames):
    plain = aided.encode(frames)
    siglip = aided.siglip(frames)
    views = list(aided.encode_view(frames, siglip).each())
    blind = list(aided.encode_view(frames, torch.zeros_like(siglip)).each())
    without = [replace(view, columns=None) for view in views]
    cameras = {}
    for name, seen in (("same", views), ("blind", blind), ("without", without)):
        state, found = aided.init_state(), []
        for view in seen:
            state, tokens = aided.cut3r.advance(state, view)
            found.append(tokens.camera)
        cameras[name] = torch.cat(found)
    assert torch.allclose(cameras["same"], plain.camera, atol=1e-5)
    assert not torch.allclose(cameras["blind"], plain.camera, atol=1e-3)
    assert not torch.allclose(cameras["without"], plain.camera, atol=1e-3)


@torch.no_grad()
def test_two_streams_at_once_equal_each_alone(aided, frames):
    both = torch.stack((frames, frames.flip(0)), dim=1)
    state, steps = aided.init_state(2), []
    for moment in both:
        state, encoded = aided.step(state, moment)
        steps.append(encoded.camera)
    views = aided.encode_view(both.flatten(0, 1), aided.siglip(both.flatten(0, 1))).each(2)
    state = aided.init_state(2)
    for view, camera in zip(views, steps, strict=True):
        state, tokens = aided.cut3r.advance(state, view)
        assert torch.allclose(tokens.camera, camera, atol=1e-5)
    alone = aided.encode(frames.flip(0)).camera
    assert torch.allclose(torch.stack(steps)[:, 1], alone, atol=1e-5)


@torch.no_grad()
def test_state_keeps_and_forgets_columns(aided, frames):
    seen = aided.siglip(frames)
    pixels = aided.cut3r_pixels(frames)
    first, _ = aided.cut3r.step(aided.init_state(), pixels[:1], siglip=seen[:1])
    assert not torch.equal(first.columns, aided.init_state().columns)
    for flags in ({"update": torch.tensor([False])}, {"img_mask": torch.tensor([False])}):
        held, _ = aided.cut3r.step(first, pixels[1:2], siglip=seen[1:2], **flags)
        assert torch.equal(held.columns, first.columns)
    reset, _ = aided.cut3r.step(first, pixels[1:2], siglip=seen[1:2], reset=torch.tensor([True]))
    assert torch.equal(reset.columns, torch.zeros_like(first.columns))
    back = Cut3rState.from_tensors(first.as_tensors())
    assert torch.equal(back.columns, first.columns)
    assert back.nbytes == first.nbytes > aided.init_state().nbytes - first.columns.nbytes
    assert back.to(dtype=torch.float64).columns.dtype == torch.float64
    with pytest.raises(ValueError, match="columns must be"):
        Cut3rState.from_tensors(first.as_tensors() | {"columns": first.columns[0]})


def test_siglip_tokens_must_fit(aided, frames):
    pixels = aided.cut3r_pixels(frames)
    with pytest.raises(ValueError, match="SigLIP tokens must be"):
        aided.cut3r.encode(pixels)
    with pytest.raises(ValueError, match="siglip_width 0"):
        build_nano().cut3r.encode(pixels, siglip=torch.zeros(4, 25, 72))
    with pytest.raises(ValueError, match="siglip_width must be 0 or the SigLIP width 72"):
        replace(NANO, cut3r=replace(NANO.cut3r, siglip_width=64))


@torch.no_grad()
def test_frames_of_a_clip_join(aided, frames):
    state, steps = aided.init_state(), []
    for frame in frames:
        state, encoded = aided.step(state, frame[None])
        steps.append(encoded)
    assert torch.equal(Encoded.concat(steps).camera, aided.encode(frames).camera)
