"""The language model's prefix cache: system text and visual tokens. Questions come and go behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from vlm3r_core.model.language import KvCache
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import Tokenizer, prefix_ids
from vlm3r_core.stream.memory import KeptFrame

# Bounds the activations of a re-prefill; the result does not depend on it.
_FRAMES_PER_PASS = 8


class VisualPrefix:
    """Keeps [system text, visual tokens] in the cache, and re-runs only what changed.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        max_frames: frames in the context at most.
        max_suffix: tokens behind the prefix at most, a question and its answer.

    Raises:
        ValueError: that does not fit the language model's positions.
    """

    def __init__(self, model: VLM3R, tokenizer: Tokenizer, max_frames: int, max_suffix: int):
        self._model = model
        ids = torch.tensor(prefix_ids(tokenizer), device=model.device)
        capacity = len(ids) + max_frames * model.config.tokens_per_frame + max_suffix
        limit = model.config.language.max_position
        if capacity > limit:
            raise ValueError(
                f"{max_frames} frames of {model.config.tokens_per_frame} tokens and {max_suffix} tokens of text make "
                f"{capacity} positions, the language model has {limit}; lower max_frames or max_question_tokens"
            )
        self._system = model.language.embed(ids)
        self._cache: KvCache = model.language.new_cache(capacity)
        self._indices: list[int] = []
        self._lent = False

    @property
    def nbytes(self) -> int:
        """Bytes of the cache."""
        return self._cache.nbytes

    def check_free(self) -> None:
        """Raises RuntimeError while an answer is being decoded behind the prefix."""
        if self._lent:
            raise RuntimeError("an answer is still being streamed; drain or close it before touching the stream")

    def clear(self) -> None:
        """Forgets everything, the system text too."""
        self._cache.crop(0)
        self._indices = []

    def sync(self, context: Sequence[KeptFrame]) -> int:
        """Makes the cache hold exactly these frames.

        What the cache and the context share at the beginning stays; the rest is cut and run again.

        Returns:
            The number of frames that were run.
        """
        self.check_free()
        if self._cache.length == 0:
            self._model.language.append(self._system, self._cache)
        shared = self._shared(context)
        self._truncate(shared)
        missing = context[shared:]
        for start in range(0, len(missing), _FRAMES_PER_PASS):
            chunk = missing[start : start + _FRAMES_PER_PASS]
            self._model.language.append(torch.cat([frame.tokens for frame in chunk]), self._cache, visual=True)
            self._indices += [frame.index for frame in chunk]
        return len(missing)

    @contextmanager
    def behind(self) -> Iterator[KvCache]:
        """Lends the cache for a question; afterwards it is cut back to the prefix, however the question ended."""
        length, self._lent = self._cache.length, True
        try:
            yield self._cache
        finally:
            self._lent = False
            self._cache.crop(length)

    def _shared(self, context: Sequence[KeptFrame]) -> int:
        for place, (held, frame) in enumerate(zip(self._indices, context, strict=False)):
            if held != frame.index:
                return place
        return min(len(self._indices), len(context))

    def _truncate(self, frames: int) -> None:
        self._indices = self._indices[:frames]
        self._cache.crop(len(self._system) + frames * self._model.config.tokens_per_frame)
