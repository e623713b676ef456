"""Any model spec into one folder of ours, tensor by tensor. What such a folder holds: saved.py."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

import vlm3r_core
from vlm3r_core.bundled import preset_tokenizer
from vlm3r_core.checkpoint.fill import open_weights
from vlm3r_core.checkpoint.published import Published
from vlm3r_core.checkpoint.saved import DESCRIPTION, FORMAT, TOKENIZER, Saved, skeleton, stored_shapes, to_json
from vlm3r_core.checkpoint.tensor_files import sha256
from vlm3r_core.config import MODEL_PRESETS, ModelConfig
from vlm3r_core.loading import load, model_config, open_spec, resolve_dtype
from vlm3r_core.model.quantized import check_quantization, is_quantized_weight, quantize_weight
from vlm3r_core.prompt import Tokenizer
from vlm3r_core.weights.inventory import folder_licence

SHARD_BYTES = 2 * 10**9
# beyond the tensors: headers, tokenizer, description
_EXTRA_BYTES = 32 * 10**6
_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "uint8": 1}
_VERSIONS = ("torch", "transformers", "tokenizers", "safetensors")


def convert(
    spec: str, out: Path, *, quantize: str | None = None, dtype: str = "bfloat16", shard_bytes: int = SHARD_BYTES
) -> None:
    """Writes a model as one folder; it appears under its name only when it is whole.

    Args:
        spec: a model spec.
        out: the folder to make.
        quantize: None, `int8` or `int4` for the language model's linear layers.
        dtype: of everything else: bfloat16, float16 or float32.
        shard_bytes: size of a file at most, a single larger tensor aside; memory beyond the mapped files is about one.

    Raises:
        FileExistsError: the folder is there already.
        FileNotFoundError, ValueError: files are missing, damaged or do not fit.
        OSError: the disk has too little room.
    """
    check_quantization(quantize)
    resolve_dtype(dtype, torch.device("cpu"))
    _demand_new(out)
    config, read = _source(spec)
    model = skeleton(config)
    expected = stored_shapes(model, quantize, dtype)
    total = sum(_nbytes(shape, kind) for shape, kind in expected.values())

    def write(partial: Path) -> None:
        names = [name for name, _ in model.named_parameters()]
        pairs = _stored_pairs(names, read, quantize, getattr(torch, dtype))
        shards = _write_shards(pairs, partial, shard_bytes, total)
        _describe(spec, config, partial, {"quantize": quantize, "dtype": dtype, "shards": shards})

    _make_folder(out, total, write)


def save_model(
    pairs: Iterable[tuple[str, Tensor]],
    config: ModelConfig,
    spec: str,
    out: Path,
    *,
    dtype: str,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a model that is in memory as `convert` writes one from files.

    Args:
        pairs: every parameter with our name for it, none quantised; taken one by one.
        config: sizes and switches.
        spec: what it was made from; tokenizer, sources and licences are taken from there.
        out: the folder to make.
        dtype: of the weights: bfloat16, float16 or float32.
        shard_bytes: size of a file at most.

    Raises:
        FileExistsError, OSError: as `convert`.
        ValueError: the parameters are not those of the configuration.
    """
    kind = resolve_dtype(dtype, torch.device("cpu"))
    expected = stored_shapes(skeleton(config), None, dtype)
    total = sum(_nbytes(*facts) for facts in expected.values())

    def write(partial: Path) -> None:
        ordered = ((name, tensor.to("cpu", kind)) for name, tensor in _demanded(pairs, expected, config.name))
        shards = _write_shards(ordered, partial, shard_bytes, total)
        _describe(spec, config, partial, {"quantize": None, "dtype": dtype, "shards": shards})

    _make_folder(out, total, write)


def _demanded(
    pairs: Iterable[tuple[str, Tensor]], expected: dict[str, tuple[tuple[int, ...], str]], model: str
) -> Iterator[tuple[str, Tensor]]:
    """The same pairs one by one, each held against what is expected."""
    left = dict(expected)
    for name, tensor in pairs:
        if name not in left or tuple(tensor.shape) != left.pop(name)[0]:
            raise ValueError(f"{name} {list(tensor.shape)} is no parameter of {model}, or came twice")
        yield name, tensor.detach()
    if left:
        raise ValueError(f"{len(left)} parameters of {model} are missing: {', '.join(list(left)[:4])}")


def _demand_new(out: Path) -> None:
    if out.exists():
        raise FileExistsError(f"{out} exists; expected a folder yet to be made: remove it or choose another name")


