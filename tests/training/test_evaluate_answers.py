"""Questions decoded together say what they say one at a time, and what the stream's engine says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmark_copies import VSI_ROWS, video_frames, vsi_rows, write_picture

import vlm3r_core
from training.benchmarks.question import BenchmarkQuestion
from training.benchmarks.vsi import vsi_question
from training.evaluation.decoding import decode_together
from training.evaluation.frames import View, read_view
from training.evaluation.model_answers import ModelAnswers
from training.evaluation.settings import EvalSettings
from vlm3r_core.config import StreamConfig
from vlm3r_core.prompt import prefix_ids, question_message, suffix_ids
from vlm3r_core.stream.decoding import NumberChoice, greedy_tokens
from vlm3r_core.stream.engine import StreamEngine
from vlm3r_core.types import Frame

TOKENS = 6
# Only the order of sums differs.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model():
    model = vlm3r_core.load("tiny-random", "cpu", "float32")
    # makes random weights say more than one token again and again
    model.config = replace(model.config, repetition_penalty=1.3)
    return model


@pytest.fixture(scope="module")
def view():
    images = tuple(video_frames(7, 3))
    return View(images, tuple(float(place) for place in range(len(images))), 3.0)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    root = tmp_path_factory.mktemp("vsi")
    return [vsi_question(row, root, root) for row in vsi_rows(1, 8)]


def settings(**changes) -> EvalSettings:
    return EvalSettings(model="tiny-random", max_new_tokens=TOKENS, **changes)


def test_batch_equals_one_at_a_time(model, view, questions):
    visual = ModelAnswers(model, settings()).encode(view)
    together = list(ModelAnswers(model, settings(), batch=len(questions)).ask(visual, view, questions))
    alone = [next(iter(ModelAnswers(model, settings()).ask(visual, view, [one]))) for one in questions]
    parts = list(ModelAnswers(model, settings(), batch=3).ask(visual, view, questions))
    for one, other, part in zip(alone, together, parts, strict=True):
        assert one.text == other.text == part.text
        assert one.tokens == other.tokens
        assert other.fluency == pytest.approx(one.fluency, abs=TOLERANCE)
        assert other.letters == pytest.approx(one.letters, abs=TOLERANCE)
    assert len({said.text for said in together}) > 2, "the questions must tell answers apart"


@pytest.mark.parametrize(
    "numbers",
    [None, *(NumberChoice({token: (7 * token) % 1000 for token in range(1000)}, how) for how in ("median", "closest"))],
    ids=["", "median", "closest"],
)
def test_batch_equals_decoding_without_a_mask(model, view, questions, numbers):
    """Against the engine's own decoding: a question alone behind the cached prefix, no mask at all."""
    language, tokenizer = model.language, model.tokenizer
    visual = ModelAnswers(model, settings()).encode(view)
    cache = language.new_cache(2000)
    stop = (tokenizer.im_end, tokenizer.end_of_text)
    with torch.inference_mode():
        language.append(language.embed(torch.tensor(prefix_ids(tokenizer))), cache)
        language.append(visual, cache)
        length, texts = cache.length, [suffix_ids(tokenizer, question.prompt) for question in questions]
        options = {"vocab_size": tokenizer.size, "stop_ids": stop, "max_new_tokens": TOKENS, "repetition_penalty": 1.3}
        options["numbers"] = numbers
        decoded = decode_together(language, cache, texts, **options)
        assert cache.length == length
        for ids, ours in zip(texts, decoded, strict=True):
            logits = language.next_logits(language.embed(torch.tensor(ids)), cache)
            assert torch.allclose(logits, ours.first_logits, atol=TOLERANCE)
            tokens = list(greedy_tokens(language, cache, logits, **options))
            assert [token for token, _ in tokens] == ours.ids
            assert [probability for _, probability in tokens] == pytest.approx(ours.probabilities, abs=TOLERANCE)
            cache.crop(length)
    assert len({tuple(one.ids) for one in decoded}) > 2


