"""Features of the frozen encoders, kept on disk a file a video: `python -m training.features`. Trains nothing.

A cache belongs to weights, preprocessing and sampling; with others it is not read. Any number of processes may write to
it at once, without locks: a file appears whole, under its name, or not at all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from training.samples.encoding import Features, describe_encoders, encode_videos
from training.samples.mixture import read_samples
from training.samples.sample import Sample
from training.samples.video import VIDEO_FAULTS, Times, read_pixels
from vlm3r_core.checkpoint.saved import to_json
from vlm3r_core.loading import load
from vlm3r_core.model.vlm3r import VLM3R

DESCRIPTION = "features.json"
_FIELDS = ("siglip", "camera", "patch")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureCache:
    """The features that one set of encoders made.

    Args:
        folder: of these encoders, inside the cache.
        key: hash of the encoders' description.
    """

    folder: Path
    key: str

    @classmethod
    def open(cls, cache: Path, model: VLM3R, frames: int) -> FeatureCache:
        """The part of a cache that fits; what others made is left alone, and said.

        Args:
            cache: folder of the cache, made where it is not there.
            model: whose encoders.
            frames: sampled from a video.
        """
        description = describe_encoders(model, frames)
        key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
        folder = cache / key
        if not folder.is_dir():
            for other in sorted(cache.glob(f"*/{DESCRIPTION}")):
                theirs = json.loads(other.read_text(encoding="utf-8"))
                differs = [name for name in description if theirs.get(name) != description[name]]
                _log.warning(
                    "the features in %s are not used: they were made with other %s; new ones go to %s",
                    other.parent,
                    ", ".join(differs),
                    folder,
                )
            folder.mkdir(parents=True, exist_ok=True)
            _write_whole(folder / DESCRIPTION, to_json(description).encode())
        return cls(folder, key)

    def path(self, sample: Sample) -> Path:
        """Where the features of a sample's video lie: its name, and a hash of its path below the data's folder."""
        digest = hashlib.sha256(Path(sample.video).as_posix().encode()).hexdigest()[:12]
        return self.folder / f"{Path(sample.video).stem}-{digest}.safetensors"

    def read(self, sample: Sample) -> tuple[Features, Times] | None:
        """A video's features, mapped from their file; None where they are to be computed (anew)."""
        path = self.path(sample)
        if not path.is_file():
            return None
        try:
            file = safe_open(path, framework="pt")
            facts = file.metadata() or {}
            tensors = [file.get_tensor(name) for name in _FIELDS]
            times = Times(tuple(json.loads(facts["times_s"])), json.loads(facts["duration_s"]))
        except (SafetensorError, KeyError, ValueError) as error:
            _log.warning("%s is damaged (%s); it is made anew", path, error)
            return None
        if facts.get("key") != self.key:
            _log.warning(
                "%s was made by other encoders (%s, not %s); it is made anew", path, facts.get("key"), self.key
            )
            return None
        size = _video_bytes(sample.path)
        if size >= 0 and facts.get("video_bytes") != str(size):
            _log.warning("%s has changed since its features were made; they are made anew", sample.path)
            return None
        return Features(*tensors), times

    def write(self, sample: Sample, features: Features, times: Times) -> None:
        """Keeps a video's features; who comes second replaces them by the same."""
        facts = {
            "key": self.key,
            "video": sample.video,
            "video_bytes": str(_video_bytes(sample.path)),
            "times_s": json.dumps(times.seconds),
            "duration_s": json.dumps(times.duration_s),
        }
        tensors = {name: getattr(features, name).detach().cpu().contiguous() for name in _FIELDS}
        _write_whole(self.path(sample), save(tensors, metadata=facts))


def _video_bytes(path: Path) -> int:
    """Size of a video, a folder's with its files; -1 where it is gone, which features survive."""
    if path.is_dir():
        return sum(item.stat().st_size for item in path.iterdir() if item.is_file())
    return path.stat().st_size if path.is_file() else -1


def _write_whole(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written ({error}); free some room, what is there already stays") from error


class _Videos(Dataset):
    """Reads videos in worker processes; (sample, pixels, times) or (sample, None, what is wrong)."""

    def __init__(self, samples: Sequence[Sample], frames: int, size: int):
        self.samples, self.frames, self.size = samples, frames, size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Sample, Tensor | None, Times | str]:
        try:
            return self.samples[index], *read_pixels(self.samples[index].path, self.frames, self.size)
        except VIDEO_FAULTS as error:
            return self.samples[index], None, str(error)


