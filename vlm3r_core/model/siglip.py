"""The SigLIP image tower as VLM-3R uses it: embeddings and encoder layers, no final norm, no pooling head."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from vlm3r_core.config import SiglipConfig
from vlm3r_core.model.conv_stem import ConvStem

_COLOURS = 3


class SiglipTower(nn.Module):
    """Frames to patch features.

    The published tower drops SigLIP's last layer and reads the output of the one before, without the final norm;
    `config.num_layers` counts the layers that remain.

    Source: VLM-3R, section 3; transformers' SigLIP layers.
    """

    def __init__(self, config: SiglipConfig):
        super().__init__()
        self.vision = SiglipVisionModel._from_config(
            SiglipVisionConfig(
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                hidden_act="gelu_pytorch_tanh",
                layer_norm_eps=1e-6,
                vision_use_head=False,
            ),
            attn_implementation="sdpa",
        )
        if config.conv_stem:
            self.vision.embeddings.patch_embedding = ConvStem(_COLOURS, config.hidden_size, config.patch_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encodes frames.

        Args:
            pixel_values: [B, 3, H, W] in [-1, 1], H and W the tower's image size.

        Returns:
            Features [B, P, C], P patches row by row.
        """
        embedded = self.vision.embeddings(pixel_values)
        return self.vision.encoder(inputs_embeds=embedded).last_hidden_state
