"""The least time each stage can take: operations over peak speed, bytes over bandwidth. Measures nothing itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vlm3r_core.config import Cut3rConfig, LanguageConfig, ModelConfig, SiglipConfig
from vlm3r_core.model.vlm3r import VLM3R

# The stages of one frame in the order they run.
STAGES = ("preprocess", "SigLIP", "CUT3R encode", "CUT3R decode", "CUT3R memory", "fusion", "prefix append")
_RGB = 3


@dataclass(frozen=True)
class Peaks:
    """What a device does at its best.

    Args:
        flops: floating point operations a second in the dtype of the run, a multiply-add counted as two.
        bytes_per_s: bytes read and written a second.
    """

    flops: float
    bytes_per_s: float


@dataclass(frozen=True)
class Work:
    """What a stage cannot avoid.

    Args:
        flops: floating point operations of its matrix products, a multiply-add counted as two.
        nbytes: weights, and cached keys and values, each read once.
    """

    flops: float
    nbytes: float

    def floor_ms(self, peaks: Peaks) -> float:
        """Milliseconds it takes at least: the longer of arithmetic and memory traffic."""
        return 1e3 * max(self.flops / peaks.flops, self.nbytes / peaks.bytes_per_s)


def frame_work(model: VLM3R, context_tokens: int) -> dict[str, Work]:
    """What each stage of one frame needs; preprocessing has no matrix products and is left out.

    Args:
        model: any VLM3R, one on the meta device too.
        context_tokens: tokens in the prefix cache before the frame is appended.
    """
    flops, weights = vision_flops(model.config), vision_weights(model)
    work = {stage: Work(flops[stage], weights[stage] * model.dtype.itemsize) for stage in flops}
    work["prefix append"] = append_work(model, model.config.tokens_per_frame, context_tokens)
    return work


def append_work(model: VLM3R, tokens: int, context: int, *, logits: bool = False) -> Work:
    """Running `tokens` tokens behind `context` cached ones, with or without the logits of the last one."""
    config = model.config.language
    head = config.hidden_size * config.vocab_size if logits else 0
    weights = linear_weights(config) + head
    return Work(
        append_flops(config, tokens, context) + 2 * head,
        weights * model.dtype.itemsize + context * kv_bytes_per_token(config, model.dtype.itemsize),
    )


def vision_flops(config: ModelConfig) -> dict[str, float]:
    """Operations of one frame by stage, without the language model."""
    return {
        "SigLIP": siglip_flops(config.siglip),
        "CUT3R encode": encoder_flops(config.cut3r),
        "CUT3R decode": decoder_flops(config.cut3r),
        "CUT3R memory": pose_memory_flops(config.cut3r),
        "fusion": fusion_flops(config) + projector_flops(config),
    }


def siglip_flops(config: SiglipConfig) -> float:
    """Operations of the SigLIP tower on one image."""
    n, d = config.grid**2, config.hidden_size
    layer = _linear(n, d, 4 * d) + 2 * _linear(n, d, config.intermediate_size) + _attention(n, n, d)
    return _linear(n, _RGB * config.patch_size**2, d) + config.num_layers * layer


def encoder_flops(config: Cut3rConfig) -> float:
    """Operations of CUT3R's image encoder on one image."""
    n, d = _patches(config), config.enc_embed_dim
    layer = _linear(n, d, 4 * d) + _mlp(n, d, config.mlp_ratio) + _attention(n, n, d)
    return _linear(n, _RGB * config.patch_size**2, d) + config.enc_depth * layer


def decoder_flops(config: Cut3rConfig) -> float:
    """Operations of the twin decoders on one frame, the embedding of its patches included."""
    image, state, d = _patches(config) + 1, config.state_size, config.dec_embed_dim
    both = _decoder_block(image, state, d, config.mlp_ratio) + _decoder_block(state, image, d, config.mlp_ratio)
    return _linear(_patches(config), config.enc_embed_dim, d) + config.dec_depth * both


