"""A VGGT-Ω from a checkpoint."""

from __future__ import annotations

import torch

from ...errors import UsageError
from ..checkpoints.assign import assign_weights
from ..checkpoints.read import Checkpoint
from .checkpoint import HEAD_PREFIXES, omega_config, with_heads
from .model import Omega


def build_omega(
    checkpoint: Checkpoint,
    *,
    device: torch.device | str | None = None,
    heads: tuple[str, ...] | None = None,
) -> Omega:
    """A VGGT-Ω with the tensors of a checkpoint: keys checked strictly, weights held once."""
    config = omega_config(checkpoint)
    with torch.device("meta"):
        model = Omega(config)
        present = model.available_heads
        lacking = [name for name in heads or () if name not in present]
        if lacking:
            have = ", ".join(present) or "none"
            raise UsageError(f"{checkpoint.source} has no {lacking[0]} head; it has: {have}")
        keep = present if heads is None else heads
        model = Omega(with_heads(config, keep))
    dropped = tuple(start for name, start in HEAD_PREFIXES.items() if name in present and name not in keep)
    tensors = {key: value for key, value in checkpoint.tensors.items() if not key.startswith(dropped)}
    assign_weights(model, tensors, checkpoint.source, device=device)
    return model.eval()
