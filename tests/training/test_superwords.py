"""The small model's tokenizer: phrases, categories and numbers are a token each, and any text survives it."""

from __future__ import annotations

from pathlib import Path

import pytest

import vlm3r_core
from training.make_tokenizer import train
from training.scans.simulated_clips import CATEGORIES
from training.superwords import number_words, phrases
from vlm3r_core.labels import conversation_ids
from vlm3r_core.prompt import IMAGE_TOKEN_ID, Tokenizer, prefix_ids, question_message, suffix_ids
from vlm3r_core.scene.questions import question_text, route_question

FILE = Path(vlm3r_core.__file__).parent / "assets" / "tiny" / "tokenizer.json"
PLACES = ("bed", "sofa", "door", "lamp")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(FILE)


def test_the_bundled_one_is_what_its_recipe_makes(tokenizer):
    fresh = train("superwords")
    assert fresh.get_vocab_size() == tokenizer.size <= 2048
    text = "Measuring from the closest point of each object, what is behind the sofa? 1.5"
    assert fresh.encode(text).ids == tokenizer.encode(text)


def test_what_is_one_token(tokenizer):
    for text in (*phrases(), *number_words(), *CATEGORIES, *"ABCD"):
        assert len(tokenizer.encode(text)) == 1, text


@pytest.mark.parametrize(
    "text", ["How far is the door?", "été 你好 🙂", "1.25 m\n\tx", "<|im_start|>", "bedrooms, 23.47"]
)
def test_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("question", "options", "most"),
    [
        (question_text("object_counting", {"category": "trash bin"}), (), 7),
        (question_text("room_size_estimation", {}, wording="vsibench"), (), 5),
        (question_text("object_abs_distance", {"object1": "tv", "object2": "bed"}), (), 9),
        (question_text("object_rel_distance_v3", {"primary": "tv"}, PLACES), PLACES, 23),
        (
            question_text("object_rel_direction_v2", {"stand": "tv", "face": "bed", "query": "sofa"}),
            ("left", "right", "back"),
            17,
        ),
        (route_question("bed", "tv", "door").text, ("Turn Left", "Turn Right"), 17),
    ],
)
def test_questions_are_short(tokenizer, question, options, most):
    """Chat template included, from the video to the answer."""
    assert len(suffix_ids(tokenizer, question_message(question, options))) <= most


def test_training_and_asking_agree(tokenizer):
    message = question_message(question_text("object_counting", {"category": "chair"}))
    ids, _ = conversation_ids(tokenizer, [f"<image>\n{message}", "3"], "answer")
    asked = [*prefix_ids(tokenizer), IMAGE_TOKEN_ID, *suffix_ids(tokenizer, message)]
    assert ids[: len(asked)] == asked
    assert tokenizer.decode(ids[len(asked) : -2]) == "3"
