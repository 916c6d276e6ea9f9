"""What "auto" stands for on a device: the kernels of a run, and how its dense heads run."""

from __future__ import annotations

from typing import Literal

import torch

from ...errors import UsageError
from ...kernels import pick_kernels
from ...models.run_options import RunOptions
from .machine import PRECISIONS, multiplies_bf16

HeadPrecision = Literal["auto", "fp32", "bf16", "fp16"]


def default_run_options(
    device: torch.device,
    dtype: torch.dtype | None,
    kernels: str = "auto",
    head_precision: str = "auto",
    heads: tuple[str, ...] = ("camera", "depth"),
) -> RunOptions:
    """How a pass is carried out on a device unless a caller says otherwise; nothing is cut into pieces.

    Args:
        device: Where it runs.
        dtype: Precision of the trunk (None: that of the weights).
        kernels: "auto" or one of `KERNELS`, see `pick_kernels`.
        head_precision: Of the convolutions of dense heads. "auto": on CUDA bf16 where the trunk has 16 bits
            and the card multiplies bf16; else, as for "fp32", that of the weights. Heads of 16 bits run with
            channels last on CUDA.
        heads: Heads to run.

    Raises:
        UsageError: Kernels that do not run on the device, an unknown precision.
    """
    if head_precision not in ("auto", *PRECISIONS):
        raise UsageError(f"unknown precision of heads {head_precision!r}: auto, {', '.join(PRECISIONS)}")
    half = dtype is not None and dtype.itemsize == 2
    if head_precision == "auto" and device.type == "cuda" and half and multiplies_bf16(device):
        head_precision = "bf16"
    head_dtype = None if head_precision in ("auto", "fp32") else PRECISIONS[head_precision]
    return RunOptions(
        dtype,
        heads=heads,
        kernels=pick_kernels(kernels, device),
        head_dtype=head_dtype,
        channels_last=True if device.type == "cuda" and head_dtype is not None else None,
    )
