"""The transformer blocks of CUT3R under their published parameter names. Nothing here knows of frames or state."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from vlm3r_core.model.conv_stem import ConvStem
from vlm3r_core.model.rope import Rotary, rotate

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class PatchEmbed(nn.Module):
    """Cuts an image into patches and makes each one token: by one linear map, or by a few convolutions."""

    def __init__(self, channels: int, width: int, patch_size: int, conv_stem: bool = False):
        super().__init__()
        linear = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)
        self.proj = ConvStem(channels, width, patch_size) if conv_stem else linear

    def forward(self, image: Tensor) -> Tensor:
        """Image [B, C, H, W] to row-major tokens [B, P, D]."""
        return self.proj(image).flatten(2).transpose(1, 2)


class Mlp(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, width: int, hidden: int, out: int | None = None):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out or width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to [..., out]."""
        return self.fc2(gelu(self.fc1(x)))


class SelfAttention(nn.Module):
    """Attention among the tokens of one set."""

    def __init__(self, width: int, heads: int, half_rounding: bool = False):
        super().__init__()
        self.heads = heads
        self.half_rounding = half_rounding
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotary: Rotary | None) -> Tensor:
        """[B, P, D] to [B, P, D]; rotary None leaves positions out."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries_and_keys, v = qkv[:2], qkv[2]
        if rotary is not None:
            queries_and_keys = rotate(queries_and_keys, rotary, self.half_rounding)
        q, k = queries_and_keys
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Attention of one set of tokens on another."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(width, width)
        self.projk = nn.Linear(width, width)
        self.projv = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(
        self, x: Tensor, y: Tensor, x_rotary: Rotary | None, y_rotary: Rotary | None, want_score: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Lets x look at y.

        Args:
            x: [B, P, D], the queries.
            y: [B, Q, D], keys and values.
            x_rotary: positions of x, None for none.
            y_rotary: positions of y, None for none.
            want_score: also return how well each query meets the keys.

        Returns:
            [B, P, D], and the score float32 [B, P]: the mean scaled logit over heads and keys; None unless wanted.
        """
        q, k, v = self._split(self.projq(x)), self._split(self.projk(y)), self._split(self.projv(y))
        if x_rotary is not None:
            q, k = rotate(q, x_rotary), rotate(k, y_rotary)
        out = self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out, _mean_logit(q, k) if want_score else None


def _mean_logit(q: Tensor, k: Tensor) -> Tensor:
    """Mean over heads and keys of q.k / sqrt(d), [B, N, P, d] and [B, N, Q, d] to float32 [B, P]."""
    # the mean over keys passes through the product, so the P x Q logits are never formed
    mean_key = k.float().mean(dim=2, keepdim=True)
    return (q.float() * mean_key).sum(dim=-1).mean(dim=1) * q.shape[-1] ** -0.5


class EncoderBlock(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, half_rounding: bool = False):
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attn = SelfAttention(width, heads, half_rounding)
        self.norm2 = LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor, rotary: Rotary) -> Tensor:
        """[B, P, D] to [B, P, D]."""
        x = x + self.attn(self.norm1(x), rotary)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Pre-norm self-attention, cross-attention on another set of tokens, and MLP."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.norm2 = LayerNorm(width)
        self.norm_y = LayerNorm(width)
        self.cross_attn = CrossAttention(width, heads)
        self.norm3 = LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        x_rotary: Rotary | None = None,
        y_rotary: Rotary | None = None,
        want_score: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Updates x [B, P, D] from y [B, Q, D]; arguments and the score are CrossAttention's."""
        x = x + self.attn(self.norm1(x), x_rotary)
        seen, score = self.cross_attn(self.norm2(x), self.norm_y(y), x_rotary, y_rotary, want_score)
        x = x + seen
        return x + self.mlp(self.norm3(x)), score


class ModulatedNorm(nn.Module):
    """A layer norm whose scale and shift follow from a condition."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = LayerNorm(width)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens [B, P, D] under a condition [B, 1, D]."""
        shift, scale = self.mlp(condition).chunk(2, dim=-1)
        return self.norm(x) * (1 + scale) + shift


class ModulatedBlock(nn.Module):
    """An encoder block whose norms are modulated by the pose token."""

    def __init__(self, width: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = ModulatedNorm(width)
        self.attn = SelfAttention(width, heads)
        self.norm2 = ModulatedNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor, condition: Tensor, rotary: Rotary) -> Tensor:
        """Tokens [B, P, D] under a condition [B, 1, D]."""
        x = x + self.attn(self.norm1(x, condition), rotary)
        return x + self.mlp(self.norm2(x, condition))
