"""The 2D rotary position embedding of CUT3R. Not a module: tables follow from positions and hold no weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vlm3r_core.config import Cut3rConfig

# the pose token stands one step up and left of the grid: a real rotation by -1, not an index
POSE_POSITION = (-1, -1)


@dataclass(frozen=True)
class Rotary:
    """Rotation factors of P tokens for one head width d, the sign of the rotation folded into the sine.

    Args:
        cos: float32 [P, d].
        sin: float32 [P, d].
    """

    cos: Tensor
    sin: Tensor

    def __getitem__(self, tokens: slice) -> Rotary:
        """The factors of some of the tokens."""
        return Rotary(self.cos[tokens], self.sin[tokens])


def grid_positions(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """Positions of a row-major grid.

    Returns:
        int64 [height * width, 2], (row, column).
    """
    rows = torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    return torch.cartesian_prod(rows, columns).reshape(-1, 2)


def state_positions(count: int, layout: str, device: torch.device | str | None = None) -> Tensor:
    """Fixed positions of the state tokens.

    Args:
        count: number of state tokens.
        layout: "2d" fills rows of the square side rounded up to even, "1d" repeats the index.

    Returns:
        int64 [count, 2], (row, column).

    Source: CUT3R, state_pe.
    """
    index = torch.arange(count, device=device)
    if layout == "1d":
        return torch.stack((index, index), dim=-1)
    side = int(count**0.5)
    side += side % 2
    return torch.stack((index // side, index % side), dim=-1)


def rotary_table(positions: Tensor, head_dim: int, base: float) -> Rotary:
    """Rotation factors for integer positions of any sign, computed in float32.

    Args:
        positions: integer [P, 2], (row, column).
        head_dim: width of one head; its first half is rotated by the row, its second by the column.
        base: the slowest of the head_dim / 4 frequencies approaches 1 / base.

    Raises:
        ValueError: head_dim cannot be quartered.

    Source: RoPE (Su et al. 2021) in two dimensions, as CUT3R's compiled operator computes it.
    """
    if head_dim % 4:
        raise ValueError(f"rotary_table needs a head width divisible by 4, got {head_dim}; choose another head count")
    exponent = torch.arange(head_dim // 4, dtype=torch.float32, device=positions.device) / (head_dim // 4)
    angle = positions.to(torch.float32).unsqueeze(-1) * base**-exponent
    cos, sin = angle.cos(), angle.sin()
    return Rotary(torch.stack((cos, cos), dim=2).flatten(1), torch.stack((-sin, sin), dim=2).flatten(1))


def rotate(x: Tensor, rotary: Rotary, half_rounding: bool = False) -> Tensor:
    """Rotates queries or keys in float32 and returns them in their own dtype.

    Args:
        x: [..., P, d]; element k of each half of d pairs with element k + d/4 of that half.
        rotary: factors of the same P tokens.
        half_rounding: round to float16 before and after, as the published image encoder does at any precision.
    """
    values = x.to(torch.float16) if half_rounding else x
    u_row, v_row, u_column, v_column = values.chunk(4, dim=-1)
    partner = torch.cat((v_row, u_row, v_column, u_column), dim=-1)
    # float32 factors promote half precision values
    rotated = torch.addcmul(values * rotary.cos, partner, rotary.sin)
    if half_rounding:
        rotated = rotated.to(torch.float16)
    return rotated.to(x.dtype)


@dataclass(frozen=True)
class RotaryTables:
    """Rotation factors of one grid for every head width of CUT3R.

    Args:
        encoder: patches, in the image encoder.
        ray_encoder: patches, in the ray-map encoder.
        image_heads: (pose token and patches, state tokens), in the image decoder.
        state_heads: (pose token and patches, state tokens), in the state decoder.
    """

    encoder: Rotary
    ray_encoder: Rotary
    image_heads: tuple[Rotary, Rotary]
    state_heads: tuple[Rotary, Rotary]


@lru_cache(maxsize=16)
def rotary_tables(config: Cut3rConfig, grid: tuple[int, int], device: torch.device) -> RotaryTables:
    """The tables of a grid of (rows, columns) patches, made once and kept while few grids are in use."""
    enc, dec = config.enc_embed_dim, config.dec_embed_dim
    # a table made in inference mode could not serve training later
    with torch.inference_mode(False):
        patches = grid_positions(*grid, device=device)
        image = torch.cat((torch.tensor([POSE_POSITION], device=device), patches))
        state = state_positions(config.state_size, config.state_pe, device)

        def table(positions: Tensor, head_dim: int) -> Rotary:
            return rotary_table(positions, head_dim, config.rope_base)

        image_dim, state_dim = dec // config.dec_num_heads, dec // config.state_dec_num_heads
        return RotaryTables(
            encoder=table(patches, enc // config.enc_num_heads),
            ray_encoder=table(patches, enc // config.ray_enc_num_heads),
            image_heads=(table(image, image_dim), table(state, image_dim)),
            state_heads=(table(image, state_dim), table(state, state_dim)),
        )
