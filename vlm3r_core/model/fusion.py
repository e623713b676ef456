"""Cross-attention fusion: image features look up what CUT3R knows of their frame. Time is CUT3R's part."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def select_tokens(camera: Tensor, patch: Tensor, selection: str) -> Tensor | None:
    """Chooses the CUT3R tokens the fusion attends to.

    Args:
        camera: [B, 1, D].
        patch: [B, P, D].
        selection: `all`, `camera_tokens`, `patch_tokens` or `none`.

    Returns:
        [B, 1 + P, D], [B, 1, D], [B, P, D] or None.
    """
    if selection == "none":
        return None
    if selection == "camera_tokens":
        return camera
    if selection == "patch_tokens":
        return patch
    return torch.cat([camera, patch], dim=1)


class CrossAttentionFusion(nn.Module):
    """H' = H + out_norm(out_proj(attention(q(H), k(Z), v(Z)))), all per frame.

    The query, key and value projections come on top of the attention's own input projection. The norms use
    eps 1e-5, unlike the 1e-6 of SigLIP and CUT3R.

    Args:
        image_dim: width C of the image features.
        spatial_dim: width D of the CUT3R tokens.
        num_heads: attention heads; must divide image_dim.
        dropout: on the sum, in training only.
        same_patch: also add a linear map of the last P spatial tokens, of which each belongs to the image token at its
            place; an aid for small models. Of fewer spatial tokens, such as the camera's alone, none is added.

    Source: VLM-3R, section 3.2, and the published module's layout.
    """

    def __init__(
        self, image_dim: int, spatial_dim: int, num_heads: int, dropout: float = 0.1, *, same_patch: bool = False
    ):
        super().__init__()
        self.image_norm = nn.LayerNorm(image_dim, eps=1e-5)
        self.spatial_norm = nn.LayerNorm(spatial_dim, eps=1e-5)
        self.query = nn.Linear(image_dim, image_dim)
        self.key = nn.Linear(spatial_dim, image_dim)
        self.value = nn.Linear(spatial_dim, image_dim)
        self.attention = nn.MultiheadAttention(image_dim, num_heads, batch_first=True)
        self.out_proj = nn.Linear(image_dim, image_dim)
        self.out_norm = nn.LayerNorm(image_dim, eps=1e-5)
        self.dropout = nn.Dropout(dropout)
        self.same_patch = nn.Linear(spatial_dim, image_dim) if same_patch else None

    def forward(self, image: Tensor, spatial: Tensor) -> Tensor:
        """Fuses one batch of frames.

        Args:
            image: [B, P, C] image features.
            spatial: [B, T, D] CUT3R tokens of the same frames.

        Returns:
            [B, P, C].
        """
        z = self.spatial_norm(spatial)
        q, k, v = self.query(self.image_norm(image)), self.key(z), self.value(z)
        attended, _ = self.attention(q, k, v, need_weights=False)
        fused = self.out_norm(self.out_proj(attended)) + image
        if self.same_patch is not None and z.shape[1] >= image.shape[1]:
            fused = fused + self.same_patch(z[:, -image.shape[1] :])
        return self.dropout(fused)
