"""Text around a question: chat template, evaluation wording, time instruction, tokenizer. Decodes no answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer

SYSTEM_TEXT = "You are a helpful assistant."
PRE_PROMPT = "These are frames of a video."
MCA_POST_PROMPT = "Answer with the option's letter from the given choices directly."
NA_POST_PROMPT = "Please answer the question using a single word or phrase."
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# Stands for the visual tokens in a list of token ids.
IMAGE_TOKEN_ID = -200


class Tokenizer:
    """Text to ids and back, in Qwen2's layout. A user's text can never become a control token.

    Args:
        path: a tokenizer.json; None for the small one that is bundled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file lacks a token that the chat template needs.
    """

    def __init__(self, path: Path | None = None):
        source = path or resources.files("vlm3r_core") / "assets" / "tokenizer.json"
        if not source.is_file():
            raise FileNotFoundError(f"no tokenizer at {source}; expected a tokenizer.json file")
        self._tokenizer = _Tokenizer.from_str(source.read_text(encoding="utf-8"))
        self._tokenizer.encode_special_tokens = True
        self.im_start, self.im_end, self.end_of_text = (
            self._special(token) for token in ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
        )
        self.size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        # value of each token that is a whole number, as small models' tokenizers have them; empty for digit by digit
        self.numbers = self._numbers()

    def _special(self, token: str) -> int:
        token_id = self._tokenizer.token_to_id(token)
        if token_id is None:
            raise ValueError(f"the tokenizer has no {token} token; expected a tokenizer in Qwen2's layout")
        return token_id

    def _numbers(self) -> dict[int, float]:
        added = self._tokenizer.get_added_tokens_decoder().items()
        found = {number: float(token.content) for number, token in added if _NUMBER.fullmatch(token.content)}
        if found:
            found |= {self.encode(digit)[0]: float(digit) for digit in "0123456789"}
        return dict(sorted(found.items()))

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; text that looks like a control token is encoded letter by letter."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids without control tokens."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def letter_ids(self, count: int) -> list[int]:
        """The ids of the first `count` option letters.

        Raises:
            ValueError: more options than letters.
        """
        if count > len(LETTERS):
            raise ValueError(f"at most {len(LETTERS)} options can be lettered, got {count}")
        return [self.encode(letter)[0] for letter in LETTERS[:count]]


def prefix_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids before the visual tokens: the system turn and the opening of the user's."""
    return [
        *[tokenizer.im_start, *tokenizer.encode("system\n" + SYSTEM_TEXT), tokenizer.im_end, *tokenizer.encode("\n")],
        *[tokenizer.im_start, *tokenizer.encode("user\n")],
    ]


def suffix_ids(tokenizer: Tokenizer, message: str) -> list[int]:
    """Ids after the visual tokens: the message and the opening of the assistant's turn."""
    return [
        *[*tokenizer.encode("\n" + message), tokenizer.im_end, *tokenizer.encode("\n")],
        *[tokenizer.im_start, *tokenizer.encode("assistant\n")],
    ]


def question_message(question: str, options: Sequence[str] = (), *, brief: bool = True) -> str:
    """The user's message as VSI-Bench's evaluation words it.

    Args:
        question: the question.
        options: answers to choose from, without letters.
        brief: ask for a single word or phrase; only without options.

    Source: facts of lmms-eval's VSI-Bench task, as used for the published scores.
    """
    lines = [PRE_PROMPT, question]
    if options:
        lettered = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
        lines += ["Options:", *lettered, MCA_POST_PROMPT]
    elif brief:
        lines.append(NA_POST_PROMPT)
    return "\n".join(lines)


def time_instruction(times_s: Sequence[float], duration_s: float | None = None) -> str:
    """Says when the frames were taken, as training words it; no blank after the last full stop.

    Args:
        times_s: seconds from the start, one a frame.
        duration_s: length of the video, default the last time.
    """
    duration_s = times_s[-1] if duration_s is None else duration_s
    stamps = ",".join(f"{t:.2f}s" for t in times_s)
    return (
        f"The video lasts for {duration_s:.2f} seconds, and {len(times_s)} frames are uniformly sampled from it. "
        f"These frames are located at {stamps}.Please answer the following questions related to this video."
    )
