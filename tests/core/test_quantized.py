"""Quantised weights: sizes, rounding error, and the fused kernels against the same weights multiplied out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vlm3r_core.model.quantized import (
    QuantizedLinear,
    check_quantization,
    dequantize,
    is_quantized_weight,
    piece_shapes,
    quantize_weight,
)

CPU = torch.device("cpu")
# rows, columns; the last two have no int4 kernel for their rows, and no group of columns
SHAPES = ((64, 64), (32, 96), (176, 128), (24, 64), (64, 144))


def weight_of(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows + columns))


@pytest.mark.parametrize("quantize", ["int8", "int4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_pieces_are_what_is_announced(quantize, shape):
    pieces = quantize_weight(weight_of(*shape), quantize)
    found = {name: (tuple(piece.shape), str(piece.dtype).removeprefix("torch.")) for name, piece in pieces.items()}
    assert found == piece_shapes(quantize, shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_off_by_half_a_step_at_most(shape):
    weight = weight_of(*shape)
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((dequantize(quantize_weight(weight, "int8")) - weight).abs() <= 0.5001 * step).all()


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_int4_is_off_by_half_a_step_and_the_rounded_scale(shape):
    """bfloat16 scales and zeros are off by 1/256 of themselves: up to 8 steps' scale and the zero's size."""
    weight = weight_of(*shape)
    pieces = quantize_weight(weight, "int4")
    grouped = weight.unflatten(1, (pieces["scale"].shape[1], -1))
    step = (grouped.amax(-1) - grouped.amin(-1)) / 15
    limit = 0.5 * step + (8 * step + pieces["zero"].float().abs()) / 128
    off = (dequantize(pieces).unflatten(1, grouped.shape[1:]) - grouped).abs().amax(-1)
    assert (off <= limit).all()


@pytest.mark.parametrize("quantize", ["int8", "int4"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_fused_equals_multiplied_out(quantize, shape, dtype, tolerance):
    """Relative to the largest output: float32 sums in another order; bfloat16 has 8 bits for weights and results."""
    pieces = quantize_weight(weight_of(*shape), quantize)
    bias = torch.randn(shape[0])
    x = torch.randn(2, 7, shape[1], generator=torch.Generator().manual_seed(0)).to(dtype)
    fused = QuantizedLinear(pieces, bias, CPU, dtype)(x)
    plain = F.linear(x.float(), dequantize(pieces), bias)
    assert fused.dtype == dtype
    assert fused.shape == plain.shape
    assert (fused.float() - plain).abs().max() <= tolerance * plain.abs().max()


def test_a_weight_of_zeros_stays_zeros():
    for quantize in ("int8", "int4"):
        assert not dequantize(quantize_weight(torch.zeros(16, 64), quantize)).any()


def test_which_weights():
    assert is_quantized_weight("language.qwen.model.layers.3.mlp.down_proj.weight")
    for name in ("language.qwen.lm_head.weight", "language.qwen.model.layers.3.self_attn.q_proj.bias", "projector.0"):
        assert not is_quantized_weight(name)


def test_memory_of_a_layer():
    """A byte, or half of one and a scale and zero of two bytes each for 64 columns, where float32 takes four."""
    weight, sizes = nn.Linear(640, 320).weight, {}
    for quantize in ("int8", "int4"):
        layer = QuantizedLinear(quantize_weight(weight, quantize), None, CPU, torch.bfloat16)
        sizes[quantize] = sum(buffer.nbytes for buffer in layer.buffers())
    assert sizes == {"int8": 320 * 640 + 2 * 320, "int4": 320 * 320 + 320 * 10 * 4}


def test_unknown_kind():
    with pytest.raises(ValueError, match="quantize must be one of int8, int4, got 'int2'"):
        check_quantization("int2")
