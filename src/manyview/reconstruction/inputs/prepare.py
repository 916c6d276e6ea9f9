"""One decoded picture to one network image, with the facts about it that are worth telling."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import UInt8

from manyview.errors import InputError
from manyview.reconstruction.inputs.decode import Picture, PictureError
from manyview.reconstruction.preprocess import SizePolicy, plan_view, render_view
from manyview.reconstruction.views import ViewTransform

# A picture with a side below this many pixels shows nothing that could be matched.
SMALLEST_SIDE = 8

_BLOCK = 8
_NEARLY_BLACK = 4  # lossy coding leaves a little noise in painted areas


@dataclasses.dataclass(frozen=True)
class Sizing:
    """How pictures become network images; `target_size` and `patch_size` in network pixels."""

    policy: SizePolicy
    target_size: int
    patch_size: int


@dataclasses.dataclass(frozen=True)
class PreparedView:
    """A network image on its own canvas, before all views share one."""

    pixels: UInt8[np.ndarray, "height width 3"]
    transform: ViewTransform
    black_share: float
    transparent: bool = False
    frame_count: int = 1


def prepare_view(picture: Picture, sizing: Sizing) -> PreparedView:
    """Resize by the policy; raises `PictureError` for a picture too small or too elongated to be used."""
    width, height = picture.image.size
    if min(width, height) < SMALLEST_SIDE:
        raise PictureError(
            f"is too small ({width}x{height} pixels; at least {SMALLEST_SIDE} a side are needed)"
        )
    try:
        transform = plan_view(
            width, height, sizing.policy, sizing.target_size, sizing.patch_size, picture.orientation
        )
    except InputError as error:
        raise PictureError(str(error)) from error
    pixels = render_view(picture.image, transform, sizing.policy)
    left, top, right, bottom = transform.content_box
    return PreparedView(
        pixels=pixels,
        transform=transform,
        black_share=solid_black_share(pixels[top:bottom, left:right]),
        transparent=picture.transparent,
        frame_count=picture.frame_count,
    )


def solid_black_share(pixels: UInt8[np.ndarray, "height width 3"]) -> float:
    """Share of the 8x8 blocks that are black throughout: painted masks and bars, not dark scenery."""
    rows, columns = pixels.shape[0] // _BLOCK, pixels.shape[1] // _BLOCK
    if rows == 0 or columns == 0:
        return 0.0
    blocks = pixels[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK, 3)
    return float((blocks.max(axis=(1, 3, 4)) <= _NEARLY_BLACK).mean())
