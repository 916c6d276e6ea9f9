"""Exponential moving average of the weights in training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from .sharding import local_part, shard_like


class RunningMean:
    """Exponential moving average of each trained parameter; empty at decay 0."""

    def __init__(self, named: Mapping[str, nn.Parameter], decay: float) -> None:
        self._decay = decay
        self._named = {name: p for name, p in named.items() if decay > 0 and p.requires_grad}
        self._mean = {name: p.detach().clone() for name, p in self._named.items()}

    def begin(self) -> None:
        """Reset the averages to the current parameters."""
        for name, mean in self._mean.items():
            mean.copy_(self._named[name].detach())

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages with the current parameters."""
        for name, mean in self._mean.items():
            mean.lerp_(self._named[name], 1 - self._decay)

    def tensors(self) -> dict[str, Tensor]:
        """The averages, as `ema/name`."""
        return {f"ema/{name}": mean for name, mean in self._mean.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `tensors` returned."""
        for name, mean in self._mean.items():
            mean.copy_(shard_like(tensors[f"ema/{name}"], mean))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the parameters by the averages within the block."""
        parts = {name: local_part(p.data) for name, p in self._named.items()}
        before = {name: part.clone() for name, part in parts.items()}
        try:
            for name, mean in self._mean.items():
                parts[name].copy_(local_part(mean))
            yield
        finally:
            for name, part in before.items():
                parts[name].copy_(part)
