"""A model behind an OpenAI-compatible endpoint, against a server in this process that speaks the protocol."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log

import numpy as np
import pytest
from benchmark_copies import video_frames, vsi_rows, write_vsi
from PIL import Image

from training import evaluate
from training.benchmarks.vsi import vsi_question
from training.evaluation.endpoint import EndpointAnswers, EndpointError, EndpointSettings, _RateLimit
from training.evaluation.frames import View
from vlm3r_core.scene.formatting import benchmark_prompt


class Server:
    """Answers chat completions; keeps what it was asked."""

    def __init__(self):
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        # (status, headers, body) to be sent before any right answer
        self.failures: list[tuple[int, dict, bytes]] = []
        self.reply = lambda body: {"choices": [{"message": {"role": "assistant", "content": " B. "}}]}
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.requests.append(body | {"path": self.path})
                    server.headers.append(dict(self.headers))
                    failure = server.failures.pop(0) if server.failures else None
                if failure and failure[0] == 0:
                    self.connection.close()
                    return
                status, headers, data = failure or (200, {}, json.dumps(server.reply(body)).encode())
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def questions(tmp_path):
    return [vsi_question(row, tmp_path, tmp_path) for row in vsi_rows(1)]


VIEW = View(tuple(video_frames(1, 2)), (0.0, 1.0), 2.0)


def ask(server, questions, pauses=None, **changes):
    settings = EndpointSettings(url=server.url, model="peer-8b", **{"concurrency": 1} | changes)
    answers = EndpointAnswers(settings, 16, sleep=(pauses if pauses is not None else []).append)
    return list(answers.answer(VIEW, questions))


def test_request_has_the_same_prompt_and_frames(server, questions):
    said = ask(server, questions[3:4], key="secret")
    assert said[0].text == "B."
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("peer-8b", 16, 0)
    assert server.headers[0]["Authorization"] == "Bearer secret"
    (message,) = request["messages"]
    *pictures, text = message["content"]
    assert text == {"type": "text", "text": benchmark_prompt(vsi_rows(1)[3], "vsi")}
    for part, image in zip(pictures, VIEW.images, strict=True):
        head, _, data = part["image_url"]["url"].partition(",")
        assert (part["type"], head) == ("image_url", "data:image/jpeg;base64")
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert shown.shape == image.shape
        assert np.abs(shown.astype(int) - image).mean() < 12


def test_answers_keep_their_order(server, questions):
    def reply(body):
        text = body["messages"][0]["content"][-1]["text"]
        # the first one comes last
        time.sleep(0.2 if "chair" in text else 0)
        return {"choices": [{"message": {"content": text[29:40]}}], "usage": {"completion_tokens": 3}}

    server.reply = reply
    said = ask(server, questions, concurrency=6)
    assert [one.text for one in said] == [question.prompt[29:40].strip() for question in questions]
    assert [one.tokens for one in said] == [3] * len(questions)


def test_passing_failures_are_tried_again(server, questions):
    server.failures = [(503, {}, b"busy"), (429, {"Retry-After": "7"}, b""), (0, {}, b""), (500, {}, b"")]
    pauses: list[float] = []
    assert ask(server, questions[:1], pauses)[0].text == "B."
    assert len(server.requests) == 5
    assert 0.8 <= pauses[0] <= 1.2
    assert pauses[1] == 7
    assert 3.2 <= pauses[2] <= 4.8


def test_lasting_failure_stops_the_run(server, questions):
    server.failures = [(503, {}, b"no workers")] * 3
    with pytest.raises(EndpointError, match=r"did not answer in 3 attempts, the last time: HTTP 503 .*no workers"):
        ask(server, questions[:1], retries=2)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_wrong_url_or_key_stops_at_once(server, questions, status):
    server.failures = [(status, {}, b"nope")] * 9
    with pytest.raises(EndpointError, match=rf"HTTP {status} .*check the URL, the model's name and the key"):
        ask(server, questions[:1])
    assert len(server.requests) == 1


def test_refused_question_is_named_and_others_are_asked(server, questions):
    server.failures = [(400, {}, b"context length exceeded")]
    refused, answered = ask(server, questions[:2])
    assert "the endpoint refused the question: HTTP 400" in refused.error
    assert "context length exceeded" in refused.error
    assert (answered.error, answered.text) == ("", "B.")


def test_slow_server_times_out(server, questions):
    server.reply = lambda body: time.sleep(1.0) or {}
    with pytest.raises(EndpointError, match=r"did not answer in 2 attempts, the last time: .*timed out"):
        ask(server, questions[:1], timeout_s=0.1, retries=1)


def test_nobody_listens(questions):
    settings = EndpointSettings(url="http://127.0.0.1:9/v1", model="m", retries=1)
    with pytest.raises(EndpointError, match="did not answer in 2 attempts"):
        list(EndpointAnswers(settings, 16, sleep=lambda _: None).answer(VIEW, questions[:1]))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>hello</html>", "which is no JSON; is the URL that of the API"),
        (b'{"choices": []}', "a reply has no choices"),
        (b"[]", "a reply has no choices"),
    ],
)
def test_replies_that_are_none(server, questions, body, message):
    server.failures = [(200, {}, body)]
    with pytest.raises(EndpointError, match=message):
        ask(server, questions[:1])


def test_reply_in_parts_and_empty_reply(server, questions):
    server.reply = lambda body: {"choices": [{"message": {"content": [{"type": "text", "text": "A"}]}}]}
    assert ask(server, questions[:1])[0].text == "A"
    server.reply = lambda body: {"choices": [{"message": {"content": None}}]}
    assert ask(server, questions[:1])[0].text == ""


def test_likelihoods_give_a_confidence(server, questions):
    top = [{"token": token, "logprob": log(p)} for token, p in (("B", 0.6), (" A", 0.2), ("The", 0.1))]
    told = [{"token": "B", "logprob": log(0.6), "top_logprobs": top}, {"token": ".", "logprob": log(0.15)}]
    server.reply = lambda body: {"choices": [{"message": {"content": "B."}, "logprobs": {"content": told}}]}
    (said,) = ask(server, questions[3:4], logprobs=True)
    assert server.requests[0]["logprobs"] is True
    assert said.letters == pytest.approx((0.25, 0.75))
    assert said.fluency == pytest.approx(0.3)
    assert said.confidence("B") == pytest.approx(0.75)


def test_rate_limit_spaces_requests():
    pauses: list[float] = []
    limit = _RateLimit(60, pauses.append)
    for _ in range(3):
        limit.wait()
    # nothing sleeps here, so the third waits for the second's turn too
    assert pauses == pytest.approx([1, 2], abs=0.1)


@pytest.mark.parametrize(("url", "model"), [("localhost:8000", "m"), ("", "m"), ("http://x/v1", "")])
def test_settings_name_what_is_missing(url, model):
    with pytest.raises(ValueError, match=r"needs a URL such as http://localhost:8000/v1 and a model's name"):
        EndpointSettings(url=url, model=model)


def test_peer_stands_in_the_table(server, tmp_path, capsys):
    root = write_vsi(tmp_path / "vsi", scenes=2)
    server.reply = lambda body: {"choices": [{"message": {"content": "B"}}]}
    command = ["--benchmark", "vsi", "--root", str(root), "--out", str(tmp_path / "run"), "--frames", "2", "--quiet"]
    peer = ["--endpoint", server.url, "--endpoint-model", "peer-8b", "--endpoint-retries", "0"]
    assert evaluate.main([*command, *peer]) == 0
    table = capsys.readouterr().out
    assert "| peer-8b |" in table
    assert len(server.requests) == 12
    assert all(len(request["messages"][0]["content"]) == 3 for request in server.requests)
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["benchmarks"]["vsi"]["columns"]["object_rel_direction_easy"]["score"] == 100
    # what was asked is not asked again; a server that fails is told by the exit status
    assert evaluate.main([*command, *peer]) == 0
    assert len(server.requests) == 12
    server.failures = [(500, {}, b"")]
    assert evaluate.main([*command[:5], str(tmp_path / "other"), *command[6:], *peer]) == 3
    assert "did not answer in 1 attempts" in capsys.readouterr().err


def test_a_server_s_model_of_our_model_s_name_has_no_twin_here(server, tmp_path):
    root = write_vsi(tmp_path / "vsi", scenes=2)
    server.reply = lambda body: {"choices": [{"message": {"content": "B"}}]}
    command = ["--benchmark", "vsi", "--root", str(root), "--out", str(tmp_path / "run"), "--frames", "2", "--quiet"]
    assert evaluate.main([*command, "--endpoint", server.url, "--endpoint-model", "tiny"]) == 0
    assert {request["model"] for request in server.requests} == {"tiny"}
    assert len(server.requests) == 12
