"""What pre-training minimises: pure functions of tensors. Which network predicts what is not their business."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

# How much confidence costs, and the least weight of a point in the scale.
_ALPHA, _LEAST_LOG = 0.2, 1e-3


def true_points(depth_m: Tensor, rays: Tensor, T_WC: Tensor) -> tuple[Tensor, Tensor]:
    """Points in their own cameras and in the world.

    Args:
        depth_m: [B, F, h, w], planar.
        rays: [B, h, w, 3], of length 1 along z.
        T_WC: [B, F, 4, 4].

    Returns:
        Two of [B, F, h, w, 3], metres.
    """
    own = depth_m.unsqueeze(-1) * rays.unsqueeze(1)
    R, t = T_WC[..., :3, :3], T_WC[..., :3, 3]
    world = torch.einsum("bfij,bfhwj->bfhwi", R, own) + t[:, :, None, None]
    return own, world


def scale(points: tuple[Tensor, Tensor], confidence: tuple[Tensor, Tensor], valid: Tensor) -> Tensor:
    """How far away the points of each clip are on average, by which metric losses are divided.

    Args:
        points: true ones in their cameras and in the world, [B, F, h, w, 3].
        confidence: predicted, [B, F, h, w] each, above 1; its logarithm weighs, and gets no gradient.
        valid: bool [B, F, h, w].

    Returns:
        [B], metres.

    Source: CUT3R, norm mode "?avg_dis".
    """
    distances = torch.stack([item.norm(dim=-1) for item in points])
    weights = torch.stack([item.detach().log().clamp(min=_LEAST_LOG) for item in confidence]) * valid
    return (distances * weights).sum(dim=(0, 2, 3, 4)) / weights.sum(dim=(0, 2, 3, 4)).clamp(min=1e-8)


def confident_distance(predicted: Tensor, true: Tensor, confidence: Tensor, valid: Tensor, factor: Tensor) -> Tensor:
    """Distance of points weighed by their confidence, which has a price.

    Args:
        predicted: [B, F, h, w, 3], metres.
        true: the same.
        confidence: [B, F, h, w], above 1.
        valid: bool [B, F, h, w].
        factor: [B], metres; both are divided by it.

    Returns:
        Mean over the valid points of a clip, and over the clips: a scalar.

    Source: DUSt3R and CUT3R, confidence loss with alpha 0.2.
    """
    distance = (predicted - true).norm(dim=-1) / factor[:, None, None, None]
    costs = (confidence * distance - _ALPHA * confidence.log()) * valid
    # clip by clip, so that processes which share the clips of a step minimise the same
    return (costs.flatten(1).sum(dim=1) / valid.flatten(1).sum(dim=1).clamp(min=1)).mean()


def pose_loss(predicted: Tensor, true: Tensor, factor: Tensor) -> Tensor:
    """How far poses [B, F, 7] are off: translation over the scale, plus quaternion; each by its Euclidean length.

    Source: CUT3R.
    Differs: of the two quaternions of a rotation the nearer one counts, for half turns have none that is canonical.
    """
    off = (predicted[..., :3] - true[..., :3]).norm(dim=-1) / factor[:, None]
    q, other = predicted[..., 3:], true[..., 3:]
    turned = torch.minimum((q - other).norm(dim=-1), (q + other).norm(dim=-1))
    return off.mean() + turned.mean()


def from_frame_before(T_WC: Tensor) -> Tensor:
    """Poses of all frames but the first, seen from the frame before: [B, F, 4, 4] to [B, F - 1, 4, 4]."""
    R, t = T_WC[:, :-1, :3, :3].transpose(-1, -2), T_WC[:, :-1, :3, 3]
    seen = torch.zeros_like(T_WC[:, 1:])
    seen[..., :3, :3] = R @ T_WC[:, 1:, :3, :3]
    seen[..., :3, 3] = ((T_WC[:, 1:, :3, 3] - t).unsqueeze(-2) @ R.transpose(-1, -2)).squeeze(-2)
    seen[..., 3, 3] = 1
    return seen


def class_shares(classes: Tensor, cells: int, count: int) -> Tensor:
    """How much of each class a cell shows.

    Args:
        classes: integer [N, h, w]; h and w are multiples of cells.
        cells: a side.
        count: of classes.

    Returns:
        float32 [N, cells, cells, count], sums of 1.
    """
    frames, height, width = classes.shape
    parts = classes.view(frames, cells, height // cells, cells, width // cells).permute(0, 1, 3, 2, 4).flatten(3)
    found = torch.zeros(frames, cells, cells, count, device=classes.device)
    found.scatter_add_(3, parts.long(), torch.ones_like(parts, dtype=torch.float32))
    return found / parts.shape[-1]


def soft_classes(logits: Tensor, shares: Tensor, foreground: Tensor, weight: float) -> Tensor:
    """Cross entropy against shares of classes; cells full of foreground count `weight` times.

    Args:
        logits: [N, ..., C]; each of the N frames counts the same.
        shares: [N, ..., C], sums of 1.
        foreground: bool [C].
        weight: at least 1.
    """
    losses = cross_entropy(logits.flatten(0, -2), shares.flatten(0, -2), reduction="none").view(len(logits), -1)
    weights = 1 + (weight - 1) * shares[..., foreground].sum(dim=-1).flatten(1)
    return ((losses * weights).sum(dim=1) / weights.sum(dim=1)).mean()


def confusion(predicted: Tensor, true: Tensor, count: int) -> Tensor:
    """int64 [count, count]: how often class i (row) was taken for j (column)."""
    pairs = true.long().flatten() * count + predicted.long().flatten()
    return torch.bincount(pairs, minlength=count * count).view(count, count)
