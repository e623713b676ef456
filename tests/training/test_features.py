"""Cached features: what they hold, whom they belong to, several writers, damage, and the published .pt files."""

from __future__ import annotations

import json
import multiprocessing
import sys

import pytest
import torch

from training.data import Packs, PackSpec
from training.features import DESCRIPTION, FeatureCache, extract, main
from training.samples.encoding import encode_video, visual_length, visual_sequence
from training.samples.mixture import read_samples
from training.samples.published_features import published_path, read_published
from training.samples.video import Times, read_pixels
from vlm3r_core.loading import load, randomize

FRAMES = 3


@pytest.fixture
def model(nano_spec):
    return load(nano_spec, "cpu", "float32")


@pytest.fixture
def samples(question_set):
    return read_samples(question_set)


@pytest.fixture
def cache(tmp_path, model):
    return FeatureCache.open(tmp_path / "cache", model, FRAMES)


def test_the_frozen_part_is_the_models_own(model, samples):
    """Image encoders take frames together and one by one: only the order of sums may differ."""
    pixels, _ = read_pixels(samples[0].path, FRAMES, 56)
    features, own = encode_video(model, pixels, batch=2), model.encode(pixels)
    for name in ("siglip", "camera", "patch"):
        torch.testing.assert_close(getattr(features, name), getattr(own, name), rtol=0, atol=1e-5)
    visual = visual_sequence(model, features)
    torch.testing.assert_close(visual, model.visual_sequence(own.visual_tokens), rtol=0, atol=1e-5)
    assert len(visual) == visual_length(model.config, FRAMES)


def test_every_video_is_encoded_once(model, samples, cache):
    assert extract(cache, model, samples, FRAMES, workers=0, progress=False) == {}
    files = sorted(cache.folder.glob("*.safetensors"))
    assert len(files) == 6
    made = [path.stat().st_mtime_ns for path in files]
    assert extract(cache, model, samples, FRAMES, workers=0, progress=False) == {}
    assert [path.stat().st_mtime_ns for path in files] == made
    features, times = cache.read(samples[0])
    pixels, read_times = read_pixels(samples[0].path, FRAMES, 56)
    assert times == read_times
    # videos were encoded side by side: only the order of sums may differ
    for name in ("siglip", "camera", "patch"):
        alone = getattr(encode_video(model, pixels), name)
        torch.testing.assert_close(getattr(features, name), alone, rtol=0, atol=1e-5)


def test_extraction_goes_on_where_it_ended(model, samples, cache):
    extract(cache, model, samples[:6], FRAMES, workers=0, progress=False)
    before = set(cache.folder.iterdir())
    extract(cache, model, samples, FRAMES, workers=2, progress=False)
    assert len(set(cache.folder.iterdir()) - before) == 6 - (len(before) - 1)


def test_other_weights_do_not_read_the_cache(model, samples, cache, tmp_path, nano_spec, caplog):
    extract(cache, model, samples, FRAMES, workers=0, progress=False)
    other = load(nano_spec, "cpu", "float32")
    randomize(other, seed=1)
    theirs = FeatureCache.open(tmp_path / "cache", other, FRAMES)
    assert theirs.key != cache.key
    assert theirs.read(samples[0]) is None
    assert "not used: they were made with other weights" in caplog.text
    FeatureCache.open(tmp_path / "cache", model, FRAMES + 1)
    assert "not used: they were made with other frames" in caplog.text


def test_a_file_put_there_by_other_weights_is_refused(model, samples, cache, tmp_path, caplog):
    extract(cache, model, samples[:1], FRAMES, workers=0, progress=False)
    stranger = FeatureCache(tmp_path / "stranger", "0123456789abcdef")
    stranger.folder.mkdir()
    cache.path(samples[0]).rename(stranger.path(samples[0]))
    assert stranger.read(samples[0]) is None
    assert f"made by other encoders ({cache.key}, not 0123456789abcdef); it is made anew" in caplog.text


def test_only_what_tokens_depend_on_counts(model, tmp_path, cache):
    """Fusion, projector and language model are what training changes."""
    randomize(model.language, 5)
    randomize(model.fusion, 5)
    randomize(model.cut3r.downstream_head, 5)
    assert FeatureCache.open(tmp_path / "cache", model, FRAMES).key == cache.key
    with torch.no_grad():
        model.cut3r.pose_token.add_(1e-3)
    assert FeatureCache.open(tmp_path / "cache", model, FRAMES).key != cache.key


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\xff" * 64])
def test_a_damaged_file_is_made_anew(model, samples, cache, caplog, damage):
    extract(cache, model, samples[:1], FRAMES, workers=0, progress=False)
    path = cache.path(samples[0])
    path.write_bytes(damage(path.read_bytes()))
    assert cache.read(samples[0]) is None
    assert "is damaged" in caplog.text
    extract(cache, model, samples[:1], FRAMES, workers=0, progress=False)
    assert cache.read(samples[0]) is not None


def test_another_video_under_the_name_is_noticed(model, question_set, cache, tmp_path, caplog):
    (tmp_path / "videos/room0").mkdir(parents=True)
    for image in sorted((question_set / "videos/room0").iterdir()):
        (tmp_path / "videos/room0" / image.name).write_bytes(image.read_bytes())
    (tmp_path / "train.json").write_text((question_set / "train.json").read_text())
    (sample, *_) = read_samples(tmp_path)
    extract(cache, model, [sample], FRAMES, workers=0, progress=False)
    assert cache.read(sample) is not None
    (tmp_path / "videos/room0/000.png").unlink()
    assert cache.read(sample) is None
    assert "has changed since" in caplog.text


