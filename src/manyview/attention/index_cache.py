"""Index tensors that are made once and kept for later calls."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def for_later_calls() -> Iterator[None]:
    """Tensors made inside live on the CPU and serve gradients, wherever the first caller runs."""
    with torch.inference_mode(False), torch.device("cpu"):
        yield


def kept_for_later(make: Callable[P, R]) -> Callable[P, R]:
    """`make` with its latest results kept by its arguments; they are made as in `for_later_calls`."""
    return functools.lru_cache(maxsize=64)(for_later_calls()(make))  # type: ignore[return-value]
