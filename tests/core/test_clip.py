"""Videos, folders and bags become the Frames they hold; what cannot be read is named."""

import logging
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vlm3r_core.clip import open_clip, sample_uniform

SECOND_NS = 1_000_000_000


def flat(value, height=48, width=64):
    return np.full((height, width, 3), value, np.uint8)


def write_video(path, images, *, rate=10, rotation=0, codec="mpeg4", audio_only=False):
    with av.open(str(path), "w") as container:
        if audio_only:
            stream = container.add_stream("aac", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
            frame.sample_rate = 8000
            container.mux([*stream.encode(frame), *stream.encode()])
            return path
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


def write_bag(path, messages, *, storage=StoragePlugin.MCAP):
    """messages: (topic, kind, header stamp in ns, time of recording in ns, image or bytes, encoding)."""
    types = get_typestore(Stores.ROS2_JAZZY)
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections = {}
        for topic, kind, stamp_ns, received_ns, content, encoding in messages:
            name = f"sensor_msgs/msg/{kind}" if kind.endswith("Image") else f"std_msgs/msg/{kind}"
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, name, typestore=types)
            message = bag_message(types, name, stamp_ns, content, encoding)
            writer.write(connections[topic], received_ns, types.serialize_cdr(message, name))
    return path


def bag_message(types, name, stamp_ns, content, encoding):
    if name == "std_msgs/msg/String":
        return types.types[name](content)
    stamp = types.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, SECOND_NS))
    header = types.types["std_msgs/msg/Header"](stamp, "camera_optical")
    if name.endswith("CompressedImage"):
        return types.types[name](header, encoding, np.frombuffer(content, np.uint8))
    height, width, channels = content.shape
    return types.types[name](header, height, width, encoding, 0, width * channels, content.reshape(-1))


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [
        (
            100,
            32,
            "0 3 6 9 12 15 19 22 25 28 31 35 38 41 44 47 51 54 57 60 63 67 70 73 76 79 83 86 89 92 95 99",
        ),
        (32, 32, " ".join(map(str, range(32)))),
        (10, 4, "0 3 6 9"),
        (5, 32, "0 1 2 3 4"),
        (1, 32, "0"),
        (7, 1, "0"),
    ],
)
def test_sampler_spreads_frames_and_truncates(total, count, expected):
    assert sample_uniform(total, count) == [int(index) for index in expected.split()]


def test_sampler_repeats_frames_of_a_short_clip_when_asked():
    assert sample_uniform(1, 32, repeat=True) == [0] * 32
    assert sample_uniform(3, 6, repeat=True) == [0, 0, 0, 1, 1, 2]
    assert sample_uniform(100, 32, repeat=True) == sample_uniform(100, 32)


@pytest.mark.parametrize(("total", "count"), [(0, 4), (4, 0), (-1, 4)])
def test_sampler_refuses_nothing_to_sample(total, count):
    with pytest.raises(ValueError, match=f"got {count} of {total} frames"):
        sample_uniform(total, count)


