"""Samples from every format, packs in a seeded order, the published ids and labels, and videos that do not decode."""

from __future__ import annotations

import copy
import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from safetensors.torch import load_file

from training.config import RunConfig
from training.data import Packs, PackSpec, Plan, load_packs, missing_videos
from training.samples.mixture import choose, read_samples
from training.samples.sample import Sample, sample_from_row, with_times
from training.samples.video import read_pixels
from vlm3r_core.clip import open_clip
from vlm3r_core.config import MODEL_PRESETS
from vlm3r_core.labels import IGNORED
from vlm3r_core.loading import tokenizer_for
from vlm3r_core.preprocess import to_pixels
from vlm3r_core.prompt import Tokenizer


def row(video: str = "videos/room0", answer: str = "4", **changes) -> dict:
    talk = [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": answer}]
    return {"id": "a", "video": video, "question_type": "object_counting", "conversations": talk} | changes


# ---- formats


def test_formats_hold_the_same_samples(question_set, tmp_path):
    import pyarrow
    from pyarrow.parquet import write_table

    rows = json.loads((question_set / "train.json").read_text())
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(item) for item in rows))
    write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "mix.yaml").write_text("datasets:\n- json_path: a.json\n  sampling_strategy: all\n")
    expected = read_samples(question_set)
    assert len(expected) == len(rows) == 24
    assert expected[0].turns == ("<image>\nThese are frames of a video.\nHow many chair(s) are in this room?", "3")
    for name in ("a.jsonl", "a.parquet", "a.json", "mix.yaml"):
        assert read_samples(tmp_path / name, question_set) == expected, name


def test_question_set_without_a_training_file(tmp_path):
    item = {"id": 0, "dataset": "d", "scene_name": "s", "question_type": "object_rel_distance", "video": "videos/s.mp4"}
    item |= {"question": "Which?", "options": ["A. sofa", "B. lamp"], "ground_truth": "B", "mc_answer": "B"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(item))
    (sample,) = read_samples(tmp_path)
    assert sample.path == tmp_path / "videos/s.mp4"
    assert sample.turns[0].startswith("<image>\nThese are frames of a video.\nWhich?\nOptions:\nA. sofa\nB. lamp\n")
    assert sample.turns[1] == "B"


def test_questions_alone_are_put_into_words(tmp_path):
    choice = {"id": 0, "question_type": "object_rel_distance", "video": "v.mp4", "question": "Which?"}
    choice |= {"options": ["A. sofa", "B. lamp"], "ground_truth": "lamp", "mc_answer": "B"}
    number = {"id": 1, "question_type": "object_counting", "video_path": "w.mp4", "question": "How many?"}
    number |= {"options": None, "ground_truth": 3, "mc_answer": None}
    (tmp_path / "questions.json").write_text(json.dumps([choice, number]))
    first, second = read_samples(tmp_path / "questions.json")
    assert (first.id, first.video, first.turns[1]) == ("0", "v.mp4", "B")
    assert "Options:\nA. sofa\nB. lamp" in first.turns[0]
    assert (second.video, second.turns[1]) == ("w.mp4", "3")
    (tmp_path / "questions.json").write_text(json.dumps([choice | {"question_type": "unheard_of"}]))
    with pytest.raises(ValueError, match=r"questions.json\[0\]: question_type must be one of"):
        read_samples(tmp_path / "questions.json")


def test_sampling_strategies():
    samples = [Sample(str(n), Path(), "v", ("q", "a")) for n in range(11)]

    def ids(strategy: str, seed: int = 0) -> list[int]:
        return [int(sample.id) for sample in choose(samples, strategy, seed)]

    assert ids("all") == list(range(11))
    assert ids("first:2") == [0, 1]
    assert ids("end:2") == [9, 10]
    assert ids("first:10%") == [0, 1]  # 1.1 rounded up
    assert ids("first:99") == list(range(11))
    assert ids("end:0") == []
    assert ids("random:5") == ids("random:5")
    assert len(set(ids("random:5"))) == 5
    assert any(ids("random:5") != ids("random:5", seed) for seed in range(1, 4))
    for bad in ("some", "first:", "first:1.5", "middle:3"):
        with pytest.raises(ValueError, match="sampling must be all, first:N"):
            choose(samples, bad)


