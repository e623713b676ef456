"""A model spec to a model on a device, and to its tokenizer. Which file holds which weight is checkpoint's business."""

from __future__ import annotations

import difflib
import zlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from vlm3r_core.bundled import BLIND, BUNDLED, check_bundled, preset_tokenizer
from vlm3r_core.checkpoint.adapters import Adapters
from vlm3r_core.checkpoint.fill import fill_weights
from vlm3r_core.checkpoint.published import Published
from vlm3r_core.checkpoint.saved import Saved
from vlm3r_core.config import INFERENCE_PRESETS, MODEL_PRESETS, ModelConfig, check_choice
from vlm3r_core.model.quantized import check_quantization, quantize_language
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import Tokenizer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def model_config(spec: str) -> ModelConfig:
    """The sizes a model spec stands for, without building anything.

    Raises:
        ValueError: unknown spec (names the known ones and the nearest), or files that contradict each other.
        FileNotFoundError: a file of a published model is missing.
    """
    source = open_spec(spec)
    return source.config() if source else MODEL_PRESETS[spec]


def tokenizer_for(spec: str) -> Tokenizer:
    """The tokenizer that belongs to a model spec: the base model's or the folder's, or that of the preset.

    Raises:
        ValueError, FileNotFoundError: as `model_config`; or the base model has no tokenizer in Qwen2's layout.
    """
    source = open_spec(spec)
    return Tokenizer(source.tokenizer_path if source else preset_tokenizer(spec))


def open_spec(spec: str) -> Published | Saved | None:
    """The files a spec names, None for a preset.

    Raises:
        ValueError: unknown spec (names the known ones and the nearest).
        FileNotFoundError: a file is missing, or `tiny` has no weights yet.
    """
    if spec in MODEL_PRESETS:
        return None
    if spec in (BUNDLED, BLIND):
        return Saved.open(check_bundled(spec))
    if "=" in spec and not Path(spec).is_dir():
        return Published.parse(spec)
    if Path(spec).expanduser().is_dir():
        return Saved.open(Path(spec).expanduser())
    known = (BUNDLED, *MODEL_PRESETS)
    near = difflib.get_close_matches(spec, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"unknown model {spec!r}: expected one of {', '.join(known)}{hint}, a folder that "
        "`python -m vlm3r_core.weights convert` made, or base=PATH,adapter=PATH,cut3r=PATH[,sizes=PATH]"
    )


def resolve_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one.

    Raises:
        ValueError: no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: expected auto, cpu, cuda or cuda:N") from error
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device!r} is not there: {torch.cuda.device_count()} CUDA devices; use cpu or auto")
    return resolved


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU that has it, float16 on one that has not, float32 on a CPU.

    Raises:
        ValueError: unknown dtype.
    """
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if dtype not in _DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: expected auto, {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def load(
    spec: str,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str | None = None,
    *,
    merge_adapter: bool = True,
    preset: str | None = None,
) -> VLM3R:
    """Builds a model with its tokenizer (`model.tokenizer`), ready to serve.

    Args:
        spec: `tiny`, the small trained model of the package; a preset, such as `tiny-random` or `vlm3r-7b-random`
            (seeded random weights, for tests and speed); a folder that `python -m vlm3r_core.weights convert` or a
            training run made; or the files of a published model,
            `base=PATH,adapter=PATH,cut3r=PATH[,sizes=PATH]`. `adapter=NAME:PATH`, once or several times, keeps adapters
            apart: `model.adapters.use(NAME)` switches. `base=PATH[,sizes=PATH]` is the base model alone.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`; of all that is not quantised.
        quantize: `int8` or `int4` for the language model's linear layers, weights only; None as they are stored.
        merge_adapter: add the adapter's LoRA to the base's weights; False keeps it apart, under the name `default`,
            so that it can be trained.
        preset: one of INFERENCE_PRESETS, whose pooling the model takes, unless it is one without pooling; None for the
            pooling its files name. A StreamConfig has the rest of the preset.

    Raises:
        ValueError: unknown spec, device, dtype, quantisation or preset; files that contradict each other, or do not
            fill the model.
        FileNotFoundError: a file is missing.
    """
    check_quantization(quantize)
    if preset is not None:
        check_choice("preset", preset, tuple(INFERENCE_PRESETS))
    target = resolve_device(device)
    kind, source = resolve_dtype(dtype, target), open_spec(spec)
    apart = _kept_apart(source, merge_adapter)
    if apart and quantize:
        raise ValueError("a quantised model takes no adapters kept apart; load it with one adapter, which is merged")
    if isinstance(source, Saved):
        model = source.load(target, kind, quantize)
    else:
        model = build(model_config(spec), target, kind)
        if source:
            fill_weights(model, source, merge_adapter=not apart)
        else:
            randomize(model, model.config.random_seed)
        if quantize:
            quantize_language(model, quantize)
    model.tokenizer = tokenizer_for(spec)
    if preset is not None and model.config.pool != "none":
        model.config = replace(model.config, pool=INFERENCE_PRESETS[preset].pool)
    if apart:
        model.adapters = Adapters(model)
        for name, folder in apart:
            model.adapters.attach(folder, name)
    return model


def _kept_apart(source: Published | Saved | None, merge_adapter: bool) -> tuple[tuple[str, Path], ...]:
    """Name and folder of each adapter that is not to be merged."""
    if isinstance(source, Published):
        return source.named or (() if merge_adapter or source.adapter is None else (("default", source.adapter),))
    if not merge_adapter:
        raise ValueError(
            "only published files keep an adapter apart, base=PATH,adapter=PATH,cut3r=PATH; elsewhere it is merged "
            "already, or there is none"
        )
    return ()


def build(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> VLM3R:
    """The network with unset weights, frozen and in evaluation mode."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = VLM3R(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def randomize(model: nn.Module, seed: int) -> None:
    """Fills every parameter with seeded numbers that keep activations moderate.

    Each parameter draws from its own generator, seeded by its name, so a change elsewhere does not change it.
    """
    norms = {id(m.weight) for m in model.modules() if getattr(m, "weight", None) is not None and m.weight.dim() == 1}
    for name, parameter in model.named_parameters():
        if id(parameter) in norms:
            parameter.fill_(1.0)
            continue
        generator = torch.Generator(parameter.device).manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        token_like = fan_in == 1 or "embed_tokens" in name or "token" in name or name.endswith("mem")
        parameter.normal_(0.0, 0.1 if token_like else fan_in**-0.5, generator=generator)
