"""Which weights a run trains: fusion, projector and a LoRA on the language model, or all of it. Saves none."""

from __future__ import annotations

import logging
import math

import torch
from torch import nn

from training.config import RunConfig
from vlm3r_core.model.fusion import CrossAttentionFusion
from vlm3r_core.model.vlm3r import VLM3R

ADAPTER = "default"
# The base's own rule for new linear layers.
_INIT_STD = 0.02

_log = logging.getLogger(__name__)


def make_trainable(model: VLM3R, config: RunConfig) -> dict[str, nn.Parameter]:
    """Freezes what is not trained, adds a LoRA where one is wanted and none is there, and sets the dropouts.

    Args:
        model: in evaluation mode; the frozen part stays in it.
        config: `train`, LoRA sizes, dropouts, seed.

    Returns:
        The parameters that learn, in float32, by the model's names, in its order.

    Raises:
        ValueError: the model has several adapters.

    Source: VLM-3R trains LoRA on the language model's linear layers, and fusion and projector as a whole.
    """
    if model.adapters and len(model.adapters.names) > 1:
        raise ValueError(f"one adapter is trained at a time, {config.model} names {', '.join(model.adapters.names)}")
    if config.train == "lora" and model.adapters is None:
        add_lora(model, config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_learns(name, config.train))
        if parameter.requires_grad:
            # AdamW's small updates are lost in bfloat16
            parameter.data = parameter.data.float()
    _set_dropouts(model, config)
    for part in (model.language, model.projector, model.fusion):
        if part is not None:
            part.train()
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def add_lora(model: VLM3R, config: RunConfig) -> None:
    """Wraps the language model's linear layers where they are; B is zero, so that nothing changes yet."""
    import peft

    settings = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=lora_targets(model),
        bias="none",
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        peft.PeftModel(model.language.qwen, settings, adapter_name=ADAPTER, autocast_adapter_dtype=False)


def lora_targets(model: VLM3R) -> list[str]:
    """Published names of the language model's linear layers, head and embeddings left out."""
    names = (name.removesuffix(".base_layer") for name, part in model.language.qwen.named_modules() if _is_linear(part))
    return sorted({name for name in names if name.startswith("model.layers.") and ".lora_" not in name})


@torch.no_grad()
def init_fusion(fusion: CrossAttentionFusion, seed: int) -> None:
    """New weights for a fusion block, as the published training starts it.

    Source: VLM-3R's training under transformers' rule for layers a checkpoint lacks: normal with 0.02 and no bias, the
    attention's input projection uniform by Xavier, norms 1 and 0.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in fusion.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            continue
        fresh = torch.empty(parameter.shape)
        if name.endswith("in_proj_weight"):
            bound = math.sqrt(6 / (parameter.shape[0] + parameter.shape[1]))
            fresh.uniform_(-bound, bound, generator=generator)
        else:
            fresh.normal_(0.0, _INIT_STD, generator=generator)
        parameter.copy_(fresh)


def lora_factors(model: VLM3R) -> dict[str, tuple[torch.Tensor, torch.Tensor, float]]:
    """A, B and the factor of B A of every adapted layer, by the layer's published name."""
    found = {}
    for name, part in model.language.qwen.named_modules():
        if hasattr(part, "lora_A") and (active := part.active_adapters):
            (adapter,) = active
            factors = (part.lora_A[adapter].weight, part.lora_B[adapter].weight, part.scaling[adapter])
            found[name] = factors
    return found


def _is_linear(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear)


def _learns(name: str, train: str) -> bool:
    if name.startswith(("projector.", "fusion.")):
        return True
    if train == "lora":
        return ".lora_" in name
    return train == "language" and (name.startswith("language.") or name == "image_newline")


def _set_dropouts(model: VLM3R, config: RunConfig) -> None:
    if model.fusion is not None:
        model.fusion.dropout.p = config.fusion_dropout
    for name, part in model.language.named_modules():
        if ".lora_dropout." in name and isinstance(part, nn.Dropout):
            part.p = config.lora_dropout
    if config.train != "lora" or model.adapters is None:
        return
    ranks = {len(a) for a, _, _ in lora_factors(model).values()}
    if ranks != {config.lora_rank}:
        _log.warning("the adapter to go on from has rank %s, not %d; its own counts", sorted(ranks), config.lora_rank)