def extract(
    cache: FeatureCache,
    model: VLM3R,
    samples: Sequence[Sample],
    frames: int,
    *,
    workers: int = 2,
    together: int = 16,
    progress: bool = True,
) -> dict[str, str]:
    """Makes the features of every video that has none yet.

    Args:
        cache: where to.
        model: whose encoders.
        samples: whose videos; several may name the same.
        frames: sampled from a video.
        workers: processes that read videos; 0 reads here.
        together: videos that are encoded at once.
        progress: show a bar.

    Returns:
        What is wrong with each video that could not be read, by its path.
    """
    videos = list({sample.path: sample for sample in samples}.values())
    todo = [sample for sample in videos if cache.read(sample) is None]
    _log.info("%d of %d videos have features in %s", len(videos) - len(todo), len(videos), cache.folder)
    loader = DataLoader(
        _Videos(todo, frames, model.config.siglip.image_size),
        batch_size=None,
        num_workers=min(workers, len(todo)),
        collate_fn=_as_is,
    )
    unreadable, waiting = {}, []

    def encode() -> None:
        pixels = [pixels for _, pixels, _ in waiting]
        for (sample, _, times), features in zip(waiting, encode_videos(model, pixels), strict=True):
            cache.write(sample, features, times)
        waiting.clear()

    for sample, pixels, times in _shown(loader, len(todo), progress):
        if pixels is None:
            unreadable[str(sample.path)] = times
            _log.warning("no features of %s: %s", sample.path, times)
            continue
        if waiting and (len(waiting) == together or len(waiting[0][1]) != len(pixels)):
            encode()
        waiting.append((sample, pixels, times))
    if waiting:
        encode()
    return unreadable


def _shown(items: Iterator, total: int, progress: bool) -> Iterator:
    return tqdm(items, total=total, unit="video", desc="features", file=sys.stderr, disable=not progress)


def _as_is(item):
    return item


def _share(arguments: argparse.Namespace, shard: int, shards: int) -> dict[str, str]:
    """One process's share of the videos."""
    model = load(arguments.model, arguments.device, arguments.dtype)
    samples = read_samples(arguments.data, arguments.videos)
    videos = list({sample.path: sample for sample in samples}.values())[shard::shards]
    cache = FeatureCache.open(arguments.out, model, arguments.frames)
    return extract(cache, model, videos, arguments.frames, workers=arguments.workers)


def _on_ray(arguments: argparse.Namespace) -> dict[str, str]:
    """Shares the videos among the machines of a Ray cluster, all of which see the same folders."""
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "--ray needs the package ray, which is not installed; install it, or start several processes with --shard"
        ) from error
    ray.init(address=os.environ.get("RAY_ADDRESS"), ignore_reinit_error=True)
    # by its module's name: what belongs to a script would be sent with all it refers to, which cannot be sent
    from training.features import _share as share

    remote = ray.remote(num_cpus=1 + arguments.workers, num_gpus=int(arguments.device.startswith("cuda")))(share)
    found = ray.get([remote.remote(arguments, shard, arguments.ray) for shard in range(arguments.ray)])
    return {path: reason for share in found for path, reason in share.items()}


def main(words: Sequence[str] | None = None) -> int:
    """The command line; 1 where a video could not be read, 2 where nothing could be done."""
    parser = argparse.ArgumentParser(prog="python -m training.features", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="model spec whose encoders run")
    parser.add_argument("--data", required=True, type=Path, help="question set folder or mixture")
    parser.add_argument("--out", required=True, type=Path, help="folder of the cache")
    parser.add_argument("--videos", type=Path, help="folder the videos' paths are relative to")
    parser.add_argument("--frames", type=int, default=32, help="sampled from a video; as the run's")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--workers", type=int, default=2, help="processes that read videos")
    parser.add_argument("--threads", type=int, default=1, help="of this process; give several shards before threads")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="this process's share of the videos")
    parser.add_argument(
        "--ray", type=int, default=0, metavar="N", help="run N shares on a Ray cluster, with --device cuda a GPU each"
    )
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    torch.set_num_threads(arguments.threads)
    try:
        unreadable = _on_ray(arguments) if arguments.ray else _share(arguments, *_shard(arguments.shard))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path, reason in unreadable.items():
        print(f"unreadable {path}: {reason}", file=sys.stderr)
    return int(bool(unreadable))


def _shard(text: str) -> tuple[int, int]:
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or int(parts[0]) >= int(parts[1]):
        raise ValueError(f"--shard must be I/N with 0 <= I < N, got {text!r}")
    return int(parts[0]), int(parts[1])


if __name__ == "__main__":
    sys.exit(main())
