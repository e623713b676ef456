"""Clips on disk, a file a few flats: filmed by several processes, resumable, read in any order. Renders nothing itself.

A file appears whole under its name or not at all, and each kind of clips has a folder of its own inside the cache, so
any number of runs may fill one cache at once.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from training.pretraining.settings import TRUTHS_A_PATCH
from training.scans.simulated_clips import CLASSES, Clip, ClipSettings, film_flat
from vlm3r_core.files import whole_file, write_text

DESCRIPTION = "clips.json"
# to be raised when flats or clips change, so that no old cache is read
FORMAT = 1
# Flats of a file.
_FLATS = 8
_JPEG_QUALITY = 92

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipCache:
    """The clips of one kind.

    Args:
        folder: of this kind, inside the cache.
        settings: how they are filmed.
    """

    folder: Path
    settings: ClipSettings

    @classmethod
    def open(cls, cache: Path, settings: ClipSettings) -> ClipCache:
        """The part of a cache that belongs to these settings, made where it is not there."""
        description = {"format": FORMAT, "classes": CLASSES, "settings": asdict(settings)}
        text = json.dumps(description, indent=2) + "\n"
        folder = cache / hashlib.sha256(text.encode()).hexdigest()[:16]
        if not (folder / DESCRIPTION).is_file():
            write_text(folder / DESCRIPTION, text)
        return cls(folder, settings)

    def fill(self, first_flat: int, flats: int, *, workers: int = 1, progress: bool = True) -> ClipSet:
        """Films what is not there yet.

        Args:
            first_flat: seed of the first flat.
            flats: how many, at least 1.
            workers: processes; 0 and 1 film in this one.
            progress: show a bar with clips a second and the time left.

        Returns:
            The clips of these flats.

        Raises:
            OSError: the disk is full; the files that are there stay.
        """
        files = sorted({self._file_of(seed) for seed in range(first_flat, first_flat + flats)})
        todo = [first for first in files if not self._is_whole(first)]
        film = partial(_film_file, self)
        with tqdm(
            total=len(files) * _FLATS * self.settings.clips_per_flat,
            initial=(len(files) - len(todo)) * _FLATS * self.settings.clips_per_flat,
            unit="clip",
            desc="clips",
            file=sys.stderr,
            disable=not progress or not todo,
        ) as bar:
            for count in _spread(film, todo, workers):
                bar.update(count)
        per_flat = self.settings.clips_per_flat
        skipped = (first_flat - files[0]) * per_flat
        return ClipSet(self, tuple(files), skipped, flats * per_flat)

    def path(self, first: int) -> Path:
        """The file of a group of flats, by the seed of its first."""
        return self.folder / f"flats-{first:08d}.safetensors"

    def _file_of(self, seed: int) -> int:
        return seed - seed % _FLATS

    def _is_whole(self, first: int) -> bool:
        if not self.path(first).is_file():
            return False
        try:
            with safe_open(self.path(first), framework="np") as file:
                return len(file.get_slice("flat").get_shape()) == 1
        except (SafetensorError, OSError) as error:
            _log.warning("%s is damaged (%s); it is made anew", self.path(first), error)
            return False


@dataclass
class ClipSet:
    """Clips of a run of flats, by number.

    Args:
        cache: where they lie.
        files: first seed of each file.
        skipped: clips at the beginning of the first file that are of other flats.
        count: clips.
    """

    cache: ClipCache
    files: tuple[int, ...]
    skipped: int
    count: int
    _open: dict[int, safe_open] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict:
        # open files do not travel to other processes
        return {**self.__dict__, "_open": {}}

    def read(self, number: int, frames: Sequence[int] | None = None) -> Clip:
        """A clip, or some frames of it in the order given.

        Raises:
            IndexError: no such clip.
        """
        if not 0 <= number < self.count:
            raise IndexError(f"clip number must be in 0..{self.count - 1}, got {number}")
        group, row = divmod(number + self.skipped, _FLATS * self.cache.settings.clips_per_flat)
        first = self.files[group]
        if first not in self._open:
            self._open[first] = safe_open(self.cache.path(first), framework="np")
        file, total = self._open[first], self.cache.settings.frames
        chosen = list(range(total) if frames is None else frames)
        ends = file.get_tensor("ends")
        jpeg = file.get_slice("jpeg")
        places = [row * total + frame for frame in chosen]
        rgb = [_decode(jpeg[int(ends[place - 1]) if place else 0 : int(ends[place])]) for place in places]
        depth, classes, poses = (file.get_slice(name)[row][chosen] for name in ("depth_m", "classes", "T_WC"))
        flat, K = int(file.get_slice("flat")[row : row + 1][0]), file.get_slice("K")[row]
        return Clip(np.stack(rgb), depth.astype(np.float32), classes, poses, K, flat)


def _spread(film: partial, todo: list[int], workers: int) -> Iterator[int]:
    if workers <= 1 or len(todo) <= 1:
        yield from map(film, todo)
        return
    # a fork would share the parent's threads and its open files
    with multiprocessing.get_context("spawn").Pool(min(workers, len(todo))) as pool:
        yield from pool.imap_unordered(film, todo)


def _film_file(cache: ClipCache, first: int) -> int:
    """Films a group of flats; the number of clips."""
    clips = [clip for seed in range(first, first + _FLATS) for clip in film_flat(seed, cache.settings)]
    jpegs = [_encode(rgb) for clip in clips for rgb in clip.rgb]
    tensors = {
        "jpeg": np.frombuffer(b"".join(jpegs), np.uint8),
        "ends": np.cumsum([len(item) for item in jpegs], dtype=np.int64),
        "depth_m": np.stack([clip.depth_m for clip in clips]).astype(np.float16),
        "classes": np.stack([clip.classes for clip in clips]),
        "T_WC": np.stack([clip.T_WC for clip in clips]),
        "K": np.stack([clip.K for clip in clips]),
        "flat": np.array([clip.flat for clip in clips], np.int64),
    }
    with whole_file(cache.path(first)) as partial_path:
        save_file(tensors, partial_path)
    return len(clips)


def _encode(rgb: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()


def _decode(jpeg: np.ndarray) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg.tobytes())))


def clip_settings(config, model) -> ClipSettings:
    """How a run's clips are filmed: at the tower's own size, the same for both objectives and any number of cells.

    Args:
        config: PretrainConfig.
        model: ModelConfig.
    """
    return ClipSettings(
        frames=config.clip_frames,
        size_px=model.siglip.image_size,
        clips_per_flat=config.clips_per_flat,
        turn_deg=config.turn_deg,
        shift_m=config.shift_m,
        truth_px=model.siglip.grid * TRUTHS_A_PATCH,
    )
