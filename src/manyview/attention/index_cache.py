"""Index tensors that are made once, kept for later calls, and brought to a device once a run."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch
from torch.utils._python_dispatch import _disable_current_modes

P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def for_later_calls() -> Iterator[None]:
    """Tensors made inside live on the CPU, hold numbers and serve gradients, wherever the first caller runs.

    A caller that runs on fake tensors would otherwise leave tensors without numbers to all later ones.
    """
    with _disable_current_modes(), torch.inference_mode(False), torch.device("cpu"):
        yield


def kept_for_later(make: Callable[P, R]) -> Callable[P, R]:
    """`make` with its latest results kept by its arguments; they are made as in `for_later_calls`.

    Layers read the results on the device of their tokens through `LayerInput.on_device`.
    """
    return functools.lru_cache(maxsize=64)(for_later_calls()(make))  # type: ignore[return-value]


def moved(kept: Any, device: torch.device) -> Any:
    """Tensors, and tuples and dataclasses of them, on a device; they serve gradients there too."""
    if isinstance(kept, torch.Tensor):
        with torch.inference_mode(False):
            return kept.to(device)
    if isinstance(kept, tuple):
        return tuple(moved(item, device) for item in kept)
    if dataclasses.is_dataclass(kept) and not isinstance(kept, type):
        fields = (field.name for field in dataclasses.fields(kept))
        return dataclasses.replace(kept, **{name: moved(getattr(kept, name), device) for name in fields})
    return kept
