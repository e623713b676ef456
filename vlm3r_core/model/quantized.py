"""Weight-only int8 and int4 for the language model's linear layers, on torch's own fused kernels.

No files, no training. torchao calls the same kernels, but transformers imports it wherever it is installed, which costs
every start half a second and four lines of warnings.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlm3r_core.config import check_choice

QUANTIZATIONS = ("int8", "int4")
# What the stored pieces of a quantised weight are called.
PIECES = ("int8", "int4", "scale", "zero")
# Columns that share a scale; the first that divides a layer's width is used, for the int4 kernels take no others.
_GROUPS = (64, 32)
_INT8_STEPS = 127
_INT4_CENTRE, _INT4_STEPS = 8, 15


def check_quantization(quantize: str | None) -> None:
    """Raises ValueError unless it is None or one of the known kinds."""
    if quantize is not None:
        check_choice("quantize", quantize, QUANTIZATIONS)


def is_quantized_weight(name: str) -> bool:
    """Whether a parameter of VLM3R belongs to the linear layers that are quantised; the language head does not."""
    return name.startswith("language.qwen.model.layers.") and name.endswith("_proj.weight")


def piece_shapes(quantize: str, shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each stored piece of a quantised weight [rows, columns]."""
    rows, columns = shape
    if not (group := _group(quantize, columns)):
        return {"int8": ((rows, columns), "int8"), "scale": ((rows,), "float32")}
    groups = (rows, columns // group)
    return {"int4": ((rows, columns // 2), "uint8"), "scale": (groups, "bfloat16"), "zero": (groups, "bfloat16")}


def quantize_weight(weight: Tensor, quantize: str) -> dict[str, Tensor]:
    """A weight [rows, columns] as plain tensors that can be stored: those of `piece_shapes`.

    int8: weight = q scale, one scale a row. int4: weight = (q - 8) scale + zero, one of each for every 64 (or 32)
    columns; two columns a byte, the even one in the low half. Where no group divides the columns, int8 is taken.
    """
    weight = weight.float()
    if not (group := _group(quantize, weight.shape[1])):
        scale = (weight.abs().amax(1) / _INT8_STEPS).clamp_min(torch.finfo(torch.float32).tiny)
        return {"int8": (weight / scale[:, None]).round().to(torch.int8), "scale": scale}
    grouped = weight.unflatten(1, (-1, group))
    low, high = grouped.amin(-1), grouped.amax(-1)
    scale = ((high - low) / _INT4_STEPS).clamp_min(torch.finfo(torch.bfloat16).tiny).bfloat16()
    zero = (low + _INT4_CENTRE * scale.float()).bfloat16()
    # rounded with the scale and zero that are stored, not with those they were before
    steps = (grouped - zero.float()[..., None]) / scale.float()[..., None] + _INT4_CENTRE
    whole = steps.round().clamp(0, _INT4_STEPS).to(torch.uint8).flatten(1)
    return {"int4": whole[:, ::2] | whole[:, 1::2] << 4, "scale": scale, "zero": zero}


def dequantize(pieces: dict[str, Tensor]) -> Tensor:
    """The plain float32 weight [rows, columns] that stored pieces stand for."""
    scale = pieces["scale"].float()
    if "int8" in pieces:
        return pieces["int8"].float() * scale[:, None]
    whole = _unpacked(pieces["int4"]).float().unflatten(1, (scale.shape[1], -1))
    return ((whole - _INT4_CENTRE) * scale[..., None] + pieces["zero"].float()[..., None]).flatten(1)


class QuantizedLinear(nn.Module):
    """A frozen linear layer whose weight stays quantised in memory; it belongs to the device it was made on.

    Args:
        pieces: the weight, from `quantize_weight`.
        bias: [rows] or None.
        device: CPU or CUDA.
        dtype: of the activations.
    """

    def __init__(self, pieces: dict[str, Tensor], bias: Tensor | None, device: torch.device, dtype: torch.dtype):
        super().__init__()
        pieces = {name: piece.to(device) for name, piece in pieces.items()}
        weight = pieces.get("int8", pieces.get("int4"))
        self.group = 0 if "int8" in pieces else weight.shape[1] * 2 // pieces["scale"].shape[1]
        self.fused = not self.group or _int4_kernel_takes(device, weight.shape[0], weight.shape[1] * 2)
        if not self.fused:
            # small layers of unusual sizes: multiplied out for every product
            scale = torch.stack([pieces["scale"], pieces["zero"]])
        elif self.group:
            pack = _pack_on_cuda if device.type == "cuda" else _pack_on_cpu
            weight = pack(weight)
            # the CUDA kernel knows bfloat16 alone
            scale = _scale_and_zero(pieces, torch.bfloat16 if device.type == "cuda" else dtype)
        else:
            scale = pieces["scale"].to(dtype)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.bias = None if bias is None else nn.Parameter(bias.to(device, dtype), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., columns] to [..., rows]."""
        rows = x.reshape(-1, x.shape[-1])
        y = self._multiply(rows).to(x.dtype)
        if self.bias is not None:
            y = y + self.bias
        return y.unflatten(0, x.shape[:-1])

    def _multiply(self, x: Tensor) -> Tensor:
        if not self.fused:
            plain = dequantize({"int4": self.weight, "scale": self.scale[0], "zero": self.scale[1]})
            return F.linear(x, plain.to(x.dtype))
        if self.group and x.is_cuda:
            return torch.ops.aten._weight_int4pack_mm(x.bfloat16(), self.weight, self.group, self.scale)
        if self.group:
            return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.weight, self.group, self.scale)
        if x.is_cuda:
            # as torchao does: the weight is widened for the multiplication, the memory of one layer
            return F.linear(x, self.weight.to(x.dtype)) * self.scale
        return torch.ops.aten._weight_int8pack_mm(x, self.weight, self.scale)


@torch.no_grad()
def quantize_language(model: nn.Module, quantize: str) -> None:
    """Quantises the language model's linear layers where they are, one after the other.

    Raises:
        ValueError: unknown kind.
    """
    check_quantization(quantize)
    for name, weight in list(model.named_parameters()):
        if is_quantized_weight(name):
            layer = model.get_submodule(name.removesuffix(".weight"))
            pieces = quantize_weight(weight, quantize)
            replace_layer(model, name, QuantizedLinear(pieces, layer.bias, weight.device, weight.dtype))


def replace_layer(model: nn.Module, weight_name: str, layer: nn.Module) -> None:
    """Puts a layer in the place of the one that has this weight."""
    owner, _, attribute = weight_name.removesuffix(".weight").rpartition(".")
    setattr(model.get_submodule(owner), attribute, layer)


def _group(quantize: str, columns: int) -> int:
    """Columns that share a scale; 0 for a whole row, which is int8."""
    return 0 if quantize == "int8" else next((group for group in _GROUPS if columns % group == 0), 0)


def _int4_kernel_takes(device: torch.device, rows: int, columns: int) -> bool:
    return (rows % 8 == 0 and columns % 128 == 0) if device.type == "cuda" else rows % 16 == 0


def _unpacked(packed: Tensor) -> Tensor:
    """Two columns a byte to one: [rows, columns / 2] to [rows, columns]."""
    return torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)


def _pack_on_cpu(packed: Tensor) -> Tensor:
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(_unpacked(packed).to(torch.int32), 1)


def _pack_on_cuda(packed: Tensor) -> Tensor:
    """There the even column is in the high half."""
    return torch.ops.aten._convert_weight_to_int4pack((packed << 4 | packed >> 4).contiguous(), 8)


def _scale_and_zero(pieces: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    """[groups, rows, 2], as the int4 kernels take them."""
    return torch.stack([pieces["scale"], pieces["zero"]], dim=2).transpose(0, 1).contiguous().to(dtype)
