"""Teaches the SigLIP tower what it sees: the classes in every part of every patch. Knows no space."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.pretraining.batches import Batch
from training.pretraining.losses import class_shares, confusion, soft_classes
from training.pretraining.settings import PretrainConfig
from training.scans.simulated_clips import BACKGROUND, CLASSES
from vlm3r_core.model.vlm3r import VLM3R


class DenseClasses(nn.Module):
    """Reads the classes of cells x cells parts of a patch from its token; dropped after training."""

    def __init__(self, width: int, cells: int, classes: int):
        super().__init__()
        self._cells, self._classes = cells, classes
        self.norm = nn.LayerNorm(width)
        self.read = nn.Linear(width, cells * cells * classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [N, g * g, C] to logits [N, g * cells, g * cells, classes]."""
        grid, cells = int(tokens.shape[1] ** 0.5), self._cells
        logits = self.read(self.norm(tokens)).view(len(tokens), grid, grid, cells, cells, self._classes)
        return logits.transpose(2, 3).reshape(len(tokens), grid * cells, grid * cells, self._classes)


class Vision(nn.Module):
    """The objective.

    Args:
        model: whose tower learns.
        config: of the run.
    """

    encoder = "siglip"

    def __init__(self, model: VLM3R, config: PretrainConfig):
        super().__init__()
        self.model, self._config = model, config
        self.head = DenseClasses(model.config.siglip.hidden_size, config.cells, len(CLASSES))
        self._side = model.config.siglip.grid * config.cells
        foreground = torch.arange(len(CLASSES)) >= len(BACKGROUND)
        self.register_buffer("_foreground", foreground, persistent=False)

    def learned(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        tower = {f"siglip.{name}": item for name, item in self.model.siglip.named_parameters()}
        return tower | {f"head.{name}": item for name, item in self.head.named_parameters()}

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The losses of a step by name, `loss` their sum."""
        logits, shares = self._predict(batch)
        return {"loss": soft_classes(logits, shares, self._foreground, self._config.foreground_weight)}

    @torch.no_grad()
    def measure(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Held-out scores: mean intersection over union of the classes that occur, accuracy on cells of things."""
        count = len(CLASSES)
        table = torch.zeros(count, count, dtype=torch.int64)
        for batch in batches:
            logits, shares = self._predict(batch)
            table += confusion(logits.argmax(dim=-1), shares.argmax(dim=-1), count).cpu()
        hit, seen, said = table.diag().double(), table.sum(dim=1).double(), table.sum(dim=0).double()
        known = seen > 0
        union = seen + said - hit
        things = self._foreground.cpu()
        return {
            "miou": float((hit[known] / union[known]).mean()),
            "foreground_accuracy": float(hit[things].sum() / seen[things].sum().clamp(min=1)),
            "accuracy": float(hit.sum() / seen.sum().clamp(min=1)),
            "foreground_share": float(seen[things].sum() / seen.sum().clamp(min=1)),
            "classes": float(known.sum()),
        }

    def _predict(self, batch: Batch) -> tuple[Tensor, Tensor]:
        tokens = self.model.siglip(batch.pixels.flatten(0, 1))
        return self.head(tokens).float(), class_shares(batch.classes.flatten(0, 1), self._side, len(CLASSES))
