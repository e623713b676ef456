"""Steps of a run: it learns, goes on bit for bit, skips what is no number, tells what it could not read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.checkpoint import checkpoints, read_checkpoint
from training.config import RUNS, RunConfig
from training.features import FeatureCache, extract
from training.lora import init_fusion, lora_targets, make_trainable
from training.running.optimizer import SharedAdamW, learning_rate
from training.running.processes import Processes
from training.running.session import run_training
from training.samples.encoding import encode_video
from training.samples.mixture import read_samples
from training.samples.published_features import published_path
from training.samples.video import read_pixels
from training.train import main
from vlm3r_core.loading import load

ALONE = Processes(0, 1, torch.device("cpu"))


def train(config: RunConfig):
    return run_training(config, ALONE)


def journal(config: RunConfig) -> list[dict]:
    return [json.loads(line) for line in Path(config.out, "log.jsonl").read_text().splitlines()]


def weights(config: RunConfig):
    return read_checkpoint(checkpoints_of(config)[-1])


def checkpoints_of(config: RunConfig) -> list[Path]:
    return checkpoints(Path(config.out))


def assert_same(one, other, *, exact: bool = True, limit: float = 0.0) -> None:
    for name in ("weights", "optimizer"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            if exact:
                assert torch.equal(ours[key], value), key
            else:
                torch.testing.assert_close(ours[key], value, rtol=0, atol=limit, msg=lambda m, k=key: f"{k}: {m}")


# ---- it learns


@pytest.mark.parametrize("what", ["lora", "language", "bridge"])
def test_the_loss_falls(make_run, what):
    config = make_run(train=what, max_steps=9, epochs=4, schedule="constant", warmup_ratio=0, batch_questions=6)
    outcome = train(config)
    losses = [line["loss"] for line in journal(config)]
    assert outcome.finished
    assert outcome.counts.step == len(losses) == 9
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_only_what_is_to_learn_changes(make_run, nano_spec):
    config = make_run(max_steps=3, epochs=2, warmup_ratio=0)
    train(config)
    before = dict(load(nano_spec, "cpu").named_parameters())
    after = dict(load(f"{config.out}/model", "cpu").named_parameters())
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert {name.split(".")[0] for name in changed} == {"language", "fusion", "projector"}
    linears = {f"language.qwen.{name}.weight" for name in lora_targets(load(nano_spec, "cpu"))}
    assert {name for name in changed if name.startswith("language.")} == linears
    assert len(linears) == 2 * 7


def test_trained_parts(nano_spec):
    model = load(nano_spec, "cpu", "bfloat16")
    parameters = make_trainable(model, RunConfig(lora_rank=4, lora_dropout=0.05, fusion_dropout=0.2))
    assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
    assert model.siglip.vision.embeddings.patch_embedding.weight.dtype == torch.bfloat16
    assert len(parameters) == 2 * 14 + 18 + 4  # A and B of 14 layers, fusion and projector as published
    assert model.fusion.dropout.p == 0.2
    assert model.language.training
    assert not model.siglip.training
    assert not model.cut3r.training


def test_new_fusion_block_starts_as_published(nano_spec):
    fusion = load(nano_spec, "cpu").fusion
    init_fusion(fusion, 0)
    width = fusion.query.weight.shape[0]
    assert fusion.query.weight.std() == pytest.approx(0.02, rel=0.1)
    assert fusion.attention.out_proj.weight.std() == pytest.approx(0.02, rel=0.1)
    assert fusion.attention.in_proj_weight.abs().max() == pytest.approx((6 / (4 * width)) ** 0.5, rel=0.02)
    assert not fusion.query.bias.any()
    assert torch.equal(fusion.out_norm.weight, torch.ones(width))


# ---- it goes on


@pytest.mark.parametrize("what", ["lora", "language"])
def test_two_and_two_steps_are_four(make_run, tmp_path, what):
    """Bit for bit, over the end of a pass, dropout included."""
    settings = {"train": what, "epochs": 2, "save_steps": 2, "tensorboard": True}
    straight = make_run(**settings, max_steps=4, out=str(tmp_path / "straight"))
    train(straight)
    halves = make_run(**settings, max_steps=2, out=str(tmp_path / "halves"))
    assert train(halves).counts.step == 2
    halves = replace(halves, max_steps=4)
    train(halves)
    assert_same(weights(halves), weights(straight))
    counts = [weights(run).facts["counts"] | {"seconds": 0.0} for run in (halves, straight)]
    assert counts[0] == counts[1]
    assert [line["loss"] for line in journal(halves)] == [line["loss"] for line in journal(straight)]
    first, last = (read_checkpoint(path) for path in checkpoints_of(straight))
    assert any(not torch.equal(first.weights[name], last.weights[name]) for name in last.weights)
    assert list((tmp_path / "straight/tensorboard").iterdir())


def test_readers_and_caches_change_nothing(make_run, tmp_path):
    settings = {"epochs": 2, "max_steps": 4}
    plain = make_run(**settings, out=str(tmp_path / "plain"))
    cached = make_run(**settings, out=str(tmp_path / "cached"), features=str(tmp_path / "features"))
    again = make_run(**settings, out=str(tmp_path / "again"), features=str(tmp_path / "features"), workers=2)
    for config in (plain, cached, again):
        train(config)
    assert len(list((tmp_path / "features").glob("*/*.safetensors"))) == 6  # made while training
    assert_same(weights(cached), weights(plain))
    assert_same(weights(again), weights(plain))


def test_published_features_stand_for_cut3r(make_run, tmp_path, own_set, nano_spec):
    """Half precision in the files; loss within its steps."""
    model = load(nano_spec, "cpu")
    for sample in read_samples(own_set):
        features = encode_video(model, read_pixels(sample.path, 3, 56)[0])
        published_path(sample).parent.mkdir(exist_ok=True)
        torch.save(
            {"camera_tokens": features.camera.half(), "patch_tokens": features.patch.half()}, published_path(sample)
        )
    runs = [
        make_run(data=str(own_set), max_steps=2, out=str(tmp_path / name), features=name) for name in ("", "published")
    ]
    runs[0] = replace(runs[0], out=str(tmp_path / "plain"))
    for config in runs:
        train(config)
    ours, theirs = ([line["loss"] for line in journal(config)] for config in runs)
    assert ours == pytest.approx(theirs, abs=1e-2)
    assert ours != theirs


@pytest.mark.parametrize("attention", ["split", "mask"])
def test_checkpointing_changes_nothing(make_run, tmp_path, attention):
    """Layers computed twice, dropout included, attend both times alike."""
    runs = [
        make_run(max_steps=3, attention=attention, gradient_checkpointing=on, out=str(tmp_path / str(on)))
        for on in (False, True)
    ]
    for config in runs:
        train(config)
    assert_same(weights(runs[0]), weights(runs[1]), exact=False, limit=1e-6)


def test_ways_to_attend_are_the_same(make_run, tmp_path):
    runs = [make_run(max_steps=2, attention=way, out=str(tmp_path / way)) for way in ("split", "mask")]
    for config in runs:
        train(config)
    ours, theirs = ([line["loss"] for line in journal(config)] for config in runs)
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_packing_changes_nothing(make_run, tmp_path):
    """All questions of two videos in a step, in packs and one by one: the first step's loss and gradient."""
    found = []
    for k in (1, 5):
        config = make_run(
            questions_per_pack=k, batch_questions=5, sampling="end:5", max_steps=1, out=str(tmp_path / str(k)),
            lora_dropout=0, fusion_dropout=0,
        )  # fmt: skip
        train(config)
        found.append(journal(config)[0])
    assert found[0]["questions"] == found[1]["questions"] == 5
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], abs=1e-4)
    assert found[0]["gradient_norm"] == pytest.approx(found[1]["gradient_norm"], rel=1e-4)


