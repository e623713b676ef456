"""CUT3R's step: state, flags, ray maps, gate, and what it refuses. Untrained weights of a small size."""

from dataclasses import fields, replace

import pytest
import torch

from vlm3r_core.config import TINY_RANDOM, Cut3rConfig, DptConfig
from vlm3r_core.model.cut3r import Cut3r
from vlm3r_core.model.cut3r_blocks import CrossAttention
from vlm3r_core.model.cut3r_state import Cut3rState
from vlm3r_core.model.rope import rotary_table, rotary_tables, rotate

SMALL = Cut3rConfig(
    image_size=48,
    enc_embed_dim=32,
    enc_depth=2,
    enc_num_heads=2,
    dec_embed_dim=24,
    dec_depth=4,
    dec_num_heads=2,
    state_dec_num_heads=3,
    state_size=10,
    local_mem_size=4,
    ray_enc_num_heads=2,
    dpt=DptConfig((4, 8, 12, 16), 16, 8),
)
HEIGHT, WIDTH = 32, 48
# float32 kernels may sum in another order for another batch size; values are of order 1
SAME = {"rtol": 0, "atol": 1e-5}


def build(**changes):
    torch.manual_seed(0)
    model = Cut3r(replace(SMALL, **changes)).eval()
    with torch.no_grad():
        # with the small tokens of an untrained network memory and gate would hardly show
        for token in (model.pose_token, model.masked_img_token, model.masked_ray_map_token, model.pose_retriever.mem):
            token.mul_(50)
    return model


@pytest.fixture
def model():
    return build()


