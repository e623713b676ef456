"""Trains the byte-level BPEs that the bundled models use. The published one comes with its weights.

Run: python -m training.make_tokenizer vlm3r_core/assets/tokenizer.json
     python -m training.make_tokenizer --kind superwords vlm3r_core/assets/tiny/tokenizer.json
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from training.superwords import number_words, phrases
from vlm3r_core.files import whole_file
from vlm3r_core.prompt import MCA_POST_PROMPT, NA_POST_PROMPT, PRE_PROMPT, SYSTEM_TEXT, time_instruction
from vlm3r_core.scene.questions import route_question

VOCAB_SIZE = 2000
# bytes and merges beside the superwords: what is left of a text that they do not cover
SUPERWORD_BYTES = 446
KINDS = ("words", "superwords")
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# One token a digit, a word with its leading blank, punctuation with following line breaks: Qwen2's splitting.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CATEGORIES = (
    "armchair,backpack,bag,basket,bathtub,bed,bench,bicycle,blanket,blinds,book,bookshelf,bottle,bowl,box,bucket,cabinet,"
    "ceiling light,chair,clock,closet,coat hanger,computer mouse,counter,couch,crate,cup,curtain,cushion,desk,dishwasher,"
    "door,dresser,fan,fireplace,floor,fridge,guitar,heater,jacket,kettle,keyboard,kitchen cabinet,lamp,laptop,microwave,"
    "mirror,monitor,nightstand,office chair,oven,painting,paper towel,piano,picture,pillow,plant,poster,pot,printer,rack,"
    "radiator,refrigerator,rug,shelf,shoes,shower,sink,sofa,speaker,stairs,stool,stove,suitcase,table,telephone,toilet,"
    "toilet paper,towel,trash bin,trash can,tv,tv stand,vase,wall,wardrobe,washing machine,whiteboard,window"
).split(",")
# what stands in the simulated flats and is not named above
MORE_CATEGORIES = ("washer",)
TEMPLATES = (
    "How many {a}(s) are in this room?",
    "What is the length of the longest dimension (length, width, or height) of the {a}, measured in centimeters?",
    "What is the size of this room (in square meters)? \n"
    "If multiple rooms are shown, estimate the size of the combined space.",
    "Measuring from the closest point of each object, what is the direct distance between the {a} and the {b} (in meters)?",
    "Measuring from the closest point of each object, which of these objects ({a}, {b}, {c}) is the closest to the {a}?\n"
    "If there are multiple instances of an object category, measure to the closest.",
    "If I am standing by the {a} and facing the {b}, is the {c} to my front-left, front-right, back-left, or back-right?\n"
    "The directions refer to the quadrants of a Cartesian plane (if I am standing at the origin and facing along the "
    "positive y-axis).",
    "If I am standing by the {a} and facing the {b}, is the {c} to my left, right, or back?\n"
    "An object is to my back if I would have to turn at least 135 degrees in order to face it.",
    "If I am standing by the {a} and facing the {b}, is the {c} to the left or the right of the {b}?",
    "What will be the first-time appearance order of the following categories in the video: {a}, {b}, {c}, {a}?",
    "What is the approximate distance (in meters) between the camera (or the person filming) and the nearest point of the "
    "{a} in frame 7 of 32?",
    "Approximately how far (in meters) did the camera move between frame 3 and frame 9 of 32?",
    "During the sequence between frame 3 and frame 9 of 32, what was the primary consistent direction of the camera's "
    "movement relative to its orientation at the start? The options are Forward, Backward, Left, and Right.",
    "In frame 7 of 32, relative to the camera, is {a} Near or Far compared to {b}?",
    "How far is the {a}? Which is closer, the {a} or the {b}? What is behind me? Where is the {c}?",
    "The {a} is about 2 meters away, to the left of the {b} and behind the {c}. It was not seen so far.",
)


def corpus() -> list[str]:
    """The question wordings of the benchmarks, filled with household categories."""
    turns = itertools.cycle([(), ("sofa",), ("sofa", "table")])
    lines = [SYSTEM_TEXT, time_instruction([0.0, 0.5, 1.25])]
    for index, (a, b) in enumerate(zip(CATEGORIES, CATEGORIES[1:] + CATEGORIES[:1], strict=True)):
        c = CATEGORIES[(index + 7) % len(CATEGORIES)]
        body = [template.format(a=a, b=b, c=c) for template in TEMPLATES]
        body.append(route_question(a, b, c, next(turns)).text)
        options = f"Options:\nA. {a}\nB. {b}\nC. {c}\nD. turn left, turn right"
        lines += [f"{PRE_PROMPT}\n{q}\n{options}\n{MCA_POST_PROMPT}" for q in body]
        lines += [f"{PRE_PROMPT}\n{q}\n{NA_POST_PROMPT}" for q in body]
        lines += [
            f"Turn Left, Turn Right, Turn Back, turn left, turn right, turn back, yes, no, {a}, the {b} and the {c}"
        ]
    return lines


def train(kind: str = "words") -> Tokenizer:
    """Trains a tokenizer: 256 bytes first, then merges, superwords if any, then Qwen2's three special tokens.

    Args:
        kind: `words`, split as Qwen2 does; or `superwords`, where fixed phrases, categories and numbers are a token each.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=SUPERWORD_BYTES if kind == "superwords" else VOCAB_SIZE - len(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    if kind == "superwords":
        # the longest one that fits is taken; a category only as a whole word
        categories = dict.fromkeys((*CATEGORIES, *MORE_CATEGORIES))
        known = dict.fromkeys((*phrases(), *(word for word in number_words() if len(word) > 1)))
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in known])
        tokenizer.add_tokens([AddedToken(text, normalized=False, single_word=True) for text in categories])
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def main() -> None:
    """Writes the tokenizer file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="tokenizer.json to write")
    parser.add_argument("--kind", choices=KINDS, default="words", help="what the tokens are")
    arguments = parser.parse_args()
    tokenizer = train(arguments.kind)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(arguments.output) as partial:
        tokenizer.save(str(partial))
    print(f"{arguments.output}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
