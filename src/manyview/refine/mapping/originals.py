"""The upright original images and their masks as files that COLMAP reads, named by the number of the view."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...files.naming import suffix_of
from ...reconstruction.inputs.source_images import write_source_images

if TYPE_CHECKING:
    from ...reconstruction.result.result import Reconstruction


def original_names(scene: Reconstruction) -> tuple[str, ...]:
    """File names that COLMAP's readers do not stumble over, in the order of the views."""
    return tuple(f"{i:06}{suffix_of(name)}" for i, name in enumerate(scene.source_image_names))


def write_originals(
    scene: Reconstruction, folder: Path, progress: Callable[[int, int], None] | None = None
) -> tuple[str, ...]:
    """Write the upright original image of every view to `folder`; returns `original_names`.

    Raises:
        InputError: A source is gone or is no longer the image that was reconstructed.
    """
    names = original_names(scene)
    write_source_images(scene.views, names, folder, progress, tuple(scene.images))
    return names


def write_masks(scene: Reconstruction, folder: Path) -> bool:
    """Write what `scene.masked` hides as black pixels of `NAME.png` for each original, if there is any."""
    if scene.masked is None or not scene.masked.any():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    for index, (view, name) in enumerate(zip(scene.views, original_names(scene), strict=True)):
        transform = view.transform
        x = (np.arange(transform.upright_width) + 0.5) * transform.scale_x + transform.offset_x
        y = (np.arange(transform.upright_height) + 0.5) * transform.scale_y + transform.offset_y
        column = np.floor(x).astype(int).clip(0, scene.width - 1)
        row = np.floor(y).astype(int).clip(0, scene.height - 1)
        kept = np.where(scene.masked[index][np.ix_(row, column)], 0, 255).astype(np.uint8)
        Image.fromarray(kept).save(folder / f"{name}.png", compress_level=1)
    return True


def digest(scene: Reconstruction) -> str:
    """Of what decides the features of the originals, as far as the network images and masks tell."""
    found = hashlib.sha256(np.ascontiguousarray(scene.images).tobytes())
    for view in scene.views:
        found.update(repr((view.transform, view.video_frame)).encode())
    if scene.masked is not None:
        found.update(np.packbits(scene.masked).tobytes())
    return found.hexdigest()
