"""`python -m vlm3r_core` watches a clip, answers, and tells a wrong path in one line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vlm3r_core.__main__ import main


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk")
    for index in range(6):
        noise = np.random.default_rng(index).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{index}.png")
    return folder


@pytest.fixture(autouse=True)
def random_weights_by_default(monkeypatch):
    """As where the package's model has no weights."""
    monkeypatch.setattr("vlm3r_core.__main__.default_model", lambda: "tiny-random")


def test_answers_every_question_and_says_that_random_weights_mean_nothing(walk):
    command = [sys.executable, "-m", "vlm3r_core", str(walk), "How many chairs?", "Where am I?", "--max-frames", "4"]
    command += ["--model", "tiny-random"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("question:") == 2
    assert done.stdout.count("4 frames in view of the model, 4 seen") == 2
    assert "confidence:" in done.stdout
    assert "probabilities" in done.stdout
    assert "weights of tiny-random are random" in done.stdout
    assert "4/4" in done.stderr


def test_json_holds_the_answer_to_a_choice(walk, capsys):
    assert main([str(walk), "Which is closer?", "--option", "chair", "--option", "table", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["frames_seen"], report["trained"]) == (6, False)
    assert len(report["warnings"]) == 1
    (answer,) = report["answers"]
    assert answer["kind"] == "choice"
    assert answer["text"] == ["chair", "table"][answer["choice_idx"]]
    assert answer["value"] is None
    assert 0 <= answer["confidence"] <= 1
    assert answer["latency_ms"]["total"] > 0


def test_all_frames_are_seen_on_request(walk, capsys):
    assert main([str(walk), "What is here?", "--max-frames", "0", "--max-new-tokens", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames_seen"] == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/does/not/exist", "What?"], "does not exist"),
        (["{walk}", "What?", "--model", "tyni-random"], "did you mean 'tiny-random'"),
        (["{walk}", "What?", "--device", "abacus"], "unknown device 'abacus'"),
        (["{walk}", "   "], "question"),
        (["{walk}", "What?", "--fps", "0"], "fps must be a positive number"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(walk, capsys, arguments, message):
    assert main([argument.format(walk=walk) for argument in arguments]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("vlm3r: ")
    assert message in last


def test_negative_frame_count_is_refused(walk, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(walk), "What?", "--max-frames", "-1"])
    assert "expected 0 or more" in capsys.readouterr().err
