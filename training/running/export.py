"""A trained model as files that vlm3r_core.load reads: an adapter as published, or a folder of ours."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from training.checkpoint import replace_folder, whole_folder
from training.config import RunConfig
from training.lora import lora_factors
from training.running.start import is_new_adapter
from vlm3r_core.checkpoint.fill import published_key
from vlm3r_core.checkpoint.published import Published, read_json
from vlm3r_core.checkpoint.saved import to_json
from vlm3r_core.loading import open_spec
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.weights.convert import save_model

# What the published training writes into an adapter's config.json, beside the base's own settings.
_PUBLISHED = {
    "add_faster_video": False,
    "add_time_instruction": True,
    "architectures": ["LlavaQwenForCausalLM"],
    "faster_token_stride": 10,
    "force_sample": True,
    "freeze_mm_mlp_adapter": False,
    "freeze_mm_vision_resampler": False,
    "fusion_block": "cross_attention",
    "fusion_block_lr": None,
    "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_lr": None,
    "mm_projector_type": "mlp2x_gelu",
    "mm_spatial_pool_stride": 2,
    "mm_spatial_tower": "cut3r",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower_lr": None,
    "model_type": "llava_qwen",
    "pos_skipping_range": 4096,
    "spatial_tower": "cut3r",
    "spatial_tower_select_layer": -1,
    "tokenizer_padding_side": "right",
    "tune_fusion_block": True,
    "tune_mm_mlp_adapter": True,
    "tune_mm_vision_resampler": False,
    "tune_spatial_tower": False,
    "unfreeze_mm_vision_tower": False,
    "use_mm_proj": True,
    "use_pos_skipping": False,
}


def export(model: VLM3R, config: RunConfig, folder: Path) -> str:
    """Writes what was trained, in place of an older export.

    Args:
        model: trained as `config` says.
        config: the run's.
        folder: of the run; the export goes to `adapter` or `model` in it.

    Returns:
        The spec that loads it.

    Raises:
        OSError: it cannot be written; an older one stays.
    """
    published = _published(config.model)
    if published and config.train == "lora":
        export_adapter(model, config, published, folder / "adapter")
        parts = {"base": published.base, "adapter": folder / "adapter", "cut3r": published.cut3r}
        parts |= {"sizes": published.sizes} if published.sizes else {}
        return ",".join(f"{name}={path}" for name, path in parts.items())
    target, fresh = folder / "model", folder / f".model.partial-{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    trained = replace(model.config, name=folder.resolve().name, random_seed=None, trained_frames=config.frames)
    dtype = str(next(model.siglip.parameters()).dtype).removeprefix("torch.")
    save_model(merged_weights(model), trained, config.model, fresh, dtype=dtype)
    replace_folder(fresh, target)
    return str(target)


def export_adapter(model: VLM3R, config: RunConfig, published: Published, folder: Path) -> None:
    """The published layout: LoRA, fusion and projector, and the settings that go with them.

    Source: VLM-3R's published adapters, described in words.
    Differs: float32 where the run was, so that the export answers as the model that was trained.
    """
    dtype = next(model.siglip.parameters()).dtype
    with whole_folder(folder) as partial:
        lora, layers = {}, lora_factors(model)
        for name, (a, b, _) in layers.items():
            lora |= {f"base_model.model.{name}.lora_{side}.weight": t for side, t in (("A", a), ("B", b))}
        save_file({name: _plain(tensor, dtype) for name, tensor in lora.items()}, partial / "adapter_model.safetensors")
        trained = {
            f"base_model.model.{published_key(name)[1]}": _plain(tensor, dtype)
            for name, tensor in model.state_dict().items()
            if name.startswith(("projector.", "fusion."))
        }
        torch.save(trained, partial / "non_lora_trainables.bin")
        first = next(iter(layers.values()))
        (partial / "adapter_config.json").write_text(to_json(_adapter_config(list(layers), first, config, published)))
        (partial / "config.json").write_text(to_json(_settings(model, config, published)))
        generation = published.base / "generation_config.json"
        if generation.is_file():
            (partial / generation.name).write_bytes(generation.read_bytes())
        (partial / "README.md").write_text(_card(config), encoding="utf-8")


@torch.no_grad()
def merged_weights(model: VLM3R) -> Iterator[tuple[str, Tensor]]:
    """Every parameter by the name a model without LoRA has for it, the LoRA added in float32."""
    factors = lora_factors(model)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            continue
        layer = name.removeprefix("language.qwen.").removesuffix(".base_layer.weight")
        if name.endswith(".base_layer.weight") and layer in factors:
            a, b, scale = factors[layer]
            parameter = parameter.float() + scale * (b.float() @ a.float())
        yield name.replace(".base_layer.", "."), parameter


def _published(spec: str) -> Published | None:
    if is_new_adapter(spec):
        return Published.parse_start(spec)
    source = open_spec(spec)
    return source if isinstance(source, Published) and source.adapter else None


def _adapter_config(layers: list[str], factors: tuple, config: RunConfig, published: Published) -> dict:
    rank = len(factors[0])
    return {
        "base_model_name_or_path": _name_of_base(config, published),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": round(factors[2] * rank),
        "lora_dropout": config.lora_dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": sorted(layers),
        "task_type": "CAUSAL_LM",
    }


def _settings(model: VLM3R, config: RunConfig, published: Published) -> dict:
    """The adapter's config.json, from the base's and what training adds."""
    sizes = {
        "mm_hidden_size": model.config.siglip.hidden_size,
        "spatial_feature_dim": model.config.cut3r.dec_embed_dim,
        "spatial_tower_select_feature": model.config.token_selection,
        "mm_spatial_pool_mode": model.config.pool,
        "mm_newline_position": model.config.newline,
        "tokenizer_model_max_length": config.max_length,
        "add_time_instruction": config.time_instruction,
        "_name_or_path": _name_of_base(config, published),
    }
    settings = read_json(published.base / "config.json") | _PUBLISHED | sizes
    return json.loads(json.dumps(settings, sort_keys=True))


def _name_of_base(config: RunConfig, published: Published) -> str:
    """As the run names it; a folder by its last name only, for its place is nobody else's."""
    named = config.model.partition("base=")[2].split(",")[0]
    return published.base.resolve().name if Path(named).exists() else named


def _card(config: RunConfig) -> str:
    lines = ["# A VLM-3R adapter", "", "Trained with `python -m training.train`, with these settings:", "", "```json"]
    hidden = ("data", "videos", "out", "features", "model")
    shown = {name: value for name, value in json.loads(config.to_json()).items() if name not in hidden}
    return "\n".join([*lines, json.dumps(shown, indent=2), "```", ""])


def _plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to("cpu", dtype).clone(memory_format=torch.contiguous_format)
