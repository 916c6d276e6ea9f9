"""The images of a folder, in natural order."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..errors import InputError
from ..files.naming import IMAGE_SUFFIXES, is_clutter, natural_key, suffix_of


def images_in(folder: Path, *names: str) -> list[Path]:
    """The images directly in a folder, or in the first of these sub-folders that has any; possibly none."""
    for place in [folder / name for name in names] or [folder]:
        if place.is_dir():
            names_there = [p.name for p in place.iterdir() if suffix_of(p) in IMAGE_SUFFIXES]
            found = sorted((name for name in names_there if not is_clutter(name)), key=natural_key)
            if found:
                return [place / name for name in found]
    return []


def some_images_in(folder: Path, names: tuple[str, ...], expected: str) -> list[Path]:
    """Those of `images_in`. Raises InputError if there are none."""
    found = images_in(folder, *names)
    if not found:
        places = ", ".join(f"{name}/" for name in names if name != ".") or "it"
        raise InputError(f"{folder}: has cameras but no images in {places}; expected {expected}")
    return found


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels, as stored. Raises InputError for a file that is no image."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error
