"""Answers of a model behind an OpenAI-compatible endpoint: the same questions and frames, as chat completions."""

from __future__ import annotations

import base64
import http.client
import io
import json
import logging
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import exp
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from training.benchmarks.question import BenchmarkQuestion
from training.evaluation.frames import View
from training.evaluation.said import Said
from vlm3r_core.config import check_settings, setting
from vlm3r_core.scene.scoring import LETTERS

# What is tried again: overload, time-outs and the server's own faults.
_PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
# What says that this one question cannot be asked: too long, pictures it does not take, refused.
_ABOUT_THE_QUESTION = (400, 413, 415, 422)
_LONGEST_PAUSE_S = 60.0

_log = logging.getLogger(__name__)


class EndpointError(RuntimeError):
    """The endpoint does not answer; what was answered before is kept and the run can go on later."""


@dataclass(frozen=True)
class EndpointSettings:
    """How a server is asked; none of it changes a question."""

    url: str = setting("", "up to and including /v1; /chat/completions is added")
    model: str = setting("", "the name the server knows the model by")
    key: str = setting("", "sent as bearer token where it is not empty; never written to a file")
    timeout_s: float = setting(120.0, "seconds one request may take", span=(0.1, 3600))
    retries: int = setting(5, "times a failed request is sent again", span=(0, 100))
    per_minute: float = setting(0.0, "requests a minute at most; 0: as fast as they are answered", span=(0, 1e6))
    concurrency: int = setting(4, "requests under way at once", span=(1, 256))
    jpeg_quality: int = setting(90, "of the frames", span=(1, 100))
    logprobs: bool = setting(False, "ask for the likelihoods of the first token; not every server has them")

    def __post_init__(self):
        check_settings(self)
        if urlsplit(self.url).scheme not in ("http", "https") or not self.model:
            raise ValueError(
                f"an endpoint needs a URL such as http://localhost:8000/v1 and a model's name, got {self.url!r} and "
                f"{self.model!r}"
            )


class EndpointAnswers:
    """Asks a server.

    Args:
        settings: how.
        max_new_tokens: of one answer.
        sleep: waits some seconds.
    """

    def __init__(self, settings: EndpointSettings, max_new_tokens: int, sleep: Callable[[float], None] = time.sleep):
        self._settings, self._max_new_tokens, self._sleep = settings, max_new_tokens, sleep
        self._limit = _RateLimit(settings.per_minute, sleep)

    def answer(self, view: View, questions: Sequence[BenchmarkQuestion]) -> Iterator[Said]:
        """An answer to each question about a view, in their order.

        Raises:
            EndpointError: the server does not answer, or refuses every question.
        """
        pictures = [_picture_part(image, self._settings.jpeg_quality) for image in view.images]
        with ThreadPoolExecutor(self._settings.concurrency, "endpoint") as pool:
            try:
                yield from pool.map(lambda question: self._ask(pictures, question), questions)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, pictures: list[dict], question: BenchmarkQuestion) -> Said:
        body = {
            "model": self._settings.model,
            "messages": [{"role": "user", "content": [*pictures, {"type": "text", "text": question.prompt}]}],
            "max_tokens": self._max_new_tokens,
            "temperature": 0,
        }
        if self._settings.logprobs:
            body |= {"logprobs": True, "top_logprobs": 20}
        started = time.perf_counter()
        try:
            reply = self._post(json.dumps(body).encode())
        except _Refused as refused:
            return Said("", error=f"the endpoint refused the question: {refused}")
        return _read_reply(reply, question, (time.perf_counter() - started) * 1e3)

    def _post(self, body: bytes) -> dict:
        headers = {"Content-Type": "application/json"}
        if self._settings.key:
            headers["Authorization"] = f"Bearer {self._settings.key}"
        url = self._settings.url.rstrip("/") + "/chat/completions"
        for attempt in range(self._settings.retries + 1):
            self._limit.wait()
            request = urllib.request.Request(url, body, headers)
            try:
                with urllib.request.urlopen(request, timeout=self._settings.timeout_s) as response:
                    return _json_object(response.read(), url)
            except urllib.error.HTTPError as error:
                reason, asked_pause_s = _http_reason(error), _retry_after_s(error)
                if error.code in _ABOUT_THE_QUESTION:
                    raise _Refused(reason) from error
                if error.code not in _PASSING:
                    raise EndpointError(f"{url}: {reason}; check the URL, the model's name and the key") from error
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                reason, asked_pause_s = str(getattr(error, "reason", error)), None
            if attempt < self._settings.retries:
                pause_s = asked_pause_s or min(_LONGEST_PAUSE_S, 2.0**attempt) * random.uniform(0.8, 1.2)
                _log.warning("%s: %s; trying again in %.1f s", url, reason, pause_s)
                self._sleep(pause_s)
        raise EndpointError(
            f"{url} did not answer in {self._settings.retries + 1} attempts, the last time: {reason}; what was "
            "answered is kept, run the same command again"
        )


class _Refused(Exception):
    """The server answers, but not this question."""


class _RateLimit:
    """Lets requests pass at most so often."""

    def __init__(self, per_minute: float, sleep: Callable[[float], None]):
        self._gap_s = 60 / per_minute if per_minute else 0.0
        self._sleep, self._lock, self._next_s = sleep, threading.Lock(), 0.0

    def wait(self) -> None:
        if not self._gap_s:
            return
        with self._lock:
            now = time.monotonic()
            pause_s = max(0.0, self._next_s - now)
            self._next_s = max(now, self._next_s) + self._gap_s
        if pause_s:
            self._sleep(pause_s)


def _picture_part(image: np.ndarray, quality: int) -> dict:
    """A frame as the part of a message that carries a picture."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality)
    text = base64.b64encode(data.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{text}"}}


def _read_reply(reply: dict, question: BenchmarkQuestion, latency_ms: float) -> Said:
    try:
        choice = reply["choices"][0]
        content = choice["message"].get("content") or ""
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EndpointError(f"a reply has no choices[0].message.content but {str(reply)[:200]!r}") from error
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    letters, fluency = _likelihoods(choice, len(question.options))
    tokens = (reply.get("usage") or {}).get("completion_tokens") or 0
    return Said(content.strip(), letters=letters, fluency=fluency, tokens=int(tokens), latency_ms=latency_ms)


def _likelihoods(choice: dict, options: int) -> tuple[tuple[float, ...], float | None]:
    """Probability of each option's letter among the options' and geometric mean of all tokens', where told."""
    told = (choice.get("logprobs") or {}).get("content") or []
    if not told:
        return (), None
    fluency = exp(sum(token["logprob"] for token in told) / len(told))
    found = {entry["token"].strip().upper(): exp(entry["logprob"]) for entry in reversed(told[0]["top_logprobs"])}
    letters = [found.get(letter, 0.0) for letter in LETTERS[:options]]
    return (tuple(value / sum(letters) for value in letters) if sum(letters) else ()), fluency


def _json_object(data: bytes, url: str) -> dict:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise EndpointError(f"{url} replied {data[:100]!r}, which is no JSON; is the URL that of the API?") from error
    return value if isinstance(value, dict) else {}


def _http_reason(error: urllib.error.HTTPError) -> str:
    text = error.read(1000).decode("utf-8", "replace").strip()
    return f"HTTP {error.code} {error.reason}{f': {text[:300]}' if text else ''}"


def _retry_after_s(error: urllib.error.HTTPError) -> float | None:
    try:
        return min(_LONGEST_PAUSE_S, max(0.0, float(error.headers.get("Retry-After", ""))))
    except ValueError:
        return None