def test_mixture_samples_each_file_by_its_own_rule(question_set, tmp_path):
    source = question_set / "train.json"
    entries = [{"json_path": str(source), "sampling_strategy": rule} for rule in ("first:2", "end:1")]
    (tmp_path / "mix.yaml").write_text(json.dumps({"datasets": entries}))
    samples = read_samples(tmp_path / "mix.yaml", question_set)
    assert [sample.id for sample in samples] == ["room0-0", "room0-1", "room5-4"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("datasets: [{json_path: no.json}, {json_path: neither.json}]", FileNotFoundError, "no.json, neither.json"),
        ("datasets: [{json_path: a.json, is_spar: true}]", ValueError, "is_spar, which is not built here"),
        ("- a.json", ValueError, "must hold `datasets`"),
        ("datasets: [", ValueError, "is no YAML"),
    ],
)
def test_mixture_that_cannot_be_read(tmp_path, text, error, words):
    (tmp_path / "mix.yaml").write_text(text)
    with pytest.raises(error, match=words):
        read_samples(tmp_path / "mix.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"video": None}, r"names no video"),
        ({"conversations": None}, "human and gpt speak in turn"),
        ({"conversations": [{"from": "gpt", "value": "4"}]}, "human and gpt speak in turn"),
        ({"answer": ""}, "empty answer"),
    ],
)
def test_row_that_is_no_sample(changes, words):
    with pytest.raises(ValueError, match=rf"data.json\[3\].*{words}"):
        sample_from_row(row(**changes), Path(), "data.json[3]")
    twice = [{"from": "human", "value": "<image><image>"}, {"from": "gpt", "value": "4"}]
    with pytest.raises(ValueError, match="got it 2 times"):
        sample_from_row(row(conversations=twice), Path(), "data.json[3]")


def test_item_without_a_question_type_is_used_and_told(tmp_path, caplog):
    items = [row(), row(question_type=None), {k: v for k, v in row().items() if k != "question_type"}]
    (tmp_path / "data.json").write_text(json.dumps(items))
    assert [sample.question_type for sample in read_samples(tmp_path / "data.json")] == ["object_counting", "", ""]
    assert "2 of 3 samples" in caplog.text


def test_no_data_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no data at"):
        read_samples(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match=r"neither train\.json nor questions.jsonl"):
        read_samples(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps([row()]))
    with pytest.raises(ValueError, match="holds no sample"):
        read_samples(tmp_path / "a.json", sampling="first:0")


# ---- order


def plan_of(question_set, **changes) -> tuple[list[Sample], Plan]:
    samples = read_samples(question_set)
    settings = {"questions_per_pack": 2, "batch_questions": 8, "epochs": 2} | changes
    return samples, Plan(samples, RunConfig(**settings))


def test_packs_hold_one_video_and_a_pass_every_question_once(question_set):
    samples, plan = plan_of(question_set, batch_questions=2)
    assert plan.packs == plan.steps_per_epoch == 14  # 2 + 2 + 3 packs, twice
    for epoch in range(2):
        specs = [spec for step in range(14) for spec in plan.step(14 * epoch + step)]
        assert Counter(number for spec in specs for number in spec.samples) == Counter(range(24))
        assert all(len({samples[number].video for number in spec.samples}) == 1 for spec in specs)
        assert max(len(spec.samples) for spec in specs) == 2


def test_what_is_said_before_the_video_is_not_mixed(question_set, make_packs):
    one = read_samples(question_set)[:2]
    other = [Sample(f"x{n}", one[0].root, one[0].video, ("Look: <image>\nHow many?", "4")) for n in range(2)]
    samples = [one[0], other[0], one[1], other[1]]
    plan = Plan(samples, RunConfig(questions_per_pack=4, batch_questions=8))
    assert sorted(sorted(spec.samples) for spec in plan.step(0)) == [[0, 2], [1, 3]]
    packs = make_packs(samples, time_instruction=False)
    assert [packs[spec].pack.count for spec in plan.step(0)] == [2, 2]


