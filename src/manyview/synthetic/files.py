"""Writing a rendered scene as images and exact ground truth."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import OutputError, UsageError
from ..files.rendered import rendered_mark
from .batch import SceneBatch

_TRUTH = "truth.npz"


def write_scene(folder: str | Path, batch: SceneBatch, index: int = 0, overwrite: bool = False) -> Path:
    """Write one scene as `images/view_000.png`, ... and `truth.npz`; returns the folder of the images.

    `truth.npz` holds cam_from_world [views, 3, 4], intrinsics [views, 3, 3] (px, centres at +0.5), z_depth
    and valid [views, height, width] and world_points [views, height, width, 3]; lengths are metres.

    Raises:
        UsageError: There is no such scene in the batch.
        OutputError: The folder is not empty (`overwrite` replaces a scene written before, and nothing else)
            or cannot be written.
    """
    if not 0 <= index < len(batch):
        raise UsageError(f"There is no scene {index} in a batch of {len(batch)}; count from 0.")
    folder = Path(folder)
    images = folder / "images"
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            if not overwrite:
                raise OutputError(
                    f"{folder} is not empty; choose a new folder, or use --overwrite to replace a scene"
                )
            _remove_scene(folder)
        images.mkdir(parents=True, exist_ok=True)
        try:
            _write(folder, images, batch, index)
        except BaseException:  # a full disk, Ctrl-C: half a scene would be in the way of the next
            shutil.rmtree(images, ignore_errors=True)
            (folder / _TRUTH).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{folder}: the scene cannot be written: {error.strerror or error}") from error
    return images


def _write(folder: Path, images: Path, batch: SceneBatch, index: int) -> None:
    mark = rendered_mark()
    pixels = (batch.images[index] * 255.0).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    for view, image in enumerate(pixels):
        Image.fromarray(image).save(images / f"view_{view:03d}.png", pnginfo=mark)
    names = ("cam_from_world", "intrinsics", "z_depth", "valid", "world_points")
    np.savez_compressed(
        folder / _TRUTH, **{name: getattr(batch, name)[index].cpu().numpy() for name in names}
    )


def _remove_scene(folder: Path) -> None:
    """Delete the files of a scene; OutputError if there is anything else."""
    written = [folder / _TRUTH, *(folder / "images").glob("view_*.png")]
    foreign = sorted(path for path in folder.rglob("*") if path.is_file() and path not in written)
    foreign += [path for path in (folder / "images", *written) if path.is_symlink()]
    if foreign or not written[0].is_file():
        what = foreign[0].name if foreign else "something else"
        raise OutputError(
            f"{folder} holds {what}, which is not part of a written scene; choose a new folder."
        )
    for path in written:
        path.unlink()
