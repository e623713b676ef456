"""AdamW whose state and gradients are shared out over the processes, and the learning rate's way.

All that learns lies in one float32 tensor, its gradients in another; the model's parameters are windows into them. A
step is one sum of gradients, of which each process keeps its piece, AdamW on that piece, and one gathering of weights:
the sharing of ZeRO's second stage. Torch's own FullyShardedDataParallel would share the frozen weights too and gather
them in every layer; here 96 of 100 weights are frozen and fit everywhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training.config import RunConfig
from training.running.processes import Processes

_MOMENTS = ("exp_avg", "exp_avg_sq")


class SharedAdamW:
    """Trains parameters together with other processes.

    Args:
        parameters: float32, on the processes' device; equal in all of them. Their memory moves into one tensor.
        config: AdamW's numbers.
        processes: who takes part.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], config: RunConfig, processes: Processes):
        self.parameters, self._processes = parameters, processes
        length = sum(parameter.numel() for parameter in parameters.values())
        padded = -(-length // processes.count) * processes.count
        self._weights, self._gradients = (torch.zeros(padded, device=processes.device) for _ in range(2))
        for name, window in self._windows(self._weights).items():
            window.copy_(parameters[name].detach())
            parameters[name].data = window
        self._bind_gradients()
        self._piece = nn.Parameter(self._weights.chunk(processes.count)[processes.rank])
        self._adam = torch.optim.AdamW(
            [self._piece],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            weight_decay=config.weight_decay,
        )

    def clear(self) -> None:
        """Forgets the gradients."""
        self._gradients.zero_()
        self._bind_gradients()

    def collect(self, scale: float) -> float:
        """Adds up the gradients of all processes and scales them.

        Args:
            scale: factor of the sum.

        Returns:
            Length of the scaled gradient; not finite where any number in it is not.
        """
        self._piece.grad = self._processes.sum_share(self._gradients).mul_(scale)
        length = float(torch.linalg.vector_norm(self._piece.grad, dtype=torch.float64))
        (squares,) = self._processes.sum([length * length])
        return math.sqrt(squares) if squares >= 0 else math.nan

    def step(self, learning_rate: float, factor: float = 1.0) -> None:
        """Updates the weights of all processes by the collected gradient.

        Args:
            learning_rate: of this step.
            factor: the gradient is shortened by.
        """
        if factor != 1.0:
            self._piece.grad.mul_(factor)
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()
        self._processes.gather(self._weights, self._piece.data)

    def state(self) -> dict[str, Tensor]:
        """AdamW's memory by parameter, whoever has which piece; all ask together, the leading one gets it."""
        state = self._adam.state.get(self._piece)
        if not state:
            return {}
        tensors = {"step": state["step"].detach().cpu().clone().reshape(1)}
        for moment in _MOMENTS:
            whole = torch.empty_like(self._weights)
            self._processes.gather(whole, state[moment])
            if self._processes.leads:
                tensors |= {f"{moment}.{name}": window.cpu().clone() for name, window in self._windows(whole).items()}
        return tensors

    def load(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Goes on from weights and memory, whatever the number of processes that saved them.

        Raises:
            ValueError: they are of another model, or of other trained parts.
        """
        _demand_same("weights", weights, self.parameters)
        for name, window in self._windows(self._weights).items():
            window.copy_(weights[name])
        if not state:
            return
        own = {}
        for moment in _MOMENTS:
            whole = torch.zeros_like(self._weights)
            windows = self._windows(whole)
            _demand_same(moment, {name: state.get(f"{moment}.{name}") for name in windows}, self.parameters)
            for name, window in windows.items():
                window.copy_(state[f"{moment}.{name}"])
            own[moment] = whole.chunk(self._processes.count)[self._processes.rank].clone()
        self._adam.state[self._piece] = {"step": state["step"].reshape(()).clone(), **own}

    def _windows(self, flat: Tensor) -> dict[str, Tensor]:
        """The piece of a flat tensor that belongs to each parameter, in its shape."""
        windows, start = {}, 0
        for name, parameter in self.parameters.items():
            windows[name] = flat[start : start + parameter.numel()].view(parameter.shape)
            start += parameter.numel()
        return windows

    def _bind_gradients(self) -> None:
        for name, window in self._windows(self._gradients).items():
            self.parameters[name].grad = window


def _demand_same(kind: str, stored: dict[str, Tensor], parameters: dict[str, nn.Parameter]) -> None:
    odd = sorted(stored.keys() ^ parameters.keys())
    odd += [
        name for name in parameters if name in stored and getattr(stored[name], "shape", None) != parameters[name].shape
    ]
    if odd:
        raise ValueError(
            f"the checkpoint's {kind} are not those of this run: {', '.join(odd[:4])}{', ...' if odd[4:] else ''}; go "
            "on with the settings it was made with, or choose another --out"
        )


def learning_rate(config: RunConfig, step: int, steps: int) -> float:
    """Of a step.

    Args:
        config: peak, schedule, warm-up.
        step: from 0; the first one of a warm-up has none.
        steps: the schedule is laid out for, even where the run ends before.

    Source: transformers' cosine schedule with linear warm-up.
    """
    warmup = math.ceil(config.warmup_ratio * steps)
    if step < warmup:
        return config.learning_rate * step / warmup
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup) / max(1, steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
