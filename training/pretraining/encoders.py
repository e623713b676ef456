"""Pre-trained encoders as a folder, weights under our names with what they are; and models that begin with them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from training.checkpoint import replace_folder, whole_folder
from vlm3r_core.checkpoint.published import read_json
from vlm3r_core.checkpoint.saved import from_plain, to_json
from vlm3r_core.config import MODEL_PRESETS, Cut3rConfig, ModelConfig, SiglipConfig
from vlm3r_core.loading import build, load, model_config, randomize
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.weights.convert import save_model

WEIGHTS, HEADS, DESCRIPTION = "encoders.safetensors", "heads.safetensors", "encoders.json"
FORMAT = 1
_SIZES = {"siglip": SiglipConfig, "cut3r": Cut3rConfig}


def save_encoders(
    folder: Path,
    model: VLM3R,
    parts: tuple[str, ...],
    record: dict[str, Any],
    heads: Mapping[str, nn.Module] | None = None,
) -> None:
    """Writes encoders, in place of older ones.

    Args:
        folder: where to.
        model: whose.
        parts: of `siglip` and `cut3r`.
        record: how they were made and what they score; JSON values.
        heads: what read the encoders while they learned, by the name of the part; no part of the model, but teachers of
            what comes after.

    Raises:
        OSError: they cannot be written; older ones stay.
    """
    tensors = _tensors(model, tuple(f"{part}." for part in parts))
    read = {f"{part}.{name}": item for part, head in (heads or {}).items() for name, item in _tensors(head).items()}
    sizes = {part: asdict(getattr(model.config, part)) for part in parts}
    with whole_folder(folder) as partial:
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        save_file(read, partial / HEADS, metadata={"format": "pt"})
        (partial / DESCRIPTION).write_text(to_json({"format": FORMAT, "sizes": sizes, "record": record}))


def encoders_config(folder: Path | str, base: ModelConfig) -> ModelConfig:
    """A model's sizes and switches with those of the encoders in a folder.

    Raises:
        FileNotFoundError, ValueError: there are no encoders of ours in it.
    """
    return replace(base, **_sizes(Path(folder)))


@torch.no_grad()
def load_encoders(model: VLM3R, folder: Path | str, parts: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Puts encoders into a model.

    Args:
        model: of their sizes, see encoders_config.
        folder: that save_encoders wrote.
        parts: of `siglip` and `cut3r`; all that the folder holds where none are given.

    Returns:
        The parts.

    Raises:
        FileNotFoundError: there are none in the folder.
        ValueError: they are damaged, of other sizes, or a part is missing; the model is as it was.
    """
    sizes = _sizes(Path(folder))
    parts = tuple(sizes) if parts is None else parts
    if missing := [part for part in parts if part not in sizes]:
        raise ValueError(f"{folder} holds {' and '.join(sizes)}, not {' and '.join(missing)}; train that first")
    for part in parts:
        _demand_same(folder, part, sizes[part], getattr(model.config, part))
    try:
        stored = load_file(Path(folder) / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{Path(folder) / WEIGHTS} cannot be read ({error}); train the encoders again") from error
    wanted = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith(tuple(f"{part}." for part in parts))
    }
    if odd := [name for name in wanted if name not in stored or stored[name].shape != wanted[name].shape]:
        raise ValueError(f"{folder} does not fill the model: {', '.join(odd[:4])}; train the encoders again")
    for name, parameter in wanted.items():
        parameter.copy_(stored[name])
    return parts


