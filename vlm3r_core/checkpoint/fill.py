"""Published weights into our modules: key names, LoRA, and a report of whatever does not fit. Sizes: published.py."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from vlm3r_core.checkpoint.published import Published, read_json
from vlm3r_core.checkpoint.tensor_files import Stored, open_tensors

# Our names -> (part, published names), by their beginnings; the first that fits counts.
_KEYS = (
    ("siglip.vision.", "base", "model.vision_tower.vision_tower.vision_model."),
    ("language.qwen.lm_head.", "base", "lm_head."),
    ("language.qwen.model.", "base", "model."),
    ("image_newline", "base", "model.image_newline"),
    ("projector.", "trained", "model.mm_projector."),
    ("fusion.image_norm.", "trained", "model.fusion_block.clip_norm."),
    ("fusion.spatial_norm.", "trained", "model.fusion_block.spatial_encoder_norm."),
    ("fusion.query.", "trained", "model.fusion_block.clip_query_proj."),
    ("fusion.key.", "trained", "model.fusion_block.spatial_encoder_key_proj."),
    ("fusion.value.", "trained", "model.fusion_block.spatial_encoder_value_proj."),
    ("fusion.attention.", "trained", "model.fusion_block.cross_attention."),
    ("fusion.", "trained", "model.fusion_block."),
    ("cut3r.", "cut3r", ""),
)
# What the pieces are called in reports.
PART_TITLES = {
    "base": "base model",
    "trained": "adapter's non_lora_trainables.bin",
    "lora": "LoRA adapter",
    "cut3r": "CUT3R checkpoint",
}
# The base's projector, which the adapter's replaces.
_SUPERSEDED = "model.mm_projector."
_LORA_KEY = re.compile(r"(?:base_model\.model\.)?(model\.layers\.\d+\..+\.lora_[AB])(?:\.default)?\.weight")
# What a plain LoRA adapter says of itself; other kinds are refused, for they would be merged wrongly.
_PLAIN_LORA = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (None, False),
    "use_rslora": (None, False),
    "fan_in_fan_out": (None, False),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
}
# (part, kind of fault, what one of its keys contains) -> the likely cause; the first that fits is told.
_CAUSES = (
    ("cut3r", "missing", "dec_blocks_state.", "the file has no state decoder: DUSt3R's or MASt3R's, not CUT3R's"),
    ("cut3r", "misshapen", "", "a CUT3R of other sizes than stated; give them with sizes=PATH"),
    ("base", "misshapen", "vision_tower", "a SigLIP of other sizes than stated; give them with sizes=PATH"),
    ("trained", "misshapen", "", "an adapter that was trained on another base or another CUT3R"),
    ("trained", "missing", "fusion_block", "an adapter without fusion block: LLaVA's, not VLM-3R's"),
    ("lora", "", "", "an adapter that was trained on another base, or a mix of two adapters' files"),
    ("", "missing", "", "an incomplete or damaged download; fetch it again"),
    ("", "", "", "files of another model, or of another version of this one"),
)
_LISTED = 12


@dataclass
class Part:
    """What one of the published pieces must hold (key -> shape) and what its files do hold."""

    name: str
    expected: dict[str, tuple[int, ...]] = field(default_factory=dict)
    stored: dict[str, Stored] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def report(self) -> list[str]:
        """Everything that does not fit, and why it may be so; empty where all fits."""
        kinds = {
            "missing": [key for key in self.expected if key not in self.stored],
            "unexpected": [key for key in self.stored if key not in self.expected],
            "misshapen": [
                f"{key} is {list(self.stored[key].shape)}, not {list(shape)}"
                for key, shape in self.expected.items()
                if key in self.stored and self.stored[key].shape != shape
            ],
        }
        kinds = {kind: keys for kind, keys in kinds.items() if keys}
        if not kinds and not self.faults:
            return []
        title = f"{PART_TITLES[self.name]}: {len(self.stored)} tensors found, {len(self.expected)} expected"
        lines = [f"  {kind} {len(keys)}: {_shortened(keys)}" for kind, keys in kinds.items()]
        cause = [f"  likely cause: {self._cause(kinds)}"] if kinds and not self.faults else []
        return [title, *(f"  {fault}" for fault in self.faults[:_LISTED]), *lines, *cause]

    def _cause(self, kinds: dict[str, list[str]]) -> str:
        for part, kind, text, cause in _CAUSES:
            seen = [key for name, keys in kinds.items() if kind in ("", name) for key in keys]
            if part in ("", self.name) and any(text in key for key in seen):
                return cause
        raise AssertionError("the last cause fits everything")


def _shortened(keys: list[str]) -> str:
    more = f", and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more


@dataclass
class Survey:
    """Published files held against a model, with nothing read but their headers."""

    parts: dict[str, Part]
    # our name -> (part, published key)
    keys: dict[str, tuple[str, str]]
    lora_scale: float

    def report(self) -> list[str]:
        """Everything that does not fit, over all files; empty where all fits."""
        return [line for part in self.parts.values() for line in part.report()]

    def read(self, name: str, device: torch.device, *, merge_adapter: bool = True) -> Tensor:
        """One of our tensors, the LoRA merged in float32 or left out."""
        part, key = self.keys[name]
        weight = self.parts[part].stored[key].read()
        if not merge_adapter or "lora" not in self.parts:
            return weight
        delta = [self.parts["lora"].stored.get(f"{key.removesuffix('.weight')}.lora_{side}") for side in "BA"]
        if part == "base" and all(delta):
            b, a = (side.read().to(device, torch.float32) for side in delta)
            weight = weight.to(device, torch.float32) + self.lora_scale * (b @ a)
        return weight


def survey(model: nn.Module, published: Published, *, compare_twins: bool = True) -> Survey:
    """Opens a published model's files and notes what is missing, unexpected or misshapen; changes nothing.

    Args:
        model: built by the configuration that `published.config()` returned, on any device.
        published: the files.
        compare_twins: read the tensors that lie under two names, to see whether they are equal.

    Raises:
        FileNotFoundError, ValueError: the adapter does not say what it is; all else becomes a fault of its part.
    """
    alone = published.adapter is None
    keys, parts = _expected_parts(model, alone)
    _open_base(parts["base"], published.base, with_projector=alone)
    if alone:
        return Survey({"base": parts["base"]}, keys, 0.0)
    scale = _expect_lora(parts["lora"], parts["base"].expected, published.adapter)
    _open_adapter(parts["trained"], parts["lora"], published.adapter)
    _open_cut3r(parts["cut3r"], published.cut3r, compare_twins)
    return Survey(parts, keys, scale)


def open_adapter(model: nn.Module, folder: Path) -> Survey:
    """The files of an adapter alone, all of which fit a model, whether or not it has adapters attached.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file was refused, or tensors are missing, unexpected or misshapen.
    """
    keys, parts = _expected_parts(model, alone=False)
    scale = _expect_lora(parts["lora"], parts["base"].expected, folder)
    _open_adapter(parts["trained"], parts["lora"], folder)
    found = Survey({name: parts[name] for name in ("trained", "lora")}, keys, scale)
    _demand(found)
    return found


def _demand(found: Survey) -> None:
    if lines := found.report():
        raise ValueError("these files do not fill the model, nothing was loaded\n" + "\n".join(lines))


def _expected_parts(model: nn.Module, alone: bool) -> tuple[dict[str, tuple[str, str]], dict[str, Part]]:
    """Where each of our tensors is stored, and what the files must hold; a base alone brings its own projector.

    peft renames the layers it adapts and adds tensors of its own, which are no part of the model.
    """
    shapes = {
        name.replace(".base_layer.", "."): tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name
    }
    keys = {name: published_key(name) for name in shapes}
    if alone:
        keys = {name: ("base" if part == "trained" else part, key) for name, (part, key) in keys.items()}
    parts = {name: Part(name) for name in PART_TITLES}
    for name, (part, key) in keys.items():
        parts[part].expected[key] = shapes[name]
    return keys, parts


def open_weights(model: nn.Module, published: Published) -> Survey:
    """A survey in which everything fits, ready to be read tensor by tensor.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file was refused, or tensors are missing, unexpected or misshapen; one report over all files.
    """
    found = survey(model, published)
    _demand(found)
    return found


@torch.no_grad()
def fill_weights(model: nn.Module, published: Published, *, merge_adapter: bool = True) -> None:
    """Puts a published model's weights into ours; all or nothing.

    Args:
        model: built by the configuration that `published.config()` returned.
        published: the files.
        merge_adapter: add the LoRA to the base's weights; without it they stay the base's.

    Raises:
        FileNotFoundError, ValueError: as `open_weights`.
    """
    found = open_weights(model, published)
    for name, tensor in model.state_dict().items():
        tensor.copy_(found.read(name, tensor.device, merge_adapter=merge_adapter))


@torch.no_grad()
def fill_start(model: nn.Module, published: Published) -> None:
    """Puts base model and CUT3R into a model whose adapter is yet to be trained; its fusion block stays as it is.

    Args:
        model: built by the configuration that `published.start_config()` returned.
        published: the files, without adapter.

    Raises:
        FileNotFoundError, ValueError: as `open_weights`.
    """
    keys, parts = _expected_parts(model, alone=True)
    keys = {name: place for name, place in keys.items() if not name.startswith("fusion.")}
    found = Survey({name: parts[name] for name in ("base", "cut3r")}, keys, 0.0)
    base_keys = {key for part, key in keys.values() if part == "base"}
    parts["base"].expected = {key: shape for key, shape in parts["base"].expected.items() if key in base_keys}
    _open_base(parts["base"], published.base, with_projector=True)
    _open_cut3r(parts["cut3r"], published.cut3r, compare_twins=True)
    _demand(found)
    for name, tensor in model.state_dict().items():
        if name in keys:
            tensor.copy_(found.read(name, tensor.device))


def published_key(name: str) -> tuple[str, str]:
    """(part, published key) of one of our tensors."""
    for ours, part, theirs in _KEYS:
        if name.startswith(ours):
            return part, theirs + name.removeprefix(ours)
    raise AssertionError(f"no published name for {name}")


def _expect_lora(part: Part, base: dict[str, tuple[int, ...]], folder: Path) -> float:
    """Fills in which LoRA tensors the adapter must hold; returns the factor of B A."""
    config = read_json(folder / "adapter_config.json")
    rank, alpha, targets = (config.get(name) for name in ("r", "lora_alpha", "target_modules"))
    odd = [f"{name} {config.get(name)!r}" for name, plain in _PLAIN_LORA.items() if config.get(name) not in plain]
    if odd or not isinstance(targets, list) or not isinstance(rank, int) or not isinstance(alpha, int | float):
        raise ValueError(
            f"{folder}/adapter_config.json must describe a plain LoRA with r, lora_alpha and a list of target_modules, "
            f"got {', '.join(odd) or f'r {rank!r}, lora_alpha {alpha!r}, target_modules {targets!r}'}"
        )
    linears = {key.removesuffix(".weight"): shape for key, shape in base.items() if key.endswith("_proj.weight")}
    linears = {name: shape for name, shape in linears.items() if name.startswith("model.layers.")}
    for target in targets:
        found = [name for name in linears if name == target or name.endswith("." + target)]
        if not found:
            part.faults.append(f"its target {target} is no linear layer of this base's language model")
        for name in found:
            rows, columns = linears[name]
            part.expected |= {f"{name}.lora_A": (rank, columns), f"{name}.lora_B": (rows, rank)}
    return alpha / rank


def _open_base(part: Part, folder: Path, *, with_projector: bool) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted({Path(name).name for name in read_json(index).get("weight_map", {}).values()})
    else:
        shards = ["model.safetensors"]
    for shard in shards:
        part.stored |= _open(part, folder / shard)
    if not with_projector:
        part.stored = {key: value for key, value in part.stored.items() if not key.startswith(_SUPERSEDED)}


def _open_adapter(trained: Part, lora: Part, folder: Path) -> None:
    """Both pieces of an adapter; their keys carry peft's beginnings, depending on its version."""
    stored = _open(trained, folder / "non_lora_trainables.bin")
    trained.stored = {
        key.removeprefix("base_model.").replace("model.model.", "model.", 1): stored[key] for key in stored
    }
    safe, pickled = folder / "adapter_model.safetensors", folder / "adapter_model.bin"
    for key, value in _open(lora, pickled if pickled.is_file() and not safe.is_file() else safe).items():
        match = _LORA_KEY.fullmatch(key)
        lora.stored[match[1] if match else key] = value


