"""Raw and compressed image bytes become RGB, or an error that says what to do."""

import array
import io

import numpy as np
import pytest
from PIL import Image

from vlm3r_core.image_encoding import ENCODINGS, decode_compressed, to_rgb

COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("encoding", "channels"),
    [
        ("rgb8", [0, 1, 2]),
        ("bgr8", [2, 1, 0]),
        ("8UC3", [2, 1, 0]),
        ("rgba8", [0, 1, 2, 3]),
        ("bgra8", [2, 1, 0, 3]),
        ("8UC4", [2, 1, 0, 3]),
    ],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_colour_order_and_row_padding(encoding, channels, padding):
    with_alpha = np.concatenate([COLOURS, np.full((2, 3, 1), 7, np.uint8)], axis=2)
    pixels = with_alpha[..., channels].reshape(2, -1)
    padded = np.pad(pixels, ((0, 0), (0, padding)), constant_values=99)
    rgb = to_rgb(encoding, 2, 3, padded.shape[1], padded.tobytes())
    np.testing.assert_array_equal(rgb, COLOURS)
    assert rgb.flags.c_contiguous


def test_every_buffer_type_gives_the_same_image_and_does_not_share_memory():
    raw = COLOURS.copy()
    shared = raw.reshape(-1)
    for data in (raw.tobytes(), bytearray(raw.tobytes()), memoryview(raw), array.array("B", raw.tobytes()), shared):
        np.testing.assert_array_equal(to_rgb("rgb8", 2, 3, 9, data), COLOURS)
    rgb = to_rgb("rgb8", 2, 3, 9, shared)
    shared[:] = 0
    np.testing.assert_array_equal(rgb, COLOURS)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_repeated_over_the_channels(encoding):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(to_rgb(encoding, 2, 3, 3, grey.tobytes()), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize("is_bigendian", [False, True])
def test_mono16_is_scaled_to_8_bit_in_either_byte_order(is_bigendian):
    samples = np.array([[0, 257, 128 * 257, 65535]], ">u2" if is_bigendian else "<u2")
    # two bytes of padding as well: the 16-bit view needs contiguous rows
    data = samples.tobytes() + b"\xff\xff"
    rgb = to_rgb("mono16", 1, 4, 10, data, is_bigendian=is_bigendian)
    np.testing.assert_array_equal(rgb[0, :, 0], [0, 1, 128, 255])


@pytest.mark.parametrize(("encoding", "chroma_first"), [("yuv422", 1), ("uyvy", 1), ("yuv422_yuy2", 0), ("yuyv", 0)])
def test_yuv_agrees_with_the_ffmpeg_conversion(encoding, chroma_first):
    av = pytest.importorskip("av")
    random = np.random.default_rng(0)
    flat = np.repeat(random.integers(30, 220, (8, 8, 3), dtype=np.uint8), 2, axis=1)
    frame = av.VideoFrame.from_ndarray(flat, "rgb24").reformat(format="uyvy422" if chroma_first else "yuyv422")
    plane = frame.planes[0]
    expected = frame.reformat(format="rgb24").to_ndarray()
    rgb = to_rgb(encoding, 8, 16, plane.line_size, bytes(plane))
    # both convert with fixed-point arithmetic of about 8 bits: a few grey levels apart
    assert np.abs(rgb.astype(int) - expected).max() <= 3


def test_yuv_known_values():
    black_white = bytes([128, 16, 128, 235])
    np.testing.assert_array_equal(to_rgb("yuv422", 1, 2, 4, black_white), [[[0, 0, 0], [255, 255, 255]]])
    red = to_rgb("yuv422_yuy2", 1, 2, 4, bytes([81, 90, 81, 240]))[0, 0]
    assert red[0] >= 250
    assert red[1] <= 5
    assert red[2] <= 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("jpeg2000", 2, 3, 9, bytes(18)), r"must be one of rgb8, .*got 'jpeg2000'; publish rgb8"),
        (("rgb", 2, 3, 9, bytes(18)), "did you mean 'rgb8'"),
        (("bayer_rggb8", 2, 3, 9, bytes(18)), "debayer"),
        (("16UC1", 2, 3, 6, bytes(12)), "depth image"),
        (("", 2, 3, 9, bytes(18)), "got ''"),
        (("rgb8", 0, 3, 9, b""), "at least one pixel, got 3 x 0"),
        (("rgb8", 2, 0, 9, bytes(18)), "at least one pixel, got 0 x 2"),
        (("rgb8", 2, 3, 8, bytes(18)), "step must be at least 9 bytes for 3 pixels of rgb8, got 8"),
        (("rgb8", 2, 3, 9, bytes(17)), "= 18 bytes, got 17; the image is cut off"),
        (("mono16", 2, 3, 6, b""), "= 12 bytes, got 0"),
        (("yuv422", 2, 3, 6, bytes(12)), "width must be even, got 3"),
    ],
)
def test_bad_raw_images_say_what_was_expected_and_what_came(arguments, message):
    with pytest.raises(ValueError, match=message):
        to_rgb(*arguments)


def test_every_listed_encoding_is_read():
    for encoding in ENCODINGS:
        assert to_rgb(encoding, 2, 4, 16, bytes(32)).shape == (2, 4, 3)


def test_png_is_decoded_exactly_and_jpeg_nearly():
    np.testing.assert_array_equal(decode_compressed(encoded(Image.fromarray(COLOURS), "PNG")), COLOURS)
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    jpeg = decode_compressed(np.frombuffer(encoded(Image.fromarray(flat), "JPEG", quality=95), np.uint8))
    # JPEG rounds a flat colour by a few levels
    assert np.abs(jpeg.astype(int) - flat).max() <= 3


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to show
    data = encoded(Image.fromarray(COLOURS), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_compressed(data), np.rot90(COLOURS, -1))


def test_grey_alpha_palette_and_16_bit_pictures():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(decode_compressed(encoded(Image.fromarray(grey), "PNG"))[..., 1], grey)
    alpha = np.dstack([COLOURS, np.zeros((2, 3), np.uint8)])
    np.testing.assert_array_equal(decode_compressed(encoded(Image.fromarray(alpha), "PNG")), COLOURS)
    palette = Image.fromarray(COLOURS).quantize(8)
    np.testing.assert_array_equal(decode_compressed(encoded(palette, "PNG")), np.array(palette.convert("RGB")))
    deep = np.array([[0, 257, 65535]], np.uint16)
    np.testing.assert_array_equal(decode_compressed(encoded(Image.fromarray(deep), "PNG"))[0, :, 0], [0, 1, 255])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "got 0 bytes"),
        (b"not a picture at all", "got 20 bytes starting with 6e 6f 74"),
        (encoded(Image.fromarray(np.zeros((64, 64, 3), np.uint8)), "JPEG")[:-300], "cut off or damaged"),
        (encoded(Image.effect_noise((64, 64), 50), "PNG")[:500], "cut off or damaged"),
    ],
)
def test_bad_compressed_images(data, message):
    with pytest.raises(ValueError, match=message):
        decode_compressed(data)
