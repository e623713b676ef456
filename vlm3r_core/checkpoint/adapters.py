"""Adapters kept apart from the base model: attached by name, switched at run time, trained, merged at last.

It needs peft, which is imported when the first adapter is attached. A model that serves one adapter does without:
fill.py adds it to the base's weights while it loads.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from vlm3r_core.checkpoint.fill import Survey, open_adapter
from vlm3r_core.checkpoint.published import adapter_settings, read_json
from vlm3r_core.config import ModelConfig, check_choice
from vlm3r_core.model.vlm3r import VLM3R

# What an adapter replaces as a whole; its LoRA comes on top of the language model.
_OWN_MODULES = ("projector", "fusion")


@dataclass(frozen=True, eq=False)
class _Attached:
    config: ModelConfig
    modules: dict[str, nn.Module]


class Adapters:
    """The adapters of one model, of which one is in use.

    An adapter is a LoRA of the language model with a projector, a fusion block and a token selection of its own; all
    four are switched together. Visual tokens and prefix caches made with one adapter are of no use to another: a
    StreamEngine starts a new session after a switch.

    Args:
        model: filled with the base's weights, the LoRA left out.

    Raises:
        ValueError: the model has no CUT3R and fusion.
    """

    def __init__(self, model: VLM3R):
        if model.fusion is None:
            raise ValueError(
                f"{model.config.name} is a base model alone; an adapter needs CUT3R: load base=,adapter=,cut3r="
            )
        self._model, self._peft = model, None
        self._attached: dict[str, _Attached] = {}
        self.active = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the adapters, in the order they came."""
        return tuple(self._attached)

    def attach(self, folder: Path, name: str) -> None:
        """Reads an adapter; the first one is used at once, others when `use` says so.

        Args:
            folder: adapter_config.json, config.json, adapter_model.safetensors or .bin, non_lora_trainables.bin.
            name: what to call it.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: it does not fit this model, or the name is taken; nothing was changed.
        """
        if name in self._attached or not name.isidentifier():
            raise ValueError(f"an adapter needs a name of letters and digits that is free, got {name!r}")
        found = open_adapter(self._model, folder)
        settings = read_json(folder / "config.json")
        config = self._config(folder, adapter_settings(settings))
        modules = {part: self._own_module(found, part) for part in _OWN_MODULES}
        self._add_lora(found, folder, name)
        self._attached[name] = _Attached(config, modules)
        self.use(self.active or name)

    def use(self, name: str) -> None:
        """Makes an adapter the one that answers.

        Raises:
            ValueError: no such adapter.
        """
        check_choice("adapter", name, self.names)
        trainable = any(parameter.requires_grad for parameter in self._model.projector.parameters())
        self._peft.set_adapter(name)
        chosen, self.active = self._attached[name], name
        for part, module in chosen.modules.items():
            setattr(self._model, part, module.train(self._model.training))
        self._model.config = chosen.config
        self._set_trainable(trainable)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Lets the adapter in use be trained: its LoRA, fusion and projector; all else stays frozen.

        Returns:
            The parameters by the model's names for them, the LoRA in float32.
        """
        for name, parameter in self._model.named_parameters():
            if ".lora_" in name:
                parameter.data = parameter.data.float()
        self._set_trainable(True)
        return {name: parameter for name, parameter in self._model.named_parameters() if parameter.requires_grad}

    def merge(self) -> None:
        """Adds the LoRA in use to the base's weights; the other adapters are gone."""
        self._set_trainable(False)
        self._model.language.qwen = self._peft.merge_and_unload(progressbar=False, adapter_names=[self.active])
        self._model.adapters = None

    def _config(self, folder: Path, settings: dict[str, str]) -> ModelConfig:
        """The model's configuration with this adapter; what decides the number of visual tokens must not differ."""
        ours = self._model.config
        theirs = replace(ours, name=folder.resolve().name, token_selection=settings["token_selection"])
        if self._attached and settings["newline"] != ours.newline:
            raise ValueError(
                f"{folder} was trained with newline {settings['newline']!r}, the model has {ours.newline!r}; adapters "
                "that are switched need the same: load it alone"
            )
        return theirs

    @torch.no_grad()
    def _own_module(self, found: Survey, part: str) -> nn.Module:
        module = copy.deepcopy(getattr(self._model, part)).requires_grad_(False)
        for name, tensor in module.state_dict().items():
            tensor.copy_(found.read(f"{part}.{name}", tensor.device, merge_adapter=False))
        return module

    def _add_lora(self, found: Survey, folder: Path, name: str) -> None:
        import peft

        qwen, settings = self._model.language.qwen, read_json(folder / "adapter_config.json")
        config = peft.LoraConfig(
            r=settings["r"],
            lora_alpha=settings["lora_alpha"],
            lora_dropout=settings.get("lora_dropout", 0.0),
            target_modules=settings["target_modules"],
        )
        if self._peft is None:
            # in place: the layers of the model are wrapped where they are
            self._peft = peft.PeftModel(qwen, config, adapter_name=name, autocast_adapter_dtype=False)
        else:
            self._peft.add_adapter(name, config, autocast_adapter_dtype=False)
        tensors = {
            f"base_model.model.{key}.weight": stored.read() for key, stored in found.parts["lora"].stored.items()
        }
        outcome = peft.set_peft_model_state_dict(self._peft, tensors, adapter_name=name)
        if outcome.unexpected_keys:
            raise ValueError(f"peft did not take {outcome.unexpected_keys[:3]} of {folder}")
        self._peft.train(self._model.training)

    def _set_trainable(self, wanted: bool) -> None:
        """By itself peft switches gradients on with every adapter it sets; here only `trainable` does."""
        self._model.requires_grad_(False)
        if wanted:
            for part in _OWN_MODULES:
                getattr(self._model, part).requires_grad_(True)
            for name, parameter in self._model.language.named_parameters():
                if ".lora_" in name and f".{self.active}." in name:
                    parameter.requires_grad_(True)