def test_half_precision_takes_steps(make_run):
    config = make_run(precision="bfloat16", max_steps=3, gradient_checkpointing=True)
    train(config)
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in journal(config))
    assert {tensor.dtype for tensor in weights(config).weights.values()} == {torch.float32}
    assert next(load(f"{config.out}/model", "cpu", "auto").parameters()).dtype == torch.float32
    stored = json.loads(Path(config.out, "model/vlm3r.json").read_text())
    assert stored["dtype"] == "float32"


def test_another_run_in_the_folder_is_refused(make_run):
    config = make_run(max_steps=1)
    train(config)
    with pytest.raises(ValueError, match=r"other settings \(learning_rate: 0.01 there, 0.5 now\)"):
        train(replace(config, learning_rate=0.5))
    with pytest.raises(ValueError, match="; data: the samples are not those"):
        train(replace(config, sampling="first:20", max_steps=0))


# ---- what goes wrong


def test_bad_steps_are_skipped_and_counted(make_run, tmp_path, nano_spec, question_set):
    """A video whose features are no numbers: its steps teach nothing, the others do."""
    model, samples = load(nano_spec, "cpu"), read_samples(question_set)
    cache = FeatureCache.open(tmp_path / "features", model, 3)
    extract(cache, model, samples, 3, workers=0, progress=False)
    features, times = cache.read(samples[0])
    cache.write(samples[0], replace(features, siglip=features.siglip * torch.nan), times)
    config = make_run(features=str(tmp_path / "features"), batch_questions=2, questions_per_pack=2, max_steps=14)
    outcome = train(config)
    lines = journal(config)
    bad = [line for line in lines if line["loss"] != line["loss"]]
    assert len(bad) == outcome.counts.skipped_steps == 2  # three questions of that video, in two packs
    assert all(torch.isfinite(tensor).all() for tensor in weights(config).weights.values())
    assert outcome.finished


