"""Exponential moving average of the weights in training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class RunningMean:
    """Mean of each parameter over past steps, the newest counting 1 - `decay`; nothing at decay 0."""

    def __init__(self, named: Mapping[str, nn.Parameter], decay: float) -> None:
        self._decay = decay
        self._named = {name: p for name, p in named.items() if decay > 0 and p.requires_grad}
        self._mean = {name: p.detach().clone() for name, p in self._named.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Count the parameters as they are now."""
        for name, mean in self._mean.items():
            mean.lerp_(self._named[name], 1 - self._decay)

    def tensors(self) -> dict[str, Tensor]:
        """The means, as `ema/name`."""
        return {f"ema/{name}": mean for name, mean in self._mean.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        for name, mean in self._mean.items():
            mean.copy_(tensors[f"ema/{name}"])

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the parameters be the means for a while."""
        before = {name: p.data for name, p in self._named.items()}
        try:
            for name, mean in self._mean.items():
                self._named[name].data = mean
            yield
        finally:
            for name, data in before.items():
                self._named[name].data = data
