"""The files of a published model (base, adapter, CUT3R) and the sizes they stand for. Its weights: fill.py."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlm3r_core.checkpoint.hub import local_file, local_folder
from vlm3r_core.checkpoint.safe_pickle import read_torch_file
from vlm3r_core.config import Cut3rConfig, LanguageConfig, ModelConfig, SiglipConfig, check_choice

# Where the part of a spec lies on this machine.
_LOCATE = {"base": local_folder, "adapter": local_folder, "cut3r": local_file, "sizes": local_file}
_PARTS = tuple(_LOCATE)
# What this implementation is built for: setting -> accepted values, the first where the file does not say.
_BUILT_FOR = {
    "hidden_act": ("silu",),
    "use_sliding_window": (False,),
    "mm_projector_type": ("mlp2x_gelu",),
    "mm_use_im_start_end": (False,),
    "spatial_tower": (None, "cut3r"),
    "fusion_block": (None, "cross_attention"),
}
_SAME_IN_BASE_AND_ADAPTER = (
    "hidden_size num_hidden_layers num_attention_heads num_key_value_heads intermediate_size rope_theta mm_hidden_size"
).split()
_SIGLIP_SIZES = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
}
_LANGUAGE_SIZES = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
    "rope_theta": "rope_theta",
    "max_position_embeddings": "max_position",
    "rms_norm_eps": "rms_norm_eps",
}


@dataclass(frozen=True)
class Published:
    """Where the files of one published model lie.

    Args:
        base: folder of the base model, LLaVA-Video's layout: config, safetensors shards, tokenizer.
        adapter: folder of the LoRA adapter with its non_lora_trainables.bin; None for the base alone.
        cut3r: CUT3R's checkpoint file; None for the base alone.
        sizes: JSON file with the sizes that none of these files records; None where they are the published ones.
        named: (name, folder) of each adapter where adapters were given names, so as to be switched between; `adapter`
            is the first of them.
    """

    base: Path
    adapter: Path | None
    cut3r: Path | None
    sizes: Path | None = None
    named: tuple[tuple[str, Path], ...] = ()

    @classmethod
    def parse(cls, spec: str) -> Published:
        """Reads `base=PATH,adapter=PATH,cut3r=PATH[,sizes=PATH]`.

        A base or adapter that is no path here may be a repository on the hub, `owner/name[@revision]`, and CUT3R's file
        one in such a repository, `owner/name/file[@revision]`; they are downloaded to the hub client's cache.
        Several adapters are given names, `adapter=NAME:PATH,adapter=NAME:PATH`. `base=PATH[,sizes=PATH]` is the base
        model alone, without CUT3R, fusion and adapter.

        Raises:
            ValueError: a part is missing, unknown or named twice.
            FileNotFoundError: a path does not exist; names all that do not. Or the hub does not give a repository.
        """
        parts, named = _spec_parts(spec)
        needed = _PARTS[:3] if parts.keys() & {"adapter", "cut3r"} else _PARTS[:1]
        if missing := [name for name in needed if name not in parts]:
            raise ValueError(
                f"the model spec lacks {', '.join(missing)}: expected base=PATH,adapter=PATH,cut3r=PATH[,sizes=PATH], "
                f"got {spec!r}"
            )
        return cls._located(parts, named)

    @classmethod
    def parse_start(cls, spec: str) -> Published:
        """Reads `base=PATH,cut3r=PATH[,sizes=PATH]`, what a new adapter is trained on.

        Raises:
            ValueError, FileNotFoundError: as `parse`.
        """
        parts, named = _spec_parts(spec)
        if "adapter" in parts or not {"base", "cut3r"} <= parts.keys():
            raise ValueError(f"a new adapter is trained on base=PATH,cut3r=PATH[,sizes=PATH], got {spec!r}")
        return cls._located(parts, named)

    @classmethod
    def _located(cls, parts: dict[str, str], named: tuple[tuple[str, str], ...]) -> Published:
        kinds = {"base": Path.is_dir, "adapter": Path.is_dir, "cut3r": Path.is_file, "sizes": Path.is_file}
        parts = {name: _LOCATE[name](value) for name, value in parts.items()}
        named = tuple((label, local_folder(value)) for label, value in named)
        paths = [*parts.items(), *(("adapter", path) for _, path in named[1:])]
        if absent := [f"{name}={path}" for name, path in paths if not kinds[name](path)]:
            raise FileNotFoundError(
                f"not found: {', '.join(absent)}; base and adapter must be folders, cut3r and sizes files"
            )
        return cls(parts["base"], parts.get("adapter"), parts.get("cut3r"), parts.get("sizes"), named)

    @property
    def tokenizer_path(self) -> Path:
        """The base model's tokenizer."""
        return self.base / "tokenizer.json"

    def config(self) -> ModelConfig:
        """The sizes and switches the files record, the published ones where none records them.

        Raises:
            FileNotFoundError: a JSON file is missing.
            ValueError: the files contradict each other, or describe a network that is not built here.
        """
        base, sizes = read_json(self.base / "config.json"), read_json(self.sizes) if self.sizes else {}
        siglip = _siglip_config(sizes.get("siglip", {}))
        if self.adapter is None:
            return self._model_config(base, siglip, spatial=False, **adapter_settings(base, "none"))
        adapter = read_json(self.adapter / "config.json")
        cut3r = _cut3r_config(self._cut3r_settings(sizes.get("cut3r", {})), siglip.grid)
        contradictions = [
            *_contradictions(base, adapter),
            *_width_contradictions(adapter, siglip, cut3r, sizes_given=self.sizes is not None),
        ]
        if contradictions:
            raise ValueError(f"these files do not make a model: {'; '.join(contradictions)}")
        return self._model_config(base, siglip, cut3r=cut3r, **adapter_settings(adapter))

    def start_config(self) -> ModelConfig:
        """Sizes from base and CUT3R, switches as the published training sets them, for an adapter yet to be trained.

        Raises:
            FileNotFoundError, ValueError: as `config`.
        """
        base, sizes = read_json(self.base / "config.json"), read_json(self.sizes) if self.sizes else {}
        siglip = _siglip_config(sizes.get("siglip", {}))
        cut3r = _cut3r_config(self._cut3r_settings(sizes.get("cut3r", {})), siglip.grid)
        return self._model_config(base, siglip, cut3r=cut3r, token_selection="all", pool="bilinear", newline="grid")

    def _model_config(self, base: dict[str, Any], siglip: SiglipConfig, **settings: Any) -> ModelConfig:
        generation = self.base / "generation_config.json"
        return ModelConfig(
            name=(self.adapter or self.base).resolve().name,
            siglip=siglip,
            language=LanguageConfig(**_pick(base, f"{self.base}/config.json", _LANGUAGE_SIZES)),
            repetition_penalty=read_json(generation).get("repetition_penalty", 1.0) if generation.is_file() else 1.0,
            **settings,
        )

    def _cut3r_settings(self, sizes: dict[str, Any]) -> dict[str, Any]:
        """CUT3R's sizes from its own file and from the sizes file, which must not contradict each other."""
        stored = _call_arguments(_model_expression(read_torch_file(self.cut3r)))
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
        for name in stored.keys() & given.keys():
            if stored[name] != given[name]:
                raise ValueError(
                    f"{self.cut3r} was trained with {name}={stored[name]!r}, {self.sizes} says {given[name]!r}; "
                    "they must agree"
                )
        return stored | given


