"""The training step's blocks through torch.compile, where a run asks for it."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import UsageError
from ..models.encoder import DinoEncoder
from ..models.vggt.model import VGGT


def compile_blocks(model: VGGT, backend: str = "inductor") -> None:
    """Compile the blocks in place, shapes dynamic; parameter names and results stay.

    Encoder and frame blocks are compiled whole. Of a global block only the MLP is: which attention runs in it
    changes from step to step, and each would be a compilation of its own.
    """
    if backend == "inductor" and not _available():
        raise UsageError(
            "compiled steps need a C++ compiler (CPU) or Triton (CUDA); set compile_blocks to false"
        )
    trunk = model.aggregator
    encoder = trunk.patch_embed.blocks if isinstance(trunk.patch_embed, DinoEncoder) else ()
    for block in (*encoder, *trunk.frame_blocks):
        block.compile(dynamic=True, backend=backend)
    for block in trunk.global_blocks:
        mlp: nn.Module = block.get_submodule("mlp")
        mlp.compile(dynamic=True, backend=backend)


def _available() -> bool:
    try:
        return float(torch.compile(lambda x: x + 1, dynamic=True)(torch.zeros(2)).sum()) == 2.0
    except Exception:  # whatever the missing tool makes the compiler raise
        return False
