"""Our own model folder: sharded safetensors and all a model needs beside them. The published files: fill.py."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from vlm3r_core.checkpoint.published import read_json
from vlm3r_core.checkpoint.tensor_files import Stored, open_tensors, sha256
from vlm3r_core.config import ModelConfig
from vlm3r_core.model.quantized import (
    PIECES,
    QuantizedLinear,
    check_quantization,
    is_quantized_weight,
    piece_shapes,
    quantize_weight,
    replace_layer,
)
from vlm3r_core.model.vlm3r import VLM3R

DESCRIPTION = "vlm3r.json"
TOKENIZER = "tokenizer.json"
FORMAT = 1
_LISTED = 12


def skeleton(config: ModelConfig) -> VLM3R:
    """The network with its buffers but without memory for its parameters, frozen and in evaluation mode."""
    hook = register_module_parameter_registration_hook(_on_meta)
    try:
        model = VLM3R(config)
    finally:
        hook.remove()
    return model.eval().requires_grad_(False)


def _on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
    return None if parameter is None else nn.Parameter(parameter.to("meta"), requires_grad=False)


def stored_shapes(model: nn.Module, quantize: str | None, dtype: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Key -> (shape, dtype) of every tensor that a folder of a model holds; a tensor with two names has one."""
    expected: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, parameter in model.named_parameters():
        if quantize and is_quantized_weight(name):
            pieces = piece_shapes(quantize, tuple(parameter.shape))
            expected |= {f"{name}.{piece}": facts for piece, facts in pieces.items()}
        else:
            expected[name] = (tuple(parameter.shape), dtype)
    return expected


@dataclass(frozen=True)
class Saved:
    """A model folder of ours.

    Args:
        folder: holds vlm3r.json, tokenizer.json and the shards.
        description: what vlm3r.json says.
    """

    folder: Path
    description: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Saved:
        """Reads a folder's description.

        Raises:
            FileNotFoundError: it has none.
            ValueError: it was written in another format, or says too little.
        """
        path = folder / DESCRIPTION
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} holds no model of ours: it has no {DESCRIPTION}; make one with "
                "`python -m vlm3r_core.weights convert SPEC OUT`"
            )
        description = read_json(path)
        if description.get("format") != FORMAT:
            raise ValueError(f"{path} has format {description.get('format')!r}, expected {FORMAT}; convert again")
        if missing := [key for key in ("config", "dtype", "shards") if key not in description]:
            raise ValueError(f"{path} lacks {', '.join(missing)}; it is damaged: convert again")
        return cls(folder, description)

    @property
    def quantize(self) -> str | None:
        """How the language model's linear layers are stored, None where they are plain."""
        return self.description.get("quantize")

    @property
    def tokenizer_path(self) -> Path:
        """Its tokenizer."""
        return self.folder / TOKENIZER

    def config(self) -> ModelConfig:
        """Sizes and switches.

        Raises:
            ValueError: they are incomplete or contradict each other.
        """
        try:
            return from_plain(ModelConfig, self.description["config"])
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{self.folder / DESCRIPTION} has no readable config ({error}); convert again") from error

    def tensors(self, model: nn.Module) -> tuple[dict[str, Stored], list[str]]:
        """The stored tensors by key, none read, and a line for each thing that does not fit the model."""
        stored, faults = {}, []
        for shard, facts in self.description["shards"].items():
            path = self.folder / Path(shard).name
            try:
                stored |= open_tensors(path)
            except (FileNotFoundError, ValueError) as error:
                faults.append(str(error))
                continue
            if path.stat().st_size != facts["bytes"]:
                faults.append(f"{path} has {path.stat().st_size} bytes, {DESCRIPTION} says {facts['bytes']}")
        return stored, faults + _misfits(stored, stored_shapes(model, self.quantize, self.description["dtype"]))

    def altered_shards(self) -> list[str]:
        """A line for each shard whose SHA-256 is not the one it was written with; reads every byte."""
        return [
            f"{self.folder / name} was altered: its SHA-256 is not the one in {DESCRIPTION}; convert again"
            for name, facts in self.description["shards"].items()
            if (self.folder / Path(name).name).is_file() and sha256(self.folder / Path(name).name) != facts["sha256"]
        ]

    @torch.no_grad()
    def load(self, device: torch.device, dtype: torch.dtype, quantize: str | None = None) -> VLM3R:
        """The model; shards are mapped, so that beyond itself it takes the memory of one tensor.

        Args:
            device: where to.
            dtype: of all that is not quantised; on the CPU tensors of the stored dtype stay mapped from the file.
            quantize: quantise while loading; None takes the weights as they are stored.

        Raises:
            FileNotFoundError, ValueError: a shard is missing, damaged or does not fit; everything is told at once.
        """
        check_quantization(quantize)
        if self.quantize and quantize not in (None, self.quantize):
            raise ValueError(f"{self.folder} is stored as {self.quantize}, it cannot be loaded as {quantize}")
        model = skeleton(self.config())
        stored, faults = self.tensors(model)
        if faults:
            raise ValueError(f"{self.folder} does not fill the model, nothing was loaded\n  " + "\n  ".join(faults))
        for name, _ in list(model.named_parameters()):
            if not is_quantized_weight(name) or not (pieces := _pieces(stored, name, quantize)):
                _set_parameter(model, name, stored[name].read().to(device, dtype))
                continue
            bias = stored.get(f"{name.removesuffix('weight')}bias")
            layer = QuantizedLinear(pieces, bias.read() if bias else None, device, dtype)
            replace_layer(model, name, layer)
        return model.to(device)


def _pieces(stored: dict[str, Stored], name: str, quantize: str | None) -> dict[str, Tensor]:
    """A quantised weight as it is stored, or made now; empty where it is to stay plain."""
    pieces = {piece: stored[f"{name}.{piece}"].read() for piece in PIECES if f"{name}.{piece}" in stored}
    return quantize_weight(stored[name].read(), quantize) if quantize and not pieces else pieces


def _set_parameter(model: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, nn.Parameter(tensor, requires_grad=False))


def _misfits(stored: dict[str, Stored], expected: dict[str, tuple[tuple[int, ...], str]]) -> list[str]:
    kinds = {
        "missing": [key for key in expected if key not in stored],
        "unexpected": [key for key in stored if key not in expected],
        "misshapen": [
            f"{key} is {stored[key].dtype} {list(stored[key].shape)}, not {dtype} {list(shape)}"
            for key, (shape, dtype) in expected.items()
            if key in stored and (stored[key].shape, stored[key].dtype) != (shape, dtype)
        ],
    }
    return [
        f"{kind} {len(keys)}: {', '.join(keys[:_LISTED])}{', ...' if len(keys) > _LISTED else ''}"
        for kind, keys in kinds.items()
        if keys
    ]


def from_plain(cls: type, plain: dict[str, Any]) -> Any:
    """A dataclass from what `dataclasses.asdict` and JSON made of it.

    Raises:
        TypeError: a field is missing or unknown.
        ValueError: a value is refused.
    """
    hints = get_type_hints(cls)
    values = dict(plain)
    for item in fields(cls):
        value = values.get(item.name)
        if is_dataclass(hints[item.name]) and item.name in values:
            values[item.name] = from_plain(hints[item.name], value)
        elif isinstance(value, list):
            values[item.name] = tuple(value)
    return cls(**values)


def to_json(value: dict[str, Any]) -> str:
    """JSON as all our files have it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