def _spec_parts(spec: str) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """The parts of a spec by name, and the adapters that were given names; the first stands among the parts too."""
    parts: dict[str, str] = {}
    named: dict[str, str] = {}
    for piece in re.split(r",(?=\w+=)", spec):
        part, _, path = piece.partition("=")
        check_choice("part of a model spec", part, _PARTS)
        label = re.match(r"([A-Za-z]\w*):", path) if part == "adapter" else None
        path = path[label.end() :] if label else path
        another = label and named and label[1] not in named
        if not path or (part in parts and not another):
            raise ValueError(
                f"the model spec needs one path for {part}= (several adapters need names that differ, "
                f"adapter=NAME:PATH), got {spec!r}"
            )
        parts.setdefault(part, path)
        if label:
            named[label[1]] = path
    return parts, tuple(named.items())


def adapter_settings(config: dict[str, Any], token_selection: str | None = None) -> dict[str, str]:
    """The fields of ModelConfig that go with an adapter, from its config.json, or the base's where that is alone."""
    return {
        "token_selection": token_selection or config.get("spatial_tower_select_feature", "patch_tokens"),
        "pool": config.get("mm_spatial_pool_mode") or "bilinear",
        "newline": config.get("mm_newline_position") or "grid",
    }


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; the download of {path.parent} is incomplete")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def _siglip_config(sizes: dict[str, Any]) -> SiglipConfig:
    """The published tower uses one layer less than it declares."""
    if not sizes:
        return SiglipConfig()
    settings = _pick(sizes, "the siglip part of the sizes file", _SIGLIP_SIZES)
    return SiglipConfig(**settings | {"num_layers": settings["num_layers"] - 1})