def test_order_is_a_function_of_the_seed(question_set):
    _, plan = plan_of(question_set)
    _, same = plan_of(question_set)
    _, other = plan_of(question_set, seed=7)
    steps = range(plan.steps)
    assert [plan.step(n) for n in steps] == [same.step(n) for n in reversed(steps)][::-1]
    assert [plan.step(n) for n in steps] != [other.step(n) for n in steps]
    first, second = ([plan.step(e * plan.steps_per_epoch + n) for n in range(plan.steps_per_epoch)] for e in range(2))
    assert [[s.samples for s in step] for step in first] != [[s.samples for s in step] for step in second]


def test_processes_share_a_step(question_set):
    samples, plan = plan_of(question_set)
    shares = [list(plan.share(1, rank, 2)) for rank in range(2)]
    assert sorted([*shares[0], *shares[1]], key=lambda s: (s.step, s.place)) == list(plan.share(1, 0, 1))
    words = [sum(samples[n].words for n in spec.samples) for spec in plan.step(1)]
    assert words == sorted(words)  # so that neighbours, which go to different processes, are alike
    assert [spec.place for spec in shares[1]][:2] == [1, 3]


def test_last_step(question_set):
    assert plan_of(question_set)[1].last_step == 6
    assert plan_of(question_set, stop_after_epochs=1)[1].last_step == 3
    assert plan_of(question_set, max_steps=4)[1].last_step == 4
    _, plan = plan_of(question_set)
    assert plan.questions == pytest.approx(sum(len(spec.samples) for spec in plan.share(0, 0, 1)), abs=2)
    with pytest.raises(ValueError, match="make 14 packs, a step takes 64"):
        plan_of(question_set, batch_questions=128)


# ---- what the model is given


@pytest.fixture
def make_packs(question_set, nano_spec):
    def make(samples=None, **changes) -> Packs:
        settings = {"frames": 3, "questions_per_pack": 2, "batch_questions": 8} | changes
        samples = samples or read_samples(question_set)
        return Packs(samples, RunConfig(**settings), MODEL_PRESETS[nano_spec], tokenizer_for(nano_spec))

    return make


def test_frames_are_those_of_sampler_and_preprocessing(make_packs, question_set):
    loaded = make_packs()[PackSpec(0, 0, (0, 1))]
    frames = list(open_clip(question_set / "videos/room0").sampled(3))
    assert torch.equal(loaded.pixels, torch.stack([to_pixels(frame.rgb, 56) for frame in frames]))
    assert loaded.times.seconds == tuple(frame.stamp_ns / 1e9 for frame in frames)


def test_a_sample_read_twice_is_the_same(make_packs, question_set):
    """The published reader puts the time instruction into its own data, so that a second time it is there twice."""
    samples = read_samples(question_set)
    before = copy.deepcopy(samples)
    packs = make_packs(samples)
    first, second = (packs[PackSpec(0, 0, (0, 1))] for _ in range(2))
    assert first.pack.ids == second.pack.ids
    assert samples == before
    text = tokenizer_for("tiny-random").decode([token for token in first.pack.ids if token >= 0])
    assert text.count("frames are uniformly sampled") == 1


def test_readers_do_not_change_what_is_read(make_packs, question_set):
    packs = make_packs()
    _, plan = plan_of(question_set)
    here, there = (list(load_packs(packs, plan.share(4, 0, 1), workers)) for workers in (0, 2))
    assert [one.spec for one in here] == [two.spec for two in there]
    assert len(here) == 8
    for one, two in zip(here, there, strict=True):
        assert one.pack.ids == two.pack.ids
        assert torch.equal(one.pixels, two.pixels)


def test_long_conversations_are_left_out(make_packs, question_set):
    samples = read_samples(question_set)
    long = Sample("long", samples[0].root, samples[0].video, ("<image>\n" + "many words " * 400, "4"))
    packs = make_packs([*samples, long], max_length=600)
    loaded = packs[PackSpec(0, 0, (0, len(samples)))]
    assert loaded.too_long == ("long",)
    assert loaded.pack.count == 1
    alone = packs[PackSpec(0, 0, (len(samples),))]
    assert alone.pack is None
    assert "longer than max_length 600" in alone.fault[1]


