"""How one forward pass is carried out; what changes the result beyond rounding says so."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from ..kernels import KERNELS, use_kernels

P = ParamSpec("P")
R = TypeVar("R")

HEADS = ("camera", "depth", "points", "track", "text")
LINEARS = ("plain", "fp8", "fp8-tensor")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Precision, pieces and heads of a forward pass.

    `dtype`: precision of the trunk (None: that of the parameters); heads run in the parameters' own, but
    the convolutions of dense heads in `head_dtype` if it is given, and in the memory order of tokens with
    `channels_last` (None: on CPUs without gradients, where that is faster). `frames_per_chunk`: frames that
    the per-frame parts and the projections of global layers handle at a time. `mlp_tokens_per_chunk`: tokens
    that pass an MLP of a global layer at a time. `head_frames_per_chunk`: frames a dense head handles at
    a time. None stands for no splitting; with gradients on nothing but `head_frames_per_chunk` splits.
    `linears`: arithmetic of the trunk's linear layers, "fp8" with a
    scale for each token and output channel ("fp8-tensor": one for all, to show why not). `keep_weights`:
    weights that the run converts are converted once and kept to its end, not anew for each piece.
    `kernels`: "plain" or "triton" (None: those in force around the run, which are plain unless chosen).
    """

    dtype: torch.dtype | None = None
    frames_per_chunk: int | None = None
    mlp_tokens_per_chunk: int | None = None
    head_frames_per_chunk: int | None = 8
    heads: tuple[str, ...] = ("camera", "depth")
    linears: str = "plain"
    keep_weights: bool = True
    head_dtype: torch.dtype | None = None
    channels_last: bool | None = None
    kernels: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", tuple(self.heads))
        unknown = set(self.heads) - set(HEADS)
        if unknown:
            raise ValueError(f"unknown head {sorted(unknown)[0]!r}: choose from {', '.join(HEADS)}")
        if self.linears not in LINEARS:
            raise ValueError(f"unknown linears {self.linears!r}: choose from {', '.join(LINEARS)}")
        if self.kernels is not None and self.kernels not in KERNELS:
            raise ValueError(f"unknown kernels {self.kernels!r}: choose from {', '.join(KERNELS)}")
        for name in ("frames_per_chunk", "mlp_tokens_per_chunk", "head_frames_per_chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")


def with_its_kernels(method: Callable[P, R]) -> Callable[P, R]:
    """Run a pass over images, its first tensor, with the kernels that its options name.

    Raises UsageError where these cannot run on the images' device.
    """

    @functools.wraps(method)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        given = (*args, *kwargs.values())
        options = next((one for one in given if isinstance(one, RunOptions)), None)
        if options is None or options.kernels is None:
            return method(*args, **kwargs)
        images = next(one for one in given if isinstance(one, Tensor))
        with use_kernels(options.kernels, images.device):
            return method(*args, **kwargs)

    return inside
