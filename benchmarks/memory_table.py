"""Memory of vlm3r-7b by part and precision, computed from its shapes. Nothing is loaded and nothing is measured."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.tables import markdown_table
from vlm3r_core.checkpoint.saved import skeleton
from vlm3r_core.config import USUAL_FRAMES, VLM3R_7B, ModelConfig, StreamConfig
from vlm3r_core.model.quantized import QUANTIZATIONS, is_quantized_weight, piece_shapes
from vlm3r_core.model.vlm3r import VLM3R

PRECISIONS = (None, *QUANTIZATIONS)
PARTS = ("language", "siglip", "cut3r", "fusion", "projector", "image_newline")
_WIDTH = {"int8": 1, "uint8": 1, "float32": 4, "bfloat16": 2}
_BF16 = 2
# the system turn before the frames
_PREFIX_TOKENS = 64
# outputs of an MLP that exist at the same time: gate, its activation, up
_MLP_BUFFERS = 3


def parameter_counts(model: VLM3R) -> dict[str, int]:
    """Parameters by part; a tensor with two names counts once."""
    counts = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        counts[name.split(".")[0]] += parameter.numel()
    return counts


def lora_count(model: VLM3R, rank: int = 128) -> int:
    """Parameters of the published adapter's LoRA."""
    shapes = [parameter.shape for name, parameter in model.named_parameters() if is_quantized_weight(name)]
    return sum(rank * (rows + columns) for rows, columns in shapes)


def weight_bytes(model: VLM3R, quantize: str | None) -> dict[str, int]:
    """Bytes of the weights by part: bfloat16, the language model's linear layers quantised as asked."""
    sizes = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        nbytes = parameter.numel() * _BF16
        if quantize and is_quantized_weight(name):
            pieces = piece_shapes(quantize, tuple(parameter.shape)).values()
            nbytes = sum(_numel(shape) * _WIDTH[dtype] for shape, dtype in pieces)
        sizes[name.split(".")[0]] += nbytes
    return sizes


def stream_bytes(config: ModelConfig, stream: StreamConfig) -> dict[str, int]:
    """Bytes that a full stream holds beside the weights, in bfloat16."""
    language, cut3r, stream = config.language, config.cut3r, stream.for_model(config)
    visual = stream.max_frames * config.tokens_per_frame
    cached = _PREFIX_TOKENS + visual + stream.max_question_tokens
    per_token = 2 * language.num_layers * language.num_kv_heads * (language.hidden_size // language.num_heads) * _BF16
    state = (cut3r.state_size + 2 * cut3r.local_mem_size) * cut3r.dec_embed_dim * _BF16
    return {
        f"prefix cache, {cached:,} tokens": cached * per_token,
        f"visual tokens of {stream.max_frames} frames": visual * language.hidden_size * _BF16,
        "CUT3R state": state,
        "working memory of a full prefill (one MLP)": visual * language.intermediate_size * _MLP_BUFFERS * _BF16,
    }


def table(config: ModelConfig = VLM3R_7B, stream: StreamConfig | None = None) -> str:
    """The Markdown table, in GB (10^9 bytes)."""
    model = skeleton(config)
    weights = {quantize: weight_bytes(model, quantize) for quantize in PRECISIONS}
    held = stream_bytes(config, stream or StreamConfig())
    counts = parameter_counts(model)
    rows = [
        [f"{part}, {counts[part] / 1e6:,.1f} M parameters", *(f"{weights[q][part] / 1e9:.2f}" for q in PRECISIONS)]
        for part in PARTS
        if counts[part] > 10**6
    ]
    rows += [[name, *[f"{nbytes / 1e9:.2f}"] * len(PRECISIONS)] for name, nbytes in held.items()]
    totals = [sum(weights[quantize].values()) + sum(held.values()) for quantize in PRECISIONS]
    rows.append(["**together**", *(f"**{total / 1e9:.1f}**" for total in totals)])
    return markdown_table([f"{config.name}, GB", *(quantize or "bf16" for quantize in PRECISIONS)], rows)


def _numel(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_table", description=__doc__)
    parser.add_argument("--frames", type=int, default=USUAL_FRAMES, help="frames kept (default: 32)")
    print(table(stream=StreamConfig(max_frames=parser.parse_args(argv).frames)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
