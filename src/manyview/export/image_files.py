"""The source images beside exported cameras: which of them are written, what they are called, and where."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from .._option_checks import check_options
from ..errors import UsageError
from ..files.paths import file_names
from ..reconstruction.result.masks import write_masks

if TYPE_CHECKING:
    from ..files.staging import StagedFiles
    from ..reconstruction.result.result import Reconstruction
    from .export_format import ExportTarget

# Programs that train splats work with images up to this size by default.
_LARGEST_SIDE = 1600


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """Which images an export holds."""

    images: Literal["copy", "transparent", "none"] = "copy"
    """copy: also write the source images, rotated upright if their EXIF orientation says so; transparent: as
    PNG files in which masked pixels are transparent."""
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
        if self.images == "transparent":
            return tuple(file_names(scene.names, [".png"] * len(scene)))
        return scene.source_image_names if self.copied else scene.names

    @property
    def copied(self) -> bool:
        """Whether images are written."""
        return self.images != "none"

    def folders(self) -> tuple[str, ...]:
        """Folders that hold the images and nothing else."""
        return ("images", *(f"images_{factor}" for factor in self.downscale)) * self.copied

    def needed_bytes(self, scene: Reconstruction) -> int:
        """About how many bytes `write` writes."""
        if self.images == "transparent":  # written anew, without loss
            sizes = (view.transform.upright_width * view.transform.upright_height for view in scene.views)
            return 8 * sum(sizes)
        return scene.source_images_size(self.downscale) if self.copied else 0

    def write(self, scene: Reconstruction, stage: StagedFiles, progress: Callable[[int, int], None]) -> None:
        """Write the images, if they are wanted, and to `masks/` the masks of a result that has some."""
        if not self.copied:
            return
        names = self.names(scene)
        if scene.masked is not None:
            write_masks(scene, stage.path / "masks", names, factors=self.downscale)
        if self.images == "copy":
            scene.write_source_images(stage.path / "images", progress, self.downscale)
            return
        opaque = stage.path / "opaque"
        scene.write_source_images(opaque, progress, self.downscale)
        for suffix in ("", *(f"_{factor}" for factor in self.downscale)):
            folder = opaque.with_name(f"opaque{suffix}")
            for own, name in zip(scene.source_image_names, names, strict=True):
                mask = None if scene.masked is None else stage.path / f"masks{suffix}" / f"{name}.png"
                _write_transparent(folder / own, mask, stage.file(f"images{suffix}/{name}"))
            shutil.rmtree(folder)

    def usual_factor(self, scene: Reconstruction) -> int:
        """The smallest of 1 and `downscale` that brings every image to 1600 pixels, or the largest."""
        sizes = [max(view.transform.upright_width, view.transform.upright_height) for view in scene.views]
        factors = sorted((1, *self.downscale))
        return next((factor for factor in factors if max(sizes) // factor <= _LARGEST_SIDE), factors[-1])


def _write_transparent(source: Path, mask: Path | None, target: Path) -> None:
    """An image with its mask (None: all is kept) as its alpha channel."""
    with Image.open(source) as image:
        rgba = image.convert("RGBA")
    if mask is not None:
        with Image.open(mask) as kept:
            rgba.putalpha(kept.resize(rgba.size, Image.Resampling.NEAREST))
    rgba.save(target, compress_level=3)


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
