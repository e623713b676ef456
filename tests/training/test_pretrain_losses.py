"""Losses and scores of pre-training against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from training.pretraining.losses import (
    class_shares,
    confident_distance,
    confusion,
    from_frame_before,
    pose_loss,
    scale,
    soft_classes,
    true_points,
)


def test_points_follow_from_depth_rays_and_pose():
    T = torch.eye(4).repeat(1, 2, 1, 1)
    T[0, 1] = torch.tensor([[0.0, 0, 1, 5], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])  # looks along +x from x = 5
    own, world = true_points(torch.full((1, 2, 1, 1), 2.0), torch.tensor([0.5, 0.0, 1.0]).view(1, 1, 1, 3), T)
    assert own[0, 1].flatten().tolist() == [1.0, 0.0, 2.0]
    assert world[0, 0].flatten().tolist() == [1.0, 0.0, 2.0]
    assert world[0, 1].flatten().tolist() == [7.0, 0.0, -1.0]


def test_scale_weighs_by_the_logarithm_of_confidence_and_skips_what_is_not_there():
    own = torch.tensor([1.0, 3.0, 100.0]).view(1, 1, 1, 3, 1) * torch.tensor([0.0, 0.0, 1.0])
    sure = torch.tensor([math.e, math.e**3, math.e]).view(1, 1, 1, 3).requires_grad_()
    valid = torch.tensor([True, True, False]).view(1, 1, 1, 3)
    factor = scale((own, own * 2), (sure, torch.full_like(sure, math.e).detach()), valid)
    assert factor.item() == pytest.approx((1 * 1 + 3 * 3 + 2 * 1 + 6 * 1) / (1 + 3 + 1 + 1))
    assert not factor.requires_grad


def test_confidence_is_best_where_the_published_loss_has_its_minimum():
    """conf * d - 0.2 log(conf) is least at conf = 0.2 / d."""
    true, off = torch.zeros(1, 1, 1, 1, 3), torch.tensor([0.1, 0.0, 0.0]).view(1, 1, 1, 1, 3)
    factor, valid = torch.ones(1), torch.ones(1, 1, 1, 1, dtype=torch.bool)
    losses = [confident_distance(off, true, torch.full((1, 1, 1, 1), c), valid, factor) for c in (1.5, 2.0, 2.5)]
    assert losses[1] == min(losses)
    assert losses[1].item() == pytest.approx(2 * 0.1 - 0.2 * math.log(2))
    far = confident_distance(off, true, torch.full((1, 1, 1, 1), 2.0), valid, factor * 10)
    assert far.item() == pytest.approx(2 * 0.01 - 0.2 * math.log(2))


def test_pose_loss_takes_either_quaternion_of_a_turn():
    pose = torch.tensor([[[1.0, 2.0, 3.0, 0.6, 0.8, 0.0, 0.0]]])
    other = torch.cat((pose[..., :3], -pose[..., 3:]), dim=-1)
    assert pose_loss(pose, other, torch.ones(1)).item() == 0
    moved = pose + torch.tensor([3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert pose_loss(moved, pose, torch.tensor([2.0])).item() == pytest.approx(2.5)
    turned = torch.cat((pose[..., :3], torch.tensor([[[0.8, -0.6, 0.0, 0.0]]])), dim=-1)
    assert pose_loss(turned, pose, torch.ones(1)).item() == pytest.approx(math.sqrt(2))


def test_poses_seen_from_the_frame_before():
    turns = torch.linalg.qr(torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))).Q
    T_WC = torch.eye(4).repeat(2, 4, 1, 1)
    T_WC[..., :3, :3], T_WC[..., :3, 3] = turns, torch.arange(24.0).view(2, 4, 3)
    expected = torch.linalg.inv(T_WC[:, :-1]) @ T_WC[:, 1:]
    assert torch.allclose(from_frame_before(T_WC), expected, atol=1e-4)


def test_shares_of_classes():
    classes = torch.tensor([[[0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 0, 1], [3, 3, 2, 3]]])
    shares = class_shares(classes, 2, 4)[0]
    assert shares.tolist() == [[[0.25, 0.75, 0, 0], [0, 0, 1, 0]], [[0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25]]]


def test_foreground_counts_as_often_as_it_is_told_to():
    logits = torch.tensor([[[0.0, 2.0], [0.0, 0.0]]])
    shares = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    things = torch.tensor([False, True])
    wall, thing = math.log(1 + math.e**2), math.log(2)
    assert soft_classes(logits, shares, things, 3.0).item() == pytest.approx((wall + 3 * thing) / 4)
    assert soft_classes(logits, shares, things, 1.0).item() == pytest.approx((wall + thing) / 2)


def test_confusion_counts_truth_by_rows():
    table = confusion(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 2]), 3)
    assert table.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
