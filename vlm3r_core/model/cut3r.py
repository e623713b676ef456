"""CUT3R: one recurrent step from an image to camera and patch tokens. It holds weights; the caller holds the state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlm3r_core.config import Cut3rConfig
from vlm3r_core.model.cut3r_blocks import DecoderBlock, EncoderBlock, LayerNorm, PatchEmbed
from vlm3r_core.model.cut3r_state import Cut3rState, Cut3rTokens, View
from vlm3r_core.model.dpt import Heads
from vlm3r_core.model.geometry import Geometry
from vlm3r_core.model.motion import ColumnMotion
from vlm3r_core.model.pose_memory import PoseMemory
from vlm3r_core.model.rope import Rotary, rotary_tables

IMAGE_CHANNELS = 3
RAY_CHANNELS = 6


class Cut3r(nn.Module):
    """The CUT3R network with the published parameter names.

    Source: Wang et al., Continuous 3D Perception Model with Persistent State, 2025.
    """

    def __init__(self, config: Cut3rConfig):
        super().__init__()
        self.config = config
        enc, dec, ratio = config.enc_embed_dim, config.dec_embed_dim, config.mlp_ratio
        self.pose_token = nn.Parameter(0.02 * torch.randn(1, 1, dec))
        self.masked_img_token = nn.Parameter(0.02 * torch.randn(1, enc))
        self.masked_ray_map_token = nn.Parameter(0.02 * torch.randn(1, enc))
        self.patch_embed = PatchEmbed(IMAGE_CHANNELS, enc, config.patch_size, config.conv_stem)
        self.patch_embed_ray_map = PatchEmbed(RAY_CHANNELS, enc, config.patch_size)
        self.enc_blocks = nn.ModuleList(
            EncoderBlock(enc, config.enc_num_heads, ratio, config.rope_half_rounding) for _ in range(config.enc_depth)
        )
        self.enc_norm = LayerNorm(enc)
        self.enc_blocks_ray_map = nn.ModuleList(
            EncoderBlock(enc, config.ray_enc_num_heads, ratio) for _ in range(config.ray_enc_depth)
        )
        self.enc_norm_ray_map = LayerNorm(enc)
        self.register_tokens = nn.Embedding(config.state_size, enc)
        self.decoder_embed = nn.Linear(enc, dec)
        self.decoder_embed_state = nn.Linear(enc, dec)
        self.dec_blocks = _decoder(config, config.dec_num_heads)
        self.dec_norm = LayerNorm(dec)
        self.dec_blocks_state = _decoder(config, config.state_dec_num_heads)
        self.dec_norm_state = LayerNorm(dec)
        self.pose_retriever = PoseMemory(config)
        self.downstream_head = Heads(config)
        self.siglip_embed = nn.Linear(config.siglip_width, enc) if config.siglip_width else None
        self.motion = ColumnMotion(config.motion_columns, dec) if config.motion_columns else None
        self.pose_chain = nn.Linear(dec, dec) if config.pose_chain else None

    def init_state(self, batch: int) -> Cut3rState:
        """The state before the first view of `batch` independent streams.

        Raises:
            ValueError: batch is below 1.
        """
        if batch < 1:
            raise ValueError(f"Cut3r.init_state needs a batch of at least 1, got {batch}")
        return Cut3rState(
            tokens=self.decoder_embed_state(self.register_tokens.weight).expand(batch, -1, -1),
            memory=self.pose_retriever.initial(batch),
            fresh=torch.ones(batch, dtype=torch.bool, device=self.pose_token.device),
            columns=None if self.motion is None else self.motion.nothing(batch),
            camera=None if self.pose_chain is None else torch.zeros_like(self.pose_token).expand(batch, -1, -1),
        )

    def step(
        self,
        state: Cut3rState,
        image: Tensor | None,
        ray_map: Tensor | None = None,
        img_mask: Tensor | None = None,
        ray_mask: Tensor | None = None,
        update: Tensor | None = None,
        reset: Tensor | None = None,
        siglip: Tensor | None = None,
    ) -> tuple[Cut3rState, Cut3rTokens]:
        """Takes one view of every stream into the state: `encode`, then `advance`, where the arguments are explained.

        Returns:
            The next state, and the view's tokens.

        Raises:
            ValueError: a shape or a flag does not fit, or there is neither image nor ray map.
        """
        return self.advance(state, self.encode(image, ray_map, img_mask, ray_mask, siglip), update, reset)

    def encode(
        self,
        image: Tensor | None,
        ray_map: Tensor | None = None,
        img_mask: Tensor | None = None,
        ray_mask: Tensor | None = None,
        siglip: Tensor | None = None,
    ) -> View:
        """Encodes one view of every stream, or several views at once as a batch: no state is involved.

        A ray_mask, even all False, asks for the rule of a published offline call in which some view has a ray map:
        the learned token `masked_ray_map_token` stands where ray_mask is False. Without ray_mask rays are simply
        added, as the published online call does.

        Args:
            image: [B, 3, H, W] RGB in -1..1, H and W any multiples of the patch size; None where no stream has one.
            ray_map: [B, H, W, 6], camera centre and direction in the first view's camera (geometry.ray_map).
            img_mask: bool [B], False where the image is to be ignored; all True when absent.
            ray_mask: bool [B], False where the ray map is to be ignored.
            siglip: [B, P, siglip_width], SigLIP's tokens of the image, for a network that takes them.

        Raises:
            ValueError: a shape or a flag does not fit, or there is neither image nor ray map.
        """
        batch, grid = self._batch_and_grid(image, ray_map)
        self._check_siglip(siglip, image is not None, (batch, grid[0] * grid[1]))
        img_mask, ray_mask = self._flag("img_mask", img_mask, batch), self._flag("ray_mask", ray_mask, batch)
        if ray_map is None and ray_mask is not None and ray_mask.any():
            raise ValueError("Cut3r: ray_mask is True for a view without ray_map; pass the ray map, or False there")
        tables = rotary_tables(self.config, grid, self.pose_token.device)
        # the published online call leaves a missing image out, the offline call puts a learned token there
        missing = 0 if ray_map is not None and ray_mask is None else self.masked_img_token
        if image is None:
            feature, img_mask = missing, torch.zeros(batch, dtype=torch.bool, device=self.pose_token.device)
        else:
            feature = self._encode_image(image, siglip, tables.encoder)
            if img_mask is not None:
                feature = torch.where(img_mask[:, None, None], feature, missing)
        if ray_map is not None or ray_mask is not None:
            feature = feature + self._encode_rays(ray_map, ray_mask, tables.ray_encoder)
        columns = None if self.motion is None or image is None else self.motion.describe(image)
        return View(feature, grid, img_mask, columns)

    def advance(
        self, state: Cut3rState, view: View, update: Tensor | None = None, reset: Tensor | None = None
    ) -> tuple[Cut3rState, Cut3rTokens]:
        """Decodes an encoded view against the state.

        Args:
            state: the state before the view.
            view: what `encode` returned for it.
            update: bool [B], False keeps the old state; all True when absent. A view without an image never writes.
            reset: bool [B], True returns to the initial state after this view, whatever update says.

        Returns:
            The next state, and the view's tokens.

        Raises:
            ValueError: state, view and flags differ in batch, or a flag is not bool.
        """
        batch = len(view.feature)
        if len(state.tokens) != batch:
            raise ValueError(
                f"Cut3r: the state has {len(state.tokens)} streams, the view has {batch}; pass one view a stream"
            )
        update, reset = self._flag("update", update, batch), self._flag("reset", reset, batch)
        key = self.pose_retriever.key(view.feature)
        remembered = self.pose_retriever.read(key, state.memory)
        pose = torch.where(state.fresh[:, None, None], self.pose_token, remembered)
        if view.columns is not None:
            pose = pose + self.motion(state.columns, view.columns)
        if state.camera is not None:
            pose = pose + self.pose_chain(state.camera)
        tokens, candidate, score = self._decode(state.tokens, pose, view)
        if score is not None:
            gate = torch.where(state.fresh[:, None], 1, score.sigmoid()).to(candidate.dtype)
            candidate = torch.lerp(state.tokens, candidate, gate.unsqueeze(-1))
        memory = self.pose_retriever.write(key, tokens.camera, state.memory)
        columns = state.columns if view.columns is None else view.columns
        camera = None if state.camera is None else tokens.camera
        new = Cut3rState(candidate, memory, torch.zeros_like(state.fresh), columns, camera)
        return self._settle(state, new, _both(view.img_mask, update), reset), tokens

    def geometry(self, tokens: Cut3rTokens) -> Geometry:
        """Points, confidences, camera pose and colour of a view, computed here and not in `step`.

        Args:
            tokens: what `step` returned; nothing else is needed.

        Returns:
            Maps at 16 pixels for each token, in float32.
        """
        tables = rotary_tables(self.config, tokens.grid, self.pose_token.device)
        levels = (tokens.feature, tokens.hook_half, tokens.hook_three_quarters, tokens.patch)
        return self.downstream_head(levels, tokens.camera, tokens.grid, tables.image_heads[0][1:])

    def _encode_image(self, image: Tensor, siglip: Tensor | None, rotary: Rotary) -> Tensor:
        feature = self.patch_embed(image.to(self.pose_token.dtype))
        if siglip is not None:
            feature = feature + self.siglip_embed(siglip)
        for block in self.enc_blocks:
            feature = block(feature, rotary)
        return self.enc_norm(feature)

    def _encode_rays(self, ray_map: Tensor | None, ray_mask: Tensor | None, rotary: Rotary) -> Tensor:
        if ray_map is None:
            return self.masked_ray_map_token
        rays = self.patch_embed_ray_map(ray_map.to(self.pose_token.dtype).permute(0, 3, 1, 2))
        for block in self.enc_blocks_ray_map:
            rays = block(rays, rotary)
        rays = self.enc_norm_ray_map(rays)
        return rays if ray_mask is None else torch.where(ray_mask[:, None, None], rays, self.masked_ray_map_token)

    def _decode(self, state: Tensor, pose: Tensor, view: View) -> tuple[Cut3rTokens, Tensor, Tensor | None]:
        """Lets state and view look at each other: the view's tokens, the new state, the gate's score [B, S]."""
        tables = rotary_tables(self.config, view.grid, self.pose_token.device)
        (image_i, state_i), (image_s, state_s) = tables.image_heads, tables.state_heads
        gated = self.config.state_gate == "ttt3r"
        depth = len(self.dec_blocks)
        image = torch.cat((pose, self.decoder_embed(view.feature)), dim=1)
        scores, levels = [], {}
        for level, (image_block, state_block) in enumerate(zip(self.dec_blocks, self.dec_blocks_state, strict=True), 1):
            # both look at what the other was before this level
            (image, _), (state, score) = (
                image_block(image, state, image_i, state_i),
                state_block(state, image, state_s, image_s, want_score=gated),
            )
            scores.append(score)
            if level in (depth * 2 // 4, depth * 3 // 4):
                levels[level] = image[:, 1:]
        image = self.dec_norm(image)
        tokens = Cut3rTokens(
            camera=image[:, :1],
            patch=image[:, 1:],
            feature=view.feature,
            hook_half=levels[depth * 2 // 4],
            hook_three_quarters=levels[depth * 3 // 4],
            grid=view.grid,
        )
        return tokens, self.dec_norm_state(state), torch.stack(scores).mean(dim=0) if gated else None

    def _settle(self, old: Cut3rState, new: Cut3rState, writes: Tensor | None, reset: Tensor | None) -> Cut3rState:
        """The state after a view: new where it writes, old elsewhere, initial where it resets."""
        kept, fresh = new.parts(), new.fresh
        if writes is not None:
            kept = {name: _blend(writes, kept[name], before) for name, before in old.parts().items()}
        if reset is not None:
            initial = self.init_state(len(reset)).parts()
            kept = {name: _blend(reset, first, kept[name]) for name, first in initial.items()}
            # published CUT3R reads the pose token of the view after a reset from the initial memory
            fresh = reset if self.config.state_gate == "ttt3r" else fresh
        return Cut3rState(fresh=fresh, **kept)

    def _check_siglip(self, siglip: Tensor | None, has_image: bool, batch_and_patches: tuple[int, int]) -> None:
        width = self.config.siglip_width
        wanted = (*batch_and_patches, width) if width and has_image else None
        got = None if siglip is None else tuple(siglip.shape)
        if got != wanted:
            raise ValueError(f"Cut3r: SigLIP tokens must be {wanted} with siglip_width {width}, got {got}")

    def _batch_and_grid(self, image: Tensor | None, ray_map: Tensor | None) -> tuple[int, tuple[int, int]]:
        """Checks shapes: the batch, and rows and columns of patches."""
        if image is None and ray_map is None:
            raise ValueError("Cut3r: a view needs an image, a ray map, or both; got neither")
        if image is not None and (image.ndim != 4 or image.shape[1] != IMAGE_CHANNELS):
            raise ValueError(f"Cut3r: image must be [B, 3, H, W] in -1..1, got {list(image.shape)}")
        if ray_map is not None and (ray_map.ndim != 4 or ray_map.shape[3] != RAY_CHANNELS):
            raise ValueError(f"Cut3r: ray_map must be [B, H, W, 6], got {list(ray_map.shape)}")
        sizes = {(len(image), *image.shape[2:])} if image is not None else set()
        sizes |= {tuple(ray_map.shape[:3])} if ray_map is not None else set()
        if len(sizes) > 1:
            raise ValueError(f"Cut3r: image and ray_map must agree in batch, height and width, got {sorted(sizes)}")
        batch, height, width = sizes.pop()
        patch = self.config.patch_size
        if height % patch or width % patch or not height * width:
            raise ValueError(
                f"Cut3r: height and width must be positive multiples of {patch}, got {height} x {width}; resize first"
            )
        return batch, (height // patch, width // patch)

    def _flag(self, name: str, flag: Tensor | None, batch: int) -> Tensor | None:
        if flag is None:
            return None
        if flag.dtype != torch.bool or flag.shape != (batch,):
            raise ValueError(f"Cut3r: {name} must be bool [{batch}], got {flag.dtype} {list(flag.shape)}")
        return flag.to(self.pose_token.device)


def _decoder(config: Cut3rConfig, heads: int) -> nn.ModuleList:
    return nn.ModuleList(DecoderBlock(config.dec_embed_dim, heads, config.mlp_ratio) for _ in range(config.dec_depth))


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Where both flags are True; an absent flag is True everywhere."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _blend(mask: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    """Where mask [B] is True chosen [B, ...], other elsewhere."""
    return torch.where(mask[:, None, None], chosen, other)