def test_folder_is_read_in_natural_order_with_stamps_from_fps(tmp_path):
    for index in (10, 2, 1):
        Image.fromarray(flat(index)).save(tmp_path / f"frame_{index}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._frame_3.png").write_bytes(b"left behind by another system")
    clip = open_clip(tmp_path, fps=4)
    assert (clip.kind, len(clip), clip.duration_s) == ("folder", 3, 0.75)
    assert [frame.rgb[0, 0, 0] for frame in clip] == [1, 2, 10]
    assert [frame.stamp_ns for frame in clip] == [0, SECOND_NS // 4, SECOND_NS // 2]


def test_folder_applies_exif_orientation(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "a.jpg", exif=exif, quality=95)
    (frame,) = open_clip(tmp_path)
    assert frame.rgb.shape == (60, 40, 3)
    # the bright upper half is on the right once turned clockwise; JPEG keeps flat areas within a few levels
    assert frame.rgb[:, 25:].min() > 245
    assert frame.rgb[:, :15].max() < 10


def test_single_image_is_a_clip_of_one_frame(tmp_path):
    Image.fromarray(flat(5)).save(tmp_path / "a.png")
    (frame,) = open_clip(tmp_path / "a.png")
    assert frame.rgb[0, 0, 0] == 5


def test_broken_image_is_skipped_with_the_reason_and_keeps_its_place_in_time(tmp_path, caplog):
    for index in range(3):
        Image.fromarray(flat(index)).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes(b"\x89PNG broken")
    with caplog.at_level(logging.WARNING):
        frames = list(open_clip(tmp_path, fps=1))
    assert [frame.stamp_ns for frame in frames] == [0, 2 * SECOND_NS]
    assert "1.png" in caplog.text
    assert "picture file" in caplog.text


def test_clip_without_a_readable_frame_says_so(tmp_path):
    (tmp_path / "1.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match="no readable frame"):
        list(open_clip(tmp_path))


@pytest.mark.parametrize("codec_rate", [10, 30])
def test_video_frames_stamps_and_length(tmp_path, codec_rate):
    images = [flat(value) for value in (10, 90, 170, 250)]
    clip = open_clip(write_video(tmp_path / "a.mp4", images, rate=codec_rate))
    assert (clip.kind, len(clip)) == ("video", 4)
    assert clip.duration_s == pytest.approx(4 / codec_rate)
    frames = list(clip)
    # lossy codec: flat frames come back within a few grey levels
    assert [int(frame.rgb.mean()) for frame in frames] == pytest.approx([10, 90, 170, 250], abs=4)
    # container time bases round to about 0.1 ms
    assert [frame.stamp_ns for frame in frames] == pytest.approx(
        [index * SECOND_NS / codec_rate for index in range(4)], abs=1e5
    )
    assert [frame.stamp_ns for frame in clip] == [frame.stamp_ns for frame in frames]


def test_video_starts_at_zero_whatever_its_container_says(tmp_path):
    images = [flat(100)] * 3
    clip = open_clip(write_video(tmp_path / "a.ts", images, codec="libx264"))
    # this container states no number of frames, and its time starts at 0.2 s
    with pytest.raises(TypeError, match="does not state its number of frames"):
        len(clip)
    frames = list(clip)
    assert frames[0].stamp_ns == 0
    assert len(clip.sampled(2)) == 2
    assert frames[2].stamp_ns == pytest.approx(SECOND_NS / 5, abs=1e5)


@pytest.mark.skipif(
    not hasattr(av.video.stream.VideoStream, "set_display_rotation"), reason="this PyAV cannot write it"
)
@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_video_rotation_is_applied(tmp_path, rotation):
    image = flat(0)
    image[:24, :32] = 255
    (frame,) = open_clip(write_video(tmp_path / "a.mp4", [image], rotation=rotation))
    turned = np.rot90(image, rotation // 90)
    assert frame.rgb.shape == turned.shape
    # a lossy codec smears the edges of the bright quarter
    assert np.abs(frame.rgb.astype(int) - turned).mean() < 5
    assert frame.rgb.flags.c_contiguous


def test_damaged_video_gives_the_frames_before_the_damage(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / "a.mkv", list(noise))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames = list(open_clip(path))
    assert 1 <= len(frames) < 20
    assert frames[0].stamp_ns == 0


@pytest.mark.parametrize("content", [b"", b"plain text\n" * 20, bytes(4000)])
@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "noext"])
def test_file_that_is_no_video(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"(cannot be read as a video|no video stream).*give a video, a folder"):
        open_clip(path)


def test_sound_without_pictures(tmp_path):
    with pytest.raises(ValueError, match=r"no video stream \(found: audio\)"):
        open_clip(write_video(tmp_path / "a.mp4", [], audio_only=True))


@pytest.mark.parametrize("kind", ["video", "folder", "bag"])
def test_sampled_clip_keeps_evenly_spread_frames_with_their_stamps(tmp_path, kind):
    images = [flat(value) for value in range(0, 250, 25)]
    if kind == "video":
        path = write_video(tmp_path / "a.mp4", images)
    elif kind == "bag":
        rows = [("/c", "Image", 1 + i * SECOND_NS, 5, image, "rgb8") for i, image in enumerate(images)]
        path = write_bag(tmp_path / "bag", rows)
    else:
        path = tmp_path
        for index, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / f"{index}.png")
    whole = list(open_clip(path))
    sampled = open_clip(path).sampled(4)
    assert len(sampled) == 4
    assert [frame.stamp_ns for frame in sampled] == [whole[index].stamp_ns for index in (0, 3, 6, 9)]
    np.testing.assert_array_equal([frame.rgb for frame in sampled], [whole[index].rgb for index in (0, 3, 6, 9)])
    assert len(open_clip(path).sampled(100)) == 10


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("as_file", [False, True])
def test_bag_images_with_header_stamps(tmp_path, storage, as_file):
    bgr = np.zeros((4, 6, 3), np.uint8)
    bgr[..., 0] = 200
    rows = [
        ("/chatter", "String", 0, 1, "hello", ""),
        ("/camera/image_raw", "Image", 5 * SECOND_NS + 7, 10 * SECOND_NS, bgr, "bgr8"),
        ("/camera/image_raw", "Image", 6 * SECOND_NS, 11 * SECOND_NS, bgr, "bgr8"),
    ]
    path = write_bag(tmp_path / "bag", rows, storage=storage)
    if as_file:
        (path,) = [file for file in path.iterdir() if file.suffix in (".mcap", ".db3")]
    clip = open_clip(path)
    frames = list(clip)
    assert (clip.kind, len(clip), len(frames)) == ("bag", 2, 2)
    assert clip.duration_s == pytest.approx(11, abs=0.1)
    assert [frame.stamp_ns for frame in frames] == [5 * SECOND_NS + 7, 6 * SECOND_NS]
    assert frames[0].frame_id == "camera_optical"
    np.testing.assert_array_equal(frames[0].rgb, bgr[..., ::-1])


