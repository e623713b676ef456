"""From fused features to the language model's width: projector, 2x2 pooling, row newlines. No attention here."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projector(nn.Sequential):
    """Two linear layers with an exact GELU between, [.., C] -> [.., D]."""

    def __init__(self, image_dim: int, language_dim: int):
        super().__init__(nn.Linear(image_dim, language_dim), nn.GELU(), nn.Linear(language_dim, language_dim))


def pool_grid(tokens: Tensor, mode: str) -> Tensor:
    """Halves the token grid.

    Args:
        tokens: [B, n * n, D], row by row.
        mode: `bilinear` (ceil(n / 2) a side), `average` or `max` (floor(n / 2)), `none`.

    Returns:
        [B, p * p, D].
    """
    if mode == "none":
        return tokens
    batch, count, width = tokens.shape
    side = int(count**0.5)
    grid = tokens.transpose(1, 2).reshape(batch, width, side, side)
    if mode == "bilinear":
        half = -(-side // 2)
        grid = F.interpolate(grid, size=(half, half), mode="bilinear", align_corners=False)
    else:
        grid = (F.avg_pool2d if mode == "average" else F.max_pool2d)(grid, 2)
    return grid.flatten(2).transpose(1, 2)


def add_newlines(tokens: Tensor, newline: Tensor, mode: str) -> Tensor:
    """Adds the learned newline vector inside each frame.

    Args:
        tokens: [B, p * p, D].
        newline: [D].
        mode: `grid` (after every row), `frame` (after every frame); `one_token` and `no_token` add nothing here.

    Returns:
        [B, T, D] with T = p * (p + 1), p * p + 1 or p * p.
    """
    batch, count, width = tokens.shape
    if mode == "grid":
        side = int(count**0.5)
        rows = tokens.reshape(batch, side, side, width)
        column = newline.expand(batch, side, 1, width)
        return torch.cat([rows, column], dim=2).flatten(1, 2)
    if mode == "frame":
        return torch.cat([tokens, newline.expand(batch, 1, width)], dim=1)
    return tokens
