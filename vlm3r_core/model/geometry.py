"""What CUT3R says about space, and its conversions: poses, rays, focal length. No weights.

Pixels here are CUT3R's: the ray of pixel (u, v) goes through u, v and not through u + 0.5, v + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

WEISZFELD_STEPS = 10


@dataclass(frozen=True)
class Geometry:
    """Dense geometry of one view, all float32; the world is the first view's camera, x right, y down, z forward.

    Args:
        points_world: [B, H, W, 3] metres, in the world.
        conf_world: [B, H, W], above 1.
        points_self: [B, H, W, 3] metres, in this view's camera.
        conf_self: [B, H, W], above 1.
        camera_pose: [B, 7], this camera in the world: x, y, z in metres, then the quaternion w, x, y, z of CUT3R.
        rgb: [B, H, W, 3] in -1..1.
    """

    points_world: Tensor
    conf_world: Tensor
    points_self: Tensor
    conf_self: Tensor
    camera_pose: Tensor
    rgb: Tensor


def pose_to_T_WC(camera_pose: Tensor) -> Tensor:  # noqa: N802
    """Converts CUT3R's pose numbers to a transform.

    Args:
        camera_pose: [..., 7], x, y, z in metres and a quaternion w, x, y, z of any length but zero.

    Returns:
        [..., 4, 4] of the same dtype.
    """
    w, x, y, z = normalize(camera_pose[..., 3:], dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    T_WC = torch.zeros(*camera_pose.shape[:-1], 4, 4, dtype=camera_pose.dtype, device=camera_pose.device)
    T_WC[..., :3, :3] = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    T_WC[..., :3, 3] = camera_pose[..., :3]
    T_WC[..., 3, 3] = 1
    return T_WC


def T_WC_to_pose(T_WC: Tensor) -> Tensor:  # noqa: N802
    """Converts a transform [..., 4, 4] to CUT3R's pose numbers [..., 7], real part of the quaternion not negative."""
    quaternion = _quaternion_wxyz(T_WC[..., :3, :3])
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    return torch.cat((T_WC[..., :3, 3], quaternion), dim=-1)


def _quaternion_wxyz(R: Tensor) -> Tensor:
    """Unit quaternion [..., 4] of a rotation [..., 3, 3], from its largest component, so stable for any angle."""
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    wx, wy, wz = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    xy, xz, yz = R[..., 1, 0] + R[..., 0, 1], R[..., 2, 0] + R[..., 0, 2], R[..., 2, 1] + R[..., 1, 2]
    # row i is four times the quaternion times its component i
    rows = (
        (1 + xx + yy + zz, wx, wy, wz),
        (wx, 1 + xx - yy - zz, xy, xz),
        (wy, xy, 1 - xx + yy - zz, yz),
        (wz, xz, yz, 1 - xx - yy + zz),
    )
    candidates = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    largest = candidates.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    chosen = candidates.take_along_dim(largest[..., None, None], dim=-2).squeeze(-2)
    return normalize(chosen, dim=-1)


def transform_points(T_AB: Tensor, points_B: Tensor) -> Tensor:
    """Moves points [..., H, W, 3] from frame B to frame A by T_AB [..., 4, 4]."""
    R, t = T_AB[..., :3, :3], T_AB[..., :3, 3]
    rotated = points_B.flatten(-3, -2) @ R.transpose(-1, -2)
    return (rotated + t.unsqueeze(-2)).unflatten(-2, points_B.shape[-3:-1])


def focal_px(points_self: Tensor, principal_point: tuple[float, float] | None = None) -> Tensor:
    """Finds the focal length that explains a map of points in their own camera.

    Args:
        points_self: [B, H, W, 3] metres.
        principal_point: (u, v) in pixels, the middle (W // 2, H // 2) when absent.

    Returns:
        [B], one focal length in pixels for both axes.

    Source: robust focal of DUSt3R (Wang et al. 2024), 10 Weiszfeld steps without confidence weights.
    """
    height, width = points_self.shape[1:3]
    u0, v0 = principal_point or (width // 2, height // 2)
    like = {"dtype": points_self.dtype, "device": points_self.device}
    v, u = torch.meshgrid(torch.arange(height, **like), torch.arange(width, **like), indexing="ij")
    pixels = torch.stack((u - u0, v - v0), dim=-1).flatten(0, 1)
    rays = (points_self[..., :2] / points_self[..., 2:]).flatten(1, 2).nan_to_num(posinf=0, neginf=0)
    along, square = (rays * pixels).sum(-1), (rays * rays).sum(-1)
    focal = along.mean(-1) / square.mean(-1)
    for _ in range(WEISZFELD_STEPS):
        miss = (pixels - focal[:, None, None] * rays).norm(dim=-1)
        weight = 1 / miss.clamp(min=1e-8)
        focal = (weight * along).mean(-1) / (weight * square).mean(-1)
    return focal


def ray_map(T_WC: Tensor, K: Tensor, size: tuple[int, int], T_WC_first: Tensor) -> Tensor:
    """The ray map that stands for a camera without an image.

    Args:
        T_WC: [B, 4, 4], cameras to ask for.
        K: [3, 3] or [B, 3, 3] intrinsics in pixels.
        size: (H, W) in pixels.
        T_WC_first: [4, 4], the camera of the stream's first view, in the same world.

    Returns:
        [B, H, W, 6]: camera centre and unit direction in the first view's camera.

    Source: CUT3R. The direction points from the first camera's centre to the pixel's point at depth 1, not from
    this camera's own centre: the network was trained so.
    """
    height, width = size
    like = {"dtype": T_WC.dtype, "device": T_WC.device}
    v, u = torch.meshgrid(torch.arange(height, **like), torch.arange(width, **like), indexing="ij")
    pixels = torch.stack((u, v, torch.ones_like(u)), dim=-1)
    T_first = torch.linalg.inv(T_WC_first) @ T_WC
    inverse_K = torch.linalg.inv(K).expand(len(T_WC), 3, 3)
    at_depth_one = (pixels.flatten(0, 1) @ inverse_K.transpose(-1, -2)).unflatten(1, size)
    direction = normalize(transform_points(T_first, at_depth_one), dim=-1)
    centre = T_first[:, None, None, :3, 3].expand_as(direction)
    return torch.cat((centre, direction), dim=-1)
