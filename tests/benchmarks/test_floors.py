"""Floors: the operations counted equal the published sizes' known numbers, and what torch really multiplies."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import floors
from vlm3r_core.config import MODEL_PRESETS, VLM3R_7B
from vlm3r_core.loading import build, load

GIGA, TERA = 1e9, 1e12


def near(value):
    # The known numbers are given with three or four digits.
    return pytest.approx(value, rel=0.01)


@pytest.fixture(scope="module")
def meta_7b():
    return build(VLM3R_7B, torch.device("meta"), torch.bfloat16)


@pytest.fixture(scope="module")
def tiny():
    return load("tiny-random", "cpu")


class TestKnownNumbers:
    """Operations of the 7B preset; known from the papers' sizes, a multiply-add counted as two."""

    def test_vision(self):
        cut3r = VLM3R_7B.cut3r
        assert floors.encoder_flops(cut3r) == near(493.7 * GIGA)
        # 422.0 for the twin decoders, 1.15 for embedding the patches
        assert floors.decoder_flops(cut3r) == near((422.0 + 1.15) * GIGA)
        assert floors.pose_memory_flops(cut3r) == near((34.7 + 5.0) * GIGA)
        assert floors.siglip_flops(VLM3R_7B.siglip) == near(641.8 * GIGA)
        assert floors.fusion_flops(VLM3R_7B) == near(16.7 * GIGA)
        assert floors.projector_flops(VLM3R_7B) == near(24.7 * GIGA)
        assert sum(floors.vision_flops(VLM3R_7B).values()) == near(1.640 * TERA)

    def test_language(self):
        language, prefix = VLM3R_7B.language, 32 * 210
        assert VLM3R_7B.tokens_per_frame == 210
        assert floors.linear_weights(language) == near(6.525e9)
        prefill = floors.append_flops(language, prefix + 150, 0)
        linear = 2 * (prefix + 150) * floors.linear_weights(language)
        assert linear == near(89.7 * TERA)
        assert prefill - linear == near(9.5 * TERA)
        assert floors.append_flops(language, 210, prefix) == near(3.32 * TERA)
        assert floors.append_flops(language, 150, prefix) == near(2.37 * TERA)
        assert floors.kv_bytes_per_token(language, 2) == 57_344

    def test_weights(self, meta_7b):
        weights = floors.vision_weights(meta_7b)
        cut3r = sum(weights[stage] for stage in ("CUT3R encode", "CUT3R decode", "CUT3R memory"))
        assert cut3r == near(683e6)
        assert sum(weights.values()) * 2 == near(2.21e9)

    def test_floors_on_an_h200(self, meta_7b):
        peaks = floors.Peaks(790e12, 4.3e12)
        work = floors.frame_work(meta_7b, 32 * 210)
        assert work["prefix append"].floor_ms(peaks) == near(4.20)
        assert work["SigLIP"].floor_ms(peaks) == near(0.81)
        # a question on a ready cache is bound by reading the weights
        question = floors.append_work(meta_7b, 150, 32 * 210, logits=True)
        assert question.nbytes == near(14.5e9)
        assert question.floor_ms(peaks) == near(3.38)


class TestCounted:
    """The formulas against torch's own count of the matrix products of a real frame on the small preset."""

    def counted(self, function):
        # The counter knows no fused attention on the CPU.
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

        def attention(q, k, v, *_, **__):
            return 4 * q[0] * q[1] * q[2] * k[2] * q[3]

        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping={fused: attention}) as counter:
            result = function()
        return counter.get_total_flops(), result

    def test_every_stage_of_a_frame(self, tiny):
        config, pixels = tiny.config, torch.zeros(1, 3, 168, 168)
        expected = floors.vision_flops(config)
        flops, siglip = self.counted(lambda: tiny.siglip(pixels))
        assert flops == near(expected["SigLIP"])
        flops, view = self.counted(lambda: tiny.cut3r.encode(tiny.cut3r_pixels(pixels)))
        assert flops == near(expected["CUT3R encode"])
        flops, (_, tokens) = self.counted(lambda: tiny.cut3r.advance(tiny.init_state(), view))
        # init_state embeds the state tokens, which a frame does not
        state = 2 * config.cut3r.state_size * config.cut3r.enc_embed_dim * config.cut3r.dec_embed_dim
        assert flops - state == near(expected["CUT3R decode"] + expected["CUT3R memory"])
        flops, _ = self.counted(lambda: tiny.project(tiny.fuse(siglip, tokens.camera, tokens.patch)))
        assert flops == near(expected["fusion"])

    def test_append(self, tiny):
        language = tiny.config.language
        cache = tiny.language.new_cache(1100)
        with torch.no_grad():
            tiny.language.append(torch.zeros(1000, language.hidden_size), cache)
        flops, _ = self.counted(lambda: tiny.language.append(torch.zeros(42, language.hidden_size), cache))
        # the kernel is charged for whole rows, the floor for the causal half of the last 42
        causal_half = language.num_layers * 2 * 42 * 42 * language.hidden_size
        assert flops - causal_half == near(floors.append_flops(language, 42, 1000))

    @pytest.mark.parametrize("selection", ["camera_tokens", "patch_tokens", "none"])
    def test_fusion_follows_the_token_selection(self, selection):
        config = replace(MODEL_PRESETS["tiny-random"], token_selection=selection)
        model = build(config, torch.device("cpu"), torch.float32)
        n = config.siglip.grid**2
        siglip = torch.zeros(1, n, config.siglip.hidden_size)
        camera, patch = torch.zeros(1, 1, config.cut3r.dec_embed_dim), torch.zeros(1, n, config.cut3r.dec_embed_dim)
        flops, _ = self.counted(lambda: model.fuse(siglip, camera, patch))
        assert flops == near(floors.fusion_flops(config))
        read = floors.vision_weights(model)["fusion"]
        skipped = sum(parameter.numel() for parameter in model.fusion.parameters()) if selection == "none" else 0
        whole = [*model.fusion.parameters(), *model.projector.parameters()]
        assert read == sum(parameter.numel() for parameter in whole) - skipped


def test_floor_is_the_longer_of_arithmetic_and_traffic():
    peaks = floors.Peaks(flops=1e12, bytes_per_s=1e9)
    assert floors.Work(2e12, 1e9).floor_ms(peaks) == 2000
    assert floors.Work(1e12, 3e9).floor_ms(peaks) == 3000
