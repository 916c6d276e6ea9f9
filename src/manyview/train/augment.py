"""Photometric augmentation per view: exposure, gamma, colour, blur and noise; what lenses and sensors do."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
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


def through_camera(
    images: Float[Tensor, "batch views 3 height width"], strength: float, seed: int
) -> Float[Tensor, "batch views 3 height width"]:
    """What a camera does to a rendered image; `images` stay in [0, 1], geometry is unchanged.

    At `strength` 1: vignetting of up to 50 % in the corners and a tone curve, one of each a scene; brightness
    that changes over the rows by up to 20 %, motion blur of 3 pixels in a third of the views; noise of up to
    0.05, more where it is dark; sharpening in half of the scenes, JPEG of quality 30 to 95 in half of them;
    one scene in five is grey. `strength` 0 changes nothing. Drawn from `seed` alone.
    """
    if strength <= 0:
        return images
    draws = torch.Generator().manual_seed(2 * seed + 1)  # not the numbers that `photometric` draws
    count, views, _, height, width = images.shape
    a_scene, a_view = (count, 1, 1, 1, 1), (count, views, 1, 1, 1)

    def draw(*size: int) -> Tensor:
        return torch.rand(*size, generator=draws).to(images)

    y = torch.linspace(-1, 1, height).to(images)[:, None]
    x = torch.linspace(-1, 1, width).to(images)
    images = images * (1 - 0.25 * strength * draw(*a_scene) * (x * x + y * y))
    images = images * (1 + 0.2 * strength * (2 * draw(*a_view) - 1) * y)
    blurred = _motion_blurred(images, draw(count, views))
    images = torch.where(draw(*a_view) < strength / 3, blurred, images)
    curve = strength * (1.4 * draw(*a_scene) - 0.5)  # steeper in the middle, or flatter
    images = images.clamp(0, 1)
    images = images + curve * images * (1 - images) * (2 * images - 1)
    noise = torch.randn(images.shape, generator=draws).to(images)
    images = images + 0.04 * strength * draw(*a_scene) * (1.2 - images) * noise
    smooth = F.avg_pool2d(F.pad(images.flatten(0, 1), (1, 1, 1, 1), mode="replicate"), 3, 1)
    sharper = images + draw(*a_scene) * (images - smooth.unflatten(0, (count, views)))
    images = torch.where(draw(*a_scene) < 0.5 * strength, sharper, images).clamp(0, 1)
    images = torch.where(draw(*a_scene) < 0.2 * strength, images.mean(2, keepdim=True), images)
    stored = draw(count) < 0.5 * strength
    quality = (30 + 65 * draw(count)).int()
    for scene in stored.nonzero().flatten().tolist():
        for view in range(views):
            images[scene, view] = _as_jpeg(images[scene, view], int(quality[scene]))
    return images


def _motion_blurred(
    images: Float[Tensor, "batch views 3 height width"], turn: Float[Tensor, "batch views"]
) -> Float[Tensor, "batch views 3 height width"]:
    """Mean of each image and two copies moved by one pixel along one of four directions."""
    steps = torch.tensor([(0, 1), (1, 0), (1, 1), (1, -1)])
    chosen = (4 * turn).long().clamp(max=3)
    padded = F.pad(images.flatten(0, 1), (1, 1, 1, 1), mode="replicate").unflatten(0, images.shape[:2])
    height, width = images.shape[-2:]
    found = images
    for number, (down, right) in enumerate(steps.tolist()):
        ahead = padded[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        behind = padded[..., 1 - down : 1 - down + height, 1 - right : 1 - right + width]
        here = (chosen == number)[..., None, None, None]
        found = torch.where(here, (images + ahead + behind) / 3, found)
    return found


def _as_jpeg(image: Float[Tensor, "3 height width"], quality: int) -> Float[Tensor, "3 height width"]:
    array = (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).to(image) / 255
