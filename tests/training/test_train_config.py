"""Named runs against the published settings, and the command line made from the fields."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace

import pytest

from training.config import RUNS, RunConfig, differences, parse_run

# facts about the published runs: what both columns state, then what each states by itself
COMMON = {
    "epochs": 5,
    "learning_rate": 2e-5,
    "schedule": "cosine",
    "warmup_ratio": 0.03,
    "lora_rank": 128,
    "lora_alpha": 256,
    "frames": 32,
    "batch_questions": 128,
}
SCRIPT = COMMON | {
    "processes": 8,
    "stop_after_epochs": 0,
    "weight_decay": 0.0,
    "lora_dropout": 0.05,
    "gradient_checkpointing": True,
    "compile": True,
    "tf32": True,
    "max_length": 32768,
    "save_steps": 0,
    "keep_checkpoints": 5,
    "group_by_length": True,
    "workers": 2,
    "seed": 42,
    "train": "lora",
    "labels": "published",
    "time_instruction": True,
    "questions_per_pack": 1,
}
PAPER = COMMON | {"processes": 16, "stop_after_epochs": 1, "train": "lora", "labels": "published"}


def chosen(run: str, names) -> dict:
    return {name: value for name, value in asdict(RUNS[run]).items() if name in names}


@pytest.mark.parametrize("run", ["paper-vsi", "paper-vsti"])
def test_paper_runs_are_the_papers_column(run):
    assert chosen(run, PAPER) == PAPER
    # one question a sequence, as the paper read them: batch 1, accumulation 8 on each of 16 GPUs, 128 in all
    assert replace(RUNS[run], questions_per_pack=1).accumulation(16) == 8
    # packed, each process still learns from 8 questions a step
    assert RUNS[run].accumulation(16) * RUNS[run].questions_per_pack == 8


def test_published_script_is_the_scripts_column():
    assert chosen("published-script", SCRIPT) == SCRIPT
    assert RUNS["published-script"].accumulation(8) == 16


def test_answer_labels_are_the_default():
    assert RunConfig().labels == "answer"


@pytest.mark.parametrize("item", fields(RunConfig), ids=lambda item: item.name)
def test_command_line_has_every_field(item):
    value = getattr(RUNS["smoke"], item.name)
    _, config = parse_run(["smoke", f"--{item.name}", str(value), "--out", "x"])
    assert config == replace(RUNS["smoke"], out="x")
    _, config = parse_run(["smoke", "--out", "x", f"--{item.name.replace('_', '-')}={value or 0}"])
    assert getattr(config, item.name) == (value or type(value)(0))


def test_command_line_changes_what_it_says():
    name, config = parse_run(["tiny", "--learning-rate", "0.01", "--tensorboard", "false", "--data", "x"])
    assert config == replace(RUNS["tiny"], learning_rate=0.01, tensorboard=False, data="x", out=f"out/train/{name}")


def test_what_it_refuses(capsys):
    with pytest.raises(ValueError, match=r"run must be one of .*; did you mean 'paper-vsi'"):
        parse_run(["paper-vis"])
    with pytest.raises(ValueError, match="labels must be one of answer, published"):
        parse_run(["tiny", "--labels", "all"])
    with pytest.raises(ValueError, match="batch_questions 12 must be a multiple"):
        RunConfig(batch_questions=12)
    with pytest.raises(ValueError, match=r"16 packs, .* 3 processes cannot share"):
        RunConfig(processes=3)
    with pytest.raises(ValueError, match="16 packs, which 5 processes"):
        RunConfig().accumulation(5)
    with pytest.raises(SystemExit):
        parse_run(["tiny", "--tf32", "maybe"])
    assert "expected true or false, got 'maybe'" in capsys.readouterr().err


def test_saved_settings_tell_how_they_differ():
    saved = json.loads(RunConfig().to_json())
    other = saved | {"seed": 1, "out": "b"}
    assert differences(saved, other, ignore=("out",)) == ["seed: 42 there, 1 now"]


def test_folded_layers_are_not_computed_again():
    with pytest.raises(ValueError, match="gradient_checkpointing and compile to false"):
        RunConfig(attention="fold", gradient_checkpointing=True)
