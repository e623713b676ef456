"""What a small language model learns beside answers, in training only: where named things are, what patches show.

Parameters here are no part of the model; checkpoints hold them, exports do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import RunConfig
from training.packing import Pack
from training.qa.files import SCENES
from training.qa.mentions import read_mentions
from training.samples.encoding import Features
from training.samples.numbers import NumberWords
from training.samples.sample import Sample
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import Tokenizer

# How many, x, y, z, longest side, first seen, x and z from the last view, as mentions tell them; divided by these all
# are of the order of one.
_MENTION_SCALES = (2.0, 2.0, 2.0, 2.0, 1.0, 0.5, 2.0, 2.0)
_WORLD_SCALE_M = 2.0
_PAIR_SCALE_M = 2.0
# What a patch that shows no thing counts beside one that shows nothing else.
_PLAIN_PATCH = 0.25
_SHARPNESS = 10.0


class Teachers(Protocol):
    """What pre-training's heads read from the encoders' tokens."""

    names: Sequence[str]

    def classes(self, siglip: Tensor) -> Tensor:
        """How much of each class a patch shows: [F, P, C] to shares [F, P, names]."""

    def world(self, camera: Tensor, patch: Tensor) -> Tensor:
        """Where patches are: [F, 1, S] and [F, P, S] to points [F, P, 3], metres."""


# Reads the teachers beside a folder of encoders.
ReadTeachers = Callable[[str, VLM3R], Teachers]


class Aids(nn.Module):
    """The aids a run asks for; each is a loss.

    Args:
        model: of the run.
        config: weights of the aids; those of weight 0 are left out.
        samples: whose things are named.
        read_teachers: of alignment.

    Raises:
        FileNotFoundError, ValueError: what an aid learns from is not there, or the tokenizer has no words.
    """

    def __init__(
        self,
        model: VLM3R,
        config: RunConfig,
        samples: Sequence[Sample],
        read_teachers: ReadTeachers | None = None,
    ):
        super().__init__()
        self.watched = config.grounding_layer if config.grounding_weight or config.pair_weight else None
        self.soft_numbers = None
        if config.soft_numbers:
            words = NumberWords(model.tokenizer)
            self.soft_numbers = words.soft_targets(model.config.language.vocab_size, config.soft_numbers)
        width = model.config.language.hidden_size
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            named = _Named(model.tokenizer, samples) if self.watched is not None else None
            self.grounding = _Grounding(named, width) if config.grounding_weight else None
            self.pairs = _Pairs(named, width) if config.pair_weight else None
            self.alignment = None
            if config.align_weight:
                if read_teachers is None:
                    raise ValueError("alignment needs what reads its teachers; start the run by training.train")
                self.alignment = _Alignment(model.tokenizer, read_teachers(config.teachers, model), width)
        self._weights = {
            "grounding": config.grounding_weight,
            "pairs": config.pair_weight,
            "alignment": config.align_weight,
        }
        self.to(model.device)

    def losses(
        self, model: VLM3R, pack: Pack, sample: Sample, features: Features, projected: Tensor, seen: Tensor | None
    ) -> dict[str, Tensor]:
        """The losses of a pack.

        Args:
            model: of the run.
            pack: its tokens.
            sample: one of its questions.
            features: of its video.
            projected: [F, P, D], what the projector makes of them.
            seen: [L, D] behind `watched` layers; None where none are.

        Returns:
            Each by its name; scalars, float32.
        """
        found = {}
        if self.grounding is not None:
            found["grounding"] = self.grounding(pack, sample, seen)
        if self.pairs is not None:
            found["pairs"] = self.pairs(pack, sample, seen)
        if self.alignment is not None:
            found["alignment"] = self.alignment(model, features, projected)
        return found

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The answers' loss and the aids', each with its weight."""
        return sum(self._weights.get(name, 1.0) * loss for name, loss in losses.items())


class _Named:
    """The words of a pack that name categories of which something is known."""

    def __init__(self, tokenizer: Tokenizer, samples: Sequence[Sample]):
        self._truth = _read_truth(samples)
        names = sorted({category for truth in self._truth.values() for category in truth})
        self._number = _tokens(tokenizer, names)

    def find(self, pack: Pack, sample: Sample) -> list[tuple[int, str, tuple[float, ...]]]:
        """Place behind the shared beginning, name and truth of each, in order."""
        truth = self._truth.get((sample.root, sample.video), {})
        start, end = pack.visual
        found = []
        for index, token in enumerate(pack.ids):
            place = index if index < start else index + end - start - 1
            name = self._number.get(token)
            if place >= pack.prefix and name in truth:
                found.append((place, name, truth[name]))
        return found


class _Grounding(nn.Module):
    """At every word that names a category: where it is, now too, how large, how many there are, when first seen."""

    def __init__(self, named: _Named, width: int):
        super().__init__()
        self._named = named
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, len(_MENTION_SCALES)))

    def forward(self, pack: Pack, sample: Sample, seen: Tensor) -> Tensor:
        found = self._named.find(pack, sample)
        wanted = [[value / scale for value, scale in zip(truth, _MENTION_SCALES, strict=True)] for *_, truth in found]
        return _known_loss(self.head, seen, [place for place, *_ in found], wanted)


