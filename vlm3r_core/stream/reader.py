"""Reads answers off the model: a question goes behind the visual prefix, an Answer comes out. Owns no frames."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from math import exp, log, nan

import torch
from torch import Tensor

from vlm3r_core.answer import (
    CHOICE_CONFIDENCE,
    DECODED_CONFIDENCE,
    says_not_seen,
)
from vlm3r_core.config import StreamConfig, check_choice
from vlm3r_core.model.language import KvCache
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import LETTERS, Tokenizer, question_message, suffix_ids, time_instruction
from vlm3r_core.quantity import asked_unit, infer_answer_type, parse_number
from vlm3r_core.scene.questions import RouteQuestion
from vlm3r_core.stream.decoding import continuation_log_probs, greedy_tokens, letter_probabilities, number_choice
from vlm3r_core.stream.prefix import VisualPrefix
from vlm3r_core.types import ANSWER_TYPES, Answer, AnswerPart, LatencyMs


class AnswerReader:
    """Asks the language model behind a prefix that someone else keeps in step with the stream.

    `facts`, wherever it is an argument, are the fields of Answer that tell what the answer rests on
    (supporting_stamps_ns and the like).
    """

    def __init__(self, model: VLM3R, tokenizer: Tokenizer, config: StreamConfig, prefix: VisualPrefix):
        self._model, self._tokenizer, self._config, self._prefix = model, tokenizer, config, prefix
        self._numbers = number_choice(model, tokenizer)

    def check_question(self, question: str, options: Sequence[str], answer_type: str) -> str:
        """What kind of answer a question wants.

        Raises:
            ValueError: it cannot be asked.
        """
        check_choice("answer_type", answer_type, ANSWER_TYPES)
        if not question:
            raise ValueError("the question is empty; ask something, such as 'How far is the door?'")
        if "" in options:
            raise ValueError(f"options must not be empty texts, got {list(options)}")
        self.check_length([question, *options])
        kind = infer_answer_type(question, options) if answer_type == "auto" else answer_type
        if (kind == "choice") != bool(options):
            raise ValueError(
                f"answer_type {answer_type!r} with {len(options)} options: options belong to 'choice' (or 'auto'), "
                "and 'choice' needs options"
            )
        if kind == "choice" and not 2 <= len(options) <= len(LETTERS):
            raise ValueError(f"a choice needs 2 to {len(LETTERS)} options, got {len(options)}")
        return kind

    def check_length(self, texts: Sequence[str]) -> None:
        """Raises ValueError where the texts of a question are too long together."""
        length = sum(map(len, texts))
        if length > self._config.max_question_chars:
            raise ValueError(
                f"the question has {length} characters with its options, at most {self._config.max_question_chars} are "
                "taken; shorten it or raise max_question_chars"
            )

    def choose(self, question: str, options: Sequence[str], facts: dict, started: float) -> AnswerPart:
        """Picks an option by the likelihood of its letter.

        Args:
            question: plain text.
            options: two or more.
            facts: see above.
            started: perf_counter when the question came.
        """
        with self._prefix.behind() as cache:
            logits = self.read(question_message(question, options), 0, facts, cache)
        probabilities = letter_probabilities(logits, self._tokenizer.letter_ids(len(options)))
        best = max(range(len(options)), key=probabilities.__getitem__)
        elapsed = ms_since(started)
        answer = Answer(
            text=options[best],
            kind="choice",
            choice_idx=best,
            confidence=probabilities[best],
            confidence_meaning=CHOICE_CONFIDENCE,
            seen=not says_not_seen(options[best]),
            latency_ms=LatencyMs(first_token=elapsed, total=elapsed),
            **facts,
        )
        return AnswerPart(answer.text, "done", 0, answer)

    def decode(
        self, question: str, kind: str, facts: dict, started: float, *, brief: bool, max_new_tokens: int
    ) -> Iterator[AnswerPart]:
        """Decodes an open answer, one part a token.

        Args:
            question: plain text.
            kind: `number` or `text`.
            facts: see above.
            started: perf_counter when the question came.
            brief: ask for a single word or phrase.
            max_new_tokens: tokens at most.
        """
        stop_ids = (self._tokenizer.im_end, self._tokenizer.end_of_text)
        ids, log_prob, first_token = [], 0.0, 0.0
        with self._prefix.behind() as cache:
            logits = self.read(question_message(question, brief=brief), max_new_tokens, facts, cache)
            steps = greedy_tokens(
                self._model.language,
                cache,
                logits,
                vocab_size=self._tokenizer.size,
                stop_ids=stop_ids,
                max_new_tokens=max_new_tokens,
                repetition_penalty=self._model.config.repetition_penalty,
                numbers=self._numbers,
            )
            for count, (token, probability) in enumerate(steps, 1):
                first_token = first_token or ms_since(started)
                log_prob += log(max(probability, 1e-30))
                ids.append(token)
                if token not in stop_ids:
                    # a character may end in a later token; until then its bytes decode to the replacement character
                    yield AnswerPart(self._tokenizer.decode(ids).rstrip("\ufffd"), "decoding", count)
        text = self._tokenizer.decode([token for token in ids if token not in stop_ids]).strip()
        value, unit = parse_number(text) if kind == "number" else (nan, "")
        answer = Answer(
            text=text,
            kind=kind,
            value=value,
            unit=unit or (asked_unit(question) if kind == "number" else ""),
            confidence=exp(log_prob / len(ids)),
            confidence_meaning=DECODED_CONFIDENCE,
            seen=not says_not_seen(text),
            latency_ms=LatencyMs(first_token=first_token, total=ms_since(started)),
            **facts,
        )
        yield AnswerPart(text, "done", len(ids), answer)

    def score_turns(self, question: RouteQuestion, texts: list[str], facts: dict) -> list[float]:
        """Probability of each combination of turns: by option letter as the benchmark asks, beyond 26 by its text."""
        if len(texts) <= len(LETTERS):
            with self._prefix.behind() as cache:
                logits = self.read(question_message(question.text, texts), 0, facts, cache)
            return letter_probabilities(logits, self._tokenizer.letter_ids(len(texts)))
        continuations = [self._tokenizer.encode(text) for text in texts]
        room = sum(map(len, continuations))
        with self._prefix.behind() as cache:
            logits = self.read(question_message(question.text), room, facts, cache)
            scores = continuation_log_probs(self._model.language, cache, logits, continuations)
        return torch.tensor(scores, dtype=torch.float64).softmax(0).tolist()

    @torch.inference_mode()
    def read(self, message: str, room: int, facts: dict, cache: KvCache) -> Tensor:
        """Runs a user message behind the prefix.

        Args:
            message: what the user says.
            room: tokens that must fit behind it.
            facts: see above.
            cache: the prefix's, from VisualPrefix.behind.

        Returns:
            Logits [V] of the first answer token.

        Raises:
            ValueError: the message is too long.
        """
        ids = torch.tensor(self.suffix(message, room, facts), device=self._model.device)
        embeddings = self._model.language.embed(ids)
        if self._model.config.newline == "one_token":
            embeddings = torch.cat([self._model.image_newline[None], embeddings])
        return self._model.language.next_logits(embeddings, cache)

    def suffix(self, message: str, room: int, facts: dict) -> list[int]:
        """Token ids behind the visual tokens, time instruction included; the arguments are those of `read`.

        Differs: a stream has no end, so the video is said to last until the newest frame; in the published code it
        lasts a frame or more beyond the last one sampled.
        """
        asking = self._config.asking.time_instruction
        if asking != "none":
            stamps = facts["supporting_stamps_ns"]
            gap = "\n\n" if asking == "paragraph" else "\n"
            message = time_instruction([(stamp - stamps[0]) / 1e9 for stamp in stamps]) + gap + message
        ids = suffix_ids(self._tokenizer, message)
        limit = self._config.max_question_tokens
        if len(ids) + room + 1 > limit:
            raise ValueError(
                f"the question needs {len(ids)} tokens and {room} for its answer, there is room for {limit}; "
                "shorten it or raise max_question_tokens"
            )
        return ids


def ms_since(started: float) -> float:
    """Milliseconds since a perf_counter reading."""
    return (time.perf_counter() - started) * 1e3
