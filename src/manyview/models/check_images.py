"""What every network accepts as images."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UsageError


def check_images(images: Tensor) -> Tensor:
    """Images as [B, S, 3, H, W]; UsageError unless they have that shape (or lack B) and a usable type."""
    images = images[None] if images.ndim == 4 else images
    if images.ndim != 5 or images.shape[2] != 3:
        raise UsageError(f"images must have shape [B, S, 3, H, W], got {tuple(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        raise UsageError(f"images must be uint8, or floating in [0, 1], not {kind}")
    return images
