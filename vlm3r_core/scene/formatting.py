"""Items as files hold them: evaluation prompts, training conversations, JSON rows. Generates and scores nothing."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from vlm3r_core.config import check_choice
from vlm3r_core.scene.items import QaItem

IMAGE = "<image>\n"
_PRE_PROMPT = "These are frames of a video."
_CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n"
)
_CHOICE, _NUMBER = "choice", "number"
_DIRECTIONS = ("object_rel_direction_easy", "object_rel_direction_medium", "object_rel_direction_hard")
_VSI_NUMBERS = ("object_abs_distance", "object_counting", "object_size_estimation", "room_size_estimation")
_VSTI_NUMBERS = ("camera_obj_abs_dist", "camera_displacement", "camera_obj_dist_change")
_VSTI_CHOICES = (
    *(f"obj_obj_relative_pos_{version}" for version in ("nf", "ud", "lr")),
    *(f"camera_obj_rel_dist_v{version}" for version in (1, 2, 3)),
    "camera_movement_direction",
)
_VSI_CHOICES = (*_DIRECTIONS, "object_rel_distance", "route_planning", "obj_appearance_order")
_TRAINING_CHOICES = (
    *(f"object_rel_{kind}_v{version}" for kind in ("direction", "distance") for version in (1, 2, 3)),
    *("route_planning", "obj_appearance_order", "camera_obj_rel_dir"),
)
# which answer each question type wants, by collection; `training` as the published formatter knows them
QUESTION_TYPES = {
    "vsi": dict.fromkeys(_VSI_CHOICES, _CHOICE) | dict.fromkeys(_VSI_NUMBERS, _NUMBER),
    "vsti": dict.fromkeys(_VSTI_CHOICES, _CHOICE) | dict.fromkeys(_VSTI_NUMBERS, _NUMBER),
    "training": dict.fromkeys((*_TRAINING_CHOICES, *_VSTI_CHOICES), _CHOICE)
    | dict.fromkeys((*_VSI_NUMBERS, *_VSTI_NUMBERS), _NUMBER),
}
QUESTION_TYPES["all"] = QUESTION_TYPES["training"] | QUESTION_TYPES["vsi"]
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "vlm3r/spatial-questions")


@dataclass(frozen=True)
class PromptPreset:
    """Words around a question; an empty pre_prompt stands for the usual one."""

    pre_prompt: str = ""
    mca_post_prompt: str = "Answer with the option's letter from the given choices directly."
    na_post_prompt: str = "Please answer the question using a single word or phrase."


_NUMBER_ONLY = PromptPreset(na_post_prompt="Do not response anything other than a single number!")
PRESETS = {"default": PromptPreset(), "gemini_api": _NUMBER_ONLY, "gpt4v": _NUMBER_ONLY}


def answer_kind(question_type: str, collection: str = "all") -> str:
    """`choice` or `number`.

    Raises:
        ValueError: the collection has no such question type; the message lists those it has.
    """
    check_choice("collection of question types", collection, tuple(QUESTION_TYPES))
    check_choice("question_type", question_type, tuple(QUESTION_TYPES[collection]))
    return QUESTION_TYPES[collection][question_type]


def prompt_text(
    question: str, options: Sequence[str] | None, kind: str, preset: PromptPreset = PRESETS["default"]
) -> str:
    """What a model is asked, without the place of the video.

    Args:
        question: the question.
        options: with their letters; only read where the kind is `choice`.
        kind: of answer_kind.
        preset: one of PRESETS' values, or own words.

    Raises:
        ValueError: a choice without options.

    Source: facts of lmms-eval's VSI-Bench task, as used for the published scores.
    """
    pre_prompt = preset.pre_prompt or _PRE_PROMPT
    if kind == _NUMBER:
        return "\n".join((pre_prompt, question, preset.na_post_prompt))
    if options is None:
        raise ValueError(f"a question with a choice needs options, got none for {question!r}")
    return "\n".join((pre_prompt, question, "Options:\n" + "\n".join(options), preset.mca_post_prompt))


def benchmark_prompt(doc: Mapping, benchmark: str, preset: PromptPreset = PRESETS["default"]) -> str:
    """The prompt of an item of VSI-Bench or VSTI-Bench.

    Args:
        doc: the item, with question_type, question and options.
        benchmark: `vsi` or `vsti`.
        preset: as for prompt_text.

    Raises:
        ValueError: a field is missing, or the benchmark has no such question type.
    """
    question_type, question = _field(doc, "question_type"), _field(doc, "question")
    return prompt_text(question, doc.get("options"), answer_kind(question_type, benchmark), preset)


def chat_text(prompt: str) -> str:
    """A prompt in the chat template, the video before it: what the published evaluation feeds the tokenizer."""
    return _CHAT.format(message=IMAGE + prompt)


def training_item(item: QaItem | Mapping, *, as_published: bool = False) -> dict:
    """An item as training data.

    Args:
        item: a QaItem, or a row of item_to_json or of the published generator.
        as_published: an answer of 0 becomes empty, question types are those the published formatter knows.

    Returns:
        id, data_source, scene_name, question_type, video and a conversation of two turns.

    Raises:
        ValueError: a field is missing, there is no answer, or the question type is not known.
    """
    row = item_to_json(item) if isinstance(item, QaItem) else item
    question_type, question = _field(row, "question_type"), _field(row, "question")
    kind = answer_kind(question_type, "training" if as_published else "all")
    answer = row.get("mc_answer" if kind == _CHOICE else "ground_truth")
    if answer in (None, "") or (as_published and not answer):
        answer = row.get("answer", "" if as_published else None)
    if answer is None:
        raise ValueError(
            f"item {row.get('id')!r} has no answer; expected {'mc_answer' if kind == _CHOICE else 'ground_truth'}"
        )
    human = IMAGE + prompt_text(question, row.get("options"), kind)
    return {
        "id": str(uuid.uuid5(_NAMESPACE, str(row.get("id")))),
        "data_source": row.get("dataset"),
        "scene_name": row.get("scene_name"),
        "question_type": question_type,
        "video": row.get("video_path"),
        "conversations": [{"from": "human", "value": human}, {"from": "gpt", "value": str(answer)}],
    }


def benchmark_item(item: QaItem) -> dict:
    """An item as VSI-Bench holds it (a choice's truth is the letter) or, for camera tasks, VSTI-Bench (its text)."""
    row = {
        "id": item.id,
        "dataset": item.dataset,
        "scene_name": item.scene,
        "question_type": item.question_type,
        "question": item.question,
        "options": list(item.options) if item.is_choice and item.options else None,
        "ground_truth": str(item.ground_truth),
    }
    if item.question_type in QUESTION_TYPES["vsti"]:
        return row | {"video_path": item.video_path, "mc_answer": item.mc_answer if item.is_choice else None}
    return row | ({"ground_truth": item.mc_answer} if item.is_choice else {})


def item_to_json(item: QaItem) -> dict:
    """An item as a row of JSON, with the published generator's names where it has them."""
    row = dict(vars(item))
    row["scene_name"], row["frame_indices"] = row.pop("scene"), row.pop("frame_ids")
    row["names"] = dict(item.names)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in row.items()}


def item_from_json(row: Mapping) -> QaItem:
    """The item of a row of item_to_json.

    Raises:
        ValueError: a field is missing.
    """
    renamed = {"scene": "scene_name", "frame_ids": "frame_indices"}
    values = {item.name: _field(row, renamed.get(item.name, item.name)) for item in fields(QaItem)}
    return QaItem(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _field(row: Mapping, key: str) -> object:
    if key not in row:
        raise ValueError(f"an item needs the field {key!r}; this one has {', '.join(map(str, row)) or 'none'}")
    return row[key]
