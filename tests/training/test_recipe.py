"""The recipe of the small model: its plan, commands that their programs take, and what runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from training import evaluate, features, join_encoders, make_qa
from training.config import parse_run
from training.pretraining.settings import parse_pretrain
from training.recipe.plan import Plan, cpu_precision, make_plan
from training.recipe.runner import State, StepFailed, run_steps
from training.recipe.steps import FIRST_ASKED, FIRST_TRIED, Step, make_steps, mixture
from training.tiny import main

PLAN = Plan(10.0, 2, 64, 8, 50, 20, 3.2, 0.7, 2.3)


def test_a_plan_stays_within_its_budget():
    for budget in (5.0, 10.0, 150.0):
        plan = make_plan(budget, 16)
        assert plan.processes == 2
        # encoders go side by side; the rest of the time is for what is not measured in minutes
        assert 0.55 * budget <= plan.encoder_min + plan.blind_min + plan.train_min <= 0.7 * budget
        assert FIRST_ASKED + plan.processes * plan.question_flats < FIRST_TRIED
        assert plan.clip_flats < FIRST_ASKED
    assert make_plan(150.0, 2).tried_flats >= 300
    assert make_plan(10.0, 1).processes == 1
    with pytest.raises(ValueError, match=r"budget_min must be in 5\.0"):
        make_plan(1.0, 2)


def test_precision_by_the_cpu(tmp_path):
    (tmp_path / "cpuinfo").write_text("flags : fpu amx_bf16 avx2\n")
    assert cpu_precision(tmp_path / "cpuinfo") == "bfloat16"
    assert cpu_precision(tmp_path / "none") == "float32"


def parsed(words: tuple[str, ...]):
    """What the named program makes of its words; it exits on those it does not know."""
    if "torch.distributed.run" in words:
        words = words[words.index("-m", 1) :]
    module, own = words[1], list(words[2:])
    if module in ("training.film", "training.pretrain"):
        return parse_pretrain(own)
    if module == "training.train":
        return parse_run(own)[1]
    parsers = {"training.make_qa": make_qa._parser, "training.evaluate": evaluate._parser}
    return parsers[module]().parse_args(own) if module in parsers else None


def test_every_command_is_one_that_its_program_takes(tmp_path):
    steps = make_steps(tmp_path, PLAN, "bfloat16")
    commands = [command for step in steps for command in step.commands]
    assert {command[0] for command in commands} == {"-m"}
    known = {"training.join_encoders": join_encoders, "training.features": features, "training.qa.view": None}
    for command in commands:
        assert command[1] in known or parsed(command) is not None, command
    film, vision = parsed(steps[0].commands[0]), parsed(steps[1].commands[0])
    # the run finds the clips that were filmed
    assert (film.clips, film.flats, film.clips_per_flat) == (vision.clips, vision.flats, vision.clips_per_flat)
    blind, run = (parsed(step.commands[0]) for step in steps[5:7])
    assert blind.blind
    assert run.model == f"{tmp_path}/blind/model"
    assert run.budget_min == PLAN.train_min


def test_learned_and_tried_flats_are_not_the_same(tmp_path):
    asked = [
        parsed(c) for step in make_steps(tmp_path, PLAN, "float32") for c in step.commands if "training.make_qa" in c
    ]
    spans = [tuple(map(int, one.scans.removeprefix("room:").split(".."))) for one in asked]
    assert spans == [(100_000, 100_049), (100_050, 100_099), (900_000, 900_019)]


def test_the_mixture_names_all_that_is_learned_from(tmp_path):
    named = [entry["json_path"] for entry in yaml.safe_load(mixture(tmp_path, PLAN))["datasets"]]
    assert named == [f"questions-{n}/{file}.json" for n in (0, 1) for file in ("train", "train_view")]


# ---- running


# a step whose command saves something when it is told to end
SCRIPT = """
import sys
from pathlib import Path
from training.recipe.runner import State, run_steps
from training.recipe.steps import Step

COMMAND = '''
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
'''
out = Path(sys.argv[1])
step = Step("sleep", (("-c", COMMAND, str(out / "saved")),), ())
run_steps([step], State(out / "state.json", {}), out / "logs", print)
"""


def python(text: str) -> tuple[str, ...]:
    return "-c", text


def run(tmp_path, steps, **facts) -> list[str]:
    told: list[str] = []
    run_steps(steps, State(tmp_path / "state.json", facts), tmp_path / "logs", told.append)
    return told


def test_what_is_done_is_not_done_again(tmp_path):
    count = python(f"open({str(tmp_path / 'count')!r}, 'a').write('x')")
    result = tmp_path / "result"
    steps = [Step("count", (count,), ()), Step("write", (python(f"open({str(result)!r}, 'w')"),), (result,))]
    run(tmp_path, steps)
    told = run(tmp_path, steps)
    assert (tmp_path / "count").read_text() == "x"
    assert all("done before" in line for line in told)
    # what was taken away is made anew
    result.unlink()
    run(tmp_path, steps)
    assert result.exists()
    assert set(json.loads((tmp_path / "state.json").read_text())["seconds"]) == {"count", "write"}
    with pytest.raises(ValueError, match="of a run with other settings"):
        run(tmp_path, steps, budget=3)


def test_a_command_that_fails_is_named_and_ends_those_beside_it(tmp_path):
    steps = [Step("both", (python("import time; time.sleep(60)"), python("raise SystemExit('no such thing')")), ())]
    began = time.monotonic()
    with pytest.raises(StepFailed, match=r"both failed with exit status 1\nno such thing"):
        run(tmp_path, steps)
    assert time.monotonic() - began < 30
    assert json.loads((tmp_path / "state.json").read_text())["done"] == []


def test_an_interrupt_ends_the_command_and_leaves_the_rest_to_the_next_start(tmp_path):
    """From outside, as Ctrl-C does it; the command is told once, and may save what it has."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": str(root)}
    )
    log = tmp_path / "logs" / "01-0.log"
    until = time.monotonic() + 60
    while not (log.is_file() and "ready" in log.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert (tmp_path / "saved").read_text() == "saved"
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["done"] == []
    assert state["seconds"]["sleep"] > 0


def test_too_little_time_is_told(tmp_path, capsys):
    assert main(["--budget-min", "1", "--out", str(tmp_path)]) == 2
    assert "budget_min must be in 5.0" in capsys.readouterr().err
