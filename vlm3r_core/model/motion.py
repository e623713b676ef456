"""How a camera turned between two frames, as a small network can see it: which columns look alike. No state."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from vlm3r_core.model.cut3r_blocks import Mlp

# Heights at which a column is looked at.
ROWS = 12
# How much more a column counts that is more alike than others: without it small networks learn turns more slowly.
_SHARPNESS = 10.0
_CHANNELS = 3


class ColumnMotion(nn.Module):
    """Compares every column of a frame with every column of the one before, and tells the pose token.

    A camera that turns shifts the columns, so the matrix of likenesses has a band whose place says by how much. Small
    networks learn that from the matrix in minutes, and from patch tokens alone they do not.

    Args:
        columns: of the small picture that is compared.
        width: of the pose token.

    Source: none; an aid of this project, absent from published CUT3R.
    """

    def __init__(self, columns: int, width: int):
        super().__init__()
        self.columns = columns
        self.mlp = Mlp(columns * columns, 2 * width, width)

    def nothing(self, batch: int) -> Tensor:
        """The descriptions [B, V, C] before the first frame; they are like no column."""
        return self.mlp.fc1.weight.new_zeros(batch, _CHANNELS * ROWS, self.columns)

    def describe(self, image: Tensor) -> Tensor:
        """What the columns look like: image [B, 3, H, W] to vectors of length one [B, V, C], their mean removed."""
        small = adaptive_avg_pool2d(image.float(), (ROWS, self.columns)).flatten(1, 2)
        return normalize(small - small.mean(dim=-1, keepdim=True), dim=1).to(self.mlp.fc1.weight.dtype)

    def forward(self, before: Tensor, now: Tensor) -> Tensor:
        """What is added to the pose token [B, 1, D], from descriptions [B, V, C] of two frames."""
        alike = torch.matmul(before.transpose(1, 2), now)
        # around zero and of the order of one, else the little it adds to the pose token is found late
        sharp = self.columns * (alike * _SHARPNESS).softmax(dim=-1) - 1
        return self.mlp(sharp.flatten(1)).unsqueeze(1)
