"""Numbers as words: rounding of targets, and bells over neighbouring numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vlm3r_core
from training.samples.numbers import NumberWords, said_in_words
from vlm3r_core.prompt import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Path(vlm3r_core.__file__).parent / "assets" / "tiny" / "tokenizer.json")


@pytest.fixture(scope="module")
def words(tokenizer):
    return NumberWords(tokenizer)


def test_the_tokenizer_knows_its_numbers(tokenizer):
    assert tokenizer.numbers[tokenizer.encode("3")[0]] == 3
    assert tokenizer.numbers[tokenizer.encode("12.5")[0]] == 12.5
    assert len(tokenizer.numbers) == 401 + 200
    assert Tokenizer().numbers == {}
    with pytest.raises(ValueError, match="digit by digit"):
        NumberWords(Tokenizer())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *[("3", "3"), ("2.0", "2.0"), ("187.0", "187"), ("23.47", "23"), ("13.46", "13.5"), ("0.04", "0.1")],
        *[("A", "A"), ("9000", "9000"), ("-3", "-3"), ("nan", "nan"), ("Turn Left", "Turn Left")],
    ],
)
def test_rounding(words, text, said):
    assert words.nearest(text) == said


def test_only_answers_are_rounded(words):
    assert said_in_words(("is it 23.47?", "23.47"), words) == ("is it 23.47?", "23")
    assert said_in_words(("?", "23.47"), None) == ("?", "23.47")


def test_bells(tokenizer, words):
    rows, table = words.soft_targets(1300, 0.1)
    torch.testing.assert_close(table.sum(1), torch.ones(len(table)))
    (three,), (measured,), (zero,) = (tokenizer.encode(text) for text in ("3", "2.0", "0"))
    assert rows[tokenizer.encode("A")[0]] == -1
    assert table[rows[three]].argmax() == three
    # 2.2 lies one standard deviation off 2.0, and no whole number has a share in a measured one
    ratio = table[rows[measured], tokenizer.encode("2.2")[0]] / table[rows[measured], measured]
    torch.testing.assert_close(ratio, torch.tensor(-0.5).exp())
    assert table[rows[measured], three] == 0
    assert table[rows[zero], zero] > 0.999
