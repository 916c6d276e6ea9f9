"""Preparing a network for training: frozen parameters, activation checkpointing, compiled blocks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import UsageError
from ..models.encoder import DinoEncoder
from ..models.vggt.model import VGGT


def encoder_and_frame_blocks(model: VGGT) -> list[nn.Module]:
    """Blocks that attend within a frame: those of the encoder, then those of the trunk."""
    trunk = model.aggregator
    encoder = trunk.patch_embed.blocks if isinstance(trunk.patch_embed, DinoEncoder) else ()
    return [*encoder, *trunk.frame_blocks]


def train_only(model: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Freeze all parameters except those whose name begins with one of `prefixes` (none given: freeze none).

    Raises UsageError for a prefix that matches no parameter.
    """
    if not prefixes:
        return
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise UsageError(f"trained: no parameter of this network begins with '{prefix}'")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))


def checkpoint_blocks(model: VGGT) -> None:
    """Recompute the activations inside blocks in the backward pass; results and gradients are unchanged.

    Global attention runs again too, so it must not draw random numbers that it does not keep.
    """
    for block in (*encoder_and_frame_blocks(model), *model.aggregator.global_blocks):
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def compile_blocks(model: VGGT, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the blocks in place with dynamic shapes; parameter names and results are unchanged.

    Of a global block only the MLP is compiled: its attention may change from step to step, and each method
    would be compiled separately. Raises UsageError without a compiler.
    """
    if backend == "inductor" and not _has_compiler():
        raise UsageError(
            "compiled steps need a C++ compiler (CPU) or Triton (CUDA); set compile_blocks to false"
        )
    for block in encoder_and_frame_blocks(model):
        block.compile(dynamic=True, backend=backend)
    for block in model.aggregator.global_blocks:
        block.get_submodule("mlp").compile(dynamic=True, backend=backend)


def _has_compiler() -> bool:
    try:
        return float(torch.compile(lambda x: x + 1, dynamic=True)(torch.zeros(2)).sum()) == 2.0
    except Exception:  # whatever the missing tool makes the compiler raise
        return False
