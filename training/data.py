"""Samples to batches: which questions are learned together and when, and what of them the model is given.

Order is a function of samples, settings and seed alone: a run that goes on and a run on other processes see the same
steps. The model's own work, from frames to a loss, is not done here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.config import PUBLISHED_FEATURES, RunConfig
from training.features import FeatureCache
from training.packing import Pack, pack
from training.samples.encoding import Features, visual_length
from training.samples.numbers import NumberWords, said_in_words
from training.samples.published_features import published_path, read_published
from training.samples.sample import Sample, with_times
from training.samples.video import VIDEO_FAULTS, Times, read_pixels
from training.samples.workers import end_with_parent
from vlm3r_core.config import ModelConfig
from vlm3r_core.labels import conversation_ids
from vlm3r_core.prompt import Tokenizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackSpec:
    """Questions of one video that are learned together.

    Args:
        step: of the run, from 0.
        place: among the packs of the step, whoever takes it.
        samples: numbers of the samples.
    """

    step: int
    place: int
    samples: tuple[int, ...]


class Plan:
    """Which packs each step takes.

    The questions of a video are shuffled, cut into packs as even as can be, and the packs of all videos are shuffled:
    anew for each pass. What is left over at the end of a pass and does not fill a step is left out of that pass.

    Args:
        samples: all of them.
        config: batch, pack, seed.

    Raises:
        ValueError: a pass does not fill one step.
    """

    def __init__(self, samples: Sequence[Sample], config: RunConfig):
        self._config, self._words = config, [sample.words for sample in samples]
        videos: dict[tuple[Path, str], list[int]] = {}
        for number, sample in enumerate(samples):
            # where no video is shown, questions about different ones share a pack
            path = Path() if config.blind else sample.path
            videos.setdefault((path, sample.opening), []).append(number)
        self._videos = list(videos.values())
        largest = config.questions_per_pack
        self.packs = sum(-(-len(numbers) // largest) for numbers in self._videos)
        self.steps_per_epoch = self.packs // config.packs_per_step
        if not self.steps_per_epoch:
            raise ValueError(
                f"{len(samples)} samples of {len(self._videos)} videos make {self.packs} packs, a step takes "
                f"{config.packs_per_step}; lower batch_questions, or questions_per_pack with it"
            )
        self.steps = self.steps_per_epoch * config.epochs
        # a run with another order of passes would not be the one the schedule was made for
        self._order = lru_cache(maxsize=2)(self._shuffled)

    @property
    def last_step(self) -> int:
        """How many steps the run takes, which may be fewer than its schedule is laid out for."""
        config, last = self._config, self.steps
        if config.stop_after_epochs:
            last = min(last, config.stop_after_epochs * self.steps_per_epoch)
        return min(last, config.max_steps) if config.max_steps else last

    def step(self, step: int) -> list[PackSpec]:
        """The packs of a step, the shortest first where they are grouped by length."""
        epoch, within = divmod(step, self.steps_per_epoch)
        size = self._config.packs_per_step
        packs = self._order(epoch)[within * size : (within + 1) * size]
        if self._config.group_by_length:
            packs = sorted(packs, key=lambda numbers: (sum(self._words[n] for n in numbers), numbers))
        return [PackSpec(step, place, numbers) for place, numbers in enumerate(packs)]

    def share(self, start: int, rank: int, processes: int) -> Iterator[PackSpec]:
        """What one process takes from a step on: of neighbours in length, each process gets one."""
        for step in range(start, self.last_step):
            yield from self.step(step)[rank::processes]

    @property
    def questions(self) -> int:
        """About how many questions the run learns from; which are left over at the end of a pass is drawn later."""
        return round(self.last_step * self._config.packs_per_step * len(self._words) / self.packs)

    def _shuffled(self, epoch: int) -> list[tuple[int, ...]]:
        rng = np.random.default_rng((self._config.seed, epoch))
        packs = []
        for numbers in self._videos:
            pieces = -(-len(numbers) // self._config.questions_per_pack)
            packs += [tuple(map(int, piece)) for piece in np.array_split(rng.permutation(numbers), pieces)]
        return [packs[index] for index in rng.permutation(len(packs))]


@dataclass(frozen=True)
class LoadedPack:
    """A pack ready for the model, or why there is none.

    Args:
        spec: what was asked for.
        pack: token ids, positions and targets; None where the video cannot be read or no question is left.
        pixels: float32 [F, 3, H, W], where SigLIP is to be run.
        features: of a video whose encoders were run before.
        tokens: CUT3R's camera and patch tokens from a published file.
        times: when the frames were taken.
        fault: (what, why) where something could not be read.
        too_long: samples that are longer than the model may read, and left out.
    """

    spec: PackSpec
    pack: Pack | None = None
    pixels: Tensor | None = None
    features: Features | None = None
    tokens: tuple[Tensor, Tensor] | None = None
    times: Times | None = None
    fault: tuple[str, str] | None = None
    too_long: tuple[str, ...] = ()


class Packs(Dataset):
    """Reads packs; a copy of it works in every reading process.

    Args:
        samples: all of them; none is ever changed.
        config: the run's.
        model_config: sizes of frames and tokens.
        tokenizer: the model's.
        cache: of features; None where encoders run every time.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        config: RunConfig,
        model_config: ModelConfig,
        tokenizer: Tokenizer,
        cache: FeatureCache | None = None,
    ):
        self._samples, self._config, self._model = samples, config, model_config
        self._tokenizer, self._cache = tokenizer, cache
        self._words = NumberWords(tokenizer) if tokenizer.numbers else None

    def __getitem__(self, spec: PackSpec) -> LoadedPack:
        if self._config.blind:
            return self._packed(spec)
        first = self._samples[spec.samples[0]]
        try:
            inputs = self._read(first)
        except VIDEO_FAULTS as error:
            return LoadedPack(spec, fault=(str(first.path), str(error)))
        return self._packed(spec, **inputs)

    def _read(self, sample: Sample) -> dict:
        """The video, or what was made of it."""
        if self._cache and (found := self._cache.read(sample)):
            return {"features": found[0], "times": found[1]}
        pixels, times = read_pixels(sample.path, self._config.frames, self._model.siglip.image_size)
        inputs = {"pixels": pixels, "times": times}
        if self._config.features == PUBLISHED_FEATURES and (path := published_path(sample)).is_file():
            inputs["tokens"] = read_published(path, len(pixels))
        return inputs

    def _packed(self, spec: PackSpec, times: Times | None = None, **inputs) -> LoadedPack:
        instruction = times.instruction if times and self._config.time_instruction else ""
        length = visual_length(self._model, len(times.seconds)) if times else 0
        talks, too_long = [], []
        for number in spec.samples:
            sample = self._samples[number]
            turns = said_in_words(with_times(sample, instruction), self._words)
            talk = conversation_ids(self._tokenizer, turns, self._config.labels)
            if len(talk[0]) - 1 + length > self._config.max_length:
                too_long.append(sample.id)
            else:
                talks.append(talk)
        loaded = LoadedPack(spec, times=times, too_long=tuple(too_long), **inputs)
        if not talks:
            why = f"its {len(too_long)} questions are longer than max_length {self._config.max_length}"
            return LoadedPack(spec, fault=(str(self._samples[spec.samples[0]].path), why), too_long=tuple(too_long))
        return LoadedPack(**{**vars(loaded), "pack": pack(talks, length)})


