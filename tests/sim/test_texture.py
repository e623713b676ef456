"""Texture sampling against a sampler that goes pixel by pixel."""

from __future__ import annotations

import numpy as np

from sim.world.texture import Textures

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, shape, dtype=np.uint8) for shape in ((4, 8, 4), (5, 3, 4), (1, 1, 4), (7, 7, 4))]


def slow_sample(image, u, v) -> np.ndarray:
    """Bilinear sample with wrap-around."""
    height, width = image.shape[:2]
    x, y = u * width - 0.5, (1 - v) * height - 0.5
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - x0, y - y0
    total = np.zeros(4)
    for dx, wx in ((0, 1 - fx), (1, fx)):
        for dy, wy in ((0, 1 - fy), (1, fy)):
            total += wx * wy * image[(y0 + dy) % height, (x0 + dx) % width]
    return total


def test_full_size_is_bilinear_and_wraps():
    textures = Textures(IMAGES)
    index = RNG.integers(0, len(IMAGES), 500)
    uv = RNG.uniform(-2, 3, (500, 2)).astype(np.float32)
    expected = [slow_sample(IMAGES[i], u, v) for i, (u, v) in zip(index, uv.astype(float), strict=True)]
    # uv are float32: at 3 turns of 8 texels their rounding is 1e-6 texels of up to 255
    np.testing.assert_allclose(textures.sample(index, uv, np.zeros(500, np.float32)), expected, atol=1e-2)


def test_levels_halve_and_the_deepest_is_the_mean():
    textures = Textures(IMAGES)
    uv = np.array([[0.3, 0.4]], np.float32)
    halved = IMAGES[0].astype(float).reshape(2, 2, 4, 2, 4).mean(axis=(1, 3))
    # each halving rounds once along each axis
    np.testing.assert_allclose(
        textures.sample(np.array([0]), uv, np.array([1.0], np.float32))[0], slow_sample(halved, 0.3, 0.4), atol=1.0
    )
    deepest = textures.sample(np.array([0]), uv, np.array([99.0], np.float32))[0]
    np.testing.assert_allclose(deepest, IMAGES[0].mean(axis=(0, 1)), atol=3.0)
    one_pixel = textures.sample(np.array([2]), uv, np.array([99.0], np.float32))[0]
    np.testing.assert_array_equal(one_pixel, IMAGES[2][0, 0])


def test_the_nearest_level_is_taken():
    textures = Textures(IMAGES)
    uv, index = np.tile(np.array([[0.3, 0.4]], np.float32), (2, 1)), np.zeros(2, int)
    near = textures.sample(index, uv, np.array([-5.0, 0.49], np.float32))
    far = textures.sample(index, uv, np.array([0.51, 1.49], np.float32))
    np.testing.assert_array_equal(near[0], near[1])
    np.testing.assert_array_equal(far[0], far[1])
    assert (near[0] != far[0]).any()
