"""Masks of views: white pixels are kept, black ones are hidden.

A mask is an image of any size with the field of view of the whole view. Kept is what is at least half of the
full scale: 128 of 255, 32768 of 65535. Where a mask has an alpha channel that varies, that is the mask,
whatever the colours; else it is the grey level. A mask is of upright pixels; where EXIF turns the image
on its side and the mask has the size of the stored pixels, it is turned like the image. A square mask of a
square image, and one of an image that EXIF turns by 180 degrees or mirrors, is taken for upright.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from ...errors import InputError, UsageError, out_of_memory
from ...files.paths import path_from_text
from .decode import ImageReadError, apply_orientation, open_image, orientation_of, varying_alpha
from .in_memory import InMemoryMask
from .views import ViewRecord, ViewTransform

_ASPECT_TOLERANCE = 1.02


def read_mask(record: ViewRecord) -> Bool[np.ndarray, "upright_height upright_width"] | None:
    """The mask of a view at the resolution of its upright source image.

    Returns:
        True where a pixel is kept; None for a view without a mask.

    Raises:
        ImageReadError: The file cannot be read, or holds no mask; the message can follow its name.
        InputError: The mask has another aspect ratio than the view.
        UsageError: An array is none of a mask.
    """
    if record.mask is None:
        return None
    if record.mask:
        where = record.mask
        kept = _kept_by_file(path_from_text(record.mask))
    else:
        where = f"the mask of view {record.name!r}"
        assert record.mask_image is not None
        kept = _kept_by_array(record.mask_image, where)
    return _at_upright_pixels(kept, record, where)


def network_mask(
    kept: Bool[np.ndarray, "upright_height upright_width"], transform: ViewTransform
) -> Bool[np.ndarray, "network_height network_width"]:
    """True where more than half of what a network pixel shows is hidden; False on padding."""
    left, top, right, bottom = transform.content_box
    size, scale = np.array([right - left, bottom - top]), np.array([transform.scale_x, transform.scale_y])
    offset = np.array([transform.offset_x, transform.offset_y])
    corners = (np.array([[left, top], [right, bottom]]) - offset) / scale
    box = np.clip(corners, 0, (transform.upright_width, transform.upright_height)).ravel().tolist()
    grey = Image.fromarray(kept.astype(np.uint8) * np.uint8(255))
    seen = np.asarray(grey.resize(tuple(size.tolist()), Image.Resampling.BOX, tuple(box)))
    hidden = np.zeros(transform.network_size, dtype=bool)
    hidden[top:bottom, left:right] = seen < 128
    return hidden


def _kept_by_file(path: Path) -> Bool[np.ndarray, "height width"]:
    with open_image(path) as image:
        try:
            image.load()
            grey, full_scale = _grey(image)
        except (ImageReadError, MemoryError):
            raise
        except Exception as error:  # the decoders raise many kinds on damaged data
            if out_of_memory(error):
                raise MemoryError(str(error)) from error
            raise ImageReadError(f"is damaged ({' '.join(str(error).split())})") from error
    return _bright(grey, full_scale)


def _bright(grey: np.ndarray, full_scale: float) -> Bool[np.ndarray, "height width"]:
    brightest = float(grey.max(initial=0))
    if 0 < brightest < full_scale / 2:
        raise ImageReadError(
            f"has no value above {brightest:g} of {full_scale:g}, so it would keep nothing; "
            f"write {full_scale:g} where pixels are kept"
        )
    return grey >= full_scale / 2


def _grey(image: Image.Image) -> tuple[np.ndarray, float]:
    """Levels of a decoded mask, upright by its own EXIF tag, and what white is."""
    alpha = varying_alpha(image)
    deep = alpha is None and image.mode.startswith(("I", "F"))
    levels = image if deep else image.convert("L") if alpha is None else alpha
    levels = apply_orientation(levels, orientation_of(image)).image
    return np.asarray(levels), 255.0 if not deep else 1.0 if image.mode.startswith("F") else 65535.0


def _kept_by_array(mask: InMemoryMask, where: str) -> Bool[np.ndarray, "height width"]:
    if isinstance(mask, Image.Image):
        mask.load()
        return _bright(*_grey(mask))
    array = mask if isinstance(mask, np.ndarray) else mask.detach().cpu().numpy()
    if array.ndim != 2 or 0 in array.shape or (array.dtype.kind not in "bf" and array.dtype != np.uint8):
        raise UsageError(
            f"{where} is {array.dtype} {list(array.shape)}; expected height x width, bool, uint8, or float "
            "in [0, 1]"
        )
    if array.dtype.kind == "b":
        return array
    return _bright(array, 255.0 if array.dtype == np.uint8 else 1.0)


def _at_upright_pixels(
    kept: Bool[np.ndarray, "height width"], record: ViewRecord, where: str
) -> Bool[np.ndarray, "upright_height upright_width"]:
    transform = record.transform
    upright = (transform.upright_height, transform.upright_width)
    stored = (transform.stored_height, transform.stored_width)
    if not _same_shape(kept.shape, upright):
        if not _same_shape(kept.shape, stored):
            raise InputError(
                f"{where}: has {kept.shape[1]}x{kept.shape[0]} pixels and {record.name} "
                f"{upright[1]}x{upright[0]}, another aspect ratio: give a mask of the whole image"
            )
        kept = np.asarray(apply_orientation(Image.fromarray(kept), transform.orientation).image)
    if kept.shape == upright:
        return kept
    row, column = (
        ((np.arange(count) + 0.5) * own / count).astype(int)
        for count, own in zip(upright, kept.shape, strict=True)
    )
    return kept[np.ix_(row, column)]


def _same_shape(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether two (height, width) have the same aspect ratio, up to rounding to whole pixels."""
    (rows, columns), (height, width) = first, second
    across, along = columns * height, rows * width
    return (
        1 / _ASPECT_TOLERANCE < across / along < _ASPECT_TOLERANCE
        or abs(columns - rows * width / height) <= 1
        or abs(rows - columns * height / width) <= 1
    )
