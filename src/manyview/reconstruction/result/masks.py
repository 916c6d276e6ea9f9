"""Masks of a result: added after the run, the sky among them, and at the resolution of the source images."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool
from PIL import Image

from ...errors import InputError
from ..inputs.decode import ImageReadError
from ..inputs.masks import network_mask, read_mask
from ..inputs.view_masks import Masks, read_view_masks
from ..inputs.views import ViewTransform

if TYPE_CHECKING:
    from .result import Reconstruction

logger = logging.getLogger(__name__)

# Of all pixels, that a mask may differ by from what the result holds of it: a file saved anew with loss.
_CHANGED = 0.01


def with_masks(
    scene: Reconstruction,
    masks: Masks,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Reconstruction:
    """A result with these masks in place of those it may have; see `inputs.view_masks.read_view_masks`.

    Cameras and depth stay as they are. Sky that counts as masked (`with_masked_sky`) still does.
    """
    found = read_view_masks(masks, scene.views, strict, progress)
    kept = {name: value for name, value in scene.settings.get("masks", {}).items() if name == "keys"}
    settings = {**scene.settings, "masks": {**found.facts, **kept}}  # the pass is still the earlier one
    changed = dataclasses.replace(
        scene,
        views=found.records,
        masked=found.hidden(),
        settings=settings,
        notes=(*scene.notes, *found.notes),
    )
    return with_masked_sky(changed) if scene.settings.get("mask_sky") else changed


def with_masked_sky(scene: Reconstruction) -> Reconstruction:
    """`scene` with its sky masked; with a note and no change where nothing told what is sky."""
    if scene.sky is None:
        note = "--mask-sky changes nothing: the network does not give sky; --sky finds it by --metric-model"
        return dataclasses.replace(scene, notes=tuple(dict.fromkeys((*scene.notes, note))))
    masked = scene.sky if scene.masked is None else scene.masked | scene.sky
    return dataclasses.replace(scene, masked=np.ascontiguousarray(masked))


def kept_pixels(
    scene: Reconstruction, index: int, sky: bool = False
) -> Bool[np.ndarray, "upright_height upright_width"] | None:
    """What masks leave of a view, at the resolution of its upright source image.

    Where the file of a mask is gone or shows something else by now, its outline is that of the network's
    pixels, and a warning says so. Sky that counts as masked always has that outline.

    Args:
        scene: A result.
        index: The view.
        sky: Sky is hidden too, whether or not it counts as masked.

    Returns:
        True where a pixel is kept; None where nothing of the view is hidden.
    """
    masked = None if scene.masked is None else scene.masked[index]
    above = None if scene.sky is None else scene.sky[index]
    kept = None if masked is None else _of_file(scene, index)
    hidden = masked if kept is None else None if above is None or masked is None else masked & above
    if sky and above is not None:
        hidden = above if hidden is None else hidden | above
    if hidden is not None and hidden.any():
        seen = ~_at_upright_pixels(hidden, scene.views[index].transform)
        kept = seen if kept is None else kept & seen
    return None if kept is None or kept.all() else kept


def write_masks(
    scene: Reconstruction,
    folder: Path,
    names: Sequence[str],
    sky: bool = False,
    factors: Sequence[int] = (),
) -> None:
    """Write `kept_pixels` of every view as `NAME.png`, white where a pixel is kept, as COLMAP names masks.

    Args:
        scene: A result.
        folder: Where to; sub-folders are made as the names have them.
        names: File name of each view's image.
        sky: See `kept_pixels`.
        factors: Also write masks reduced by these factors, to `FOLDER_2` and so on.
    """
    for index, name in enumerate(names):
        transform = scene.views[index].transform
        kept = kept_pixels(scene, index, sky)
        if kept is None:
            kept = np.ones((transform.upright_height, transform.upright_width), dtype=bool)
        image = Image.fromarray(kept.astype(np.uint8) * np.uint8(255))
        for factor in (1, *factors):
            target = (folder if factor == 1 else folder.with_name(f"{folder.name}_{factor}")) / f"{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            width, height = image.width // factor * factor, image.height // factor * factor
            smaller = image.reduce(factor, (0, 0, width, height)).point([0] * 128 + [255] * 128)
            smaller.save(target, compress_level=1)


def _of_file(scene: Reconstruction, index: int) -> Bool[np.ndarray, "upright_height upright_width"] | None:
    """The mask of a view that is still what the result says of it; None for a view without one."""
    view = scene.views[index]
    if view.mask is None or (not view.mask and view.mask_image is None):
        return None
    assert scene.masked is not None
    try:
        kept = read_mask(view)
        assert kept is not None
        differs = network_mask(kept, view.transform) != scene.masked[index]
        if scene.sky is not None:
            differs &= ~scene.sky[index]
        if differs.mean() <= _CHANGED:
            return kept
        problem = "no longer is what the result was made with"
    except (ImageReadError, InputError) as error:
        problem = str(error)
    logger.warning("%s: %s; view %r is masked at the network's resolution", view.mask, problem, view.name)
    return None


def _at_upright_pixels(
    hidden: Bool[np.ndarray, "network_height network_width"], transform: ViewTransform
) -> Bool[np.ndarray, "upright_height upright_width"]:
    """The network pixel under the centre of each source pixel; False for those the network did not see."""
    x = (np.arange(transform.upright_width) + 0.5) * transform.scale_x + transform.offset_x
    y = (np.arange(transform.upright_height) + 0.5) * transform.scale_y + transform.offset_y
    columns, rows = np.floor(x).astype(int), np.floor(y).astype(int)
    height, width = hidden.shape
    result = hidden[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    return result & ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
