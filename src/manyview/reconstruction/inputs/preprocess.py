"""How an image of any shape becomes an image the network can take: its size policies.

A policy is computed in two steps. `plan_view` is arithmetic on sizes alone and gives the `ViewTransform`;
`render_view` then makes the pixels that the transform describes, with Pillow's bicubic filter on uint8
(Lanczos for `area`; see `bounds` for its policies), which is what the published weights were trained and
tested with.

- `fit`: the whole image, longer side = target, shorter side rounded to whole patches.
- `crop`: VGGT's "crop": width = target, height rounded to whole patches, centre rows kept if taller.
- `pad`: VGGT's "pad": as `fit`, then centred on a white square of the target size.
- `square`: VGGT's square loader: black bars to a square first, then resized to the target size.
- `balanced`: VGGT-Ω's "balanced": cut around the centre to at most 2:1, then resized to about target x
  target pixels of that shape.
- `max_size`: VGGT-Ω's "max_size": cut likewise, then longer side = target as `fit`.
- `area`: π³'s: every image is stretched to one size of whole patches, which has the shape of the first
  image and as many pixels as a limit allows (or a given longer side).
- `upper_bound`, `upper_bound_crop`, `lower_bound`, `lower_bound_crop`: Depth Anything 3's (`bounds`).

Views of different shapes are finally centred on white canvases of the largest height and width
(`shared_canvas`, `centre_on_canvas`), as VGGT does; under Depth Anything 3's policies they are cut around
their centres to the smallest height and width, as it does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ...errors import InputError, UsageError
from ...models.config import SizePolicy
from .bounds import BOUND_POLICIES, plan_bounded, render_bounded
from .views import ViewTransform, source_fields

SIZE_POLICIES: tuple[SizePolicy, ...] = get_args(SizePolicy)

WHITE = 255
_ROUNDING_SLACK = 1e-6  # float noise must not move a box edge that lies on a whole pixel
_MOST_ELONGATED = 2  # longer side over shorter side, of "balanced" and "max_size"


def plan_view(
    width: int,
    height: int,
    policy: SizePolicy,
    target_size: int,
    patch_size: int,
    orientation: int = 1,
    *,
    size: tuple[int, int] | None = None,
) -> ViewTransform:
    """The transform of one upright image of `width` x `height` pixels, before views share a canvas.

    `target_size` and `patch_size` are in network pixels (518 and 14 for VGGT-1B); `orientation` is the
    EXIF value the image was turned by, and is only recorded. `size` (width, height) is what `area`
    stretches to (None: the size that `fit` would give this image). Raises `UsageError` for sizes or a
    policy that cannot be, `InputError` for an image so elongated that its short side is less than half a
    patch.
    """
    check_sizes(policy, target_size, patch_size)
    if policy in ("square", "balanced", "max_size", *BOUND_POLICIES):
        if min(width, height) * target_size < max(width, height) * patch_size / 2:
            raise _too_elongated(width, height, target_size, patch_size)
        if policy in BOUND_POLICIES:
            bounded = plan_bounded(width, height, policy, target_size, patch_size, orientation)
            if min(bounded.network_size) < patch_size:
                raise _too_elongated(width, height, target_size, patch_size)
            return bounded
        if policy == "square":
            return _plan_square(width, height, target_size, orientation)
        return _plan_cut(width, height, policy == "balanced", target_size, patch_size, orientation)
    if policy == "area" and size is not None:
        resized_width, resized_height = size
    elif policy == "crop" or width >= height:
        resized_width = target_size
        resized_height = round(height * (target_size / width) / patch_size) * patch_size
    else:
        resized_width = round(width * (target_size / height) / patch_size) * patch_size
        resized_height = target_size
    if min(resized_width, resized_height) < patch_size:
        raise _too_elongated(width, height, target_size, patch_size)
    shown_height = resized_height if policy == "area" else min(resized_height, target_size)
    network_width, network_height = (target_size,) * 2 if policy == "pad" else (resized_width, shown_height)
    left = (network_width - resized_width) // 2
    top = (network_height - shown_height) // 2
    return ViewTransform(
        **source_fields(width, height, orientation),
        network_width=network_width,
        network_height=network_height,
        scale_x=resized_width / width,
        scale_y=resized_height / height,
        offset_x=float(left),
        offset_y=float(top - (resized_height - shown_height) // 2),
        content_box=(left, top, left + resized_width, top + shown_height),
    )


def _plan_cut(
    width: int, height: int, balanced: bool, target_size: int, patch_size: int, orientation: int
) -> ViewTransform:
    """Cut around the centre, then resize to whole patches. Source: VGGT-Ω's image loader."""
    cut_width, cut_height = min(width, _MOST_ELONGATED * height), min(height, _MOST_ELONGATED * width)
    if balanced:
        patches = target_size / patch_size
        columns = round(patches * math.sqrt(cut_width / cut_height))
        rows = round(patches * math.sqrt(cut_height / cut_width))
    else:
        scale = target_size / max(cut_width, cut_height) / patch_size
        columns, rows = round(cut_width * scale), round(cut_height * scale)
    network_width, network_height = max(columns, 1) * patch_size, max(rows, 1) * patch_size
    scale_x, scale_y = network_width / cut_width, network_height / cut_height
    return ViewTransform(
        **source_fields(width, height, orientation),
        network_width=network_width,
        network_height=network_height,
        scale_x=scale_x,
        scale_y=scale_y,
        offset_x=-scale_x * ((width - cut_width) // 2),
        offset_y=-scale_y * ((height - cut_height) // 2),
        content_box=(0, 0, network_width, network_height),
    )


def area_size(width: int, height: int, pixel_limit: int, patch_size: int) -> tuple[int, int]:
    """(width, height) in whole patches with at most `pixel_limit` pixels, closest to the image's shape.

    Larger and smaller images alike are brought to about the limit. Raises `InputError` for an image so
    elongated that its short side is less than half a patch. Source: π³'s image loader.
    """
    scale = math.sqrt(pixel_limit / (width * height))
    columns, rows = round(width * scale / patch_size), round(height * scale / patch_size)
    if min(columns, rows) < 1:
        raise InputError(
            f"{width}x{height} pixels is too elongated: with {pixel_limit} pixels in all, the short side has "
            f"less than half a patch of {patch_size}"
        )
    while columns * rows * patch_size**2 > pixel_limit and columns * rows > 1:
        if rows == 1 or (columns > 1 and columns / rows > width / height):
            columns -= 1
        else:
            rows -= 1
    return columns * patch_size, rows * patch_size


def _too_elongated(width: int, height: int, target_size: int, patch_size: int) -> InputError:
    return InputError(
        f"{width}x{height} pixels is too elongated: with one side at {target_size} pixels, "
        f"the other has less than half a patch of {patch_size}"
    )


def check_sizes(policy: str, target_size: int, patch_size: int) -> None:
    """Raise `UsageError` unless the policy is known and the target size is a whole number of patches."""
    if policy not in SIZE_POLICIES:
        raise UsageError(f"there is no size policy {policy!r}; choose one of {', '.join(SIZE_POLICIES)}")
    if patch_size < 1 or target_size < patch_size or target_size % patch_size:
        raise UsageError(
            f"the image size {target_size} must be a positive multiple of the model's patch size {patch_size}"
        )


def _plan_square(width: int, height: int, target_size: int, orientation: int) -> ViewTransform:
    side = max(width, height)
    scale = target_size / side
    left = (side - width) // 2 * scale
    top = (side - height) // 2 * scale
    right, bottom = left + width * scale, top + height * scale
    # Rounded inwards, so that the box holds no pixel that is partly bar; never empty.
    box_left, box_top = (min(math.ceil(x - _ROUNDING_SLACK), target_size - 1) for x in (left, top))
    box_right, box_bottom = (math.floor(x + _ROUNDING_SLACK) for x in (right, bottom))
    return ViewTransform(
        **source_fields(width, height, orientation),
        network_width=target_size,
        network_height=target_size,
        scale_x=scale,
        scale_y=scale,
        offset_x=left,
        offset_y=top,
        content_box=(box_left, box_top, max(box_right, box_left + 1), max(box_bottom, box_top + 1)),
    )


def render_view(
    image: Image.Image, transform: ViewTransform, policy: SizePolicy
) -> UInt8[np.ndarray, "height width 3"]:
    """The network image that `plan_view` described, from the upright RGB `image`, padding included."""
    size = (transform.network_width, transform.network_height)
    if policy in BOUND_POLICIES:
        return render_bounded(image, transform, policy)
    if policy == "square":
        side = max(image.size)
        squared = Image.new("RGB", (side, side), (0, 0, 0))
        squared.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return np.asarray(squared.resize(size, Image.Resampling.BICUBIC))
    if policy in ("balanced", "max_size"):
        left = round(-transform.offset_x / transform.scale_x)
        top = round(-transform.offset_y / transform.scale_y)
        right, bottom = left + round(size[0] / transform.scale_x), top + round(size[1] / transform.scale_y)
        cut = image.crop((left, top, right, bottom))  # first, so that nothing outside shows at the edges
        return np.asarray(cut.resize(size, Image.Resampling.BICUBIC))
    resized_size = (
        round(transform.scale_x * transform.upright_width),
        round(transform.scale_y * transform.upright_height),
    )
    kernel = Image.Resampling.LANCZOS if policy == "area" else Image.Resampling.BICUBIC
    resized = np.asarray(image.resize(resized_size, kernel))
    left, top, right, bottom = transform.content_box
    first_row = top - round(transform.offset_y)
    first_column = left - round(transform.offset_x)
    shown = resized[first_row : first_row + bottom - top, first_column : first_column + right - left]
    if shown.shape[:2] == transform.network_size:
        return shown
    canvas = np.full((*transform.network_size, 3), WHITE, dtype=np.uint8)
    canvas[top:bottom, left:right] = shown
    return canvas


def shared_canvas(transforms: Sequence[ViewTransform], policy: SizePolicy) -> tuple[int, int]:
    """(height, width) that all views of a batch share: the largest, or the smallest where they are cut."""
    pick = min if policy in BOUND_POLICIES else max
    return pick(t.network_height for t in transforms), pick(t.network_width for t in transforms)


def paste_on_canvas(
    canvas: UInt8[np.ndarray, "height width 3"],
    pixels: UInt8[np.ndarray, "rows columns 3"],
    transform: ViewTransform,
) -> ViewTransform:
    """Draw a network image centred on `canvas`, white around it, and return its transform there.

    Of an image that is larger the centre is drawn.
    """
    height, width = canvas.shape[:2]
    left, top = _canvas_offset(transform, height, width)
    shown = pixels[max(-top, 0) :, max(-left, 0) :][:height, :width]
    rows, columns = shown.shape[:2]
    left, top = max(left, 0), max(top, 0)
    if shown.shape[:2] != (height, width):
        canvas.fill(WHITE)
    canvas[top : top + rows, left : left + columns] = shown
    return centre_on_canvas(transform, height, width)


def centre_on_canvas(transform: ViewTransform, height: int, width: int) -> ViewTransform:
    """The transform after its network image was centred on a canvas of `height` x `width`, or cut to it."""
    left, top = _canvas_offset(transform, height, width)
    box = transform.content_box
    return dataclasses.replace(
        transform,
        network_width=width,
        network_height=height,
        offset_x=transform.offset_x + left,
        offset_y=transform.offset_y + top,
        content_box=(
            max(box[0] + left, 0),
            max(box[1] + top, 0),
            min(box[2] + left, width),
            min(box[3] + top, height),
        ),
    )


def _canvas_offset(transform: ViewTransform, height: int, width: int) -> tuple[int, int]:
    """(left, top) padding that centres the view on the canvas; an odd pixel goes to the right or bottom."""
    return (width - transform.network_width) // 2, (height - transform.network_height) // 2