def test_a_run_that_fell_apart_ends(make_run, tmp_path, nano_spec, question_set):
    model, samples = load(nano_spec, "cpu"), read_samples(question_set)
    cache = FeatureCache.open(tmp_path / "features", model, 3)
    extract(cache, model, samples, 3, workers=0, progress=False)
    for sample in samples:
        features, times = cache.read(sample)
        cache.write(sample, replace(features, siglip=features.siglip * torch.inf), times)
    config = make_run(features=str(tmp_path / "features"), max_bad_steps=2, epochs=3, save_steps=1)
    with pytest.raises(FloatingPointError, match="3 steps in a row up to step 3 taught nothing: its loss is nan"):
        train(config)
    for tensor in weights(config).weights.values():
        assert torch.isfinite(tensor).all()


def test_unreadable_videos_are_left_out_and_told(make_run, own_set, tmp_path, caplog):
    rows = json.loads((own_set / "train.json").read_text())
    for row in rows:
        if row["video"].endswith("room1"):
            row["video"] = "videos/noise.mp4"
    (tmp_path / "d.json").write_text(json.dumps(rows))
    noise = own_set / "videos/noise.mp4"
    noise.write_bytes(bytes(1000))
    config = make_run(data=str(tmp_path / "d.json"), videos=str(own_set), batch_questions=2, epochs=1)
    outcome = train(config)
    assert outcome.finished
    assert list(outcome.counts.unreadable) == [str(noise)]
    assert "cannot be read as a video" in outcome.counts.unreadable[str(noise)]
    assert outcome.counts.skipped_steps == 2  # of two packs nothing was left
    assert outcome.counts.questions == 24 - 4
    told = json.loads(Path(config.out, "unreadable.json").read_text())
    assert list(told["videos"]) == [str(noise)]
    assert caplog.text.count("left out") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smoke"], "needs --data"),
        (["smoke", "--data", "/no/where"], "no data at /no/where"),
        (["smok"], "did you mean 'smoke'"),
        (["smoke", "--data", "DATA", "--model", "nothing"], "unknown model 'nothing'"),
        (["smoke", "--data", "DATA", "--batch_questions", "1024"], "a step takes 128"),
    ],
)
def test_command_line_says_what_is_wrong(words, message, question_set, tmp_path, capsys):
    words = [str(question_set) if word == "DATA" else word for word in words]
    assert main([*words, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---- parts


def test_learning_rate_climbs_and_falls():
    paper = replace(RUNS["paper-vsi"], epochs=5)
    steps = 5 * 1622
    rates = [learning_rate(paper, step, steps) for step in range(steps)]
    assert rates[0] == 0
    assert max(rates) == rates[244] == pytest.approx(2e-5)  # ceil(0.03 * 8110)
    assert rates[1622] == pytest.approx(0.93 * 2e-5, rel=0.01)  # where the paper's run ended
    assert rates[-1] < 1e-11
    assert learning_rate(replace(paper, schedule="constant"), steps - 1, steps) == 2e-5


def test_shared_adamw_is_torchs():
    """One process: the same numbers as torch's own on the same parameters."""
    torch.manual_seed(0)
    config = RunConfig(weight_decay=0.1, learning_rate=1e-2)
    ours = {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in (("a", (3, 4)), ("b", (5,)))}
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours.values()]
    shared = SharedAdamW(ours, config, ALONE)
    adam = torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.1)
    for step in range(4):
        shared.clear()
        adam.zero_grad()
        for group in (list(ours.values()), theirs):
            sum((p * (step + 1)).sin().sum() for p in group).backward()
        norm = shared.collect(0.5)
        for p in theirs:
            p.grad.mul_(0.5)
        assert norm == pytest.approx(torch.nn.utils.get_total_norm([p.grad for p in theirs]).item(), rel=1e-6)
        shared.step(1e-2)
        adam.step()
    for own, torchs in zip(ours.values(), theirs, strict=True):
        torch.testing.assert_close(own, torchs, rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match="weights are not those of this run: b"):
        shared.load({"a": torch.zeros(3, 4)}, {})
    with pytest.raises(ValueError, match="weights are not those of this run: b"):
        shared.load({"a": torch.zeros(3, 4), "b": torch.zeros(6)}, {})


