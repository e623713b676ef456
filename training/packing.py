"""Several conversations about one video as one sequence that holds the video once. Loads no data, updates no weights.

The sequence is the part all conversations begin with, the visual tokens in it, and then the rest of each conversation,
which sees that beginning and itself. Positions are those each conversation has alone, so loss and gradients are those
of the conversations one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from training.fold import Fold
from training.fold_decoder import fold_hidden
from vlm3r_core.config import check_choice
from vlm3r_core.labels import IGNORED
from vlm3r_core.model.language import LanguageModel
from vlm3r_core.model.vlm3r import VLM3R
from vlm3r_core.prompt import IMAGE_TOKEN_ID

# Mean over conversations of each one's mean over its tokens, or mean over all tokens.
REDUCTIONS = ("conversation", "token")
# How attention skips what must not be seen: masked in one call; prefix and rest in two calls; or the prefix by itself
# and the questions as rows, which makes no square of all places and is the quickest on a CPU.
ATTENTIONS = ("mask", "split", "fold")
_SPLIT_NAME = "vlm3r_packed_split"


@dataclass(frozen=True, eq=False)
class Pack:
    """Conversations of one video as one sequence of L places, visual tokens included.

    Args:
        ids: token ids with IMAGE_TOKEN_ID where the visual tokens belong.
        prefix: how many places at the beginning all conversations share.
        positions: int64 [L], each place's position in its own conversation.
        segment: int64 [L], number of the conversation, -1 in the prefix.
        sources: int64 [N], the place from which each learned token is predicted; a place may predict several.
        targets: int64 [N], the learned tokens.
        conversation: int64 [N], whose they are.
        count: number of conversations.
    """

    ids: tuple[int, ...]
    prefix: int
    positions: Tensor
    segment: Tensor
    sources: Tensor
    targets: Tensor
    conversation: Tensor
    count: int

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def visual(self) -> tuple[int, int]:
        """The first visual place and the one after the last."""
        start = self.ids.index(IMAGE_TOKEN_ID)
        return start, start + len(self) - len(self.ids) + 1

    def may_see(self, device: torch.device | str = "cpu") -> Tensor:
        """Which place attends to which: bool [L, L], rows look at columns."""
        segment = self.segment.to(device)
        places = torch.arange(len(segment), device=device)
        same = segment[:, None] == segment[None, :]
        return (places[:, None] >= places[None, :]) & (same | (segment[None, :] < 0))

    def weights(self, reduction: str = "conversation") -> Tensor:
        """What each learned token counts, float64 [N], summing to 1.

        Raises:
            ValueError: unknown reduction, or a conversation with nothing to learn.
        """
        check_choice("reduction", reduction, REDUCTIONS)
        learned = torch.bincount(self.conversation, minlength=self.count)
        if not learned.all():
            raise ValueError(
                f"conversation {int((learned == 0).nonzero()[0])} of the pack has no token to learn; it needs an answer"
            )
        if reduction == "token":
            return torch.full((len(self.targets),), 1 / len(self.targets), dtype=torch.float64)
        return 1 / (self.count * learned[self.conversation].double())


def pack(conversations: Sequence[tuple[Sequence[int], Sequence[int]]], visual_length: int) -> Pack:
    """Puts conversations about one video behind one another.

    Args:
        conversations: (ids, labels) of each, as labels.conversation_ids makes them, each with the video once.
        visual_length: how many visual tokens the video has.

    Raises:
        ValueError: none, one without or with several videos, or beginnings that differ before the video.
    """
    if not conversations:
        raise ValueError("a pack needs at least one conversation, got none")
    for number, (ids, _) in enumerate(conversations):
        if list(ids).count(IMAGE_TOKEN_ID) != 1:
            raise ValueError(f"conversation {number} must hold the video once; pack only questions about one video")
    shared = _shared_length([list(zip(ids, labels, strict=True)) for ids, labels in conversations])
    first_ids = conversations[0][0]
    if IMAGE_TOKEN_ID not in first_ids[:shared]:
        raise ValueError("these conversations differ before the video; pack those with the same beginning")
    prefix = shared - 1 + visual_length
    ids, positions, segment = list(first_ids[:shared]), [*range(prefix)], [-1] * prefix
    sources, targets, owners = [], [], []
    for number, (own_ids, own_labels) in enumerate(conversations):
        rest = list(own_ids[shared : _needed(own_labels, shared)])
        # place of the conversation's token i in the pack, for the tokens behind the video
        start = len(positions)
        place_of = _places(own_ids, shared, visual_length, start)
        for index in range(1, len(own_ids)):
            if own_labels[index] != IGNORED:
                sources.append(place_of[index] - 1 if index != shared else prefix - 1)
                targets.append(own_labels[index])
                owners.append(number)
        ids += rest
        positions += range(prefix, prefix + len(rest))
        segment += [number] * len(rest)
    return Pack(
        ids=tuple(ids),
        prefix=prefix,
        positions=torch.tensor(positions),
        segment=torch.tensor(segment),
        sources=torch.tensor(sources, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        conversation=torch.tensor(owners, dtype=torch.long),
        count=len(conversations),
    )


def packed_loss(
    model: VLM3R,
    pack: Pack,
    visual: Tensor,
    *,
    reduction: str = "conversation",
    attention: str = "mask",
) -> Tensor:
    """The loss of all conversations of a pack, as if each had been read alone.

    Args:
        model: in training or evaluation mode.
        pack: as `pack` makes it, with as many visual tokens as `visual` has.
        visual: visual tokens [V, D].
        reduction: one of REDUCTIONS.
        attention: one of ATTENTIONS; the same numbers, another cost.

    Returns:
        A scalar, float32 or wider.
    """
    hidden, _ = packed_states(model, pack, visual, attention)
    return answer_loss(model, pack, hidden, reduction=reduction)


def packed_states(
    model: VLM3R, pack: Pack, visual: Tensor, attention: str = "mask", watched: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Hidden states of a pack.

    Args:
        model: in training or evaluation mode.
        pack: as `pack` makes it, with as many visual tokens as `visual` has.
        visual: visual tokens [V, D].
        attention: one of ATTENTIONS.
        watched: number of layers behind which they are wanted too; with `fold` only.

    Returns:
        [L, D] behind the last norm, and [L, D] behind the watched layers, None where none are.

    Raises:
        ValueError: the pack was made for another number of visual tokens.
    """
    embeddings = model.embed_prompt(pack.ids, [visual])
    if len(embeddings) != len(pack):
        raise ValueError(
            f"the pack was made for {len(pack) - len(pack.ids) + 1} visual tokens, {len(visual)} came; pack again"
        )
    if attention != "fold":
        return packed_hidden(model.language, embeddings, pack, attention), None
    return _folded(model.language, embeddings, pack, watched)