def write_often(cache: FeatureCache, sample, seed: int, count: int) -> None:
    from training.samples.encoding import Features

    tensors = [torch.full((2, 64, 256), float(seed)) for _ in range(3)]
    for _ in range(count):
        cache.write(sample, Features(*tensors), Times((0.0, 1.0), 1.0))


def test_writers_do_not_disturb_each_other(samples, cache):
    """What is read is whole and of one writer, at any time."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(cache, samples[0], seed, 40)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        if found := cache.read(samples[0]):
            values = {t.unique().item() for t in (found[0].siglip, found[0].camera, found[0].patch)}
            assert len(values) == 1
            reads += 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert reads
    assert not list(cache.folder.glob(".*"))


def test_packs_take_cached_features(model, samples, cache, nano_spec, make_run):
    config = make_run(frames=FRAMES)
    extract(cache, model, samples[:1], FRAMES, workers=0, progress=False)
    packs = Packs(samples, config, model.config, model.tokenizer, cache)
    loaded, plain = packs[PackSpec(0, 0, (0, 1))], Packs(samples, config, model.config, model.tokenizer)
    assert loaded.pixels is None
    assert loaded.features.siglip.shape == (FRAMES, 16, 24)
    assert loaded.pack.ids == plain[PackSpec(0, 0, (0, 1))].pack.ids
    assert packs[PackSpec(0, 0, (4, 5))].features is None  # not made yet: frames come instead
    assert packs[PackSpec(0, 0, (4, 5))].pixels is not None


# ---- published files


def test_published_files_are_read(model, own_set, make_run):
    samples = read_samples(own_set)
    pixels, _ = read_pixels(samples[0].path, FRAMES, 56)
    features = encode_video(model, pixels)
    path = published_path(samples[0])
    assert path == samples[0].root / "spatial_features/room0"
    path.parent.mkdir()
    torch.save({"camera_tokens": features.camera.half(), "patch_tokens": features.patch.half()}, path)
    camera, patch = read_published(path, FRAMES)
    assert camera.dtype == torch.float16
    torch.testing.assert_close(camera.float(), features.camera, rtol=0, atol=2**-9)
    packs = Packs(samples, make_run(features="published", frames=FRAMES), model.config, model.tokenizer)
    loaded = packs[PackSpec(0, 0, (0, 1))]
    assert torch.equal(loaded.tokens[1], patch)
    assert loaded.pixels is not None  # SigLIP's features are not in these files
    # as published: where there is no file, CUT3R is run
    without = packs[PackSpec(0, 0, (4, 5))]
    assert without.tokens is None
    assert without.fault is None
    torch.save({"camera_tokens": features.camera[:2], "patch_tokens": features.patch[:2]}, path)
    assert "made of 2 frames, 3 are sampled now" in packs[PackSpec(0, 0, (0, 1))].fault[1]


def test_published_path_replaces_as_published(samples):
    from training.samples.sample import Sample

    sample = Sample("a", samples[0].root, "scannet/videos/scene0191_00.mp4", ("q", "a"))
    assert published_path(sample) == samples[0].root / "scannet/spatial_features/scene0191_00.pt"


def test_published_files_of_other_frames_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"camera_tokens": torch.zeros(10, 1, 4), "patch_tokens": torch.zeros(10, 9, 4)}, path)
    with pytest.raises(ValueError, match="made of 10 frames, 32 are sampled now"):
        read_published(path, 32)
    torch.save({"camera_tokens": torch.zeros(10, 1, 4)}, path)
    with pytest.raises(ValueError, match="must hold camera_tokens"):
        read_published(path, 10)
    with pytest.raises(FileNotFoundError):
        read_published(tmp_path / "b.pt", 10)


# ---- command line


def test_command_line(question_set, nano_spec, tmp_path, capsys):
    words = ["--model", nano_spec, "--data", str(question_set), "--out", str(tmp_path / "c"), "--frames", "3"]
    words += ["--device", "cpu", "--workers", "0"]
    assert main([*words, "--shard", "0/2"]) == 0
    (folder,) = (tmp_path / "c").iterdir()
    assert len(list(folder.glob("*.safetensors"))) == 3
    assert main([*words, "--shard", "1/2"]) == 0
    assert len(list(folder.glob("*.safetensors"))) == 6
    assert json.loads((folder / DESCRIPTION).read_text())["frames"] == 3
    assert main([*words, "--shard", "2/2"]) == 2
    assert "--shard must be I/N" in capsys.readouterr().err


def test_unreadable_videos_are_told(question_set, nano_spec, tmp_path, capsys):
    rows = json.loads((question_set / "train.json").read_text())
    rows[0]["video"] = "videos/gone.mp4"
    (tmp_path / "d.json").write_text(json.dumps(rows))
    words = ["--model", nano_spec, "--data", str(tmp_path / "d.json"), "--videos", str(question_set)]
    words += ["--out", str(tmp_path / "c"), "--frames", "3", "--device", "cpu", "--workers", "0"]
    assert main(words) == 1
    assert "gone.mp4: clip" in capsys.readouterr().err


def test_ray_is_only_needed_where_it_is_asked_for(question_set, nano_spec, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["--model", nano_spec, "--data", str(question_set), "--out", str(tmp_path / "c"), "--ray", "2"]
    assert main(words) == 2
    assert "needs the package ray" in capsys.readouterr().err
