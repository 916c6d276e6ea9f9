"""Photometric augmentation per view: exposure, gamma, colour, blur and noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def photometric(
    images: Float[Tensor, "batch views 3 height width"], strength: float, seed: int
) -> Float[Tensor, "batch views 3 height width"]:
    """Augment every view independently; `images` stay in [0, 1], geometry is unchanged.

    At `strength` 1: exposure within a factor of 1.5, gamma within 1.3, each colour within 1.15, a third of
    the views blurred (3x3), noise of up to 0.04. `strength` 0 changes nothing. Drawn from `seed` alone.
    """
    if strength <= 0:
        return images
    generator = torch.Generator().manual_seed(seed)
    shape = (*images.shape[:2], 1, 1, 1)

    def draw(*size: int) -> Tensor:
        return (2 * torch.rand(*size, generator=generator) - 1).to(images)

    gamma = (draw(*shape) * strength * 0.26).exp()  # ln 1.3
    gain = (draw(*shape) * strength * 0.405).exp()  # ln 1.5
    colour = (draw(*images.shape[:2], 3, 1, 1) * strength * 0.14).exp()  # ln 1.15
    blurred = F.avg_pool2d(F.pad(images.flatten(0, 1), (1, 1, 1, 1), mode="replicate"), 3, 1)
    blurs = draw(*shape) < -1 + 2 * strength / 3
    images = torch.where(blurs, blurred.unflatten(0, images.shape[:2]), images)
    images = images.clamp(1e-4, 1) ** gamma * gain * colour
    noise = torch.randn(images.shape, generator=generator).to(images)
    level = 0.02 * strength * (1 + draw(*shape))
    return (images + level * noise).clamp(0, 1)
