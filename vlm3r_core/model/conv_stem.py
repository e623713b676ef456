"""Patches embedded by a few convolutions in place of one linear map: an aid for small models. No attention here."""

from __future__ import annotations

import itertools

from torch import Tensor, channels_last, nn
from torch.nn.functional import gelu

_GROUPS = 8
# How often the picture is halved before patches are gathered.
_HALVINGS = 3


class ConvStem(nn.Module):
    """Halves the picture three times, looks around once more, and makes one token of each patch.

    A vision transformer of a few million parameters learns edges and textures from its linear patch map slowly; these
    convolutions learn them in minutes.

    Args:
        channels: of the picture.
        width: of a token; a multiple of 32.
        patch_size: pixels; a multiple of 8.

    Source: the idea of early convolutions (Xiao et al., 2021); absent from published SigLIP and CUT3R.
    """

    def __init__(self, channels: int, width: int, patch_size: int):
        super().__init__()
        rest, odd = divmod(patch_size, 2**_HALVINGS)
        if odd or width % (4 * _GROUPS):
            raise ValueError(
                f"conv_stem needs a patch size that is a multiple of {2**_HALVINGS} and a width that is a multiple of "
                f"{4 * _GROUPS}, got {patch_size} and {width}"
            )
        widths = (channels, width // 4, width // 2, width)
        self.halve = nn.ModuleList(nn.Conv2d(before, after, 3, 2, 1) for before, after in itertools.pairwise(widths))
        # one norm, where the picture is smallest: more cost as much as the convolutions and teach no sooner
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.look = nn.Conv2d(width, width, 3, 1, 1)
        self.gather = nn.Conv2d(width, width, rest, rest)

    @property
    def weight(self) -> Tensor:
        """What tells the dtype, as a single convolution's weight would."""
        return self.gather.weight

    def forward(self, image: Tensor) -> Tensor:
        """Image [B, C, H, W] to [B, width, H / patch, W / patch]."""
        x = image.contiguous(memory_format=channels_last)
        for halve in self.halve[:-1]:
            x = gelu(halve(x))
        x = gelu(self.norm(self.halve[-1](x)))
        return self.gather(x + gelu(self.look(x)))