def test_long_gradients_are_shortened(make_run, tmp_path):
    """Adam's step does not depend on the gradient's length, its memory does."""
    runs = [make_run(max_steps=1, max_grad_norm=norm, out=str(tmp_path / str(norm))) for norm in (0, 0.01)]
    for config in runs:
        train(config)
    long, short = (
        torch.cat([t.flatten() for n, t in weights(config).optimizer.items() if n.startswith("exp_avg.")])
        for config in runs
    )
    assert journal(runs[0])[0]["gradient_norm"] > 0.01
    assert 10 * short.norm() == pytest.approx(0.01, rel=1e-3)
    assert long.norm() > short.norm()


def test_checkpoints_are_rotated(make_run):
    config = make_run(epochs=2, save_steps=1, keep_checkpoints=2)
    train(config)
    assert [path.name for path in checkpoints_of(config)] == ["checkpoint-00000005", "checkpoint-00000006"]
    assert sorted(p.name for p in checkpoints_of(config)[-1].iterdir()) == [
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    assert load_file(checkpoints_of(config)[-1] / "weights.safetensors")


def test_a_blind_run_reads_no_video(make_run, question_set, tmp_path):
    """Rows without videos are enough, and what was not shown does not learn."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "train.json").write_text((question_set / "train.json").read_text())
    config = make_run(data=str(folder), blind=True, train="language", attention="fold", questions_per_pack=8)
    outcome = train(config)
    assert outcome.finished
    assert outcome.counts.questions == 24
    assert not outcome.counts.unreadable
    before, after = load(config.model, "cpu"), load(str(Path(config.out) / "model"), "cpu")
    assert torch.equal(before.projector.state_dict()["0.weight"], after.projector.state_dict()["0.weight"])
    assert not torch.equal(before.language.qwen.lm_head.weight, after.language.qwen.lm_head.weight)


def test_features_serve_a_run_in_bfloat16(make_run, tmp_path):
    """On a CPU the frozen weights stay float32 whatever activations are, and so do what they made and the export."""
    config = make_run(features=str(tmp_path / "cache"), precision="bfloat16", train="language", max_steps=1)
    model = load(config.model, "cpu")
    cache = FeatureCache.open(Path(config.features), model, config.frames)
    samples = read_samples(Path(config.data))
    assert not extract(cache, model, samples, config.frames, workers=0, progress=False)
    train(config)
    assert [path.name for path in Path(config.features).iterdir()] == [cache.key]
    exported = json.loads((Path(config.out) / "model" / "vlm3r.json").read_text())
    assert exported["dtype"] == "float32"