def pose_memory_flops(config: Cut3rConfig) -> float:
    """Operations of reading and writing the pose memory for one frame."""
    entries, width = config.local_mem_size, 2 * config.dec_embed_dim
    write = _decoder_block(entries, 1, width, config.mlp_ratio)
    read = _decoder_block(1, entries, width, config.mlp_ratio)
    return 2 * (write + read) + _linear(1, config.enc_embed_dim, config.dec_embed_dim)


def fusion_flops(config: ModelConfig) -> float:
    """Operations of the cross-attention fusion of one frame; 0 where the configuration skips it."""
    n, d = config.siglip.grid**2, config.siglip.hidden_size
    m = {"all": 1 + n, "camera_tokens": 1, "patch_tokens": n, "none": 0}[config.token_selection]
    if not m:
        return 0.0
    # Two input projections in a row, the module's and the attention's own; likewise two at the end.
    keys_values = 2 * (_linear(m, config.cut3r.dec_embed_dim, d) + _linear(m, d, d))
    return 4 * _linear(n, d, d) + keys_values + _attention(n, m, d)


def projector_flops(config: ModelConfig) -> float:
    """Operations of the projector on all patches of one frame."""
    n, width = config.siglip.grid**2, config.language.hidden_size
    return _linear(n, config.siglip.hidden_size, width) + _linear(n, width, width)


def append_flops(config: LanguageConfig, tokens: int, context: int) -> float:
    """Operations of running `tokens` tokens behind `context` cached ones, no logits; attention is causal."""
    seen = context + tokens / 2
    return 2 * tokens * linear_weights(config) + config.num_layers * _attention(tokens, seen, config.hidden_size)


def linear_weights(config: LanguageConfig) -> int:
    """Weights of the language model's layers that every token meets, without embedding and head."""
    d, kv = config.hidden_size, _kv_width(config)
    return config.num_layers * (2 * d * d + 2 * d * kv + 3 * d * config.intermediate_size)


def kv_bytes_per_token(config: LanguageConfig, itemsize: int) -> int:
    """Bytes that one token takes in the prefix cache."""
    return 2 * config.num_layers * _kv_width(config) * itemsize


def vision_weights(model: VLM3R) -> dict[str, int]:
    """Parameters that one frame reads, by stage."""
    cut3r = model.cut3r
    decoder = (cut3r.decoder_embed, cut3r.dec_blocks, cut3r.dec_norm, cut3r.dec_blocks_state, cut3r.dec_norm_state)
    fusion = () if model.config.token_selection == "none" else (model.fusion,)
    return {
        "SigLIP": _count(model.siglip),
        "CUT3R encode": _count(cut3r.patch_embed, cut3r.enc_blocks, cut3r.enc_norm),
        "CUT3R decode": _count(*decoder),
        "CUT3R memory": _count(cut3r.pose_retriever),
        "fusion": _count(*fusion, model.projector),
    }


def _count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def _patches(config: Cut3rConfig) -> int:
    return (config.image_size // config.patch_size) ** 2


def _kv_width(config: LanguageConfig) -> int:
    return config.num_kv_heads * config.hidden_size // config.num_heads


def _linear(tokens: float, inputs: int, outputs: float) -> float:
    return 2.0 * tokens * inputs * outputs


def _mlp(tokens: int, width: int, ratio: float) -> float:
    return 2 * _linear(tokens, width, ratio * width)


def _attention(queries: float, keys: float, width: int) -> float:
    return 4.0 * queries * keys * width


def _decoder_block(n: int, m: int, d: int, ratio: float) -> float:
    """Self-attention of n tokens, cross-attention on m others, MLP."""
    on_self = _linear(n, d, 6 * d) + _mlp(n, d, ratio) + _attention(n, n, d)
    return on_self + _linear(m, d, 2 * d) + _attention(n, m, d)