def test_bag_without_header_stamps_uses_the_time_of_recording(tmp_path):
    rows = [("/c", "Image", 0, 3 * SECOND_NS, flat(1), "rgb8"), ("/c", "Image", 0, 4 * SECOND_NS, flat(2), "rgb8")]
    assert [frame.stamp_ns for frame in open_clip(write_bag(tmp_path / "bag", rows))] == [3 * SECOND_NS, 4 * SECOND_NS]


def test_bag_of_compressed_images_skips_the_broken_one(tmp_path, caplog):
    Image.fromarray(flat(80)).save(tmp_path / "a.jpg")
    jpeg = (tmp_path / "a.jpg").read_bytes()
    rows = [("/c/compressed", "CompressedImage", i + 1, i, data, "jpeg") for i, data in enumerate([jpeg, b"x", jpeg])]
    rows.append(("/d", "Image", 9, 9, flat(0), "16UC1"))
    clip = open_clip(write_bag(tmp_path / "bag", rows), topic="/c/compressed")
    with caplog.at_level(logging.WARNING):
        frames = list(clip)
    assert [frame.stamp_ns for frame in frames] == [1, 3]
    # JPEG keeps a flat image within a few levels
    assert np.abs(frames[0].rgb.astype(int) - 80).max() <= 3
    assert "skipped image 1 of /c/compressed" in caplog.text


def test_bag_topics_must_be_clear(tmp_path):
    rows = [("/left", "Image", 1, 1, flat(1), "rgb8"), ("/right", "Image", 1, 1, flat(2), "rgb8")]
    path = write_bag(tmp_path / "two", rows)
    with pytest.raises(ValueError, match=r"several image topics.*/left \(1 images\), /right \(1 images\)"):
        open_clip(path)
    with pytest.raises(ValueError, match=r"no image topic '/up'; its image topics: /left"):
        open_clip(path, topic="/up")
    assert next(iter(open_clip(path, topic="/right"))).rgb[0, 0, 0] == 2
    without = write_bag(tmp_path / "none", [("/chatter", "String", 0, 1, "hello", "")])
    with pytest.raises(ValueError, match=r"must hold a topic of sensor_msgs/msg/Image.*got /chatter"):
        open_clip(without)


def test_damaged_bags(tmp_path):
    rows = [("/c", "Image", 1, 1, flat(1), "rgb8")]
    no_data = write_bag(tmp_path / "no_data", rows)
    next(no_data.glob("*.mcap")).unlink()
    torn = write_bag(tmp_path / "torn", rows)
    file = next(torn.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[:300])
    junk = tmp_path / "junk.db3"
    junk.write_bytes(b"not a database at all" * 100)
    for path in (no_data, torn, junk):
        with pytest.raises(ValueError, match="cannot be read as a bag"):
            open_clip(path)
    bare = write_bag(tmp_path / "bare", rows)
    (bare / "metadata.yaml").unlink()
    with pytest.raises(ValueError, match=r"no metadata.yaml; give the .mcap or .db3 file itself"):
        open_clip(bare)


def test_missing_and_empty_places(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"clip .*nowhere does not exist"):
        open_clip(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="got an empty folder"):
        open_clip(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match="got 1 other files"):
        open_clip(tmp_path)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_fps_must_be_positive(tmp_path, fps):
    with pytest.raises(ValueError, match="fps must be a positive number"):
        open_clip(tmp_path, fps=fps)


def test_shared_walk_is_read_whole(shared_dir):
    folder = shared_dir / "data" / "arkit_clip"
    if not folder.is_dir():
        pytest.skip("shared data has no arkit_clip")
    frames = list(open_clip(folder))
    assert len(frames) == 28
    assert {frame.rgb.shape for frame in frames} == {(640, 480, 3)}


def test_reading_clips_needs_neither_torch_nor_ros():
    code = "import sys, vlm3r_core.clip, vlm3r_core.bag; print(sorted({'torch', 'rclpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
