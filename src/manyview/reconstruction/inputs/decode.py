"""One image file to upright 8-bit RGB, whatever its format, depth, colour mode and orientation.

The one reader of still images in this package: Pillow, with pillow-heif for HEIC. Opening (the header)
and decoding (the pixels) are separate, so that many files can be decoded by a pool of threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...errors import MissingExtraError, out_of_memory
from ...files.schema import check_regular
from .file_type import HEAD_BYTES, is_heif, is_text, is_video

# Nothing else may be opened: some of Pillow's formats start other programs (EPS) or fetch data.
# Phones' MPO files are opened as JPEG.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM", "JPEG2000")
_ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "TIFF", "AVIF")

_TURN_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 274
_EXIF_CAMERA, _EXIF_FOCAL_35MM = 0x8769, 0xA405
_LARGEST_FILE = 1 << 30


class ImageReadError(Exception):
    """An image that cannot be used; the message is a reason that can follow its name."""


class HeifSupportError(ImageReadError):
    """A HEIC image, and the library that reads it is not installed."""


@dataclasses.dataclass(frozen=True)
class DecodedImage:
    """A decoded image: `image` is upright RGB; `orientation` is the EXIF value it was turned by.

    `transparent`: parts were laid on white or shown in their hidden colour; `frame_count` is
    above 1 if only the first frame or page of several is shown. `focal_35mm` is the focal length in mm that
    EXIF gives for a film of 36 x 24 mm, None where it gives none.
    """

    image: Image.Image
    orientation: int = 1
    transparent: bool = False
    frame_count: int = 1
    focal_35mm: float | None = None


def open_image(path: Path) -> Image.Image:
    """The image with only its header parsed; raises `ImageReadError` with the reason if that fails.

    The file is read into memory first: Pillow maps files it opens by name, which turns an uncompressed
    TIFF with orientation 5..8 into wrong pixels (seen in Pillow 13.0), and a file that shrinks into a crash.
    Call from one thread at a time: warnings are silenced for the whole process meanwhile.
    """
    try:
        if check_regular(path) > _LARGEST_FILE:
            raise ImageReadError(f"is larger than {_LARGEST_FILE >> 30} GiB; make it smaller")
        data = path.read_bytes()
    except OSError as error:
        raise ImageReadError(f"cannot be read: {error.strerror}") from error
    return _parsed(io.BytesIO(data))


@contextlib.contextmanager
def open_header(path: Path) -> Iterator[Image.Image]:
    """`open_image` for the sake of the header alone; pixels must not be asked for."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImageReadError(f"cannot be read: {error.strerror}") from error
    with file:
        yield _parsed(file)


def _parsed(file: io.BytesIO | io.BufferedReader) -> Image.Image:
    head = file.read(HEAD_BYTES)
    if not head:
        raise ImageReadError("is empty (0 bytes)")
    file.seek(0)
    try:
        with warnings.catch_warnings():
            # Decoding finds damage, and a 100-megapixel photo is no attack: twice that is refused.
            warnings.simplefilter("ignore")
            image = _open_heif(file) if is_heif(head) else _open_pillow(file)
            if not _exif_follows_pixels(image):
                image.getexif()  # parsed here, where its warnings are silent
            if image.width * image.height > 2 * (Image.MAX_IMAGE_PIXELS or sys.maxsize):
                raise Image.DecompressionBombError
    except (ImageReadError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageReadError("has too many pixels to be decoded safely; make it smaller") from error
    except UnidentifiedImageError as error:
        raise ImageReadError(_what_it_is(head)) from error
    except Exception as error:  # the parsers raise many kinds on damaged headers
        raise _damage(error) from error
    return image


def _open_pillow(file: io.BytesIO | io.BufferedReader) -> Image.Image:
    Image.init()  # loads Pillow's plugins, once; older versions lack some of the formats
    return Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])


def _open_heif(file: io.BytesIO | io.BufferedReader) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise HeifSupportError(str(MissingExtraError("this HEIC image", "heif"))) from error
    return HeifImageFile(file)


