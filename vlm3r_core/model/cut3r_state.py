"""What flows through CUT3R: a stream's state, an encoded view, a view's tokens. Plain tensors, no weights."""

from __future__ import annotations

from collections.abc import Iterator
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
        columns: [B, V, C], what the columns of the newest remembered image look like, zero before the first; None for
            a network that does not compare them.
        camera: [B, 1, D], the decoded pose token of the newest remembered view, zero before the first; None for a
            network that does not hand it on.
    """

    tokens: Tensor
    memory: Tensor
    fresh: Tensor
    columns: Tensor | None = None
    camera: Tensor | None = None

    def parts(self) -> dict[str, Tensor]:
        """The floating-point tensors it has, by name; all but `fresh`."""
        named = {name: getattr(self, name) for name in ("tokens", "memory", "columns", "camera")}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @property
    def nbytes(self) -> int:
        """Bytes of the state, as if no memory were shared between streams."""
        return self.fresh.nbytes + sum(tensor.nbytes for tensor in self.parts().values())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Cut3rState:
        """The state on another device or in another floating point type."""
        parts = {name: tensor.to(device=device, dtype=dtype) for name, tensor in self.parts().items()}
        return Cut3rState(fresh=self.fresh.to(device=device), **parts)

    def detached(self) -> Cut3rState:
        """The same numbers, through which no gradient goes."""
        return Cut3rState(fresh=self.fresh, **{name: tensor.detach() for name, tensor in self.parts().items()})

    def as_tensors(self) -> dict[str, Tensor]:
        """Contiguous tensors by name, detached and ready to be written to a file."""
        return {name: tensor.detach().contiguous() for name, tensor in {**self.parts(), "fresh": self.fresh}.items()}

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
        columns = tensors.get("columns")
        if columns is not None and (columns.ndim != 3 or len(columns) != len(tokens)):
            raise ValueError(f"Cut3rState: columns must be [{len(tokens)}, V, C], got {list(columns.shape)}")
        camera = tensors.get("camera")
        if camera is not None and camera.shape != (len(tokens), 1, tokens.shape[-1]):
            raise ValueError(
                f"Cut3rState: camera must be [{len(tokens)}, 1, {tokens.shape[-1]}], got {list(camera.shape)}"
            )
        return cls(tokens, memory, fresh.bool(), columns, camera)


@dataclass(frozen=True)
class View:
    """One encoded view of B streams.

    Args:
        feature: [B, P, E], encoder tokens, row-major.
        grid: rows and columns of patches.
        img_mask: bool [B], False where the view has no image and so must not be remembered; None: all have one.
        columns: [B, V, C], what the image's columns look like; None without an image, and for a network that does not
            compare them.
    """

    feature: Tensor
    grid: tuple[int, int]
    img_mask: Tensor | None = None
    columns: Tensor | None = None

    def each(self, streams: int = 1) -> Iterator[View]:
        """The views of a batch one after the other, where encode took those of several moments at once.

        Args:
            streams: B of each; the batch holds them moment by moment.
        """
        flags = (None if t is None else t.split(streams) for t in (self.img_mask, self.columns))
        masks, columns = (parts or (None,) * (len(self.feature) // streams) for parts in flags)
        for feature, mask, column in zip(self.feature.split(streams), masks, columns, strict=True):
            yield View(feature, self.grid, mask, column)


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
