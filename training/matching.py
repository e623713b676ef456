"""A start for attention in which words look at the visual tokens that are like them. Trains nothing.

Once alignment has made a patch's token like the word of what it shows, such heads bring what is known of the patch to
the word; from random weights heads find that late.
"""

from __future__ import annotations

import torch

from vlm3r_core.model.language import LanguageModel

# Layers, from the first one, whose heads are set: there tokens still are their own words.
LAYERS = 2
# How far a pair of numbers may turn between a word and the video's first token, radians.
_MOST_TURN = 0.7
_SMALL = 0.02


@torch.no_grad()
def start_matching(language: LanguageModel, gain: float, distance: int, seed: int) -> int:
    """Gives queries and keys of the heads that see visual tokens the same random directions.

    Only pairs of numbers that the rotary embedding hardly turns over the distance are used; the others become small.

    Args:
        language: the model; as many key-value heads as heads.
        gain: length of a direction; the score of alike tokens grows with its square.
        distance: places between the video's beginning and a question's end.
        seed: of the directions.

    Returns:
        How many numbers of each head are used.

    Raises:
        ValueError: heads share keys, or the rotary embedding turns all pairs too far.
    """
    config = language.config
    if config.num_kv_heads != config.num_heads:
        raise ValueError(f"match_start needs as many key-value heads as heads, got {config.num_kv_heads}")
    width, size = config.hidden_size, config.hidden_size // config.num_heads
    half = size // 2
    speed = config.rope_theta ** (-torch.arange(half) / half)
    slow = (speed * distance <= _MOST_TURN).nonzero().flatten()
    if not len(slow):
        raise ValueError(f"match_start: {distance} places turn every pair of numbers by more than {_MOST_TURN} radians")
    rows = torch.cat([slow, slow + half])
    generator = torch.Generator().manual_seed(seed)
    for layer in language.qwen.model.layers[:LAYERS]:
        directions = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
        for number, head in enumerate(range(config.text_only_heads, config.num_heads)):
            weight = _SMALL * torch.randn(2, size, width, generator=generator)
            start = number * len(rows) % (width - len(rows) + 1)
            weight[:, rows] = gain * directions[start : start + len(rows)]
            part = slice(head * size, (head + 1) * size)
            for projection, values in zip((layer.self_attn.q_proj, layer.self_attn.k_proj), weight, strict=True):
                projection.weight[part] = values.to(projection.weight)
                projection.bias[part] = 0
    return len(rows)
