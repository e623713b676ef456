"""Our model's numbers at every stage the golden data recorded, under the golden data's names."""

from __future__ import annotations

import torch
from published_golden import Golden
from torch import Tensor

from vlm3r_core.model.fusion import select_tokens
from vlm3r_core.model.vlm3r import VLM3R, Encoded
from vlm3r_core.prompt import IMAGE_TOKEN_ID, prefix_ids, suffix_ids
from vlm3r_core.stream.decoding import greedy_tokens

MAX_NEW_TOKENS = 12


def visual_stages(model: VLM3R, encoded: Encoded) -> dict[str, Tensor]:
    """The stages of a clip under a model's configuration; SigLIP and CUT3R do not depend on it and are taken over."""
    camera, patch = encoded.camera, encoded.patch
    fused = model.fuse(encoded.siglip, camera, patch)
    projected, pooled, visual = model.project(fused)
    return {
        "siglip_features": encoded.siglip,
        "camera_tokens": camera,
        "patch_tokens": patch,
        "fused": fused,
        "fusion_attn": fusion_attention(
            model, encoded.siglip, select_tokens(camera, patch, model.config.token_selection)
        ),
        "projected": projected,
        "pooled": pooled,
        "visual_tokens": model.visual_sequence(visual),
    }


def fusion_attention(model: VLM3R, image: Tensor, spatial: Tensor) -> Tensor:
    """The fusion's attention weights, averaged over heads."""
    fusion, z = model.fusion, model.fusion.spatial_norm(spatial)
    return fusion.attention(fusion.query(fusion.image_norm(image)), fusion.key(z), fusion.value(z))[1]


def text_stages(golden: Golden, model: VLM3R, ids: list[int], visual: list[Tensor]) -> dict[str, Tensor]:
    """What the language model makes of a prompt; logits of rows that stand for a token, as the published code keeps."""
    language, rows = model.language, golden.tokenizer.size
    embeddings = model.embed_prompt(ids, visual)
    hidden = language.qwen.model(inputs_embeds=embeddings[None], output_hidden_states=True).hidden_states
    logits = language.logits(embeddings)[:, :rows]
    stages = {
        "input_ids": torch.tensor(ids),
        "inputs_embeds": embeddings,
        "llm_hidden_states": torch.cat(hidden),
        "logits": logits,
        "logits_last": logits[-1],
    }
    for suffix, penalty in (("", golden.config.repetition_penalty), ("_no_penalty", 1.0)):
        decoded = decode(golden, model, embeddings, penalty)
        said = model.embed_prompt(decoded[:-1], [])
        stages[f"generated{suffix}"] = torch.tensor(decoded)
        whole = language.logits(torch.cat([embeddings, said]))
        stages[f"step_logits{suffix}"] = whole[len(embeddings) - 1 :, :rows]
    return stages


def decode(golden: Golden, model: VLM3R, embeddings: Tensor, repetition_penalty: float) -> list[int]:
    cache = model.language.new_cache(len(embeddings) + MAX_NEW_TOKENS)
    steps = greedy_tokens(
        model.language,
        cache,
        model.language.next_logits(embeddings, cache),
        vocab_size=golden.tokenizer.size,
        stop_ids=(golden.tokenizer.im_end, golden.tokenizer.end_of_text),
        max_new_tokens=MAX_NEW_TOKENS,
        repetition_penalty=repetition_penalty,
    )
    return [token for token, _ in steps]


def prompt(golden: Golden, message: str) -> list[int]:
    return [*prefix_ids(golden.tokenizer), IMAGE_TOKEN_ID, *suffix_ids(golden.tokenizer, message)]