def _open_cut3r(part: Part, path: Path, compare_twins: bool) -> None:
    """CUT3R's tensors; some lie under two names, of which a file may hold one."""
    stored = _open(part, path, "model")
    if stored and all(key.startswith("module.") for key in stored):
        stored = {key.removeprefix("module."): value for key, value in stored.items()}
    for key, twin in _twins(part.expected):
        if key in stored and twin in stored:
            if compare_twins and not torch.equal(stored[key].read(), stored[twin].read()):
                part.faults.append(f"{key} and {twin} are one tensor under two names, yet they differ")
        elif key in stored or twin in stored:
            stored[key] = stored[twin] = stored.get(key) or stored[twin]
    part.stored = stored


def _twins(keys: Iterable[str]) -> list[tuple[str, str]]:
    """Both names of each tensor that CUT3R's heads register twice."""
    found = [re.fullmatch(r"(.+\.scratch\.layer)([1-4])_rn\.weight", key) for key in keys]
    return [(match[0], f"{match[1]}_rn.{int(match[2]) - 1}.weight") for match in found if match]


def _open(part: Part, path: Path, inside: str = "") -> dict[str, Stored]:
    """The tensors of a file; one that is absent, damaged or refused becomes a fault of the part."""
    try:
        return open_tensors(path, inside)
    except (FileNotFoundError, ValueError) as error:
        part.faults.append(str(error))
        return {}
