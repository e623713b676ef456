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
        # which of the places hold visual tokens
        self.visual = torch.zeros(capacity, dtype=torch.bool)

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

    def append(self, embeddings: Tensor, cache: KvCache, *, visual: bool = False) -> None:
        """Runs embeddings [T, D] into the cache; no logits are computed.

        Args:
            embeddings: of tokens.
            cache: what comes before them.
            visual: they are visual tokens.

        Raises:
            ValueError: the cache has no room for them.
        """
        self._run(embeddings, cache, visual=visual)

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
        try:
            hidden = self.run_behind(embeddings, length + positions, may_see, cache)
        finally:
            cache.crop(length)
        return self.qwen.lm_head(hidden)

    def run_behind(self, embeddings: Tensor, positions: Tensor, may_see: Tensor, cache: KvCache) -> Tensor:
        """Runs text into the cache of which not every token sees every other before it.

        Args:
            embeddings: [T, D].
            positions: int64 [T], each token's place counted from the beginning of the context.
            may_see: bool [T, C + T], which token attends to which of the last C cached ones and of the new ones; all
                cached ones before those are seen.
            cache: what comes before them.

        Returns:
            Last hidden states [T, D].

        Raises:
            ValueError: the cache has no room for them.
        """
        before = cache.length + len(embeddings) - may_see.shape[1]
        cached = torch.ones(len(may_see), before, dtype=torch.bool, device=may_see.device)
        return self._run(embeddings, cache, torch.cat([cached, may_see], dim=1), positions)

    def logits(self, embeddings: Tensor, visual: Tensor | None = None) -> Tensor:
        """Logits [T, V] of a whole sequence of embeddings [T, D], without a cache.

        Args:
            embeddings: [T, D].
            visual: bool [T], which of them are visual tokens; None for none.
        """
        extra = {}
        if self.config.text_only_heads and visual is not None and visual.any():
            may_see = torch.ones(len(visual), len(visual), dtype=torch.bool, device=embeddings.device).tril()
            extra["attention_mask"] = self.attention_bias(may_see, visual, ~visual, embeddings.dtype)
        return self.qwen(inputs_embeds=embeddings[None], use_cache=False, **extra).logits[0]

    def attention_bias(self, may_see: Tensor, visual: Tensor, text: Tensor, dtype: torch.dtype) -> Tensor:
        """What is added to the attention scores: the lowest number wherever a token is not to be seen.

        Args:
            may_see: bool [Q, K], rows look at columns.
            visual: bool [K], which of the seen are visual tokens.
            text: bool [Q], which of those that look are text.
            dtype: of the result.

        Returns:
            [1, 1, Q, K], or for each head [1, N, Q, K] where some see text only.
        """
        heads = self.config.text_only_heads
        seen = may_see[None, None]
        if heads:
            visual, text = visual.to(may_see.device), text.to(may_see.device)
            blind = may_see & ~(text[:, None] & visual[None])
            seen = torch.stack([blind] * heads + [may_see] * (self.config.num_heads - heads))[None]
        bias = torch.zeros(seen.shape, dtype=dtype, device=may_see.device)
        return bias.masked_fill_(~seen, torch.finfo(dtype).min)

    def _run(
        self,
        embeddings: Tensor,
        cache: KvCache,
        may_see: Tensor | None = None,
        positions: Tensor | None = None,
        *,
        visual: bool = False,
    ) -> Tensor:
        start, end = cache.length, cache.length + embeddings.shape[0]
        if end > cache.capacity:
            raise ValueError(
                f"the context would be {end} tokens but the cache holds {cache.capacity}; "
                "ask a shorter question or lower max_new_tokens"
            )
        cache.visual[start:end] = visual
        extra = {} if positions is None else {"position_ids": positions[None]}
        hides = not visual and self.config.text_only_heads and bool(cache.visual[:start].any())
        if may_see is None and hides:
            may_see = torch.ones(end - start, end, dtype=torch.bool, device=embeddings.device).tril(start)
        if may_see is not None:
            text = torch.full((end - start,), not visual)
            extra["attention_mask"] = self.attention_bias(may_see, cache.visual[:end], text, embeddings.dtype)
        output = self.qwen.model(inputs_embeds=embeddings[None], past_key_values=cache, use_cache=True, **extra)
        return output.last_hidden_state[0]