def test_answers_are_those_of_the_engine(model, view, questions):
    engine = StreamEngine(model, StreamConfig(max_frames=8, max_new_tokens=TOKENS))
    for place, image in enumerate(view.images):
        engine.push(Frame(image, place * 10**9))
    for question, said in zip(questions, ModelAnswers(model, settings()).answer(view, questions), strict=True):
        if question.is_choice:
            texts = [option.partition(". ")[2] for option in question.options]
            answer = engine.ask(question.question, texts)
            assert max(said.letters) == pytest.approx(answer.confidence, abs=TOLERANCE)
            assert int(np.argmax(said.letters)) == answer.choice_idx
        else:
            answer = engine.ask(question.question, answer_type="number")
            assert said.text == answer.text
            assert said.fluency == pytest.approx(answer.confidence, abs=TOLERANCE)


def test_a_question_does_not_see_the_others(model, view, questions):
    answers = ModelAnswers(model, settings())
    visual = answers.encode(view)
    first = next(answers.ask(visual, view, questions[:3]))
    other = next(answers.ask(visual, view, [questions[0], *questions[5:]]))
    assert first.text == other.text
    assert first.fluency == pytest.approx(other.fluency, abs=TOLERANCE)


def test_frames_matter_and_can_be_left_out(model, view, questions):
    other = View(tuple(video_frames(8, 3)), view.times_s, 3.0)
    answers = ModelAnswers(model, settings())
    numbers = [[said.fluency for said in answers.answer(shown, questions[:3])] for shown in (view, other, View())]
    assert numbers[0] != pytest.approx(numbers[1], abs=1e-6)
    assert numbers[0] != pytest.approx(numbers[2], abs=1e-6)


def test_ablated_tokens_change_what_is_seen(model, view):
    before, seen = model.config, {}
    try:
        for selection in ("", "patch_tokens", "camera_tokens", "none"):
            model.config = before
            seen[selection] = ModelAnswers(model, settings(token_selection=selection)).encode(view)
    finally:
        model.config = before
    names = list(seen)
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            assert not torch.allclose(seen[name], seen[other]), (name, other)


def test_time_instruction_follows_the_preset(model, view, questions):
    plain = ModelAnswers(model, settings()).message(questions[0], view)
    assert plain == question_message(questions[0].question)
    timed = ModelAnswers(model, settings(preset="train")).message(questions[0], view)
    assert timed.startswith("The video lasts for 3.00 seconds, and 3 frames are uniformly sampled from it. ")
    assert timed.endswith("related to this video.\n\n" + plain)


def test_a_context_too_long_is_refused(model, questions):
    visual = torch.zeros(model.config.language.max_position, model.config.language.hidden_size)
    with pytest.raises(ValueError, match="exceed the language model's 8192 positions; lower frames"):
        list(ModelAnswers(model, settings()).ask(visual, View(), questions[:1]))


@pytest.mark.parametrize("benchmark", ["vsi", "vsti"])
def test_prompts_are_the_published_ones(shared_dir, benchmark):
    path = shared_dir / f"golden/qa/prompts/{benchmark}_prompts.json"
    if not path.is_file():
        pytest.skip(f"golden data not found: {path}")
    compared = 0
    for item in json.loads(path.read_text())["items"]:
        doc = item["doc"]
        if item.get("tag") or not (doc.get("options") is None or doc.get("mc_answer") or doc.get("ground_truth")):
            continue
        question = BenchmarkQuestion(
            id="0",
            benchmark=benchmark,
            question_type=doc["question_type"],
            question=doc["question"],
            options=tuple(doc["options"] or ()),
            truth=str(doc.get("mc_answer") or doc["ground_truth"]),
            scene="s",
            video=None,
        )
        assert question.prompt == item["prompt"]
        compared += 1
    assert compared >= 150


def test_question_messages_are_the_engines():
    for kind, text, options, truth in VSI_ROWS:
        question = BenchmarkQuestion("0", "vsi", kind, text, tuple(options or ()), truth, "s", None)
        plain = [option.partition(". ")[2] for option in options or ()]
        assert question.prompt == question_message(text, plain)


def test_pictures_are_views_too(tmp_path):
    paths = tuple(write_picture(tmp_path / f"{n}.png", n) for n in range(5))
    question = BenchmarkQuestion("0", "mmsi", "MSR", "?", ("A. x", "B. y"), "A", "s", None, pictures=paths)
    shown = read_view(question, 3)
    assert len(shown.images) == 3
    assert np.array_equal(shown.images[1], video_frames(2, 1)[0])
    with pytest.raises(FileNotFoundError, match="has neither a video nor pictures"):
        read_view(replace(question, pictures=()), 3)
