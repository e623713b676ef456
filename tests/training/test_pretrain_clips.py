"""Clips for pre-training: what they show is consistent, and the cache is resumable whatever happened to it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from training.pretraining.batches import TrainBatches, as_batch, mirrored
from training.pretraining.clips import ClipCache, clip_settings
from training.pretraining.losses import true_points
from training.pretraining.settings import PretrainConfig
from training.scans.simulated_clips import BACKGROUND, CLASSES, ClipSettings, film_flat, sampled_pixels
from vlm3r_core.config import MODEL_PRESETS

SMALL = ClipSettings(frames=4, size_px=48, truth_px=24, clips_per_flat=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return ClipCache.open(tmp_path_factory.mktemp("clips"), SMALL).fill(2, 12, progress=False)


def hashes(folder) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}


def test_frames_show_one_world_from_their_poses():
    """Points seen in one frame lie, in the next, where that frame's own depth says; hidden ones aside."""
    settings = replace(SMALL, turn_deg=10.0, size_px=96, truth_px=96, frames=3)
    for clip in film_flat(5, settings):
        batch = as_batch(clip, 96)
        _, world = true_points(batch.depth_m, batch.rays, torch.from_numpy(clip.T_WC).float()[None])
        points = world[0, 0].reshape(-1, 3).double().numpy()
        seen = (points - clip.T_WC[1, :3, 3]) @ clip.T_WC[1, :3, :3]
        u, v = ((seen @ clip.K.T)[:, :2] / seen[:, 2:]).T
        inside = (seen[:, 2] > 0.1) & (u >= 0) & (u < 96) & (v >= 0) & (v < 96)
        assert inside.sum() > 2000
        depth = clip.depth_m[1][v[inside].astype(int), u[inside].astype(int)]
        assert (np.abs(depth - seen[inside, 2]) < 0.05 * depth + 0.03).mean() > 0.9


def test_a_flat_gives_the_same_clips_and_another_other_ones():
    one, again, other = (next(film_flat(seed, SMALL)) for seed in (3, 3, 4))
    assert np.array_equal(one.rgb, again.rgb)
    assert np.array_equal(one.T_WC, again.T_WC)
    assert not np.array_equal(one.rgb, other.rgb)


def test_ways_are_short_and_turns_as_asked():
    settings = replace(SMALL, frames=16, size_px=14, truth_px=2, clips_per_flat=6, way_back=0.0)
    for clip in film_flat(11, settings):
        t, R = clip.T_WC[:, :3, 3], clip.T_WC[:, :3, :3]
        assert np.linalg.norm(t[-1] - t[0]) <= settings.shift_m + 1e-9
        turns = np.degrees(np.arccos(np.clip((np.einsum("fij,fij->f", R[1:], R[:-1]) - 1) / 2, -1, 1)))
        assert 12 < turns.mean() < 28


def test_clips_show_rooms_and_things(clips):
    seen = {CLASSES[number] for index in range(len(clips)) for number in np.unique(clips.read(index).classes)}
    assert {"floor", "wall"} <= seen
    assert len(seen - set(BACKGROUND)) >= 5
    assert "nothing" not in seen


def test_set_holds_the_flats_asked_for(clips):
    assert [clips.read(number).flat for number in range(len(clips))] == list(range(2, 14))
    with pytest.raises(IndexError, match=r"0\.\.11, got 12"):
        clips.read(12)


def test_what_is_read_is_what_was_filmed(clips):
    filmed, read = next(film_flat(9, SMALL)), clips.read(7)
    assert np.abs(filmed.rgb.astype(int) - read.rgb).mean() < 4  # JPEG
    assert np.allclose(filmed.depth_m, read.depth_m, rtol=1e-3)  # half precision
    assert np.array_equal(filmed.classes, read.classes)
    assert np.array_equal(filmed.T_WC, read.T_WC)
    some = clips.read(7, (2, 0))
    assert np.array_equal(some.rgb, read.rgb[[2, 0]])
    assert np.array_equal(some.T_WC, read.T_WC[[2, 0]])


def test_damaged_and_missing_files_are_filmed_again_and_whole_ones_stay(tmp_path):
    settings = replace(SMALL, frames=2, size_px=16, truth_px=8)
    cache = ClipCache.open(tmp_path, settings)
    cache.fill(0, 24, progress=False)
    before = hashes(cache.folder)
    assert len(before) == 3
    os.truncate(cache.path(0), 1000)
    cache.path(8).unlink()
    kept = cache.path(16).stat().st_mtime_ns
    ClipCache.open(tmp_path, settings).fill(0, 24, workers=2, progress=False)
    assert hashes(cache.folder) == before
    assert cache.path(16).stat().st_mtime_ns == kept
    assert ClipCache.open(tmp_path, replace(settings, turn_deg=5.0)).folder != cache.folder


def test_sampled_pixels_are_the_middles():
    assert sampled_pixels(6, 2).tolist() == [1, 4]
    assert sampled_pixels(5, 5).tolist() == [0, 1, 2, 3, 4]


def test_a_mirror_shows_the_mirrored_world(clips):
    batch = as_batch(clips.read(0), SMALL.size_px)
    there = mirrored(batch)
    own, world = true_points(batch.depth_m, batch.rays, batch.T_WC)
    own_there, world_there = true_points(there.depth_m, there.rays, there.T_WC)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.allclose(own_there.flip(3), own * flip, atol=1e-5)
    assert torch.allclose(world_there.flip(3), world * flip, atol=1e-4)
    assert torch.allclose(torch.linalg.det(there.T_WC), torch.ones(1, 4), atol=1e-5)


def test_the_first_camera_is_the_world(clips):
    batch = as_batch(clips.read(3, (2, 1, 0)), SMALL.size_px)
    assert torch.allclose(batch.T_WC[0, 0], torch.eye(4), atol=1e-6)
    assert batch.pixels.shape == (1, 3, 3, 48, 48)


def test_steps_follow_from_seed_and_number(clips):
    config = PretrainConfig(
        siglip_input=False, batch_clips=4, clip_frames=4, train_frames=2, steps=10, flats=12, clips_per_flat=1
    )
    batches = TrainBatches(clips, config)
    assert torch.equal(batches[3].pixels, TrainBatches(clips, config)[3].pixels)
    assert not torch.equal(batches[3].pixels, batches[2].pixels)
    assert batches[0].pixels.shape[:2] == (4, 2)
    shares = [TrainBatches(clips, config, rank, 2)[3].T_WC for rank in (0, 1)]
    assert torch.equal(torch.cat(shares), batches[3].T_WC)
    with pytest.raises(ValueError, match="multiple of the 3 processes"):
        TrainBatches(clips, config, 0, 3)


def test_both_objectives_share_clips():
    config = SimpleNamespace(clip_frames=16, clips_per_flat=4, turn_deg=20.0, shift_m=0.8)
    settings = clip_settings(config, MODEL_PRESETS["tiny-random"])
    assert (settings.size_px, settings.truth_px) == (168, 144)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="truth_px must be at most"):
        ClipSettings(size_px=14, truth_px=15)
    with pytest.raises(ValueError, match=r"least_height_m 1\.9 must be at most"):
        ClipSettings(least_height_m=1.9)