def load_packs(packs: Packs, specs: Iterator[PackSpec], workers: int) -> Iterator[LoadedPack]:
    """Packs in the order they are asked for, read ahead by worker processes.

    Args:
        packs: what reads them.
        specs: in order.
        workers: reading processes; 0 reads here. The order and what is read do not depend on it.
    """
    loader = DataLoader(
        packs,
        batch_size=None,
        sampler=_Specs(specs),
        num_workers=workers,
        collate_fn=_as_is,
        worker_init_fn=end_with_parent,
        prefetch_factor=2 if workers else None,
    )
    yield from loader


class _Specs:
    """What a DataLoader calls a sampler."""

    def __init__(self, specs: Iterator[PackSpec]):
        self._specs = specs

    def __iter__(self) -> Iterator[PackSpec]:
        return iter(self._specs)


def _as_is(item):
    return item


def missing_videos(samples: Sequence[Sample], features: bool) -> list[str]:
    """Videos that are not there, found without opening any; with features kept on disk they need not be.

    Raises:
        FileNotFoundError: none of them is there.
    """
    videos = dict.fromkeys(sample.path for sample in samples)
    missing = [str(path) for path in videos if not path.exists()]
    if len(missing) == len(videos) and not features:
        raise FileNotFoundError(
            f"none of the {len(videos)} videos is there, the first is {missing[0]}; --videos names the folder that "
            "their paths are relative to"
        )
    if missing and not features:
        _log.warning("%d of %d videos are not there, the first is %s", len(missing), len(videos), missing[0])
    return missing
