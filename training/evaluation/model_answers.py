"""Answers of a model that runs here: a video is encoded once, its questions are decoded together. Scores nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import exp, log

import torch
from torch import Tensor

from training.benchmarks.question import BenchmarkQuestion
from training.evaluation.decoding import Decoded, decode_together
from training.evaluation.frames import View
from training.evaluation.said import Said
from training.evaluation.settings import EvalSettings
from vlm3r_core.config import INFERENCE_PRESETS
from vlm3r_core.model.language import KvCache
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.preprocess import to_pixels
from vlm3r_core.prompt import Tokenizer, prefix_ids, suffix_ids, time_instruction
from vlm3r_core.stream.decoding import letter_probabilities, number_choice

# Bounds the activations of the prefill; the result does not depend on it.
_TOKENS_PER_PASS = 2048


class ModelAnswers:
    """Asks a model.

    Args:
        model: from vlm3r_core.load, with the preset's pooling.
        settings: preset and length of answers; a token selection given there replaces the model's.
        batch: questions decoded together at most. The answers do not depend on it, up to rounding.

    Raises:
        ValueError: the token selection does not suit the model.
    """

    def __init__(self, model: VLM3R, settings: EvalSettings, *, batch: int = 32):
        self._model, self._settings, self._batch = model, settings, batch
        self._preset = INFERENCE_PRESETS[settings.preset]
        self._tokenizer: Tokenizer = model.tokenizer or Tokenizer()
        self._numbers = number_choice(model, self._tokenizer)
        self._cache: KvCache | None = None
        if settings.token_selection:
            model.config = replace(model.config, token_selection=settings.token_selection)

    @torch.inference_mode()
    def encode(self, view: View) -> Tensor:
        """Visual tokens of a view as one sequence [T, D]; none of a view without frames."""
        model, state, tokens = self._model, self._model.init_state(1), []
        for image in view.images:
            pixels = to_pixels(image, model.config.siglip.image_size).to(model.device, model.dtype)
            state, encoded = model.step(state, pixels[None])
            tokens.append(encoded.visual_tokens[0])
        if not tokens:
            return torch.zeros(0, model.config.language.hidden_size, device=model.device, dtype=model.dtype)
        return model.visual_sequence(torch.stack(tokens))

    def answer(self, view: View, questions: Sequence[BenchmarkQuestion]) -> Iterator[Said]:
        """An answer to each question about a view, in their order; the view is encoded once."""
        yield from self.ask(self.encode(view), view, questions)

    def ask(self, visual: Tensor, view: View, questions: Sequence[BenchmarkQuestion]) -> Iterator[Said]:
        """An answer to each question about a view whose visual tokens [T, D] are at hand.

        Raises:
            ValueError: a question does not fit the language model's positions.
        """
        suffixes = [suffix_ids(self._tokenizer, self.message(question, view)) for question in questions]
        cache = self._prefill(visual, suffixes)
        for start in range(0, len(questions), self._batch):
            started = time.perf_counter()
            decoded = decode_together(
                self._model.language,
                cache,
                suffixes[start : start + self._batch],
                vocab_size=self._tokenizer.size,
                stop_ids=(self._tokenizer.im_end, self._tokenizer.end_of_text),
                max_new_tokens=self._settings.answer_tokens,
                repetition_penalty=self._model.config.repetition_penalty,
                numbers=self._numbers,
            )
            latency_ms = (time.perf_counter() - started) * 1e3
            for question, one in zip(questions[start : start + self._batch], decoded, strict=True):
                yield self._said(question, one, latency_ms)

    def message(self, question: BenchmarkQuestion, view: View) -> str:
        """What the user says behind the video: the prompt, with the frames' times where the preset tells them."""
        if self._preset.time_instruction == "none" or not view.images:
            return question.prompt
        gap = "\n\n" if self._preset.time_instruction == "paragraph" else "\n"
        return time_instruction(view.times_s, view.duration_s) + gap + question.prompt

    @torch.inference_mode()
    def _prefill(self, visual: Tensor, suffixes: Sequence[Sequence[int]]) -> KvCache:
        """A cache that holds the system text and the visual tokens, with room for the questions of a batch."""
        language, limit = self._model.language, self._model.config.language.max_position
        system = torch.tensor(prefix_ids(self._tokenizer), device=self._model.device)
        new, prefix = self._settings.answer_tokens, len(system) + len(visual)
        longest = max(map(len, suffixes))
        if prefix + longest + new > limit:
            raise ValueError(
                f"{len(visual)} visual tokens, a question of {longest} tokens and {new} for its answer exceed the "
                f"language model's {limit} positions; lower frames"
            )
        batches = [suffixes[start : start + self._batch] for start in range(0, len(suffixes), self._batch)]
        capacity = prefix + max(sum(map(len, batch)) + new * len(batch) for batch in batches)
        if self._cache is None or self._cache.capacity < capacity:
            self._cache = None  # frees the old one before the new one is made
            self._cache = language.new_cache(capacity)
        self._cache.crop(0)
        language.append(language.embed(system), self._cache)
        for part in visual.split(_TOKENS_PER_PASS) if len(visual) else ():
            language.append(part, self._cache, visual=True)
        return self._cache

    def _said(self, question: BenchmarkQuestion, decoded: Decoded, latency_ms: float) -> Said:
        stop = (self._tokenizer.im_end, self._tokenizer.end_of_text)
        text = self._tokenizer.decode([token for token in decoded.ids if token not in stop]).strip()
        letters = ()
        if question.is_choice:
            ids = self._tokenizer.letter_ids(len(question.options))
            letters = tuple(letter_probabilities(decoded.first_logits, ids))
        mean_log = sum(log(max(p, 1e-30)) for p in decoded.probabilities) / len(decoded.probabilities)
        return Said(text, letters=letters, fluency=exp(mean_log), tokens=len(decoded.ids), latency_ms=latency_ms)
