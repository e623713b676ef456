"""CUT3R's heads: dense points, confidence and colour, and the camera pose. They see one view, never the state."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, relu

from vlm3r_core.config import Cut3rConfig, DptConfig
from vlm3r_core.model.cut3r_blocks import Mlp, ModulatedBlock
from vlm3r_core.model.geometry import Geometry
from vlm3r_core.model.rope import Rotary

POINT_CHANNELS = 4  # x, y, z, confidence
COLOUR_CHANNELS = 3
POSE_NUMBERS = 7  # translation, quaternion
TRANSFORM_BLOCKS = 2


def _double(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class ResidualConv(nn.Module):
    """Two 3x3 convolutions around a skip."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] to the same."""
        return self.conv2(relu(self.conv1(relu(x)))) + x


class Fusion(nn.Module):
    """Adds a finer map to a coarser one and doubles the resolution."""

    def __init__(self, width: int):
        super().__init__()
        self.out_conv = nn.Conv2d(width, width, 1)
        # published checkpoints hold this unit for the coarsest level too, where it is never used
        self.resConfUnit1 = ResidualConv(width)
        self.resConfUnit2 = ResidualConv(width)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """[B, C, h, w] to [B, C, 2h, 2w]."""
        if skip is not None:
            x = x + self.resConfUnit1(skip)
        # a 1x1 convolution commutes with bilinear weights that sum to one, at a quarter of the work before them
        return _double(self.out_conv(self.resConfUnit2(x)))


class Scratch(nn.Module):
    """Projections of the four levels to one width, and their fusion from coarse to fine."""

    def __init__(self, config: DptConfig):
        super().__init__()
        width = config.feature_dim
        self.layer_rn = nn.ModuleList(nn.Conv2d(dim, width, 3, padding=1, bias=False) for dim in config.layer_dims)
        # published checkpoints hold these four weights under both names
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = self.layer_rn
        self.refinenet1 = Fusion(width)
        self.refinenet2 = Fusion(width)
        self.refinenet3 = Fusion(width)
        self.refinenet4 = Fusion(width)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Four maps at 4, 2, 1 and 1/2 times the token grid to one [B, C, 8h, 8w]."""
        finest, fine, middle, coarse = (conv(level) for conv, level in zip(self.layer_rn, maps, strict=True))
        height, width = middle.shape[-2:]
        # the coarse grid is rounded up, so doubling overshoots an odd side by one
        x = self.refinenet4(coarse)[..., :height, :width]
        return self.refinenet1(self.refinenet2(self.refinenet3(x, middle), fine), finest)


class Dpt(nn.Module):
    """A dense prediction transformer head on four levels of tokens.

    Source: DPT (Ranftl et al. 2021), with the widths of CUT3R.
    """

    def __init__(self, config: Cut3rConfig, channels: int):
        super().__init__()
        dpt = config.dpt
        enc, dec = config.enc_embed_dim, config.dec_embed_dim
        first, second, third, fourth = dpt.layer_dims
        self.act_postprocess = nn.ModuleList(
            (
                nn.Sequential(nn.Conv2d(enc, first, 1), nn.ConvTranspose2d(first, first, 4, stride=4)),
                nn.Sequential(nn.Conv2d(dec, second, 1), nn.ConvTranspose2d(second, second, 2, stride=2)),
                nn.Sequential(nn.Conv2d(dec, third, 1)),
                nn.Sequential(nn.Conv2d(dec, fourth, 1), nn.Conv2d(fourth, fourth, 3, stride=2, padding=1)),
            )
        )
        self.scratch = Scratch(dpt)
        self.head = nn.Sequential(
            nn.Conv2d(dpt.feature_dim, dpt.feature_dim // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(dpt.feature_dim // 2, dpt.last_dim, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(dpt.last_dim, channels, 1),
        )

    def forward(self, levels: tuple[Tensor, ...], grid: tuple[int, int]) -> Tensor:
        """Four levels of tokens [B, h*w, .] to a map float32 [B, 16h, 16w, channels]."""
        maps = [
            lift(tokens.transpose(1, 2).unflatten(-1, grid))
            for lift, tokens in zip(self.act_postprocess, levels, strict=True)
        ]
        return self.head(self.scratch(maps)).permute(0, 2, 3, 1).float()


class Heads(nn.Module):
    """Everything CUT3R predicts about one view besides its tokens."""

    def __init__(self, config: Cut3rConfig):
        super().__init__()
        width = config.dec_embed_dim
        self.dpt_self = Dpt(config, POINT_CHANNELS)
        self.dpt_cross = Dpt(config, POINT_CHANNELS)
        self.dpt_rgb = Dpt(config, COLOUR_CHANNELS)
        self.final_transform = nn.ModuleList(
            ModulatedBlock(width, config.dec_num_heads, config.mlp_ratio) for _ in range(TRANSFORM_BLOCKS)
        )
        self.pose_head = nn.ModuleDict({"mlp": Mlp(width, int(width * config.mlp_ratio), POSE_NUMBERS)})

    def forward(self, levels: tuple[Tensor, ...], camera: Tensor, grid: tuple[int, int], rotary: Rotary) -> Geometry:
        """Reads geometry from one view's tokens.

        Args:
            levels: encoder feature [B, P, E], the two hooks and the decoded patches [B, P, D].
            camera: decoded pose token [B, 1, D].
            grid: rows and columns of patches.
            rotary: positions of the patches for heads of the image decoder.
        """
        in_world = levels[-1]
        for block in self.final_transform:
            in_world = block(in_world, camera, rotary)
        points_self, conf_self = points_and_confidence(self.dpt_self(levels, grid))
        points_world, conf_world = points_and_confidence(self.dpt_cross((*levels[:-1], in_world), grid))
        return Geometry(
            points_world=points_world,
            conf_world=conf_world,
            points_self=points_self,
            conf_self=conf_self,
            camera_pose=camera_pose(self.pose_head["mlp"](camera[:, 0]).float()),
            rgb=colour(self.dpt_rgb(levels, grid)),
        )


def points_and_confidence(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Raw [..., 4] to points [..., 3] in metres, their distance grown exponentially, and confidence [...] above 1."""
    return _exponential(raw[..., :3]), 1 + raw[..., 3].exp()


def camera_pose(raw: Tensor) -> Tensor:
    """Raw [..., 7] to translation in metres and unit quaternion (w, x, y, z) with w >= 0."""
    quaternion = normalize(raw[..., 3:], dim=-1)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    return torch.cat((_exponential(raw[..., :3]), quaternion), dim=-1)


def colour(raw: Tensor) -> Tensor:
    """Raw [..., 3] to RGB strictly inside -1..1."""
    return 2 * (raw.sigmoid() * (1 - 2e-6) + 1e-6) - 1


def _exponential(vector: Tensor) -> Tensor:
    length = vector.norm(dim=-1, keepdim=True)
    return vector / length.clamp(min=1e-8) * length.expm1()
