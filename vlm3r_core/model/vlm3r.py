"""The whole model, top to bottom: frames and text in, logits out. Holds weights; the stream's state is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlm3r_core.config import ModelConfig
from vlm3r_core.model.cut3r import Cut3r
from vlm3r_core.model.cut3r_state import Cut3rState, Cut3rTokens, View
from vlm3r_core.model.fusion import CrossAttentionFusion, select_tokens
from vlm3r_core.model.language import LanguageModel
from vlm3r_core.model.projector import Projector, add_newlines, pool_grid
from vlm3r_core.model.siglip import SiglipTower


@dataclass(frozen=True)
class Encoded:
    """Every stage of the visual path by name; B is the batch of one step, or the frames of a whole clip."""

    pixel_values: Tensor  # [B, 3, H, W] in [-1, 1]
    siglip: Tensor  # [B, P, C]
    camera: Tensor  # [B, 1, S]; [B, 0, 0] without CUT3R
    patch: Tensor  # [B, P, S]; [B, 0, 0] without CUT3R
    fused: Tensor  # [B, P, C]
    projected: Tensor  # [B, P, D]
    pooled: Tensor  # [B, p * p, D]
    visual_tokens: Tensor  # [B, T, D], row newlines included
    cut3r: Cut3rTokens | None = None  # what geometry() needs; None for a whole clip and without CUT3R

    @classmethod
    def concat(cls, steps: Sequence[Encoded]) -> Encoded:
        """Joins single steps along the batch axis."""
        names = [field.name for field in fields(cls) if field.name != "cut3r"]
        return cls(**{name: torch.cat([getattr(step, name) for step in steps]) for name in names})


class VLM3R(nn.Module):
    """SigLIP and CUT3R side by side, fused per frame, projected, pooled, read by Qwen2.

    Source: VLM-3R (arXiv 2505.20279), figure 2 and section 3.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        image_dim, language_dim = config.siglip.hidden_size, config.language.hidden_size
        self.siglip = SiglipTower(config.siglip)
        self.cut3r = Cut3r(config.cut3r) if config.spatial else None
        spatial_dim = config.cut3r.dec_embed_dim
        self.fusion = None
        if config.spatial:
            same_patch = config.fusion_same_patch
            self.fusion = CrossAttentionFusion(image_dim, spatial_dim, config.fusion_heads, same_patch=same_patch)
        self.projector = Projector(image_dim, language_dim)
        self.image_newline = nn.Parameter(torch.zeros(language_dim))
        self.language = LanguageModel(config.language)
        # whoever loads the weights puts their tokenizer here, and the adapters they kept apart (adapters.Adapters);
        # the network itself never looks at either
        self.tokenizer = None
        self.adapters = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.image_newline.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.image_newline.dtype

    def init_state(self, batch: int = 1) -> Cut3rState:
        """The state before the first frame of `batch` streams."""
        if self.cut3r is None:
            nothing = torch.zeros(batch, 0, 0, device=self.device, dtype=self.dtype)
            return Cut3rState(nothing, nothing, torch.ones(batch, dtype=torch.bool, device=self.device))
        return self.cut3r.init_state(batch)

    def step(self, state: Cut3rState, pixel_values: Tensor) -> tuple[Cut3rState, Encoded]:
        """Takes the next frame of each stream; the one place where recurrence happens.

        Args:
            state: of B streams.
            pixel_values: [B, 3, H, W] in [-1, 1], one frame a stream, at SigLIP's size.

        Returns:
            The new state, and every stage of the visual path.
        """
        siglip, tokens = self.siglip(pixel_values), None
        camera = patch = siglip.new_zeros(len(siglip), 0, 0)
        if self.cut3r is not None:
            state, tokens = self.cut3r.advance(state, self.encode_view(pixel_values, siglip))
            camera, patch = tokens.camera, tokens.patch
        fused = self.fuse(siglip, camera, patch)
        projected, pooled, visual = self.project(fused)
        return state, Encoded(pixel_values, siglip, camera, patch, fused, projected, pooled, visual, cut3r=tokens)

    def encode_view(self, pixel_values: Tensor, siglip: Tensor) -> View:
        """What CUT3R sees of frames, before it remembers anything.

        Args:
            pixel_values: [B, 3, H, W] in [-1, 1], at SigLIP's size.
            siglip: [B, P, C], SigLIP's features of them.
        """
        given = siglip if self.config.cut3r.siglip_width else None
        return self.cut3r.encode(self.cut3r_pixels(pixel_values), siglip=given)

    def cut3r_pixels(self, pixel_values: Tensor) -> Tensor:
        """SigLIP's input [B, 3, H, W] resized to CUT3R's; both want [-1, 1], so no value changes."""
        size = self.config.cut3r.image_size
        return F.interpolate(pixel_values, size=(size, size), mode="bilinear", align_corners=False)

    def fuse(self, siglip: Tensor, camera: Tensor, patch: Tensor) -> Tensor:
        """Fuses the selected CUT3R tokens into SigLIP's features [B, P, C]."""
        spatial = select_tokens(camera, patch, self.config.token_selection)
        return siglip if spatial is None else self.fusion(siglip, spatial)

    def project(self, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fused features [B, P, C] to (projected [B, P, D], pooled [B, p * p, D], visual tokens [B, T, D])."""
        projected = self.projector(fused)
        pooled = pool_grid(projected, self.config.pool)
        return projected, pooled, add_newlines(pooled, self.image_newline, self.config.newline)

    def encode(self, frames: Tensor) -> Encoded:
        """Runs a whole clip from a fresh state.

        Args:
            frames: [F, 3, H, W] in [-1, 1], in the order of time.
        """
        state, steps = self.init_state(), []
        for frame in frames:
            state, encoded = self.step(state, frame[None])
            steps.append(encoded)
        return Encoded.concat(steps)

    def visual_sequence(self, visual_tokens: Tensor) -> Tensor:
        """Visual tokens of F frames [F, T, D] as one sequence, frame after frame."""
        sequence = visual_tokens.flatten(0, 1)
        if self.config.newline == "one_token":
            sequence = torch.cat([sequence, self.image_newline[None]])
        return sequence

    def embed_prompt(self, ids: Sequence[int], visual: Sequence[Tensor]) -> Tensor:
        """Puts visual sequences where the ids say so.

        Args:
            ids: token ids; every negative one stands for the next visual sequence.
            visual: sequences [T, D], as many as there are negative ids.

        Returns:
            Embeddings [L, D].

        Raises:
            ValueError: the numbers differ.
        """
        holes = [place for place, token in enumerate(ids) if token < 0]
        if len(holes) != len(visual):
            raise ValueError(f"the prompt has {len(holes)} places for images but {len(visual)} were given")
        parts, start = [], 0
        for place, sequence in zip(holes, visual, strict=True):
            parts += [self._embed(ids[start:place]), sequence]
            start = place + 1
        return torch.cat([*parts, self._embed(ids[start:])])

    def _embed(self, ids: Sequence[int]) -> Tensor:
        return self.language.embed(torch.tensor(list(ids), dtype=torch.long, device=self.device))

    def forward(self, frames: Tensor, text: Sequence[int]) -> Tensor:
        """Logits of a clip and its text, by the same `step` as the stream.

        Args:
            frames: [F, 3, H, W] in [-1, 1].
            text: token ids with IMAGE_TOKEN_ID where the video belongs: once, or once a frame.

        Returns:
            Logits [L, V], visual tokens included in L.
        """
        visual = self.encode(frames).visual_tokens
        per_frame = sum(token < 0 for token in text) > 1
        sequences = list(visual) if per_frame else [self.visual_sequence(visual)]
        return self.language.logits(self.embed_prompt(text, sequences), visual_places(text, sequences))


def visual_places(ids: Sequence[int], visual: Sequence[Tensor]) -> Tensor:
    """Which places of an embedded prompt are visual tokens: bool [L]; the arguments are those of `embed_prompt`."""
    lengths = iter(map(len, visual))
    return torch.cat([torch.full((next(lengths) if token < 0 else 1,), token < 0) for token in ids])
