"""CUT3R's memory from what a view looks like to where its camera was. It owns weights, not the memory's content."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlm3r_core.config import Cut3rConfig
from vlm3r_core.model.cut3r_blocks import DecoderBlock

BLOCKS = 2


class PoseMemory(nn.Module):
    """Reads a first guess of the pose token for a view, and writes the decoded one back."""

    def __init__(self, config: Cut3rConfig):
        super().__init__()
        width = 2 * config.dec_embed_dim
        self.proj_q = nn.Linear(config.enc_embed_dim, config.dec_embed_dim)
        self.masked_token = nn.Parameter(0.02 * torch.randn(1, 1, config.dec_embed_dim))
        self.mem = nn.Parameter(0.02 * torch.randn(1, config.local_mem_size, width))
        self.write_blocks = _blocks(config, width)
        self.read_blocks = _blocks(config, width)

    def initial(self, batch: int) -> Tensor:
        """The memory before the first view, [B, M, 2D]."""
        return self.mem.expand(batch, -1, -1)

    def key(self, feature: Tensor) -> Tensor:
        """What a view looks like as a whole: encoder tokens [B, P, E] to [B, 1, D]."""
        return self.proj_q(feature.mean(dim=1, keepdim=True))

    def read(self, key: Tensor, memory: Tensor) -> Tensor:
        """The pose token remembered for a key [B, 1, D] in a memory [B, M, 2D], [B, 1, D]."""
        query = torch.cat((key, self.masked_token.expand_as(key)), dim=-1)
        for block in self.read_blocks:
            query, _ = block(query, memory)
        return query[..., key.shape[-1] :]

    def write(self, key: Tensor, pose_token: Tensor, memory: Tensor) -> Tensor:
        """The memory [B, M, 2D] after a view's key and decoded pose token, both [B, 1, D]."""
        entry = torch.cat((key, pose_token), dim=-1)
        for block in self.write_blocks:
            memory, _ = block(memory, entry)
        return memory


def _blocks(config: Cut3rConfig, width: int) -> nn.ModuleList:
    return nn.ModuleList(DecoderBlock(width, config.dec_num_heads, config.mlp_ratio) for _ in range(BLOCKS))
