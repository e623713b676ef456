"""Prompts as the published evaluation words them, and a tokenizer in Qwen2's layout."""

from __future__ import annotations

import pytest

from vlm3r_core.prompt import Tokenizer, prefix_ids, question_message, suffix_ids, time_instruction


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer()


def test_layout(tokenizer):
    assert tokenizer.encode("\n") == [198]
    assert tokenizer.encode("ABCD") != []
    assert tokenizer.letter_ids(4) == [32, 33, 34, 35]
    assert [tokenizer.end_of_text, tokenizer.im_start, tokenizer.im_end] == list(
        range(tokenizer.size - 3, tokenizer.size)
    )


@pytest.mark.parametrize("text", ["How far is the door?", "été 你好 🙂", "1.25 m\n\tx", "<|im_start|>"])
def test_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_control_tokens_cannot_be_typed(tokenizer):
    ids = tokenizer.encode("<|im_start|><|im_end|><|endoftext|>")
    assert not {tokenizer.im_start, tokenizer.im_end, tokenizer.end_of_text} & set(ids)


def test_the_bundled_tokenizer_is_what_its_recipe_makes(tokenizer):
    from training.make_tokenizer import train

    fresh = train()
    text = "Measuring from the closest point of each object, what is behind the sofa? 1.5"
    assert fresh.get_vocab_size() == tokenizer.size
    assert fresh.encode(text).ids == tokenizer.encode(text)


def test_choice_message():
    assert question_message("Which?", ["door", "sofa"]) == (
        "These are frames of a video.\nWhich?\nOptions:\nA. door\nB. sofa\n"
        "Answer with the option's letter from the given choices directly."
    )


def test_open_message():
    assert question_message("How many?") == (
        "These are frames of a video.\nHow many?\nPlease answer the question using a single word or phrase."
    )
    assert question_message("Describe.", brief=False) == "These are frames of a video.\nDescribe."


def test_chat_template(tokenizer):
    ids = [*prefix_ids(tokenizer), *suffix_ids(tokenizer, "Q")]
    control = {tokenizer.im_start: "<|im_start|>", tokenizer.im_end: "<|im_end|>"}
    text = "".join(control.get(token) or tokenizer.decode([token]) for token in ids)
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n\nQ<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_time_instruction():
    assert time_instruction([0, 0.333, 1]) == (
        "The video lasts for 1.00 seconds, and 3 frames are uniformly sampled from it. These frames are located at "
        "0.00s,0.33s,1.00s.Please answer the following questions related to this video."
    )


def test_missing_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        Tokenizer(tmp_path / "tokenizer.json")


def test_too_many_letters(tokenizer):
    with pytest.raises(ValueError, match="at most 26"):
        tokenizer.letter_ids(27)
