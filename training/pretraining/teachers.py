"""What pre-training's heads read from the frozen encoders, as something to learn from. Not part of the model."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from training.pretraining.encoders import HEADS, record_json
from training.pretraining.geometry import LinearPoints
from training.pretraining.vision import DenseClasses
from training.scans.simulated_clips import CLASSES
from vlm3r_core.model.cut3r_state import Cut3rTokens
from vlm3r_core.model.vlm3r import VLM3R


class Teachers(nn.Module):
    """Reads classes and places of patches from the tokens of frozen encoders.

    Args:
        model: with the encoders; its CUT3R turns patches into the world.
        vision: head that tells classes.
        geometry: head that tells points.
    """

    names = CLASSES

    def __init__(self, model: VLM3R, vision: DenseClasses, geometry: LinearPoints):
        super().__init__()
        # not a submodule: the model's weights are not these
        self._model = [model]
        self.vision, self.geometry = vision, geometry
        self.requires_grad_(False)

    @torch.no_grad()
    def classes(self, siglip: Tensor) -> Tensor:
        """How much of each class a patch shows: tower tokens [F, P, C] to shares [F, P, len(names)], sums of 1."""
        shares = self.vision(siglip.float()).softmax(dim=-1)
        frames, grid = len(siglip), int(siglip.shape[1] ** 0.5)
        cells = shares.shape[1] // grid
        return shares.view(frames, grid, cells, grid, cells, -1).mean(dim=(2, 4)).flatten(1, 2)

    @torch.no_grad()
    def world(self, camera: Tensor, patch: Tensor) -> Tensor:
        """Where patches are: tokens [F, 1, S] and [F, P, S] to points [F, P, 3] in the first camera, metres."""
        cut3r, grid = self._model[0].cut3r, int(patch.shape[1] ** 0.5)
        patch, camera = patch.float(), camera.float()
        said = self.geometry(cut3r, Cut3rTokens(camera, patch, patch, patch, patch, (grid, grid)))
        frames, cells = len(patch), said.world.shape[1] // grid
        return said.world.view(frames, grid, cells, grid, cells, 3).mean(dim=(2, 4)).flatten(1, 2)


def load_teachers(folder: Path | str, model: VLM3R) -> Teachers:
    """The teachers beside some encoders.

    Args:
        folder: of encoders, with both heads.
        model: that has these encoders.

    Raises:
        FileNotFoundError, ValueError: there are no heads, or they do not fit.
    """
    path = Path(folder) / HEADS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {HEADS}; pre-train both encoders again, with --head linear")
    try:
        stored = load_file(path)
        record = record_json(folder)
        cells = {part: record[part]["settings"]["cells"] for part in ("siglip", "cut3r")}
        config = model.config
        vision = DenseClasses(config.siglip.hidden_size, cells["siglip"], len(CLASSES))
        geometry = LinearPoints(config.cut3r.dec_embed_dim, cells["cut3r"])
        for part, head in (("siglip", vision), ("cut3r", geometry)):
            prefix = f"{part}."
            head.load_state_dict(
                {name.removeprefix(prefix): item for name, item in stored.items() if name.startswith(prefix)}
            )
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the heads of both encoders ({error}); join them again") from error
    return Teachers(model, vision, geometry)