def save_start(folder: Path, encoders: Path, rest: str, seed: int) -> None:
    """Writes a model folder to train further: the encoders of a folder, everything else from another model.

    Args:
        folder: to make, in place of an older one.
        encoders: folder with both.
        rest: a model's spec, such as the folder of one that learned from text alone; of a preset sizes and switches are
            taken and the weights are seeded random ones.
        seed: of the random weights.

    Raises:
        FileNotFoundError, ValueError: as load_encoders; the sizes do not fit the rest.
        OSError: it cannot be written; an older one stays.
    """
    config = encoders_config(encoders, model_config(rest))
    model = build(config, torch.device("cpu"), torch.float32)
    randomize(model, seed)
    if rest not in MODEL_PRESETS:
        _take_rest(model, load(rest, "cpu", "float32"))
    load_encoders(model, encoders, ("siglip", "cut3r"))
    fresh = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    save_model(model.named_parameters(), config, rest, fresh, dtype="float32")
    replace_folder(fresh, folder)


def _take_rest(model: VLM3R, other: VLM3R) -> None:
    """Takes all weights but the encoders' from another model."""
    theirs = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        if name.startswith(("siglip.", "cut3r.")):
            continue
        if name not in theirs or theirs[name].shape != parameter.shape:
            raise ValueError(f"the other model has no {name} of {list(parameter.shape)}; give one of the same sizes")
        parameter.copy_(theirs[name])


def join_encoders(folder: Path, vision: Path, geometry: Path, rest: str, seed: int) -> Path:
    """Encoders that were trained apart as one folder, and a model to train further that has both.

    Args:
        folder: gets `encoders` and `model`, in place of older ones.
        vision: encoders folder with the tower; geometry: one with CUT3R.
        rest: of the model, and seed: as for save_start.

    Returns:
        The model's folder.

    Raises:
        FileNotFoundError, ValueError: as load_encoders.
        OSError: they cannot be written.
    """
    sizes = _sizes(vision) | {"cut3r": _sizes(geometry)["cut3r"]}
    model = build(replace(model_config(rest), **sizes), torch.device("cpu"), torch.float32)
    load_encoders(model, vision, ("siglip",))
    load_encoders(model, geometry, ("cut3r",))
    record = {"siglip": record_json(vision), "cut3r": record_json(geometry)}
    tensors = _tensors(model, ("siglip.", "cut3r."))
    heads = load_file(vision / HEADS) | load_file(geometry / HEADS)
    plain = {part: asdict(values) for part, values in sizes.items()}
    with whole_folder(folder / "encoders") as partial:
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        save_file(heads, partial / HEADS, metadata={"format": "pt"})
        (partial / DESCRIPTION).write_text(to_json({"format": FORMAT, "sizes": plain, "record": record}))
    save_start(folder / "model", folder / "encoders", rest, seed)
    return folder / "model"


def _tensors(module: nn.Module, prefixes: tuple[str, ...] = ("",)) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().float().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.named_parameters()
        if name.startswith(prefixes)
    }


def _sizes(folder: Path) -> dict[str, SiglipConfig | Cut3rConfig]:
    if not (folder / DESCRIPTION).is_file():
        raise FileNotFoundError(f"{folder} holds no encoders: it has no {DESCRIPTION}; `python -m training.pretrain`")
    description = read_json(folder / DESCRIPTION)
    if description.get("format") != FORMAT:
        raise ValueError(f"{folder / DESCRIPTION} has format {description.get('format')!r}, expected {FORMAT}")
    return {part: from_plain(_SIZES[part], values) for part, values in description["sizes"].items()}


def _demand_same(folder: Path | str, part: str, stored: object, wanted: object) -> None:
    names = [item.name for item in fields(stored)]
    odd = [name for name in names if getattr(stored, name) != getattr(wanted, name)]
    if odd:
        told = ", ".join(f"{name} {getattr(stored, name)!r} there, {getattr(wanted, name)!r} here" for name in odd)
        raise ValueError(f"the {part} in {folder} is of another size: {told}; build the model with encoders_config")


def record_json(folder: Path | str) -> dict[str, Any]:
    """How the encoders of a folder were made and what they score."""
    return json.loads((Path(folder) / DESCRIPTION).read_text(encoding="utf-8"))["record"]
