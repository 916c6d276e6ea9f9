"""Images that are given in memory: Pillow images, arrays and tensors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from PIL import Image

from ...errors import UsageError
from .decode import DecodedImage, ImageReadError, decode_image, open_image

if TYPE_CHECKING:
    import torch

InMemoryImage = Union[Image.Image, np.ndarray, "torch.Tensor"]
InMemoryMask = InMemoryImage  # one channel: bool, uint8, or float in [0, 1]
ImageInput = str | os.PathLike[str] | InMemoryImage

_ACCEPTED = (
    "paths, Pillow images, arrays [H, W, 3] or [S, H, W, 3], or tensors [3, H, W] or [S, 3, H, W], uint8 or "
    "float in [0, 1]"
)


def split_batches(inputs: Iterable[ImageInput]) -> Iterator[ImageInput]:
    """The images of `inputs` one by one: batches are split, paths are kept.

    Args:
        inputs: paths, Pillow images, arrays [H, W, 3] or [S, H, W, 3], and tensors [3, H, W] or [S, 3, H, W];
            arrays and tensors are RGB, uint8 or float in [0, 1].

    Raises:
        UsageError: for anything else, naming its place in the sequence.
    """
    for number, item in enumerate(inputs):
        if isinstance(item, str | os.PathLike | Image.Image):
            yield item
            continue
        array = isinstance(item, np.ndarray)
        shape = tuple(item.shape) if array or _is_tensor(item) else ()
        channels = -1 if array else -3
        if len(shape) not in (3, 4) or shape[channels] != 3 or not _is_colour_type(item):
            what = f"{item.dtype} {list(shape)}" if shape else f"a {type(item).__name__}"
            raise UsageError(f"input {number} is {what}; expected {_ACCEPTED}")
        yield from [item] if len(shape) == 3 else item


def decode_input(item: ImageInput, name: str) -> DecodedImage:
    """Upright RGB of a path or of one image in memory.

    Raises ImageReadError if it cannot be read, UsageError for floats outside [0, 1], with `name`.
    """
    with open_input(item, name) as image:
        return decode_image(image)


def open_input(item: ImageInput, name: str) -> Image.Image:
    """A Pillow image that may be closed: a file's header, or a copy of an image in memory."""
    if isinstance(item, str | os.PathLike):
        return open_image(Path(item))
    if isinstance(item, Image.Image):
        try:
            item.load()
        except Exception as error:  # the decoders raise many kinds on damaged data
            raise ImageReadError(f"cannot be decoded ({error})") from error
        return item.copy()
    return Image.fromarray(_uint8(item, name))


def _uint8(item: np.ndarray | torch.Tensor, name: str) -> np.ndarray:
    """RGB [H, W, 3]."""
    values = item if isinstance(item, np.ndarray) else _channels_last(item)
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if not (values.min() >= 0 and values.max() <= 1):
        raise UsageError(f"{name}: has values outside [0, 1]; give floats in [0, 1], or uint8")
    return np.rint(values.astype(np.float32) * np.float32(255)).astype(np.uint8)


def _channels_last(tensor: torch.Tensor) -> np.ndarray:
    import torch

    tensor = tensor.detach().cpu().movedim(0, -1)
    return np.asarray(tensor if tensor.dtype == torch.uint8 else tensor.float())


def _is_tensor(item: Any) -> bool:
    import torch  # here, because files and their results are read without it

    return isinstance(item, torch.Tensor)


def _is_colour_type(item: np.ndarray | torch.Tensor) -> bool:
    """Whether the numbers are uint8 or float."""
    if isinstance(item, np.ndarray):
        return item.dtype == np.uint8 or item.dtype.kind == "f"
    return item.is_floating_point() or str(item.dtype) == "torch.uint8"
