"""The source images beside exported cameras: which of them are written, what they are called, and where."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from .._option_checks import check_options
from ..errors import UsageError

if TYPE_CHECKING:
    from ..files.staging import StagedFiles
    from ..reconstruction.result.result import Reconstruction
    from .export_format import ExportTarget

# Programs that train splats work with images up to this size by default.
_LARGEST_SIDE = 1600


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """Which images an export holds."""

    images: Literal["copy", "none"] = "copy"
    """copy: also write the source images, rotated upright if their EXIF orientation says so."""
    downscale: tuple[int, ...] = ()
    """With copied images, also write them reduced by each of these factors: images_2/, images_4/, ..."""

    def __post_init__(self) -> None:
        check_options(self)
        if any(factor < 2 for factor in self.downscale):
            raise UsageError(f"downscale takes factors of at least 2, not {min(self.downscale)}")
        if len(set(self.downscale)) < len(self.downscale):
            raise UsageError("downscale names a factor twice; give each once")
        if self.downscale and self.images == "none":
            raise UsageError("downscale means nothing without images; leave it out, or copy the images")

    def names(self, scene: Reconstruction) -> tuple[str, ...]:
        """Names of the images in the export: with images "none" those of the input."""
        return scene.source_image_names if self.images == "copy" else scene.names

    def folders(self) -> tuple[str, ...]:
        """Folders that hold the images and nothing else."""
        return ("images", *(f"images_{factor}" for factor in self.downscale)) * (self.images == "copy")

    def needed_bytes(self, scene: Reconstruction) -> int:
        """About how many bytes `write` writes."""
        return scene.source_images_size(self.downscale) if self.images == "copy" else 0

    def write(self, scene: Reconstruction, stage: StagedFiles, progress: Callable[[int, int], None]) -> None:
        """Write the images, if they are wanted."""
        if self.images == "copy":
            scene.write_source_images(stage.path / "images", progress, self.downscale)

    def usual_factor(self, scene: Reconstruction) -> int:
        """The smallest of 1 and `downscale` that brings every image to 1600 pixels, or the largest."""
        sizes = [max(view.transform.upright_width, view.transform.upright_height) for view in scene.views]
        factors = sorted((1, *self.downscale))
        return next((factor for factor in factors if max(sizes) // factor <= _LARGEST_SIDE), factors[-1])


def tell_names(scene: Reconstruction, target: ExportTarget) -> None:
    """Tell of views whose files are called differently, with one example."""
    pairs = list(zip(scene.names, scene.source_image_names, strict=True))
    changed = [pair for pair in pairs if pair[0] != pair[1]]
    if changed:
        count = "1 view is" if len(changed) == 1 else f"{len(changed)} views are"
        target.tell(f"{count} called differently in every export: {changed[0][0]!r} is {changed[0][1]}")


def command(*words: object) -> str:
    """A command line as a shell takes it."""
    return shlex.join(map(str, words))
