"""Image to model input: one path for node, trainer and simulator."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_pixels(rgb: np.ndarray, size: int) -> Tensor:
    """Resizes one image as SigLIP's preprocessing does: squashed to a square, bicubic with 8-bit result.

    Args:
        rgb: uint8 [H, W, 3].
        size: side of the square in pixels.

    Returns:
        float32 [3, size, size] in [-1, 1].

    Source: VLM-3R's image processor (mean and standard deviation 0.5). Torch's bicubic is not equal to it.
    """
    resized = Image.fromarray(rgb).resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    return (pixels.float() / 255 - 0.5) / 0.5
