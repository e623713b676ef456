"""The Qwen2 language model over embeddings, and the cache its prefix lives in. Knows nothing of prompts or images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.cache_utils import Cache, CacheLayerMixin

from vlm3r_core.config import LanguageConfig


class _BufferLayer(CacheLayerMixin):
    """Keys and values of one layer in a buffer of fixed size; appending copies nothing, cropping moves a number."""

    is_croppable = True

    def __init__(self, keys: Tensor, values: Tensor):
        super().__init__()
        self.keys, self.values = keys, values
        self.length = 0
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the buffers exist from the start."""

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        end = self.length + key_states.shape[-2]
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.keys.shape[2]


class KvCache(Cache):
    """A key-value cache of bounded size that can be cut back to any earlier length.

    Args:
        config: the language model's sizes.
        capacity: tokens it can hold.
    """

    def __init__(self, config: LanguageConfig, capacity: int, device: torch.device, dtype: torch.dtype):
        shape = (1, config.num_kv_heads, capacity, config.hidden_size // config.num_heads)
        layers = [
            _BufferLayer(torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype))
            for _ in range(config.num_layers)
        ]
        super().__init__(layers=layers)
        self.capacity = capacity

    @property
    def length(self) -> int:
        """Tokens held."""
        return self.layers[0].length

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers, whatever the length."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    def crop(self, length: int) -> None:
        """Forgets everything after the first `length` tokens."""
        for layer in self.layers:
            layer.length = min(layer.length, length)


class LanguageModel(nn.Module):
    """Qwen2 with a language head."""

    def __init__(self, config: LanguageConfig):
        super().__init__()
        self.config = config
        self.qwen = Qwen2ForCausalLM._from_config(
            Qwen2Config(
                hidden_size=config.hidden_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                num_key_value_heads=config.num_kv_heads,
                intermediate_size=config.intermediate_size,
                vocab_size=config.vocab_size,
                max_position_embeddings=config.max_position,
                rms_norm_eps=config.rms_norm_eps,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
                tie_word_embeddings=False,
            ),
            attn_implementation="sdpa",
        )

    def new_cache(self, capacity: int) -> KvCache:
        """An empty cache on the model's device, in its dtype."""
        weight = self.qwen.lm_head.weight
        return KvCache(self.config, capacity, weight.device, weight.dtype)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [T] to embeddings [T, D]."""
        return self.qwen.get_input_embeddings()(ids)

    def append(self, embeddings: Tensor, cache: KvCache) -> None:
        """Runs embeddings [T, D] into the cache; no logits are computed.

        Raises:
            ValueError: the cache has no room for them.
        """
        self._run(embeddings, cache)

    def next_logits(self, embeddings: Tensor, cache: KvCache) -> Tensor:
        """Appends embeddings [T, D] and returns the logits [V] of the token after the last one."""
        return self.qwen.lm_head(self._run(embeddings, cache)[-1])

    def branch_logits(self, embeddings: Tensor, positions: Tensor, may_see: Tensor, cache: KvCache) -> Tensor:
        """Scores several continuations of the cached text in one pass; the cache is left as it was.

        Args:
            embeddings: [T, D] tokens of all continuations, one after the other.
            positions: int64 [T], each token's place counted from the end of the cached text.
            may_see: bool [T, T], which continuation token attends to which; the cached text is seen by all.

        Returns:
            Logits [T, V].
        """
        length = cache.length
        cached = torch.ones(may_see.shape[0], length, dtype=torch.bool, device=may_see.device)
        mask = torch.cat([cached, may_see], dim=1)[None, None]
        bias = torch.zeros(mask.shape, dtype=embeddings.dtype, device=mask.device)
        bias.masked_fill_(~mask, torch.finfo(embeddings.dtype).min)
        try:
            hidden = self._run(embeddings, cache, attention_mask=bias, position_ids=(length + positions)[None])
        finally:
            cache.crop(length)
        return self.qwen.lm_head(hidden)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Logits [T, V] of a whole sequence of embeddings [T, D], without a cache."""
        return self.qwen(inputs_embeds=embeddings[None], use_cache=False).logits[0]

    def _run(self, embeddings: Tensor, cache: KvCache, **extra) -> Tensor:
        needed = cache.length + embeddings.shape[0]
        if needed > cache.capacity:
            raise ValueError(
                f"the context would be {needed} tokens but the cache holds {cache.capacity}; "
                "ask a shorter question or lower max_new_tokens"
            )
        output = self.qwen.model(inputs_embeds=embeddings[None], past_key_values=cache, use_cache=True, **extra)
        return output.last_hidden_state[0]
