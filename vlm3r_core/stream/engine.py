"""One camera stream on one model: frames in, answers out. Single-threaded; worker.py gives it a thread."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import torch

from vlm3r_core.answer import (
    ROUTE_CONFIDENCE,
    route_alternatives,
    route_steps,
    route_text,
    turn_combinations,
    turns_text,
)
from vlm3r_core.config import StreamConfig
from vlm3r_core.model.cut3r_state import Cut3rState
from vlm3r_core.model.vlm3r import VLM3R, Encoded
from vlm3r_core.preprocess import to_pixels
from vlm3r_core.prompt import Tokenizer
from vlm3r_core.scene.questions import route_question
from vlm3r_core.stream.memory import KeptFrame, make_memory
from vlm3r_core.stream.meter import StepMeter
from vlm3r_core.stream.prefix import VisualPrefix
from vlm3r_core.stream.reader import AnswerReader, ms_since
from vlm3r_core.stream.snapshot import load_snapshot, save_snapshot
from vlm3r_core.types import Answer, AnswerPart, Frame, LatencyMs, NoFrame, Route, StaleView, StreamStats


class StreamEngine:
    """Updates the model's state frame by frame and answers questions about everything seen so far.

    A question never encodes a frame again: visual tokens are kept in memory, and the language model's prefix cache
    holds the system text and the tokens of the frames in context.

    Args:
        model: from vlm3r_core.load.
        config: how the stream keeps time and memory.
        tokenizer: default the one that came with the model; the bundled one for random weights that have none.

    Raises:
        ValueError: the context would not fit the language model, or the tokenizer is not the model's.
    """

    def __init__(self, model: VLM3R, config: StreamConfig | None = None, tokenizer: Tokenizer | None = None):
        self.model = model
        self.config = (config or StreamConfig()).for_model(model.config)
        tokenizer = tokenizer or model.tokenizer
        if tokenizer is None and model.config.trained:
            raise ValueError("a trained model needs the tokenizer it was trained with; pass tokenizer_for(model spec)")
        self.tokenizer = tokenizer or Tokenizer()
        if self.tokenizer.size > model.config.language.vocab_size:
            raise ValueError(
                f"the tokenizer has {self.tokenizer.size} tokens, the language model "
                f"{model.config.language.vocab_size} rows; they do not belong together"
            )
        self._prefix = VisualPrefix(model, self.tokenizer, self.config.max_frames, self.config.max_question_tokens)
        self._reader = AnswerReader(model, self.tokenizer, self.config, self._prefix)
        self._dropped = 0
        self.reset()

    # ---- frames

    def push(self, frame: Frame) -> bool:
        """Takes the next frame.

        Args:
            frame: stamps must rise. One that lies further back than `backward_reset_s` starts a new session.

        Returns:
            False if the frame was dropped because its stamp is not newer than the newest one's.
        """
        self._prefix.check_free()
        self._leave_other_model()
        if self._next_stamp_ns is not None and frame.stamp_ns < self._next_stamp_ns:
            if self._next_stamp_ns - frame.stamp_ns <= self.config.backward_reset_s * 1e9:
                self._dropped += 1
                return False
            self.reset()
        started = time.perf_counter()
        state, encoded = self._step(frame)
        self._state = state
        self._memory.add(KeptFrame(self._frames_seen, frame.stamp_ns, encoded.visual_tokens[0]))
        self._frames_seen += 1
        self._stamp_ns, self._next_stamp_ns = frame.stamp_ns, frame.stamp_ns + 1
        if self._memory.eager:
            self._sync_prefix()
        if self.model.device.type == "cuda":
            # Without it the step times would be launch times, and frames would pile up on the GPU.
            torch.cuda.synchronize(self.model.device)
        self._meter.add(time.perf_counter() - started)
        return True

    @torch.inference_mode()
    def _step(self, frame: Frame) -> tuple[Cut3rState, Encoded]:
        pixels = to_pixels(frame.rgb, self.model.config.siglip.image_size)
        return self.model.step(self._state, pixels.to(self.model.device, self.model.dtype)[None])

    @torch.inference_mode()
    def _sync_prefix(self) -> None:
        self._prefix.sync(self._memory.context())

    # ---- questions

    def ask(
        self,
        question: str,
        options: Sequence[str] = (),
        answer_type: str = "auto",
        *,
        max_new_tokens: int | None = None,
        not_before_ns: int = 0,
    ) -> Answer:
        """Answers a question about what was seen so far.

        Args:
            question: plain text.
            options: answers to choose from, without letters.
            answer_type: `auto`, `choice`, `number` or `text`.
            max_new_tokens: tokens to decode at most, default the configuration's.
            not_before_ns: refuse if the newest frame is older than this stamp.

        Raises:
            ValueError: a question that cannot be asked; says what was expected, what came and what to do.
            NoFrame: nothing was seen yet.
            StaleView: the newest frame is older than not_before_ns.
        """
        *_, last = self.ask_stream(
            question, options, answer_type, max_new_tokens=max_new_tokens, not_before_ns=not_before_ns
        )
        return last.answer

    def ask_stream(
        self,
        question: str,
        options: Sequence[str] = (),
        answer_type: str = "auto",
        *,
        max_new_tokens: int | None = None,
        not_before_ns: int = 0,
    ) -> Iterator[AnswerPart]:
        """Like `ask`, but yields the text as it is decoded; the last part carries the answer. Close it to cancel."""
        started = time.perf_counter()
        question, options = question.strip(), [option.strip() for option in options]
        kind = self._reader.check_question(question, options, answer_type)
        self._prepare_view(not_before_ns)
        yield AnswerPart("", "prefill", 0)
        limit = max_new_tokens or self.config.asking.max_new_tokens
        facts = self._bookkeeping()
        if kind == "choice":
            yield self._reader.choose(question, options, facts, started)
        else:
            brief = answer_type != "text"
            yield from self._reader.decode(question, kind, facts, started, brief=brief, max_new_tokens=limit)

    # ---- routes

    def plan_route(
        self, start: str = "", facing: str = "", goal: str = "", via: Sequence[str] = (), *, not_before_ns: int = 0
    ) -> Route:
        """Says which way to turn along a route.

        Args:
            start: where the robot stands; empty together with facing: the current view.
            facing: what it faces.
            goal: where it wants to go.
            via: landmarks on the way.
            not_before_ns: refuse if the newest frame is older than this stamp.

        Returns:
            The likeliest combination of turns; every combination with its probability is in `alternatives`.

        Raises:
            ValueError, NoFrame, StaleView: as `ask`.
        """
        started = time.perf_counter()
        question = route_question(start, facing, goal, via)
        self._reader.check_length([question.text])
        self._prepare_view(not_before_ns)
        combinations = turn_combinations(question)
        facts = self._bookkeeping()
        probabilities = self._reader.score_turns(question, [turns_text(turns) for turns in combinations], facts)
        steps = route_steps(question, combinations, probabilities)
        elapsed = ms_since(started)
        return Route(
            steps=steps,
            text=route_text(steps),
            confidence=max(probabilities),
            alternatives=route_alternatives(combinations, probabilities),
            confidence_meaning=ROUTE_CONFIDENCE,
            latency_ms=LatencyMs(first_token=elapsed, total=elapsed),
            **facts,
        )

    # ---- the session

    def reset(self) -> None:
        """Forgets everything seen and starts a new session."""
        self._prefix.check_free()
        with torch.inference_mode():
            self._state = self.model.init_state(1)
        self._memory = make_memory(self.config)
        self._prefix.clear()
        self._seen_by = self.model.config
        self._frames_seen = 0
        self._stamp_ns = 0
        self._next_stamp_ns: int | None = None
        self._session_id = uuid.uuid4().hex
        self._meter = StepMeter()

    def use_adapter(self, name: str) -> None:
        """Switches the model to another of its adapters; unless it is in use, a new session starts.

        Raises:
            ValueError: no such adapter, or the model keeps none apart.
        """
        self._prefix.check_free()
        if self.model.adapters is None:
            raise ValueError(
                f"{self.model.config.name} keeps no adapters apart; load it with adapter=NAME:PATH for each of them"
            )
        if name != self.model.adapters.active:
            self.model.adapters.use(name)
        self._leave_other_model()

    def save(self, path: str | os.PathLike) -> None:
        """Writes the session to a file, whole or not at all.

        Raises:
            FileNotFoundError: the folder does not exist.
            OSError: it cannot be written.
        """
        self._leave_other_model()
        frames = self._memory.frames()
        tensors = {f"cut3r.{name}": tensor for name, tensor in self._state.as_tensors().items()}
        if frames:
            tensors["visual_tokens"] = torch.stack([frame.tokens for frame in frames])
        facts = {
            "model": self.model.config.name,
            "config": asdict(self.config),
            "session_id": self._session_id,
            "frames_seen": self._frames_seen,
            "stamp_ns": self._stamp_ns,
            "frames": [[frame.index, frame.stamp_ns] for frame in frames],
        }
        save_snapshot(path, tensors, facts)

    def load(self, path: str | os.PathLike) -> None:
        """Continues a saved session; what was seen before is forgotten. The next frame may have any stamp.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a snapshot, or one of another model or memory policy; the stream is unchanged.
        """
        tensors, facts = load_snapshot(path)
        expected = {"model": self.model.config.name, **_memory_facts(asdict(self.config))}
        found = {"model": facts["model"], **_memory_facts(facts["config"])}
        if found != expected:
            raise ValueError(f"the snapshot {path} was saved with {found}, this stream has {expected}; start it alike")
        weights = {"device": self.model.device, "dtype": self.model.dtype}
        cut3r = {name.removeprefix("cut3r."): t for name, t in tensors.items() if name.startswith("cut3r.")}
        state = Cut3rState.from_tensors(cut3r).to(**weights)
        tokens = tensors["visual_tokens"].to(**weights) if facts["frames"] else []
        self.reset()
        self._state = state
        # Own storage for each frame: a view would keep all frames of the file alive as long as one is kept.
        self._memory.restore(KeptFrame(*fact, t.clone()) for fact, t in zip(facts["frames"], tokens, strict=True))
        self._frames_seen, self._stamp_ns = facts["frames_seen"], facts["stamp_ns"]
        self._session_id = facts["session_id"]
        if self._memory.eager and self._frames_seen:
            self._sync_prefix()

    def stats(self) -> StreamStats:
        """What the stream holds now."""
        frames = self._memory.frames()
        held = self._prefix.nbytes + self._state.nbytes + sum(frame.tokens.nbytes for frame in frames)
        return StreamStats(
            state="ready",
            frames_seen=self._frames_seen,
            frames_kept=len(frames),
            frames_dropped=self._dropped,
            fps=self._meter.per_second(),
            step_mean_ms=self._meter.mean_ms(),
            step_max_ms=self._meter.max_ms(),
            memory_bytes=held,
            model=self.model.config.name,
            trained=self.model.config.trained,
            session_id=self._session_id,
            last_stamp_ns=self._stamp_ns,
        )

    # ---- parts

    def _leave_other_model(self) -> None:
        """A switched adapter has other tokens and another cache: what the one before has seen is forgotten."""
        if self.model.config is not self._seen_by:
            self.reset()

    def _prepare_view(self, not_before_ns: int) -> None:
        self._leave_other_model()
        if not self._frames_seen:
            raise NoFrame("no frame was seen yet; push frames (is the camera publishing?) before asking")
        if self._stamp_ns < not_before_ns:
            age_s = (not_before_ns - self._stamp_ns) / 1e9
            raise StaleView(f"the newest frame is {age_s:.1f} s older than accepted; is the camera still publishing?")
        self._sync_prefix()

    def _bookkeeping(self) -> dict:
        context = self._memory.context()
        return {
            "supporting_stamps_ns": tuple(frame.stamp_ns for frame in context),
            "frames_used": len(context),
            "state_stamp_ns": self._stamp_ns,
            "session_id": self._session_id,
            "trained": self.model.config.trained,
        }


def _memory_facts(config: dict) -> dict:
    return {name: config[name] for name in ("memory_policy", "max_frames", "max_pool_frames")}
