"""A π³ or Pi3X from a checkpoint."""

from __future__ import annotations

import torch

from ...errors import UsageError
from ..checkpoints.assign import assign_weights
from ..checkpoints.read import Checkpoint
from ..checkpoints.recognise import recognise
from .checkpoint import infer_pi3_config, infer_pi3x_config
from .model import Pi3
from .model_x import Pi3X


def build_pi3(
    checkpoint: Checkpoint,
    *,
    device: torch.device | str | None = None,
    heads: tuple[str, ...] | None = None,
) -> Pi3:
    """A π³ with the tensors of a checkpoint; all its heads belong together and are kept."""
    tensors = checkpoint.tensors
    with torch.device("meta"):
        if recognise(tensors) == "Pi3X":
            model: Pi3 = Pi3X(infer_pi3x_config(checkpoint.shapes, checkpoint.source))
        else:
            model = Pi3(infer_pi3_config(checkpoint.shapes, checkpoint.source))
    lacking = [head for head in heads or () if head not in model.available_heads]
    if lacking:
        have = ", ".join(model.available_heads)
        raise UsageError(f"{checkpoint.source} has no {lacking[0]} head; it has: {have}")
    assign_weights(model, tensors, checkpoint.source, device=device)
    return model.eval()
