"""What is known about each input view: where it came from and how its pixels reached the network.

Coordinates are continuous, in pixels, with the origin at the top-left *corner* of the image, so the
centre of the first pixel is (0.5, 0.5) (COLMAP's convention). Resizing is then a pure scaling.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from jaxtyping import Float, Float32, Int

from ...files.paths import path_from_text
from ...files.schema import Finite, Natural
from .in_memory import InMemoryImage, InMemoryMask

Side = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
Scale = Annotated[float, msgspec.Meta(ge=1e-6, le=1e6)]
Offset = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]


@dataclasses.dataclass(frozen=True)
class ViewTransform:
    """How the pixels of one source image became the pixels of one network image.

    The source is first turned upright by its EXIF `orientation` (1..8, or the equivalent of a video's
    rotation flag), then scaled by (`scale_x`, `scale_y`) and shifted by (`offset_x`, `offset_y`):
    `x_network = scale_x * x_upright + offset_x`, likewise for y. A negative offset is a crop, a
    positive one is padding. `content_box` = (left, top, right, bottom) in network pixels is the part
    that shows the image; what lies outside it is padding.
    """

    stored_width: Side
    stored_height: Side
    orientation: Annotated[int, msgspec.Meta(ge=1, le=8)]
    upright_width: Side
    upright_height: Side
    network_width: Side
    network_height: Side
    scale_x: Scale
    scale_y: Scale
    offset_x: Offset
    offset_y: Offset
    content_box: tuple[Natural, Natural, Natural, Natural]

    @property
    def network_size(self) -> tuple[int, int]:
        """(height, width) of the network image."""
        return self.network_height, self.network_width

    @property
    def network_from_upright(self) -> Float[np.ndarray, "3 3"]:
        """Homogeneous 2-D map from upright source pixels to network pixels."""
        return np.array(
            [[self.scale_x, 0.0, self.offset_x], [0.0, self.scale_y, self.offset_y], [0.0, 0.0, 1.0]]
        )

    @property
    def image_corners(self) -> Float[np.ndarray, "2 2"]:
        """(x, y) of the upright source image's top left and bottom right corner, in network pixels."""
        offset = np.array([self.offset_x, self.offset_y])
        size = np.array([self.scale_x * self.upright_width, self.scale_y * self.upright_height])
        return np.stack([offset, offset + size])

    @property
    def cropped(self) -> bool:
        """True when part of the source image is not seen by the network."""
        box = np.array(self.content_box).reshape(2, 2)
        # The box is whole pixels, so less than one network pixel beyond it is rounding, not a crop.
        (left, top), (right, bottom) = (box - self.image_corners).tolist()
        return max(left, top) >= 1.0 or min(right, bottom) <= -1.0

    def upright_intrinsics(self, network_intrinsics: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
        """Intrinsics in pixels of the upright source image, from those of the network image."""
        result = np.linalg.inv(self.network_from_upright) @ np.asarray(network_intrinsics, dtype=np.float64)
        return result / result[2, 2]

    def content_mask(self) -> np.ndarray:
        """Boolean [network_height, network_width]: True where the image is, False on padding."""
        mask = np.zeros(self.network_size, dtype=bool)
        left, top, right, bottom = self.content_box
        mask[top:bottom, left:right] = True
        return mask

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def source_fields(width: int, height: int, orientation: int) -> dict[str, int]:
    """The fields of a `ViewTransform` that say what an upright image of `width` x `height` was read from."""
    turned = orientation >= 5  # EXIF 5..8 exchange width and height
    return {
        "stored_width": height if turned else width,
        "stored_height": width if turned else height,
        "orientation": orientation,
        "upright_width": width,
        "upright_height": height,
    }


@dataclasses.dataclass(frozen=True)
class ViewRecord:
    """One view of a reconstruction: a unique name, its source and its transform.

    `name` is relative to the input folder, with forward slashes, sub-folders kept
    ("left/0001.jpg"); frames of a video are named "frame_000123.png" by their index in the video.
    `source` is the path of the image or of the video (a `file:` URI if its bytes are no UTF-8), empty for an
    image given in memory, which is then `image` (not stored with results). `video_frame` and `time_s` are
    None for photos. `focal_35mm` is the focal length in mm that EXIF gives for a film of 36 x 24 mm, if it
    does. `mask` is the path of the mask that hides a part of it (see `inputs.masks`), empty for one given in
    memory, which is then `mask_image` (not stored either), and None without a mask.
    """

    name: str
    source: str
    transform: ViewTransform
    video_frame: int | None = None
    time_s: float | None = None
    focal_35mm: float | None = None
    image: InMemoryImage | None = dataclasses.field(default=None, compare=False, repr=False)
    mask: str | None = None
    mask_image: InMemoryMask | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def source_path(self) -> Path:
        """Where the image or the video is, or was."""
        return path_from_text(self.source)

    def to_json(self) -> dict[str, Any]:
        """All fields but those in memory; `focal_35mm` and `mask` only where there is one."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["image"], fields["mask_image"]
        for name in ("focal_35mm", "mask"):
            if fields[name] is None:
                del fields[name]
        return {**fields, "transform": self.transform.to_json()}


class StoredView(msgspec.Struct, frozen=True):
    """A `ViewRecord` as JSON holds it."""

    name: str
    source: str
    transform: ViewTransform
    video_frame: Natural | None = None
    time_s: Finite | None = None
    focal_35mm: Finite | None = None
    mask: str | None = None

    def __post_init__(self) -> None:
        left, top, right, bottom = self.transform.content_box
        if not (
            left < right <= self.transform.network_width and top < bottom <= self.transform.network_height
        ):
            raise ValueError("content_box lies outside the network image")

    def record(self) -> ViewRecord:
        return ViewRecord(
            self.name,
            self.source,
            self.transform,
            self.video_frame,
            self.time_s,
            self.focal_35mm,
            mask=self.mask,
        )


def sampled_pixels(
    transform: ViewTransform, rows: int, columns: int
) -> tuple[Int[np.ndarray, " network_height"], Int[np.ndarray, " network_width"]]:
    """Row and column under each network pixel's centre, in a map of `rows` x `columns` of the whole image."""
    x = (np.arange(transform.network_width) + 0.5 - transform.offset_x) / transform.scale_x
    y = (np.arange(transform.network_height) + 0.5 - transform.offset_y) / transform.scale_y
    column = np.floor(x * columns / transform.upright_width).astype(int).clip(0, columns - 1)
    row = np.floor(y * rows / transform.upright_height).astype(int).clip(0, rows - 1)
    return row, column


def depth_at_network_pixels(
    depth: Float[np.ndarray, "rows columns"] | None, transform: ViewTransform
) -> Float32[np.ndarray, "network_height network_width"]:
    """Nearest value of a depth map under the centre of each network pixel.

    Args:
        depth: Depth of the upright image in any unit, of any resolution with the image's field of view; None
            for an image without depth.
        transform: How the image became the network's.

    Returns:
        The sampled depth in the unit of `depth`; NaN on padding, and everywhere for None.
    """
    if depth is None:
        return np.full(transform.network_size, np.nan, dtype=np.float32)
    row, column = sampled_pixels(transform, *depth.shape)
    sampled = np.where(transform.content_mask(), depth[np.ix_(row, column)], np.nan)
    return sampled.astype(np.float32)