def _cut3r_config(settings: dict[str, Any], grid: int) -> Cut3rConfig:
    """CUT3R is fed one patch for each SigLIP patch, whatever size it was trained at."""
    config = Cut3rConfig.from_published(settings)
    return replace(config, image_size=grid * config.patch_size)


def _pick(settings: dict[str, Any], source: str, names: dict[str, str]) -> dict[str, Any]:
    """The settings called `names` (theirs -> ours), under our names."""
    if missing := [name for name in names if settings.get(name) is None]:
        raise ValueError(f"{source} lacks {', '.join(missing)}; fetch it again, or use one written for this model")
    return {ours: settings[theirs] for theirs, ours in names.items()}


def _contradictions(base: dict[str, Any], adapter: dict[str, Any]) -> list[str]:
    found = [
        f"the adapter belongs to a base with {name} {adapter.get(name)!r}, this one has {base.get(name)!r}"
        for name in _SAME_IN_BASE_AND_ADAPTER
        if base.get(name) != adapter.get(name)
    ]
    for name, (default, *more) in _BUILT_FOR.items():
        accepted = more or [default]
        value = adapter.get(name, default)
        if value not in accepted:
            found.append(f"the adapter's config.json has {name} {value!r}, only {accepted[0]!r} is built here")
    return found


def _width_contradictions(
    adapter: dict[str, Any], siglip: SiglipConfig, cut3r: Cut3rConfig, *, sizes_given: bool
) -> list[str]:
    advice = "check the sizes file" if sizes_given else "give its sizes with sizes=PATH"
    pairs = (("mm_hidden_size", "SigLIP", siglip.hidden_size), ("spatial_feature_dim", "CUT3R", cut3r.dec_embed_dim))
    return [
        f"the adapter was trained with a {part} width of {adapter.get(name)!r}, not {width}; {advice}"
        for name, part, width in pairs
        if adapter.get(name) != width
    ]


def _model_expression(checkpoint: Any) -> str:
    """The constructor call stored in a CUT3R file, empty where there is none; it is text and stays text."""
    args = checkpoint.get("args") if isinstance(checkpoint, dict) else None
    state = getattr(args, "state", None)
    if not isinstance(state, dict):
        return ""
    stored = state.get("model", "")
    if isinstance(state.get("_content"), dict):
        node = getattr(state["_content"].get("model"), "state", None)
        stored = node.get("_val", "") if isinstance(node, dict) else ""
    return stored if isinstance(stored, str) else ""


def _call_arguments(expression: str) -> dict[str, Any]:
    """The literal keyword arguments of every call in a Python expression, which is parsed and never run."""
    try:
        tree = ast.parse(expression.strip() or "None", mode="eval")
    except SyntaxError:
        return {}
    arguments = {}
    for call in ast.walk(tree):
        for keyword in call.keywords if isinstance(call, ast.Call) else ():
            try:
                arguments[keyword.arg] = ast.literal_eval(keyword.value)
            except ValueError:
                # infinities and nested calls are no sizes
                continue
    return arguments
