"""What flows through CUT3R: a stream's state, an encoded view, a view's tokens. Plain tensors, no weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cut3rState:
    """Everything CUT3R remembers of B streams; fixed in size, whatever they have seen.

    Args:
        tokens: [B, S, D], the state tokens.
        memory: [B, M, 2D], from what a view looks like to its pose token.
        fresh: bool [B], True where the next view is a first one: it starts from the learned pose token, and the
            ttt3r gate is open.
    """

    tokens: Tensor
    memory: Tensor
    fresh: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the state, as if no memory were shared between streams."""
        return self.tokens.nbytes + self.memory.nbytes + self.fresh.nbytes

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Cut3rState:
        """The state on another device or in another floating point type."""
        return Cut3rState(
            tokens=self.tokens.to(device=device, dtype=dtype),
            memory=self.memory.to(device=device, dtype=dtype),
            fresh=self.fresh.to(device=device),
        )

    def as_tensors(self) -> dict[str, Tensor]:
        """Contiguous tensors by name, detached and ready to be written to a file."""
        tensors = {"tokens": self.tokens, "memory": self.memory, "fresh": self.fresh}
        return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Cut3rState:
        """The inverse of `as_tensors`.

        Raises:
            KeyError: a tensor is missing.
            ValueError: the shapes do not belong together.
        """
        missing = {"tokens", "memory", "fresh"} - tensors.keys()
        if missing:
            raise KeyError(f"Cut3rState: {', '.join(sorted(missing))} missing, got {', '.join(sorted(tensors))}")
        tokens, memory, fresh = tensors["tokens"], tensors["memory"], tensors["fresh"]
        shapes = [tuple(tensor.shape) for tensor in (tokens, memory, fresh)]
        if [len(shape) for shape in shapes] != [3, 3, 1] or len({shape[0] for shape in shapes}) != 1:
            raise ValueError(f"Cut3rState: expected tokens [B, S, D], memory [B, M, 2D] and fresh [B], got {shapes}")
        return cls(tokens, memory, fresh.bool())


@dataclass(frozen=True)
class View:
    """One encoded view of B streams.

    Args:
        feature: [B, P, E], encoder tokens, row-major.
        grid: rows and columns of patches.
        img_mask: bool [B], False where the view has no image and so must not be remembered; None: all have one.
    """

    feature: Tensor
    grid: tuple[int, int]
    img_mask: Tensor | None = None


@dataclass(frozen=True)
class Cut3rTokens:
    """What one step says about a view; the last four fields are what `Cut3r.geometry` needs.

    Args:
        camera: [B, 1, D], the decoded pose token.
        patch: [B, P, D], the decoded patch tokens, row-major.
        feature: [B, P, E], the encoder tokens.
        hook_half: [B, P, D], patch tokens half way up the decoder.
        hook_three_quarters: [B, P, D], patch tokens three quarters up.
        grid: rows and columns of patches.
    """

    camera: Tensor
    patch: Tensor
    feature: Tensor
    hook_half: Tensor
    hook_three_quarters: Tensor
    grid: tuple[int, int]
