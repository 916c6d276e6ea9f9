"""The upright original images and their masks as files that COLMAP reads, named by the number of the view."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...files.naming import suffix_of
from ...reconstruction.inputs.source_images import write_source_images
from ...reconstruction.result.masks import write_masks

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


def write_view_masks(scene: Reconstruction, folder: Path) -> bool:
    """Write what masks hide, and the sky, as black pixels of `NAME.png` for each original, if anything."""
    if not any(hidden is not None and hidden.any() for hidden in (scene.masked, scene.sky)):
        return False
    write_masks(scene, folder, original_names(scene), sky=True)
    return True


def digest(scene: Reconstruction) -> str:
    """Of what decides the features of the originals, as far as the network images and masks tell."""
    found = hashlib.sha256(np.ascontiguousarray(scene.images).tobytes())
    for view in scene.views:
        found.update(repr((view.transform, view.video_frame)).encode())
    for hidden in (scene.masked, scene.sky):
        if hidden is not None:
            found.update(np.packbits(hidden).tobytes())
    return found.hexdigest()