def _what_it_is(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the image; run: git lfs pull"
    if is_text(head):
        return "holds text, not an image"
    if is_video(head):
        return "is a video, not an image"
    return "is damaged or no image: its header is of no known format"


def _damage(error: Exception) -> ImageReadError:
    cause = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if "truncated" in cause or "end of file" in cause.lower():
        return ImageReadError("is cut off (truncated)")
    return ImageReadError(f"is damaged ({cause})")


def decode_image(image: Image.Image, ignore_transparency: bool = False) -> DecodedImage:
    """Decode what `open_image` opened: first frame, upright, 8-bit RGB, transparency laid on white.

    With `ignore_transparency` transparent pixels show the colour they have. Raises `ImageReadError` with the
    reason if the pixels are damaged or of an unsupported kind, MemoryError if they do not fit.
    """
    try:
        frame_count = int(getattr(image, "n_frames", 1)) if image.format in _ANIMATED_FORMATS else 1
        orientation, focal_35mm = orientation_of(image), _focal_35mm(image)
        image.load()
        rgb, transparent = _to_rgb(image, ignore_transparency)
        # Some decoders turn the image themselves (TIFF) and remove the tag: turn by what is left of it.
        upright = apply_orientation(rgb, orientation_of(image)).image
    except (ImageReadError, MemoryError):
        raise
    except Exception as error:  # the decoders raise many kinds on damaged data
        if out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise _damage(error) from error
    return DecodedImage(upright, orientation, transparent, frame_count, focal_35mm)


def apply_orientation(image: Image.Image, orientation: int) -> DecodedImage:
    """The image that stored pixels with this EXIF orientation (1..8) show."""
    turn = _TURN_UPRIGHT.get(orientation)
    return DecodedImage(image if turn is None else image.transpose(turn), orientation)


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 when there is none or it makes no sense."""
    value = image.getexif().get(_EXIF_ORIENTATION, 1)
    return value if isinstance(value, int) and value in _TURN_UPRIGHT else 1


def _focal_35mm(image: Image.Image) -> float | None:
    """FocalLengthIn35mmFilm of EXIF in mm; None when there is none or it makes no sense."""
    try:
        value = image.getexif().get_ifd(_EXIF_CAMERA).get(_EXIF_FOCAL_35MM)
    except Exception:  # damaged tags, of which the parsers raise many kinds, do not cost an image
        return None
    return float(value) if isinstance(value, int) and 1 <= value <= 5000 else None


def header_orientation(image: Image.Image) -> int:
    """`orientation_of` as far as the header tells: nothing is decoded."""
    return 1 if _exif_follows_pixels(image) else orientation_of(image)


def _exif_follows_pixels(image: Image.Image) -> bool:
    """Whether Pillow would decode the image in search of its EXIF."""
    return image.format == "PNG" and "exif" not in image.info


def _has_alpha(image: Image.Image) -> bool:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return True
    transparency = image.info.get("transparency")
    if isinstance(transparency, tuple):  # a colour of 16-bit PNG cannot be found in 8-bit pixels
        return max(transparency) <= 255
    return transparency is not None and image.mode in ("1", "L", "P", "RGB")


def varying_alpha(image: Image.Image) -> Image.Image | None:
    """The alpha channel of a decoded image; None where it has none, or the same everywhere."""
    alpha = image.convert("RGBA").getchannel("A") if _has_alpha(image) else None
    return None if alpha is None or len(set(alpha.getextrema())) == 1 else alpha


def _to_rgb(image: Image.Image, ignore_transparency: bool) -> tuple[Image.Image, bool]:
    """8-bit RGB, and whether anything was transparent.

    16-bit grey is scaled from its full range (16-bit colour already is, by Pillow's decoders);
    transparency is laid on white, as VGGT does, or ignored, as π³ does.
    """
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_grey_to_8_bit(np.asarray(image), image.mode)).convert("RGB"), False
    if _has_alpha(image):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        transparent = rgba.getchannel("A").getextrema() != (255, 255)
        if ignore_transparency:
            return rgba.convert("RGB"), transparent
        return Image.alpha_composite(white, rgba).convert("RGB"), transparent
    if image.mode == "RGB":
        return image, False
    try:
        return image.convert("RGB"), False
    except ValueError as error:
        raise ImageReadError(f"has pixels of the kind {image.mode}, which cannot be shown as RGB") from error


def _grey_to_8_bit(grey: np.ndarray, mode: str) -> np.ndarray:
    """Grey levels 0..65535 of integer pixels, or 0..1 of float pixels, as rounded uint8."""
    full_scale = 1.0 if mode.startswith("F") else 65535.0
    values = grey.astype(np.float32)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > full_scale:
        raise ImageReadError(f"has {mode} pixels outside 0..{full_scale:g}: a measurement, not a photograph")
    return np.rint(values * np.float32(255.0 / full_scale)).astype(np.uint8)
