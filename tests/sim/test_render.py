"""Pictures by ray casting: against Habitat's, and against geometry that can be told by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh
from PIL import Image
from worlds import R_WH, box, painted, quad, room, wall_ahead

from sim.camera import CameraSettings, camera_pose
from sim.world.mesh import load_mesh, mesh_of
from sim.world.render import Renderer
from vlm3r_core.scene.graph import PinholeCamera

CAMERA = CameraSettings(width_px=32, height_px=24, height_m=0.0)
AHEAD = camera_pose(np.zeros(3), 0.0, CAMERA)  # at the origin, looking along +X


def rendered(mesh, T_WC=AHEAD, camera=CAMERA.pinhole, *, lighting="none", ids=None, **options):
    ids = mesh.part_of_face + 1 if ids is None else ids
    return Renderer(mesh, ids, lighting, **options).render(camera, T_WC)


def pose_from_habitat(camera_to_world) -> np.ndarray:
    """House pose of an OpenGL camera (looks along -z, y up) in a world with Y up."""
    T = np.array(camera_to_world)
    T_WC = np.eye(4)
    T_WC[:3, :3] = R_WH @ T[:3, :3] @ np.diag([1.0, -1.0, -1.0])
    T_WC[:3, 3] = R_WH @ T[:3, 3]
    return T_WC


def test_habitats_pictures_of_the_apartment(apartment_dir):
    """The wanted numbers: depth, instance ids and unlit colours over all 28 views."""
    mesh = load_mesh(apartment_dir / "apartment.glb")
    objects = json.loads((apartment_dir / "apartment.objects.json").read_text())
    ids = {f"{item['instance']}__{item['category']}": item["id"] for item in objects}
    renderer = Renderer(mesh, np.array([ids[part] for part in mesh.parts])[mesh.part_of_face], "none")
    listed = json.loads((apartment_dir / "views.json").read_text())
    depth_errors, same_id, color_errors = [], [], []
    for view in listed["views"]:
        c = listed["cameras"][view["camera"]]
        camera = PinholeCamera(c["fx"], c["fy"], c["cx"], c["cy"], c["width"], c["height"])
        ours = renderer.render(camera, pose_from_habitat(view["camera_to_world"]))
        prefix = apartment_dir / "views" / view["name"]
        depth = np.load(f"{prefix}_depth.npy")
        np.testing.assert_array_equal(ours.depth_m > 0, depth > 0)
        depth_errors.append((np.abs(ours.depth_m - depth) / depth)[depth > 0])
        same_id.append(ours.ids == np.load(f"{prefix}_semantic.npy"))
        rgb = np.array(Image.open(f"{prefix}_rgb.png"))[..., :3]
        color_errors.append(np.abs(ours.rgb.astype(int) - rgb))
    errors = np.concatenate(depth_errors)
    assert len(listed["views"]) == 28
    assert np.median(errors) <= 1e-4
    assert np.quantile(errors, 0.99) <= 1e-2
    assert np.mean(np.concatenate([x.ravel() for x in same_id])) >= 0.995
    assert np.mean(np.concatenate([x.ravel() for x in color_errors])) <= 3


def test_depth_is_planar_and_rays_go_through_pixel_centers():
    picture = rendered(mesh_of({"wall": quad(wall_ahead(2.0, half=10.0))}))
    # float32 rays
    np.testing.assert_allclose(picture.depth_m, 2.0, rtol=1e-6)
    # An edge between two pixels' centres: focal length 16, the left half of the picture sees y > 0.
    half = rendered(mesh_of({"wall": quad([[2, 5, -5], [2, 0, -5], [2, 0, 5], [2, 5, 5]])}))
    assert (half.depth_m[:, :16] > 0).all()
    assert (half.depth_m[:, 16:] == 0).all()


def test_picture_is_upright_and_not_mirrored():
    parts = {
        "above_left": painted(box([2, 0.2, 0.2], [2.1, 3, 3]), (255, 0, 0)),
        "below_right": painted(box([2, -3, -3], [2.1, -0.2, -0.2]), (0, 0, 255)),
    }
    picture = rendered(mesh_of(parts), background=(9, 8, 7))
    assert picture.rgb[4, 4].tolist() == [255, 0, 0]
    assert picture.rgb[-4, -4].tolist() == [0, 0, 255]
    assert picture.rgb[-4, 4].tolist() == [9, 8, 7]
    assert (picture.ids[4, 4], picture.ids[-4, -4], picture.ids[-4, 4]) == (1, 2, 0)


def test_texture_is_upright():
    image = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8))
    rgb = rendered(mesh_of({"poster": quad(wall_ahead(1.0, 0.6), image=image, doubleSided=True)})).rgb
    # In the middle of a texel (the poster is 19 pixels wide) bilinear sampling gives the texel itself; its neighbours
    # are 5 pixels away, so the nearest pixel's centre may be off by a tenth.
    for (row, column), color in zip(
        ((7, 11), (7, 20), (16, 11), (16, 20)), np.array(image).reshape(-1, 3), strict=True
    ):
        np.testing.assert_allclose(rgb[row, column], color, atol=30)


def test_backs_of_single_sided_surfaces_are_not_drawn():
    front, behind = quad(wall_ahead(1.0)), painted(box([3, -9, -9], [3.1, 9, 9]), (0, 0, 255))
    seen = rendered(mesh_of({"a": front, "b": behind}))
    assert (seen.ids == 1).all()
    away = quad(wall_ahead(1.0)[::-1])
    culled = rendered(mesh_of({"a": away, "b": behind}))
    assert (culled.ids == 2).all()
    np.testing.assert_allclose(culled.depth_m, 3.0, rtol=1e-5)
    both = quad(wall_ahead(1.0)[::-1], doubleSided=True)
    assert (rendered(mesh_of({"a": both, "b": behind})).ids == 1).all()


def test_transparent_texels_show_what_is_behind():
    texels = np.full((1, 2, 4), 255, np.uint8)
    texels[0, 0, 3] = 0
    image = Image.fromarray(texels, "RGBA")
    fence = quad(wall_ahead(1.0), image=image, alphaMode="MASK", alphaCutoff=0.5, doubleSided=True)
    behind = painted(box([3, -9, -9], [3.1, 9, 9]), (0, 0, 255))
    ids = rendered(mesh_of({"a": fence, "b": behind})).ids
    assert {ids[12, 6], ids[12, 26]} == {1, 2}
    assert rendered(mesh_of({"a": fence})).depth_m[12, 6 if ids[12, 6] == 2 else 26] == 0


def test_a_fine_texture_far_away_is_its_mean():
    checker = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    wall = quad(wall_ahead(4.0, half=8.0), image=Image.fromarray(checker), doubleSided=True)
    rgb = rendered(mesh_of({"a": wall})).rgb
    # Without mip levels single texels, black or white, would be hit.
    np.testing.assert_allclose(rgb, 127.5, atol=2)


def test_a_texture_seen_at_a_grazing_angle_is_smoothed_too():
    checker = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    floor = quad([[0, -9, -0.3], [18, -9, -0.3], [18, 9, -0.3], [0, 9, -0.3]], image=Image.fromarray(checker))
    view = CameraSettings(width_px=224, height_px=224, height_m=0.0)
    rgb = rendered(mesh_of({"a": floor}), AHEAD, view.pinhole).rgb
    # Four to five metres away a texel is three pixels wide but less than half a pixel high.
    np.testing.assert_allclose(rgb[119:121], 127.5, atol=2)


def test_double_sided_surfaces_are_lit_by_the_side_one_sees():
    leaf = quad([[-9, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0]], doubleSided=True)
    mesh, shown = mesh_of({"leaf": leaf}), []
    for height_m, pitch_deg in ((-1.0, 90.0), (1.0, -90.0)):
        view = CameraSettings(width_px=8, height_px=8, height_m=height_m, pitch_deg=pitch_deg)
        shown.append(rendered(mesh, camera_pose(np.zeros(3), 0, view), view.pinhole, lighting="simple").rgb)
    below, above = shown
    assert below.max() < above.min()


def test_vertex_colors_are_interpolated():
    part = trimesh.Trimesh(wall_ahead(1.0, 1.0), [[0, 1, 2], [0, 2, 3]], process=False)
    part.visual.vertex_colors = [[0, 0, 0, 255], [255, 0, 0, 255], [255, 255, 0, 255], [0, 255, 0, 255]]
    rgb = rendered(mesh_of({"a": part})).rgb.astype(int)
    across = (np.arange(32) + 0.5) / 32 * 255
    np.testing.assert_allclose(rgb[12, :, 0], across, atol=1)  # rounding
    assert rgb[4, 16, 1] > rgb[20, 16, 1]


def test_simple_lighting_tells_directions_apart_and_none_does_not():
    mesh = room()
    view = CameraSettings(width_px=64, height_px=48, pitch_deg=-10)
    pose = camera_pose(np.array([3.0, 2.0, 0.0]), 0.8, view)
    plain, lit = (rendered(mesh, pose, view.pinhole, lighting=name) for name in ("none", "simple"))
    np.testing.assert_array_equal(plain.ids, lit.ids)
    ratios = {}
    for part in ("floor", "east", "north"):
        mask = plain.ids == mesh.parts.index(part) + 1
        assert mask.any()
        assert len(np.unique(plain.rgb[mask], axis=0)) == 1
        ratios[part] = (lit.rgb[mask].mean() / plain.rgb[mask].mean()).round(2)
    assert len(set(ratios.values())) == 3
    assert all(0.5 < ratio <= 1 for ratio in ratios.values())


def test_a_scene_kilometres_from_the_origin_keeps_its_precision():
    far = np.array([250_000.0, -40_000.0, 300.0])
    corners = np.array(wall_ahead(2.0, 10.0)) + far
    picture = rendered(mesh_of({"a": quad(corners)}), camera_pose(far, 0.0, CAMERA))
    np.testing.assert_allclose(picture.depth_m, 2.0, rtol=1e-5)


def test_same_picture_twice():
    mesh = room(table=painted(box([2, 1, 0], [3, 2, 0.7]), (10, 200, 30)))
    view = CameraSettings()
    pose = camera_pose(np.array([1.0, 1.0, 0.0]), 0.5, view)
    first, second = (rendered(mesh, pose, view.pinhole, lighting="simple") for _ in range(2))
    for name in ("rgb", "depth_m", "ids"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_one_renderer_serves_several_cameras():
    mesh = room()
    renderer = Renderer(mesh, mesh.part_of_face + 1)
    small, large = CameraSettings(width_px=16, height_px=8), CameraSettings(width_px=40, height_px=30)
    pose = camera_pose(np.array([1.0, 1.0, 0.0]), 0.5, small)
    first = renderer.render(small.pinhole, pose)
    assert renderer.render(large.pinhole, pose).rgb.shape == (30, 40, 3)
    again = renderer.render(small.pinhole, pose)
    assert (again.rgb.shape, again.depth_m.dtype, again.ids.dtype) == ((8, 16, 3), np.float32, np.int32)
    np.testing.assert_array_equal(first.rgb, again.rgb)


def test_wrong_arguments_are_named():
    mesh = room()
    with pytest.raises(ValueError, match=f"id_of_face must name {len(mesh.faces)} triangles, got 3"):
        Renderer(mesh, np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="lighting must be one of simple, none, got 'nice'"):
        Renderer(mesh, mesh.part_of_face, "nice")
