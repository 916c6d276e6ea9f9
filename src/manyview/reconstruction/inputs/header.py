"""What reading an image will take, from its header alone."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from .decode import ImageReadError, header_orientation, open_header
from .network_image import Sizing, network_transform
from .options import InputFile, InputSet
from .preprocess import shared_canvas
from .video import stored_size
from .views import ViewTransform

# Bytes a pixel as Pillow stores them: colour takes four, whatever the number of its channels.
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
_COLOUR = 4
# What decoders hold beside the image: coefficients of progressive JPEGs, planes and results of the others.
_DECODER = {"JPEG": 3, "MPO": 3, "WEBP": 8, "AVIF": 8, "HEIF": 8, "JPEG2000": 24, "TIFF": 4, "GIF": 4}
# Frames that a decoder of video and its threads hold (1.5 bytes a pixel each), and one as RGB.
_VIDEO = 48
# An array that is given in memory, as float32 in between, and as an image.
_IN_MEMORY = 32


@dataclasses.dataclass(frozen=True)
class ExpectedViews:
    """Number and size of the network images that headers announce; which image takes most, and how much."""

    views: int
    height: int
    width: int
    largest: str
    largest_bytes: int


def decoding_bytes(image: Image.Image, file_bytes: int) -> int:
    """Bytes that are alive while an opened image becomes upright RGB, its file in memory included."""
    stored = _STORED.get(image.mode, _COLOUR)
    each = stored + _DECODER.get(image.format or "", 0)
    if image.mode.startswith(("I", "F")):  # grey levels as float32, rounded and not
        each += 10
    if image.mode != "RGB":
        each += _COLOUR
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or image.info.get("transparency") is not None:
        each += 3 * _COLOUR
    if header_orientation(image) != 1:
        each += _COLOUR
    return file_bytes + each * image.width * image.height


def expected_views(found: InputSet, sizing: Sizing) -> ExpectedViews | None:
    """What the headers of `found` announce; None if no header can be read.

    Of a video it is one frame: how many there are is known when it has been read.
    """
    transforms, largest = [], (0, "")
    for name, size, orientation, needed in _sizes(found):
        with contextlib.suppress(ImageReadError):
            transform = network_transform(size, orientation, sizing)
            sizing = sizing.with_size_of(transform)
            transforms.append(transform)
            said = f"{name} ({size[0]}x{size[1]} pixels)"
            largest = max(largest, (needed + rendering_bytes(transform), said))
    if not transforms:
        return None
    return ExpectedViews(len(transforms), *shared_canvas(transforms, sizing.policy), largest[1], largest[0])


def unusable_files(files: Sequence[InputFile], sizing: Sizing) -> list[tuple[int, ImageReadError]]:
    """Places of the images that their headers show to be of no use, and why."""
    found: list[tuple[int, ImageReadError]] = []
    for place, file in enumerate(files):
        try:
            size, orientation, _ = _size(file)
            network_transform(size, orientation, sizing)
        except ImageReadError as error:
            found.append((place, error))
        except OSError as error:
            found.append((place, ImageReadError(f"cannot be read: {error.strerror}")))
    return found


def rendering_bytes(transform: ViewTransform) -> int:
    """Bytes that are alive while a decoded image becomes a network image, which is what is left of them."""
    network = transform.network_width * transform.network_height
    across = transform.network_width * transform.upright_height  # resized in one direction
    return _COLOUR * (min(network, across) + network) + 6 * network


def _sizes(found: InputSet) -> Iterable[tuple[str, tuple[int, int], int, int]]:
    """Name, (width, height) upright, orientation and bytes to decode of each image with a readable header."""
    if found.kind == "video":
        size = stored_size(found.files[0].path)
        if size is not None:
            yield found.files[0].name, size, 1, _VIDEO * size[0] * size[1]
        return
    for file in found.files:
        with contextlib.suppress(ImageReadError, OSError):
            yield file.name, *_size(file)


def _size(file: InputFile) -> tuple[tuple[int, int], int, int]:
    if isinstance(file.image, Image.Image):
        return _upright(file.image, 0)
    if file.image is not None:
        shape = tuple(file.image.shape)
        height, width = shape[:2] if isinstance(file.image, np.ndarray) else shape[1:]
        return (width, height), 1, _IN_MEMORY * width * height
    with open_header(file.path) as image:
        return _upright(image, file.path.stat().st_size)


def _upright(image: Image.Image, file_bytes: int) -> tuple[tuple[int, int], int, int]:
    orientation = header_orientation(image)
    size = image.size if orientation < 5 else image.size[::-1]
    return size, orientation, decoding_bytes(image, file_bytes)