@pytest.fixture(autouse=True)
def _no_gradients_and_one_thread():
    """Matrices here are too small to share; waiting for a second thread costs more on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


def images(frames=4, batch=2, seed=1, height=HEIGHT, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(frames, batch, 3, height, width, generator=generator) * 2 - 1


def rays(batch=2, seed=2):
    return torch.randn(batch, HEIGHT, WIDTH, 6, generator=torch.Generator().manual_seed(seed))


def roll(model, frames, state=None):
    state = state or model.init_state(frames.shape[1])
    tokens = []
    for image in frames:
        state, seen = model.step(state, image)
        tokens.append(seen)
    return state, tokens


def assert_same(ours, theirs, **tolerance):
    for name, tensor in ours.as_tensors().items():
        torch.testing.assert_close(tensor, theirs.as_tensors()[name], **(tolerance or {"rtol": 0, "atol": 0}))


def test_tokens_have_the_promised_shapes(model):
    state, tokens = model.step(model.init_state(2), images()[0])
    assert tokens.grid == (2, 3)
    assert tokens.camera.shape == (2, 1, 24)
    assert tokens.patch.shape == tokens.hook_half.shape == tokens.hook_three_quarters.shape == (2, 6, 24)
    assert tokens.feature.shape == (2, 6, 32)
    assert [tuple(t.shape) for t in (state.tokens, state.memory, state.fresh)] == [(2, 10, 24), (2, 4, 48), (2,)]


def test_geometry_has_the_promised_shapes(model):
    _, tokens = model.step(model.init_state(2), images()[0])
    geometry = model.geometry(tokens)
    maps = (2, HEIGHT, WIDTH)
    assert geometry.points_world.shape == geometry.points_self.shape == geometry.rgb.shape == (*maps, 3)
    assert geometry.conf_world.shape == geometry.conf_self.shape == maps
    assert geometry.camera_pose.shape == (2, 7)
    assert (geometry.conf_self > 1).all()


def test_step_does_not_run_the_heads(model):
    ran = []
    for module in model.downstream_head.modules():
        module.register_forward_hook(lambda *_: ran.append(1))
    _, tokens = model.step(model.init_state(2), images()[0])
    assert not ran
    model.geometry(tokens)
    assert ran


def test_initial_state_is_the_same_for_every_stream(model):
    state = model.init_state(3)
    assert torch.equal(state.tokens[0], state.tokens[2])
    assert torch.equal(state.memory[0], state.memory[2])
    assert state.fresh.all()


def test_state_keeps_its_size_and_the_tables_are_reused(model):
    state, _ = roll(model, images(1))
    size, made = state.nbytes, rotary_tables.cache_info().misses
    state, _ = roll(model, images(12), state)
    assert state.nbytes == size == 4 * (2 * 10 * 24 + 2 * 4 * 48) + 2
    assert rotary_tables.cache_info().misses == made


def test_order_of_frames_matters(model):
    frames = images()
    _, tokens = roll(model, frames)
    _, swapped = roll(model, frames[[1, 0, 2, 3]])
    assert (tokens[3].patch - swapped[3].patch).abs().max() > 1e-3
    assert (tokens[3].camera - swapped[3].camera).abs().max() > 1e-3


def test_streams_of_a_batch_do_not_mix(model):
    frames = images()
    state, tokens = roll(model, frames)
    for one in range(2):
        alone_state, alone = roll(model, frames[:, one : one + 1])
        torch.testing.assert_close(tokens[-1].patch[one], alone[-1].patch[0], **SAME)
        torch.testing.assert_close(tokens[-1].camera[one], alone[-1].camera[0], **SAME)
        torch.testing.assert_close(state.tokens[one], alone_state.tokens[0], **SAME)
        torch.testing.assert_close(state.memory[one], alone_state.memory[0], **SAME)


def test_frames_encoded_together_step_as_frames_encoded_one_by_one(model):
    frames = images(batch=1)
    _, one_by_one = roll(model, frames)
    together, state = model.encode(frames[:, 0]), model.init_state(1)
    for i, expected in enumerate(one_by_one):
        state, tokens = model.advance(state, replace(together, feature=together.feature[i : i + 1]))
        torch.testing.assert_close(tokens.patch, expected.patch, **SAME)


def test_a_stream_goes_on_at_another_image_size(model):
    state, _ = roll(model, images(2))
    _, tokens = model.step(state, images(1, height=64, width=16)[0])
    assert tokens.grid == (4, 1)
    assert model.geometry(tokens).points_self.shape == (2, 64, 16, 3)


def test_without_update_the_state_stays(model):
    frames = images()
    before, _ = roll(model, frames[:2])
    after, tokens = model.step(before, frames[2], update=torch.tensor([True, False]))
    expected, seen = model.step(before, frames[2])
    assert torch.equal(tokens.patch, seen.patch)
    assert torch.equal(after.tokens[1], before.tokens[1])
    assert torch.equal(after.memory[1], before.memory[1])
    assert torch.equal(after.tokens[0], expected.tokens[0])
    assert torch.equal(after.memory[0], expected.memory[0])


def test_reset_returns_to_the_initial_state_after_the_view(model):
    frames = images()
    before, _ = roll(model, frames[:2])
    _, seen = model.step(before, frames[2])
    after, tokens = model.step(before, frames[2], update=torch.tensor([False, True]), reset=torch.tensor([True, False]))
    initial = model.init_state(2)
    assert torch.equal(tokens.patch, seen.patch)
    assert torch.equal(after.tokens[0], initial.tokens[0])
    assert torch.equal(after.memory[0], initial.memory[0])
    assert not torch.equal(after.tokens[1], initial.tokens[1])


def test_after_a_reset_the_pose_token_is_read_from_the_initial_memory(model):
    frames, every = images(), torch.tensor([True, True])
    after, _ = model.step(model.init_state(2), frames[0], reset=every)
    assert not after.fresh.any()
    _, tokens = model.step(after, frames[1])
    _, first = model.step(model.init_state(2), frames[1])
    assert (tokens.camera - first.camera).abs().max() > 1e-3


def test_with_ttt3r_a_reset_starts_a_stream_anew():
    model, frames = build(state_gate="ttt3r"), images()
    after, _ = model.step(roll(model, frames[:2])[0], frames[2], reset=torch.tensor([True, False]))
    assert after.fresh.tolist() == [True, False]
    again, tokens = model.step(after, frames[3])
    first_state, first = model.step(model.init_state(2), frames[3])
    assert torch.equal(tokens.camera[0], first.camera[0])
    assert torch.equal(again.tokens[0], first_state.tokens[0])
    assert not torch.equal(tokens.camera[1], first.camera[1])


def test_ttt3r_moves_the_state_part_of_the_way():
    gated, plain, frames = build(state_gate="ttt3r"), build(), images()
    one, _ = gated.step(gated.init_state(2), frames[0])
    assert_same(one, plain.step(plain.init_state(2), frames[0])[0])
    two, _ = gated.step(one, frames[1])
    full, _ = plain.step(one, frames[1])
    share = (two.tokens - one.tokens) / (full.tokens - one.tokens)
    gate = share.median(dim=-1).values
    # one gate a state token; the quotient loses digits where the state hardly moved
    torch.testing.assert_close(share, gate.unsqueeze(-1).expand_as(share), rtol=0, atol=1e-2)
    assert ((gate > 0) & (gate < 1)).all()
    assert torch.equal(two.memory, full.memory)


def test_ttt3r_score_is_the_mean_logit():
    torch.manual_seed(0)
    attention = CrossAttention(24, 3)
    x, y = torch.randn(2, 5, 24), torch.randn(2, 7, 24)
    at_x, at_y = (rotary_table(torch.randint(-1, 6, (n, 2)), 8, 100.0) for n in (5, 7))
    out, score = attention(x, y, at_x, at_y, want_score=True)
    q = rotate(attention.projq(x).reshape(2, 5, 3, 8).transpose(1, 2), at_x)
    k = rotate(attention.projk(y).reshape(2, 7, 3, 8).transpose(1, 2), at_y)
    logits = q @ k.transpose(-1, -2) / 8**0.5
    torch.testing.assert_close(score, logits.mean(dim=(1, 3)), **SAME)
    plain, nothing = attention(x, y, at_x, at_y)
    assert torch.equal(out, plain)
    assert nothing is None


def test_ray_map_without_mask_is_added_to_the_image(model):
    image, ray_map = images()[0], rays()
    both, pictures = model.encode(image, ray_map).feature, model.encode(image).feature
    only = model.encode(None, ray_map).feature
    torch.testing.assert_close(both, pictures + only, **SAME)
    torch.testing.assert_close(
        model.encode(image, ray_map, img_mask=torch.tensor([True, False])).feature,
        torch.stack((both[0], only[1])),
        **SAME,
    )


def test_ray_mask_fills_in_learned_tokens(model):
    image, ray_map = images()[0], rays()
    pictures, only = model.encode(image).feature, model.encode(None, ray_map).feature
    feature = model.encode(
        image, ray_map, img_mask=torch.tensor([True, False]), ray_mask=torch.tensor([False, True])
    ).feature
    torch.testing.assert_close(feature[0], pictures[0] + model.masked_ray_map_token, **SAME)
    torch.testing.assert_close(feature[1], model.masked_img_token + only[1], **SAME)


def test_a_ray_mask_all_false_is_not_no_ray_mask(model):
    image, none = images()[0], torch.tensor([False, False])
    pictures = model.encode(image).feature
    for ray_map in (None, rays()):
        feature = model.encode(image, ray_map, ray_mask=none).feature
        torch.testing.assert_close(feature, pictures + model.masked_ray_map_token, **SAME)


def test_missing_image_of_a_call_without_rays_is_the_learned_token(model):
    feature = model.encode(images()[0], img_mask=torch.tensor([True, False])).feature
    assert torch.equal(feature[1], model.masked_img_token.expand(6, -1))


def test_unused_inputs_may_hold_anything(model):
    image, ray_map = images()[0], rays()
    flags = {"img_mask": torch.tensor([True, False]), "ray_mask": torch.tensor([False, True])}
    expected = model.encode(image, ray_map, **flags).feature
    image[1], ray_map[0] = torch.nan, torch.nan
    assert torch.equal(model.encode(image, ray_map, **flags).feature, expected)


def test_views_without_image_never_write(model):
    before, _ = roll(model, images(2))
    after, _ = model.step(before, None, ray_map=rays(), update=torch.tensor([True, True]))
    assert_same(after, before)
    after, _ = model.step(before, images()[3], img_mask=torch.tensor([True, False]))
    assert torch.equal(after.tokens[1], before.tokens[1])
    assert not torch.equal(after.tokens[0], before.tokens[0])


def test_state_there_and_back_continues_the_stream(model):
    frames = images()
    state, _ = roll(model, frames[:2])
    loaded = Cut3rState.from_tensors({k: v.clone() for k, v in state.as_tensors().items()})
    assert torch.equal(model.step(state, frames[2])[1].patch, model.step(loaded, frames[2])[1].patch)


def test_initial_state_can_be_written(model):
    assert all(
        tensor.is_contiguous() and not tensor.requires_grad for tensor in model.init_state(2).as_tensors().values()
    )


def test_broken_state_tensors_are_named(model):
    tensors = model.init_state(2).as_tensors()
    with pytest.raises(KeyError, match=r"memory missing, got fresh, tokens"):
        Cut3rState.from_tensors({name: tensors[name] for name in ("tokens", "fresh")})
    with pytest.raises(ValueError, match=r"expected tokens \[B, S, D\], memory \[B, M, 2D\] and fresh \[B\]"):
        Cut3rState.from_tensors(tensors | {"fresh": torch.ones(3, dtype=torch.bool)})


def test_bfloat16_runs_and_geometry_is_float32():
    model, frames = build(state_gate="ttt3r").bfloat16(), images(2)
    state, tokens = roll(model, frames)
    assert state.tokens.dtype == state.memory.dtype == tokens[-1].patch.dtype == torch.bfloat16
    geometry = model.geometry(tokens[-1])
    assert all(getattr(geometry, field.name).dtype == torch.float32 for field in fields(geometry))
    exact, _ = roll(build(state_gate="ttt3r"), frames)
    # bfloat16 has 8 bits; values of order 1 pass some twenty layers
    torch.testing.assert_close(state.tokens.float(), exact.tokens, rtol=0, atol=0.15)
    moved = state.to(dtype=torch.float32)
    assert moved.tokens.dtype == moved.memory.dtype == torch.float32
    assert moved.fresh.dtype == torch.bool


def test_gradients_flow_through_steps_after_inference(model):
    with torch.inference_mode():
        roll(model, images(1))
    with torch.enable_grad():
        state, tokens = roll(model, images(3))
        model.geometry(tokens[-1]).points_world.sum().backward()
    unused = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert "register_tokens.weight" not in unused
    assert "enc_blocks.0.attn.qkv.weight" not in unused
    assert "pose_retriever.mem" not in unused
    assert state.tokens.requires_grad


def test_both_names_of_a_head_weight_stay_one_tensor():
    source = build().state_dict()
    with torch.device("meta"):
        model = Cut3r(SMALL)
    model.load_state_dict(source, strict=True, assign=True)
    scratch = model.downstream_head.dpt_self.scratch
    assert scratch.layer1_rn.weight is scratch.layer_rn[0].weight
    assert "downstream_head.dpt_self.scratch.layer4_rn.weight" in source
    assert "downstream_head.dpt_self.scratch.layer_rn.3.weight" in source


def test_tiny_preset_steps():
    model = Cut3r(TINY_RANDOM.cut3r).eval()
    side = TINY_RANDOM.cut3r.image_size
    _, tokens = model.step(model.init_state(1), images(1, 1, height=side, width=side)[0])
    assert tokens.patch.shape == (1, TINY_RANDOM.siglip.grid**2, TINY_RANDOM.cut3r.dec_embed_dim)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": None}, "needs an image, a ray map, or both; got neither"),
        ({"image": torch.zeros(2, 1, 32, 48)}, r"image must be \[B, 3, H, W\] in -1..1, got \[2, 1, 32, 48\]"),
        ({"image": torch.zeros(3, 32, 48)}, r"image must be \[B, 3, H, W\]"),
        ({"image": torch.zeros(2, 3, 33, 48)}, "positive multiples of 16, got 33 x 48; resize first"),
        ({"image": torch.zeros(2, 3, 32, 0)}, "positive multiples of 16, got 32 x 0"),
        ({"image": None, "ray_map": torch.zeros(2, 6, 32, 48)}, r"ray_map must be \[B, H, W, 6\]"),
        ({"ray_map": torch.zeros(2, 16, 48, 6)}, "must agree in batch, height and width"),
        ({"img_mask": torch.ones(2)}, r"img_mask must be bool \[2\], got torch.float32 \[2\]"),
        ({"ray_mask": torch.ones(1, dtype=torch.bool)}, r"ray_mask must be bool \[2\], got torch.bool \[1\]"),
        ({"ray_mask": torch.tensor([False, True])}, "ray_mask is True for a view without ray_map"),
        ({"update": torch.ones(3, dtype=torch.bool)}, r"update must be bool \[2\]"),
        ({"reset": torch.ones(2, 1, dtype=torch.bool)}, r"reset must be bool \[2\]"),
        ({"image": torch.zeros(1, 3, 32, 48)}, "state has 2 streams, the view has 1; pass one view a stream"),
    ],
)
def test_step_says_what_does_not_fit(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.step(model.init_state(2), **({"image": images()[0]} | arguments))


def test_a_state_needs_a_stream(model):
    with pytest.raises(ValueError, match="batch of at least 1, got 0"):
        model.init_state(0)


def test_config_refuses_what_the_network_cannot_be():
    with pytest.raises(ValueError, match="width 32 with 3 heads"):
        replace(SMALL, ray_enc_num_heads=3)
    with pytest.raises(ValueError, match="dec_depth must be at least 2, got 1"):
        replace(SMALL, dec_depth=1)
