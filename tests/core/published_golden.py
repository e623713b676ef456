"""The published model at small size: its files, the numbers recorded from it, and our model filled from them."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import Tensor

from vlm3r_core.checkpoint.fill import fill_weights
from vlm3r_core.checkpoint.published import Published
from vlm3r_core.config import ModelConfig, StreamConfig
from vlm3r_core.loading import build
from vlm3r_core.model.vlm3r import VLM3R, Encoded
from vlm3r_core.preprocess import to_pixels
from vlm3r_core.prompt import Tokenizer
from vlm3r_core.stream.engine import StreamEngine
from vlm3r_core.types import Frame

SETS = ("odd", "even")


def spec_of(folder: Path, **other: Path) -> str:
    """The model spec of a set of golden files, with other paths for some parts."""
    parts = {"base": "base", "adapter": "adapter", "cut3r": "cut3r.pth", "sizes": "tower_config.json"}
    return ",".join(f"{name}={other.get(name, folder / path)}" for name, path in parts.items())


def load_published(spec: str, half: bool = True) -> VLM3R:
    """Like vlm3r_core.load on the CPU in float32, with the published half rounding on or off."""
    published = Published.parse(spec)
    config = published.config()
    config = replace(config, cut3r=replace(config.cut3r, rope_half_rounding=half))
    model = build(config, torch.device("cpu"), torch.float32)
    fill_weights(model, published)
    return model


def variant(model: VLM3R, **changes) -> VLM3R:
    """The same weights under a changed configuration."""
    twin = copy.copy(model)
    twin.config = replace(model.config, **changes)
    return twin


@dataclass(frozen=True, eq=False)
class Golden:
    """One set of recorded numbers and our model for it."""

    name: str
    half: bool
    model: VLM3R
    tokenizer: Tokenizer
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    facts: dict

    @classmethod
    def read(cls, folder: Path, half: bool, model: VLM3R | None = None) -> Golden:
        """A set of numbers; the model is filled from the published files unless another way to it is given."""
        spec = spec_of(folder)
        return cls(
            name=folder.name,
            half=half,
            model=model or load_published(spec, half),
            tokenizer=Tokenizer(Published.parse(spec).tokenizer_path),
            inputs=load_file(folder / "inputs.safetensors"),
            outputs=load_file(folder / ("outputs.safetensors" if half else "outputs_fp32rope.safetensors")),
            facts=json.loads((folder / "meta.json").read_text()),
        )

    @cache  # noqa: B019 (as many as there are sets of frames, kept as long as the tests)
    def encoded(self, name: str) -> Encoded:
        """What the model, as configured, makes of one of the recorded clips."""
        return self.model.encode(self.pixels(name))

    def pixels(self, name: str) -> Tensor:
        """A recorded clip as SigLIP takes it, [F, 3, H, W]."""
        return torch.stack([to_pixels(frame.numpy(), self.config.siglip.image_size) for frame in self.inputs[name]])

    def run(self, prefix: str) -> dict[str, Tensor]:
        """What was recorded under a prefix, without it; stages only, no stage's variants."""
        found = {name.removeprefix(prefix): t for name, t in self.outputs.items() if name.startswith(prefix)}
        return {name: tensor for name, tensor in found.items() if "." not in name}

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def video(self) -> SimpleNamespace:
        return SimpleNamespace(**self.facts["video"])


def watched(golden: Golden, frames: Tensor, model: VLM3R | None = None) -> StreamEngine:
    """A stream that has seen recorded frames, a second apart."""
    engine = StreamEngine(model or golden.model, StreamConfig(), golden.tokenizer)
    for second, frame in enumerate(frames):
        assert engine.push(Frame(frame.numpy(), stamp_ns=second * 10**9))
    return engine
