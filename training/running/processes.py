"""The processes of a run and what they tell each other. One process alone is a run too. Knows no model."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from vlm3r_core.loading import resolve_device


@dataclass(frozen=True)
class Processes:
    """One process among those of the run.

    Args:
        rank: its number; 0 writes files.
        count: how many there are.
        device: it computes on.
    """

    rank: int
    count: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> Processes:
        """Meets the others that torchrun started; alone where it was not used.

        Args:
            device: auto, cpu or cuda; of several GPUs each process of a machine takes its own.
        """
        count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        chosen = resolve_device(device)
        if chosen.type == "cuda" and chosen.index is None:
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        if count > 1:
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return cls(rank, count, chosen)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Each number added up over the processes."""
        if self.count == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def sum_share(self, flat: Tensor) -> Tensor:
        """The processes' tensors added up, of which each gets its own piece.

        Args:
            flat: [N], N a multiple of the number of processes; its content is gone afterwards.
        """
        piece = flat.chunk(self.count)[self.rank]
        if self.count == 1:
            return piece
        if flat.is_cuda:
            dist.reduce_scatter_tensor(piece, flat)
        else:
            # gloo, which is for the CPU, does not scatter on every platform
            dist.all_reduce(flat)
        return piece

    def gather(self, flat: Tensor, piece: Tensor) -> None:
        """Fills a tensor from the pieces of all processes, in their order."""
        if self.count > 1:
            dist.all_gather_into_tensor(flat, piece.clone())
        elif flat.data_ptr() != piece.data_ptr():
            flat.copy_(piece)

    def gather_objects(self, value: dict) -> list[dict]:
        """What every process has."""
        if self.count == 1:
            return [value]
        found: list = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def leave(self) -> None:
        """Says good-bye, so that nobody waits."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()
