"""The language model's layers over a folded pack, with its own modules and less traffic of memory between them.

The numbers are those of transformers' layers up to rounding; norms and rotations have gradients of their own here that
read and write each tensor once or twice instead of a dozen times. Keeps no cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.fold import Fold, fold_attention
from vlm3r_core.model.language import LanguageModel


def fold_hidden(
    language: LanguageModel, embeddings: Tensor, positions: Tensor, fold: Fold, watched: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Last hidden states of a pack.

    Args:
        language: its layers run.
        embeddings: [L, D].
        positions: int64 [L].
        fold: whose places are whose.
        watched: number of layers whose output is wanted too.

    Returns:
        [L, D] behind the last norm, and [L, D] behind that many layers; None where none is watched.
    """
    decoder, epsilon = language.qwen.model, language.config.rms_norm_eps
    cos, sin = (part[0] for part in decoder.rotary_emb(embeddings[None], positions[None]))
    hidden, seen = embeddings, embeddings if watched == 0 else None
    for number, layer in enumerate(decoder.layers, 1):
        normed = _RmsNorm.apply(hidden, layer.input_layernorm.weight, epsilon, _narrow(hidden))
        hidden = hidden + _attend(layer.self_attn, normed, cos, sin, fold)
        normed = _RmsNorm.apply(hidden, layer.post_attention_layernorm.weight, epsilon, _narrow(hidden))
        mlp = layer.mlp
        hidden = hidden + mlp.down_proj(F.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))
        seen = hidden if number == watched else seen
    return _RmsNorm.apply(hidden, decoder.norm.weight, epsilon, hidden.dtype), seen


def _attend(layer: nn.Module, normed: Tensor, cos: Tensor, sin: Tensor, fold: Fold) -> Tensor:
    shape, device = (len(normed), -1, layer.head_dim), normed.device.type
    query, key, value = (
        project(normed).view(shape).transpose(0, 1) for project in (layer.q_proj, layer.k_proj, layer.v_proj)
    )
    with torch.autocast(device, enabled=False):
        # in float32 at least: a CPU's kernels are slow in less
        query, key = _Rotate.apply(query, cos, sin), _Rotate.apply(key, cos, sin)
        value = value.to(query.dtype)
        if repeats := len(query) // len(key) - 1:
            key, value = (part.repeat_interleave(repeats + 1, dim=0) for part in (key, value))
        out = fold_attention(query, key, value, fold, layer.scaling)
    return layer.o_proj(out.transpose(0, 1).reshape(len(normed), -1).to(normed.dtype))


def _narrow(hidden: Tensor) -> torch.dtype:
    """What linear layers compute in."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


class _RmsNorm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + epsilon) * weight, computed in x's type and handed on in another."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, epsilon: float, kind: torch.dtype) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = (length.square_().div_(x.shape[-1]).add_(epsilon)).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(kind)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        grad, unit = grad.to(x.dtype), x * scale
        both = grad * unit
        to_weight = both.sum(0)
        along = (both @ weight)[:, None] / x.shape[-1]
        return (grad * weight).addcmul_(unit, along, value=-1).mul_(scale), to_weight, None, None


class _Rotate(torch.autograd.Function):
    """The rotary embedding of [N, L, d]; its gradient is the rotation back."""

    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.kind = x.dtype
        return _rotated(x, cos, sin, 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _rotated(grad, *ctx.saved_tensors, -1).to(ctx.kind), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    x, half = x.to(cos.dtype), x.shape[-1] // 2
    # cosines and sines come twice, once for either half
    out, sin = x * cos, sin[:, :half]
    out[..., :half].addcmul_(x[..., half:], sin, value=-way)
    out[..., half:].addcmul_(x[..., :half], sin, value=way)
    return out
