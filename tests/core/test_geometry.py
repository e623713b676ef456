"""Poses, ray maps, focal length and the heads' output functions."""

import math

import pytest
import torch
from safetensors.torch import load_file

from vlm3r_core.model.dpt import camera_pose, colour, points_and_confidence
from vlm3r_core.model.geometry import T_WC_to_pose, focal_px, pose_to_T_WC, ray_map, transform_points


@pytest.fixture(scope="module")
def aux(shared_dir):
    path = shared_dir / "golden/cut3r/aux.safetensors"
    if not path.is_file():
        pytest.skip(f"golden data not found: {path}")
    return load_file(path)


def test_golden_pose(aux):
    # float32 rotations of a few products
    torch.testing.assert_close(pose_to_T_WC(aux["pose.encoding"]), aux["pose.c2w"], rtol=0, atol=1e-6)
    torch.testing.assert_close(T_WC_to_pose(aux["pose.c2w"]), aux["pose.encoding_back"], rtol=0, atol=1e-6)


def test_golden_points(aux):
    T_WC = pose_to_T_WC(aux["pose.encoding"])
    # points of a few metres in float32
    torch.testing.assert_close(
        transform_points(T_WC, aux["pose.points_cam"]), aux["pose.points_world"], rtol=0, atol=1e-5
    )


def test_golden_focal(aux):
    # pixels; ten reweighted float32 means over 3840 pixels
    torch.testing.assert_close(focal_px(aux["focal.pts3d_self"]), aux["focal.weiszfeld"], rtol=1e-5, atol=0)
    u0, v0 = aux["focal.pp"][0].tolist()
    assert torch.equal(focal_px(aux["focal.pts3d_self"], (u0, v0)), focal_px(aux["focal.pts3d_self"]))


def test_golden_ray_map(aux):
    T_WC = aux["pose.c2w"][:3]
    rays = ray_map(T_WC, aux["raymap.K"], (12, 20), T_WC[0])
    torch.testing.assert_close(rays, aux["raymap.value_first_view_0_size_12x20"], rtol=0, atol=1e-5)


def random_rotations(count):
    torch.manual_seed(0)
    Q, _ = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64))
    return Q * torch.linalg.det(Q)[:, None, None]


def half_turns():
    """Rotations by 180 degrees, where the quaternion's real part vanishes."""
    axes = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, -1], [1, -2, 3]], dtype=torch.float64)
    axes = axes / axes.norm(dim=-1, keepdim=True)
    return 2 * axes[:, :, None] * axes[:, None] - torch.eye(3, dtype=torch.float64)


@pytest.mark.parametrize("rotations", [random_rotations(50), half_turns()], ids=["random", "half turns"])
def test_pose_there_and_back(rotations):
    T_WC = torch.eye(4, dtype=torch.float64).repeat(len(rotations), 1, 1)
    T_WC[:, :3, :3] = rotations
    T_WC[:, :3, 3] = torch.arange(3 * len(rotations)).reshape(-1, 3)
    pose = T_WC_to_pose(T_WC)
    assert (pose[:, 3] >= 0).all()
    torch.testing.assert_close(pose[:, 3:].norm(dim=-1), torch.ones(len(pose), dtype=torch.float64))
    # float64 round off
    torch.testing.assert_close(pose_to_T_WC(pose), T_WC, rtol=0, atol=1e-12)


def test_quarter_turn_about_x_moves_y_to_z():
    pose = torch.tensor([1.0, 2.0, 3.0, math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0])
    moved = transform_points(pose_to_T_WC(pose), torch.tensor([0.0, 1.0, 0.0]).reshape(1, 1, 3))
    torch.testing.assert_close(moved.flatten(), torch.tensor([1.0, 2.0, 4.0]), rtol=0, atol=1e-6)


def pinhole_points(focal, height, width):
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    depth = 1 + 0.1 * u + 0.05 * v
    return torch.stack(((u - width // 2) / focal * depth, (v - height // 2) / focal * depth, depth), dim=-1)


def test_focal_of_ideal_cameras():
    points = torch.stack([pinhole_points(focal, 24, 32) for focal in (20.0, 55.0)])
    torch.testing.assert_close(focal_px(points), torch.tensor([20.0, 55.0]), rtol=1e-4, atol=0)


def test_focal_ignores_points_without_depth():
    points = pinhole_points(30.0, 24, 32)[None]
    points[0, 3, 4] = torch.tensor([1.0, 0.0, 0.0])
    points[0, 5, 6] = 0
    torch.testing.assert_close(focal_px(points), torch.tensor([30.0]), rtol=1e-4, atol=0)


def test_focal_resists_outliers():
    points = pinhole_points(30.0, 24, 32)[None]
    points[0, :2, :, :2] *= 5
    pixels = torch.stack(torch.meshgrid(torch.arange(32) - 16, torch.arange(24) - 12, indexing="xy"), dim=-1)
    rays = points[0, ..., :2] / points[0, ..., 2:]
    least_squares = (rays * pixels).mean() / (rays * rays).mean()
    assert least_squares < 0.7 * 30
    # a twelfth of the pixels pulls the robust estimate by a few per cent at most
    torch.testing.assert_close(focal_px(points), torch.tensor([30.0]), rtol=0.05, atol=0)


def test_ray_map_of_the_first_camera():
    K = torch.tensor([[10.0, 0, 4], [0, 20, 2], [0, 0, 1]])
    T_WC = pose_to_T_WC(torch.tensor([[3.0, 2, 1, 0.5, 0.5, 0.5, 0.5]]))
    rays = ray_map(T_WC, K, (4, 8), T_WC[0])
    assert rays.shape == (1, 4, 8, 6)
    # inverting a pose of metres in float32
    torch.testing.assert_close(rays[..., :3], torch.zeros(1, 4, 8, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(rays[0, 2, 4, 3:], torch.tensor([0.0, 0.0, 1.0]), rtol=0, atol=1e-6)
    corner = torch.tensor([-0.4, -0.1, 1.0])
    torch.testing.assert_close(rays[0, 0, 0, 3:], corner / corner.norm(), rtol=0, atol=1e-6)


def test_ray_direction_is_seen_from_the_first_camera():
    T_WC = torch.eye(4).repeat(2, 1, 1)
    T_WC[1, 0, 3] = 1.0
    rays = ray_map(T_WC, torch.eye(3), (1, 1), T_WC[0])
    assert rays[1, 0, 0].tolist() == pytest.approx([1, 0, 0, math.sqrt(0.5), 0, math.sqrt(0.5)])


def test_points_grow_exponentially():
    raw = torch.tensor([[3.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 2.0]])
    points, confidence = points_and_confidence(raw)
    torch.testing.assert_close(points, torch.tensor([[0.6, 0.0, 0.8], [0.0, 0.0, 0.0]]) * math.expm1(5))
    torch.testing.assert_close(confidence, torch.tensor([2.0, 1 + math.exp(2)]))


def test_camera_pose_has_a_unit_quaternion_of_positive_real_part():
    pose = camera_pose(torch.tensor([[0.0, 2.0, 0.0, -3.0, 0.0, 4.0, 0.0]]))
    torch.testing.assert_close(pose, torch.tensor([[0.0, math.expm1(2), 0.0, 0.6, 0.0, -0.8, 0.0]]))


def test_colour_stays_inside_the_open_range():
    values = colour(torch.tensor([-100.0, 0.0, 100.0]))
    assert -1 < values[0] < -0.99999
    assert values[1] == 0
    assert 0.99999 < values[2] < 1