def test_videos_that_cannot_be_read_are_told(make_packs, question_set, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "empty").mkdir()
    write_video(tmp_path / "cut.mp4", [torch.zeros(48, 64, 3, dtype=torch.uint8).numpy() + n for n in range(40)], 10)
    whole = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    names = ["noise.mp4", "empty", "cut.mp4", "gone.mp4"]
    samples = [sample_from_row(row(name), tmp_path, name) for name in names]
    packs = make_packs([*samples, *read_samples(question_set)])
    for number, name in enumerate(names):
        loaded = packs[PackSpec(0, 0, (number,))]
        assert loaded.pack is None
        assert loaded.fault[0] == str(tmp_path / name)
        assert name.partition(".")[0] in loaded.fault[1]
    assert packs[PackSpec(0, 0, (4,))].fault is None


def test_missing_videos_are_told_before_the_run(question_set, tmp_path, caplog):
    there = read_samples(question_set)
    gone = sample_from_row(row("gone.mp4"), tmp_path, "x")
    assert missing_videos([*there, gone], features=False) == [str(tmp_path / "gone.mp4")]
    assert "1 of 7 videos are not there" in caplog.text
    with pytest.raises(FileNotFoundError, match="none of the 1 videos is there"):
        missing_videos([gone], features=False)
    assert missing_videos([gone], features=True)


# ---- the published numbers


def write_video(path: Path, frames, fps: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.time_base = Fraction(1, fps)
        for rgb in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("name", ["odd", "even"])
@pytest.mark.parametrize("instruction", [True, False], ids=["times", "plain"])
def test_ids_and_labels_are_the_published_ones(shared_dir, tmp_path, nano_spec, name, instruction):
    """From a video file and a row of a mixture: sampling, times, wording, tokens, labels behind the visual tokens."""
    folder = shared_dir / "golden/vlm3r_tiny" / name
    if not folder.is_dir():
        pytest.skip(f"golden data not found: {folder}")
    facts, outputs = json.loads((folder / "meta.json").read_text()), load_file(folder / "outputs.safetensors")
    video = load_file(folder / "inputs.safetensors")["video_frames"].numpy()
    write_video(tmp_path / "scene.mp4", video, int(facts["video"]["fps"]))
    first, *others = facts["conversation"]
    turns = [f"<image>\n{first}", *others]
    talk = [{"from": ("human", "gpt")[n % 2], "value": turn} for n, turn in enumerate(turns)]
    (tmp_path / "data.json").write_text(json.dumps([row("scene.mp4", conversations=talk)]))

    config = RunConfig(frames=8, labels="published", questions_per_pack=1, time_instruction=instruction)
    tokenizer = Tokenizer(folder / "base/tokenizer.json")
    loaded = Packs(read_samples(tmp_path / "data.json"), config, MODEL_PRESETS[nano_spec], tokenizer)[
        PackSpec(0, 0, (0,))
    ]
    run = "train." if instruction else "train.plain_"
    ids, labels = (outputs[f"{run}{kind}"].tolist() for kind in ("input_ids", "labels"))
    assert list(loaded.pack.ids) == ids
    expected = []
    for token, label in zip(ids, labels, strict=True):
        expected += [IGNORED] * (8 * MODEL_PRESETS[nano_spec].tokens_per_frame) if token < 0 else [label]
    ours = torch.full((len(loaded.pack),), IGNORED)
    ours[loaded.pack.sources + 1] = loaded.pack.targets
    # nothing comes before the first token, so that no loss can learn it
    assert ours.tolist()[1:] == expected[1:]


def test_answer_labels_are_the_answer_and_its_end(make_packs):
    loaded = make_packs(labels="answer")[PackSpec(0, 0, (0,))]
    tokenizer = tokenizer_for("tiny-random")
    assert loaded.pack.targets.tolist() == [*tokenizer.encode("3"), tokenizer.im_end]


def test_time_instruction_stands_before_the_question():
    sample = sample_from_row(row(), Path(), "x")
    assert with_times(sample, "Times.") == ("<image>\nTimes.\n\nHow many?", "4")
    assert with_times(sample, "") == sample.turns


def test_times_of_a_video(tmp_path):
    write_video(tmp_path / "a.mp4", [torch.full((48, 64, 3), n, dtype=torch.uint8).numpy() for n in range(10)], 5)
    pixels, times = read_pixels(tmp_path / "a.mp4", 4, 56)
    assert pixels.shape == (4, 3, 56, 56)
    assert times.seconds == pytest.approx((0.0, 0.6, 1.2, 1.8))
    assert times.duration_s == pytest.approx(2.0)
