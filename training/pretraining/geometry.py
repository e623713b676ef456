"""Teaches CUT3R points and poses: the network step by step over a clip, its losses, its held-out scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from training.pretraining.batches import Batch
from training.pretraining.losses import confident_distance, from_frame_before, pose_loss, scale, true_points
from training.pretraining.settings import PretrainConfig
from training.scans.simulated_clips import sampled_pixels
from vlm3r_core.model.cut3r import Cut3r
from vlm3r_core.model.cut3r_state import Cut3rTokens
from vlm3r_core.model.dpt import camera_pose, points_and_confidence
from vlm3r_core.model.geometry import T_WC_to_pose, pose_to_T_WC, transform_points
from vlm3r_core.model.rope import rotary_tables
from vlm3r_core.model.vlm3r import VLM3R

# Parts of CUT3R that clips of pictures do not reach.
_RAYS = ("patch_embed_ray_map.", "enc_blocks_ray_map.", "enc_norm_ray_map.", "masked_img_token", "masked_ray_map_token")
_UNUSED_UNIT = "scratch.refinenet4.resConfUnit1."
_POINT = 4


@dataclass(frozen=True)
class Points:
    """What is said of N views, [N, h, w, 3] in metres and [N, h, w] above 1; rgb None where nothing is said of it."""

    own: Tensor
    conf_own: Tensor
    world: Tensor
    conf_world: Tensor
    rgb: Tensor | None = None


class LinearPoints(nn.Module):
    """Reads cells x cells points from each patch token; CUT3R's first training stage has such heads.

    Dropped after training. The blocks that turn patches into the world are CUT3R's own.
    """

    def __init__(self, width: int, cells: int):
        super().__init__()
        self._cells = cells
        self.norm_own, self.norm_world = nn.LayerNorm(width), nn.LayerNorm(width)
        self.own, self.world = (nn.Linear(width, cells * cells * _POINT) for _ in range(2))

    def forward(self, cut3r: Cut3r, tokens: Cut3rTokens) -> Points:
        """The points of N views, from their tokens."""
        rotary = rotary_tables(cut3r.config, tokens.grid, tokens.patch.device).image_heads[0][1:]
        turned = tokens.patch
        for block in cut3r.downstream_head.final_transform:
            turned = block(turned, tokens.camera, rotary)
        own = self._map(self.own(self.norm_own(tokens.patch)), tokens.grid)
        world = self._map(self.world(self.norm_world(turned)), tokens.grid)
        return Points(*points_and_confidence(own), *points_and_confidence(world))

    def _map(self, numbers: Tensor, grid: tuple[int, int]) -> Tensor:
        (rows, columns), cells = grid, self._cells
        parts = numbers.float().view(len(numbers), rows, columns, cells, cells, _POINT).transpose(2, 3)
        return parts.reshape(len(numbers), rows * cells, columns * cells, _POINT)


class Geometry(nn.Module):
    """The objective.

    Args:
        model: whose CUT3R learns; its tower is not touched.
        config: of the run.
    """

    encoder = "cut3r"

    def __init__(self, model: VLM3R, config: PretrainConfig):
        super().__init__()
        self.model, self._config = model, config
        linear = config.head == "linear"
        self.head = LinearPoints(model.config.cut3r.dec_embed_dim, config.cells) if linear else None
        self._side = model.config.siglip.grid * config.cells if linear else 0

    def learned(self) -> dict[str, nn.Parameter]:
        """What is trained, by name: all of CUT3R that a loss reaches."""
        left_out = [*_RAYS, "downstream_head.dpt_"] if self.head is not None else list(_RAYS)
        if not self._config.rgb_weight:
            left_out.append("downstream_head.dpt_rgb.")
        named = {
            f"cut3r.{name}": item
            for name, item in self.model.cut3r.named_parameters()
            if not name.startswith(tuple(left_out)) and _UNUSED_UNIT not in name
        }
        head = {} if self.head is None else {f"head.{name}": item for name, item in self.head.named_parameters()}
        return named | head

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The losses of a step by name, `loss` their sum.

        Source: CUT3R; facts on its training: metric samples, both point maps, poses of all views, colours.
        Differs: points are learned for a few frames of each clip in a step, drawn anew each time; poses count once more
        as seen from the frame before (step_weight), from which small networks learn turns much sooner.
        """
        config, frames = self._config, batch.pixels.shape[1]
        views = self._tokens(batch)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        count = min(config.head_frames or frames, frames)
        chosen = torch.randperm(frames, generator=generator)[:count].sort().values
        said = self._points([views[index] for index in chosen.tolist()], batch)
        own, world, valid = self._truth(batch, chosen.to(batch.depth_m.device))
        poses = self._poses(views)
        factor = scale((own, world), (said.conf_own, said.conf_world), valid)
        losses = {
            "own": confident_distance(said.own, own, said.conf_own, valid, factor),
            "world": confident_distance(said.world, world, said.conf_world, valid, factor),
            "pose": config.pose_weight * pose_loss(poses, T_WC_to_pose(batch.T_WC), factor),
        }
        if config.step_weight and frames > 1:
            said_steps, steps = (T_WC_to_pose(from_frame_before(T)) for T in (pose_to_T_WC(poses), batch.T_WC))
            losses["step_pose"] = config.step_weight * pose_loss(said_steps, steps, factor)
        if config.rgb_weight:
            wanted = self.model.cut3r_pixels(batch.pixels[:, chosen].flatten(0, 1)).permute(0, 2, 3, 1)
            losses["rgb"] = config.rgb_weight * mse_loss(said.rgb.flatten(0, 1), wanted)
        return {"loss": sum(losses.values()), **losses}

    @torch.no_grad()
    def measure(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Held-out scores, means over frames; what saying nothing would score stands beside."""
        kept: dict[str, list[Tensor]] = {}
        for batch in batches:
            for name, values in self._errors(batch).items():
                kept.setdefault(name, []).append(values.flatten().float().cpu())
        whole = {name: torch.cat(values) for name, values in kept.items()}
        means = {name: float(values.mean()) for name, values in whole.items()}
        return means | {"angle_median_deg": float(whole["angle_deg"].median())}

    def _errors(self, batch: Batch) -> dict[str, Tensor]:
        views, true = self._tokens(batch), batch.T_WC
        poses = pose_to_T_WC(self._poses(views))
        said = self._points(views, batch)
        own, world, valid = self._truth(batch, slice(None))
        R, R_true, t, t_true = poses[..., :3, :3], true[..., :3, :3], poses[..., :3, 3], true[..., :3, 3]
        moved = transform_points(poses, said.own)
        return {
            "angle_deg": _angle_deg(R[:, 1:], R_true[:, 1:]),
            "angle_if_still_deg": _angle_deg(R_true[:, :1].expand_as(R_true[:, 1:]), R_true[:, 1:]),
            "step_angle_deg": _angle_deg(_steps(R), _steps(R_true)),
            "step_angle_if_still_deg": _angle_deg(torch.eye(3, device=R.device), _steps(R_true)),
            "shift_m": (t - t_true)[:, 1:].norm(dim=-1),
            "shift_if_still_m": t_true[:, 1:].norm(dim=-1),
            "depth_absrel": ((said.own - own)[..., 2].abs() / own[..., 2].clamp(min=1e-3))[valid],
            "own_points_m": (said.own - own).norm(dim=-1)[valid],
            "world_points_m": (said.world - world).norm(dim=-1)[valid],
            "own_points_moved_m": (moved - world).norm(dim=-1)[valid],
        }

    def _tokens(self, batch: Batch) -> list[Cut3rTokens]:
        """What CUT3R makes of each frame in its turn, of B clips at once."""
        clips = len(batch.pixels)
        pixels = batch.pixels.transpose(0, 1).flatten(0, 1)
        siglip = pixels.new_zeros(0)
        if self._config.siglip_input:
            with torch.no_grad():
                siglip = self.model.siglip(pixels)
        state, found = self.model.init_state(clips), []
        for index, view in enumerate(self.model.encode_view(pixels, siglip).each(clips)):
            if self._config.bptt_frames and index and index % self._config.bptt_frames == 0:
                state = state.detached()
            state, tokens = self.model.cut3r.advance(state, view)
            found.append(tokens)
        return found

    def _poses(self, views: list[Cut3rTokens]) -> Tensor:
        """[B, F, 7]."""
        cameras = torch.cat([view.camera for view in views], dim=1)
        return camera_pose(self.model.cut3r.downstream_head.pose_head["mlp"](cameras).float())

    def _points(self, views: list[Cut3rTokens], batch: Batch) -> Points:
        """What is said of some frames, [B, F, h, w, ...] at the pixels `_truth` has."""
        tokens = _joined(views)
        if self.head is not None:
            said = self.head(self.model.cut3r, tokens)
        else:
            whole = self.model.cut3r.geometry(tokens)
            maps = (whole.points_self, whole.conf_self, whole.points_world, whole.conf_world)
            side, picture = batch.depth_m.shape[-1], batch.pixels.shape[-1]
            at = (sampled_pixels(picture, side) + 0.5) / picture * whole.conf_self.shape[-1]
            kept = torch.from_numpy(at).long().to(tokens.patch.device)
            said = Points(*(item[:, kept][:, :, kept] for item in maps), rgb=whole.rgb)
        return Points(*(None if item is None else _by_clip(item, len(views)) for item in _values(said)))

    def _truth(self, batch: Batch, chosen: Tensor | slice) -> tuple[Tensor, Tensor, Tensor]:
        """Points of some frames in their cameras and in the world, and where there are any."""
        side = batch.depth_m.shape[-1]
        kept = torch.from_numpy(sampled_pixels(side, self._side or side)).to(batch.depth_m.device)
        depth = batch.depth_m[:, chosen][:, :, kept][:, :, :, kept]
        own, world = true_points(depth, batch.rays[:, kept][:, :, kept], batch.T_WC[:, chosen])
        return own, world, depth > 0


def _joined(views: list[Cut3rTokens]) -> Cut3rTokens:
    names = [item.name for item in fields(Cut3rTokens) if item.name != "grid"]
    tensors = {name: torch.cat([getattr(view, name) for view in views]) for name in names}
    return Cut3rTokens(**tensors, grid=views[0].grid)


def _by_clip(values: Tensor, frames: int) -> Tensor:
    """[F * B, ...], frame by frame, to [B, F, ...]."""
    return values.unflatten(0, (frames, -1)).transpose(0, 1)


def _values(points: Points) -> list[Tensor | None]:
    return [getattr(points, item.name) for item in fields(Points)]


def _steps(R: Tensor) -> Tensor:
    """Turns from frame to frame, [B, F, 3, 3] to [B, F - 1, 3, 3]."""
    return R[:, :-1].transpose(-1, -2) @ R[:, 1:]


def _angle_deg(one: Tensor, other: Tensor) -> Tensor:
    """Angle between rotations [..., 3, 3], degrees."""
    trace = (one * other).sum(dim=(-2, -1))
    return ((trace - 1) / 2).clamp(-1, 1).acos().rad2deg()