def _make_folder(out: Path, nbytes: int, write: Callable[[Path], None]) -> None:
    """A folder that appears under its name only when `write` has filled it."""
    _demand_new(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_space(out.parent, nbytes + _EXTRA_BYTES)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        write(partial)
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _source(spec: str) -> tuple[ModelConfig, Callable[[str], Tensor]]:
    """A spec's configuration, and what reads one of its parameters by our name."""
    source, cpu = open_spec(spec), torch.device("cpu")
    config = model_config(spec)
    if isinstance(source, Published):
        if source.named[1:]:
            raise ValueError(f"a folder holds one adapter, {spec} names {len(source.named)}; convert each by itself")
        found = open_weights(skeleton(config), source)
        return config, lambda name: found.read(name, cpu)
    if isinstance(source, Saved):
        if source.quantize:
            raise ValueError(f"{spec} is quantised already; convert from the files it was made of")
        stored, faults = source.tensors(skeleton(config))
        if faults:
            raise ValueError(f"{spec} does not fill the model, nothing was written\n  " + "\n  ".join(faults))
        return config, lambda name: stored[name].read()
    parameters = dict(load(spec, "cpu", "float32").named_parameters())
    return config, parameters.__getitem__


def _stored_pairs(
    names: list[str], read: Callable[[str], Tensor], quantize: str | None, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    for name in names:
        weight = read(name)
        if quantize and is_quantized_weight(name):
            for piece, tensor in quantize_weight(weight, quantize).items():
                yield f"{name}.{piece}", tensor
        else:
            yield name, weight.to(dtype)


def _write_shards(pairs: Iterator[tuple[str, Tensor]], folder: Path, shard_bytes: int, total: int) -> dict[str, dict]:
    """Writes shard after shard; file name -> its size, hash and number of tensors."""
    shards: dict[str, dict] = {}
    held: dict[str, Tensor] = {}

    def flush() -> None:
        path = folder / f"model-{len(shards) + 1:05d}.safetensors"
        save_file(held, path, metadata={"format": "pt"})
        shards[path.name] = {"tensors": len(held), "bytes": path.stat().st_size, "sha256": sha256(path)}
        held.clear()

    with tqdm(total=total, unit="B", unit_scale=True, desc="converting", file=sys.stderr, disable=None) as bar:
        for key, tensor in pairs:
            if held and sum(t.nbytes for t in held.values()) + tensor.nbytes > shard_bytes:
                flush()
            # a tensor of its own: files hold no views, and none may be shared
            held[key] = tensor.detach().clone(memory_format=torch.contiguous_format)
            bar.update(tensor.nbytes)
        flush()
    return shards


def _describe(spec: str, config: ModelConfig, folder: Path, facts: dict) -> None:
    """Everything beside the tensors."""
    source = open_spec(spec)
    sources, licences, generation = [], {}, {}
    if isinstance(source, Published):
        paths = {"base": source.base, "adapter": source.adapter, "cut3r": source.cut3r, "sizes": source.sizes}
        sources = [_source_file(part, file) for part, path in paths.items() for file in _files(path)]
        licences = {part: folder_licence(part, path) for part, path in paths.items() if path and part != "sizes"}
        settings = source.base / "generation_config.json"
        generation = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    elif isinstance(source, Saved):
        sources, licences, generation = (source.description.get(key) for key in ("sources", "licences", "generation"))
    tokenizer = source.tokenizer_path if source else preset_tokenizer(spec)
    # whatever it is, it must do for the prompts
    Tokenizer(_written(folder / TOKENIZER, tokenizer.read_text(encoding="utf-8")))
    description = {
        "format": FORMAT,
        "config": asdict(config),
        **facts,
        "generation": generation,
        "spec": spec if spec in MODEL_PRESETS else "",
        "sources": sources,
        "licences": licences,
        "versions": {"vlm3r": vlm3r_core.__version__} | {name: metadata.version(name) for name in _VERSIONS},
    }
    _written(folder / "LICENCES.md", _licence_text(licences))
    _written(folder / DESCRIPTION, to_json(description))


def _licence_text(licences: dict[str, str]) -> str:
    lines = [f"* {part}: {licence}" for part, licence in licences.items()]
    return "# Licences of these weights\n\n" + "\n".join(lines or ["* random weights, Apache-2.0"]) + "\n"


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _files(path: Path | None) -> list[Path]:
    if path is None:
        return []
    return [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())


def _source_file(part: str, path: Path) -> dict:
    return {"part": part, "name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _nbytes(shape: tuple[int, ...], dtype: str) -> int:
    return torch.Size(shape).numel() * _ITEM_BYTES[dtype]


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed; free some, or write elsewhere"
        )