def answer_loss(
    model: VLM3R,
    pack: Pack,
    hidden: Tensor,
    *,
    reduction: str = "conversation",
    soft: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The loss of a pack's learned tokens.

    Args:
        model: whose head reads them.
        pack: as `pack` makes it.
        hidden: [L, D] behind the last norm.
        reduction: one of REDUCTIONS.
        soft: row of each token and what is learned instead of it, as NumberWords.soft_targets makes them.

    Returns:
        A scalar, float32 or wider.
    """
    device = hidden.device
    logits = model.language.qwen.lm_head(hidden[pack.sources.to(device)])
    logits = logits if logits.dtype == torch.float64 else logits.float()
    targets = pack.targets.to(device)
    losses = F.cross_entropy(logits, targets, reduction="none")
    if soft is not None:
        rows = soft[0].to(device)[targets]
        numbers = (rows >= 0).nonzero()[:, 0]
        bells = soft[1].to(device)[rows[numbers]]
        losses = losses.index_copy(0, numbers, F.cross_entropy(logits[numbers], bells, reduction="none"))
    # a product of vectors would be taken in bfloat16 where autocast is on
    return (losses * pack.weights(reduction).to(device, losses.dtype)).sum()


def packed_hidden(language: LanguageModel, embeddings: Tensor, pack: Pack, attention: str = "mask") -> Tensor:
    """Last hidden states [L, D] of a pack's embeddings [L, D]."""
    check_choice("attention", attention, ATTENTIONS)
    if attention == "fold":
        return _folded(language, embeddings, pack, None)[0]
    decoder = language.qwen.model
    bias, before = _bias(language, pack, embeddings), decoder.config._attn_implementation
    if attention == "split":
        # text behind the video is masked too, even where all questions share it
        bias = bias[:, :, pack.visual[1] if language.config.text_only_heads else pack.prefix :]
        decoder.config._attn_implementation = _SPLIT_NAME
    try:
        output = decoder(
            inputs_embeds=embeddings[None],
            attention_mask={"full_attention": bias},
            position_ids=pack.positions.to(embeddings.device)[None],
            use_cache=False,
        )
    finally:
        decoder.config._attn_implementation = before
    return output.last_hidden_state[0]


def _folded(
    language: LanguageModel, embeddings: Tensor, pack: Pack, watched: int | None
) -> tuple[Tensor, Tensor | None]:
    owners = pack.segment[pack.prefix :].to(embeddings.device)
    fold = Fold(pack.prefix, pack.visual, owners, language.config.text_only_heads)
    return fold_hidden(language, embeddings, pack.positions.to(embeddings.device), fold, watched)


def _bias(language: LanguageModel, pack: Pack, embeddings: Tensor) -> Tensor:
    """What is added to the scores of all places: [1, 1 or N, L, L]."""
    places = torch.arange(len(pack))
    start, end = pack.visual
    # what stands before the video sees nothing of it anyway
    visual, text = (places >= start) & (places < end), places >= end
    return language.attention_bias(pack.may_see(embeddings.device), visual, text, embeddings.dtype)


@contextmanager
def held_attention(language: LanguageModel, attention: str) -> Iterator[None]:
    """Holds packed_loss's way to attend until its backward pass is through.

    Layers that are computed again in the backward pass (gradient checkpointing) ask then how to attend.
    """
    check_choice("attention", attention, ATTENTIONS)
    config = language.qwen.model.config
    before = config._attn_implementation
    config._attn_implementation = _SPLIT_NAME if attention == "split" else before
    try:
        yield
    finally:
        config._attn_implementation = before


def _split_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **kwargs
) -> tuple[Tensor, None]:
    """The prefix causally by itself, then the rest over everything: what is masked as a block is never computed."""
    rest = attention_mask.shape[-2]
    prefix, scale = query.shape[-2] - rest, kwargs.get("scaling")
    options = {"scale": scale, "enable_gqa": query.shape[1] != key.shape[1]}
    seen = [
        F.scaled_dot_product_attention(
            query[:, :, :prefix], key[:, :, :prefix], value[:, :, :prefix], is_causal=True, **options
        ),
        F.scaled_dot_product_attention(query[:, :, prefix:], key, value, attn_mask=attention_mask, **options),
    ]
    return torch.cat(seen, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(_SPLIT_NAME, _split_attention)


def _shared_length(conversations: Sequence[Sequence[tuple[int, int]]]) -> int:
    """How many tokens all begin with; each keeps one of its own at least."""
    longest = min(len(tokens) for tokens in conversations) - 1
    for length in range(longest):
        if len({tokens[length] for tokens in conversations}) > 1:
            return length
    return longest


def _needed(labels: Sequence[int], shared: int) -> int:
    """How many tokens of a conversation the learned ones are predicted from; at least one behind the shared part."""
    last = max((index for index, label in enumerate(labels) if label != IGNORED), default=len(labels))
    return max(last, shared + 1)


def _places(ids: Sequence[int], shared: int, visual_length: int, start: int) -> np.ndarray:
    """Place in the pack of each token of a conversation; of the video its last visual token's."""
    length = len(ids)
    places = np.arange(length)
    video = list(ids).index(IMAGE_TOKEN_ID)
    places[video:shared] += visual_length - 1
    places[shared:] = start + np.arange(length - shared)
    return places