class _Pairs(nn.Module):
    """At every further word that names a single thing: how far it is from another such thing, and on which side.

    The other one is the first that was named; for a name that comes again, as in options, the only one that does not.
    With three things, the third is seen from the first, facing the second.
    """

    def __init__(self, named: _Named, width: int):
        super().__init__()
        self._named = named
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 3))

    def forward(self, pack: Pack, sample: Sample, seen: Tensor) -> Tensor:
        talks: dict[int, list[tuple[int, str, np.ndarray]]] = {}
        segment = pack.segment.tolist()
        for place, name, truth in self._named.find(pack, sample):
            talks.setdefault(segment[place], []).append((place, name, np.array(truth[1:4])))
        found = [pair for talk in talks.values() for pair in _pairs(talk)]
        return _known_loss(self.head, seen, [place for place, _ in found], [values for _, values in found])


def _pairs(talk: list[tuple[int, str, np.ndarray]]) -> Iterator[tuple[int, tuple[float, float, float]]]:
    """Places of words with (distance, cosine and sine of the side) where they are known, NaN elsewhere."""
    names = [name for _, name, _ in talk]
    once = [at for _, name, at in talk if names.count(name) == 1]
    for number, (place, name, at) in enumerate(talk[1:], 1):
        again = name in names[:number]
        if again and len(once) != 1:
            continue
        other = once[0] if again else talk[0][2]
        side = _side(*(at for _, _, at in talk)) if number == 2 and len(talk) == 3 else (math.nan, math.nan)
        yield place, (float(np.linalg.norm(at - other)) / _PAIR_SCALE_M, *side)


def _side(stand: np.ndarray, facing: np.ndarray, asked: np.ndarray) -> tuple[float, float]:
    """Cosine and sine of the turn to what is asked about, right positive; the camera's x and z are level enough."""
    ahead, there = ((at - stand)[[0, 2]] for at in (facing, asked))
    lengths = np.linalg.norm(ahead) * np.linalg.norm(there)
    if not lengths > 0:
        return math.nan, math.nan
    return float(ahead @ there / lengths), float((ahead[1] * there[0] - ahead[0] * there[1]) / lengths)


def _known_loss(head: nn.Module, seen: Tensor, places: Sequence[int], wanted: Sequence[Sequence[float]]) -> Tensor:
    """Smooth absolute error of what a head reads at some places, over the numbers that are known."""
    if not places:
        return seen.new_zeros(())
    target = torch.tensor(wanted, device=seen.device)
    said = head(F.layer_norm(seen[list(places)], seen.shape[-1:])).float()
    known = target.isfinite()
    losses = F.smooth_l1_loss(said, target.nan_to_num(0.0), reduction="none", beta=0.2) * known
    return losses.sum() / known.sum().clamp(min=1)


class _Alignment(nn.Module):
    """Each projected visual token points to the word of what its patch shows, and tells where that is."""

    def __init__(self, tokenizer: Tokenizer, teachers: Teachers, width: int):
        super().__init__()
        # not a submodule: it learns nothing
        self._teachers = [teachers]
        tokens = _tokens(tokenizer, teachers.names)
        place = {name: number for number, name in enumerate(teachers.names)}
        named = sorted((place[name], token) for token, name in tokens.items())
        self._columns = [column for column, _ in named]
        self._rest = [column for column in range(len(place)) if column not in self._columns]
        self.register_buffer("_words", torch.tensor([token for _, token in named]), persistent=False)
        # what has no word
        self.other = nn.Parameter(torch.randn(1, width))
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS))
        self.place = nn.Linear(width, 3)

    def forward(self, model: VLM3R, features: Features, projected: Tensor) -> Tensor:
        teachers, width = self._teachers[0], projected.shape[-1:]
        shares = teachers.classes(features.siglip)
        shares = torch.cat([shares[..., self._columns], shares[..., self._rest].sum(-1, keepdim=True)], dim=-1)
        tokens = F.normalize(projected.float(), dim=-1)
        words = F.normalize(torch.cat([model.language.embed(self._words), self.other]).float(), dim=-1)
        scores = (self.sharpness * tokens @ words.T).log_softmax(-1)
        weights = _PLAIN_PATCH + 1 - shares[..., -1]
        classes = -((shares * scores).sum(-1) * weights).sum() / weights.sum()
        if not features.patch.numel():
            return classes
        where = teachers.world(features.camera, features.patch) / _WORLD_SCALE_M
        said = self.place(F.layer_norm(projected, width)).float()
        return classes + F.smooth_l1_loss(said, where, beta=0.2)


def _tokens(tokenizer: Tokenizer, names: Sequence[str]) -> dict[int, str]:
    """Names that are one token each, by the token.

    Raises:
        ValueError: there are none.
    """
    found = {ids[0]: name for name in names if len(ids := tokenizer.encode(name)) == 1}
    if not found:
        raise ValueError(
            f"none of {', '.join(list(names)[:5])} is one token; grounding and alignment need a tokenizer that "
            "`python -m training.make_tokenizer --kind superwords` makes, and question sets with scenes"
        )
    return found


def _read_truth(samples: Sequence[Sample]) -> dict[tuple[Path, str], dict[str, tuple[float, ...]]]:
    """What is known of each video's things, by the video."""
    roots = dict.fromkeys(sample.root for sample in samples)
    lacking = [str(root) for root in roots if not (root / SCENES).is_file()]
    if lacking:
        raise FileNotFoundError(
            f"{', '.join(lacking)} has no {SCENES}, from which words are grounded; train on question sets of "
            "training.make_qa, or with --grounding_weight 0"
        )
    return {(root, video): truth for root in roots for video, truth in read_mentions(root).items()}
