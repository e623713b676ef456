"""The model a run starts from. Chooses no weights to train."""

from __future__ import annotations

import torch

from training.config import RunConfig
from training.lora import init_fusion
from vlm3r_core.checkpoint.fill import fill_start
from vlm3r_core.checkpoint.published import Published
from vlm3r_core.loading import build, load, open_spec
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import Tokenizer


def activation_dtype(config: RunConfig, device: torch.device) -> torch.dtype:
    """What activations are, and on a GPU frozen weights too."""
    if config.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, config.precision)


def start_model(config: RunConfig, device: torch.device) -> VLM3R:
    """The weights `config.model` names, an adapter among them kept apart so that it can be trained.

    Raises:
        FileNotFoundError, ValueError: files are missing, or do not make a model.
    """
    # on a CPU bfloat16 is for products only: features that were cached in float32 stay those of these encoders
    kind = torch.float32 if device.type == "cpu" else activation_dtype(config, device)
    if is_new_adapter(config.model):
        if config.train != "lora":
            raise ValueError(f"a new adapter on base and CUT3R is trained with --train lora, got {config.train!r}")
        published = Published.parse_start(config.model)
        model = build(published.start_config(), device, kind)
        init_fusion(model.fusion, config.seed)
        fill_start(model, published)
        model.tokenizer = Tokenizer(published.tokenizer_path)
        return model
    dtype = str(kind).removeprefix("torch.")
    apart = config.train == "lora" and isinstance(source := open_spec(config.model), Published) and source.adapter
    return load(config.model, str(device), dtype, merge_adapter=not apart)


def is_new_adapter(spec: str) -> bool:
    """Whether a spec names base and CUT3R but no adapter."""
    return "cut3r=" in spec and "adapter=" not in spec
