"""The size policies of Depth Anything 3: one side at a target size, then whole patches.

`upper_bound` brings the longer side to the target and resizes again to the nearest whole patches (halves
up); `upper_bound_crop` cuts around the centre instead of resizing again. `lower_bound` and
`lower_bound_crop` do the same with the shorter side. Images are enlarged with OpenCV's cubic filter and made
smaller with its area filter. Source: the image loader of Depth Anything 3.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from .resample import resample
from .views import ViewTransform, source_fields

BOUND_POLICIES = ("upper_bound", "upper_bound_crop", "lower_bound", "lower_bound_crop")


def plan_bounded(
    width: int, height: int, policy: str, target_size: int, patch_size: int, orientation: int
) -> ViewTransform:
    """The transform of one upright image of `width` x `height` pixels; a side may have no patch."""
    first = _first_size(width, height, policy, target_size)
    if policy.endswith("_crop"):
        columns, rows = (side // patch_size for side in first)
        shown = first
    else:
        columns, rows = ((2 * side + patch_size) // (2 * patch_size) for side in first)
        shown = (columns * patch_size, rows * patch_size)
    network_width, network_height = columns * patch_size, rows * patch_size
    return ViewTransform(
        **source_fields(width, height, orientation),
        network_width=network_width,
        network_height=network_height,
        scale_x=shown[0] / width,
        scale_y=shown[1] / height,
        offset_x=-float((shown[0] - network_width) // 2),
        offset_y=-float((shown[1] - network_height) // 2),
        content_box=(0, 0, network_width, network_height),
    )


def render_bounded(
    image: Image.Image, transform: ViewTransform, policy: str
) -> UInt8[np.ndarray, "height width 3"]:
    """The network image that `plan_bounded` described, from the upright RGB `image`."""
    final = (transform.network_width, transform.network_height)
    if policy.endswith("_crop"):
        first = round(transform.scale_x * image.width), round(transform.scale_y * image.height)
        left, top = round(-transform.offset_x), round(-transform.offset_y)
        return _resized(image, first)[top : top + final[1], left : left + final[0]]
    target_size = max(final) if policy == "upper_bound" else min(final)
    first = _first_size(image.width, image.height, policy, target_size)
    return _resized(Image.fromarray(_resized(image, first)), final)


def _first_size(width: int, height: int, policy: str, target_size: int) -> tuple[int, int]:
    side = max(width, height) if policy.startswith("upper") else min(width, height)
    scale = target_size / side
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(image: Image.Image, size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    if image.size == size:
        return np.asarray(image)
    grows = size[0] > image.width or size[1] > image.height
    return resample(image, *size, "cubic" if grows else "area")
