"""One decoded image to one network image, with the facts that warnings are made of."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import UInt8

from ...errors import InputError
from ...models.config import SizePolicy
from .bounds import BOUND_POLICIES
from .decode import DecodedImage, ImageReadError
from .preprocess import area_size, plan_view, render_view
from .views import ViewTransform

# An image with a side below this many pixels shows nothing that could be matched.
SMALLEST_SIDE = 8

_BLOCK = 8
_NEARLY_BLACK = 4  # lossy coding leaves a little noise in painted areas, of any colour


@dataclasses.dataclass(frozen=True)
class Sizing:
    """How images become network images; `target_size` and `patch_size` in network pixels.

    For the policy `area` alone: `pixel_limit` stands in for the target size where it is given, and `size`
    (width, height) is what the first image decided for all.
    """

    policy: SizePolicy
    target_size: int
    patch_size: int
    pixel_limit: int | None = None
    size: tuple[int, int] | None = None

    @property
    def ignores_transparency(self) -> bool:
        """The loaders of π³ and Depth Anything 3 show the colours under transparent pixels; VGGT's lays them
        on white."""
        return self.policy == "area" or self.cuts_to_smallest

    @property
    def cuts_to_smallest(self) -> bool:
        """Whether views of different shapes are cut to the smallest height and width, not laid on white."""
        return self.policy in BOUND_POLICIES

    def with_size_of(self, transform: ViewTransform) -> Sizing:
        """The sizing of the images after one with this transform."""
        if self.policy != "area":
            return self
        return dataclasses.replace(self, size=(transform.network_width, transform.network_height))


@dataclasses.dataclass(frozen=True)
class NetworkImage:
    """A network image on its own canvas, before all views share one."""

    pixels: UInt8[np.ndarray, "height width 3"]
    transform: ViewTransform
    black_share: float
    transparent: bool = False
    frame_count: int = 1
    one_colour: bool = False
    focal_35mm: float | None = None


def make_network_image(decoded: DecodedImage, sizing: Sizing) -> NetworkImage:
    """Resize by the policy; raises `ImageReadError` for an image too small or too elongated to be used."""
    transform = network_transform(decoded.image.size, decoded.orientation, sizing)
    pixels = render_view(decoded.image, transform, sizing.policy)
    left, top, right, bottom = transform.content_box
    shown = pixels[top:bottom, left:right]
    return NetworkImage(
        pixels=pixels,
        transform=transform,
        black_share=solid_black_share(shown),
        transparent=decoded.transparent,
        frame_count=decoded.frame_count,
        one_colour=_has_one_colour(shown),
        focal_35mm=decoded.focal_35mm,
    )


def network_transform(size: tuple[int, int], orientation: int, sizing: Sizing) -> ViewTransform:
    """How an upright image of `size` (width, height) is resized; raises `ImageReadError` as above."""
    width, height = size
    if min(width, height) < SMALLEST_SIDE:
        raise ImageReadError(
            f"is too small ({width}x{height} pixels; at least {SMALLEST_SIDE} a side are needed)"
        )
    try:
        stretched = sizing.size
        if stretched is None and sizing.policy == "area" and sizing.pixel_limit is not None:
            stretched = area_size(width, height, sizing.pixel_limit, sizing.patch_size)
        return plan_view(
            width, height, sizing.policy, sizing.target_size, sizing.patch_size, orientation, size=stretched
        )
    except InputError as error:
        raise ImageReadError(str(error)) from error


def solid_black_share(pixels: UInt8[np.ndarray, "height width 3"]) -> float:
    """Share of the 8x8 blocks that are black throughout: painted masks and bars, not dark scenery."""
    rows, columns = pixels.shape[0] // _BLOCK, pixels.shape[1] // _BLOCK
    if rows == 0 or columns == 0:
        return 0.0
    blocks = pixels[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK, 3)
    # One pixel of each block tells of most that they are not black.
    black = np.asarray((blocks[:, 0, :, 0] <= _NEARLY_BLACK).all(-1))
    row, column = black.nonzero()
    black[row, column] = (blocks[row, :, column] <= _NEARLY_BLACK).all((1, 2, 3))
    return float(black.mean())


def _has_one_colour(pixels: UInt8[np.ndarray, "height width 3"]) -> bool:
    some = pixels[::_BLOCK, ::_BLOCK]  # tells of most images that they have more
    return all(bool((np.ptp(p, axis=(0, 1)) <= _NEARLY_BLACK).all()) for p in (some, pixels))
