"""The depth maps of a sequence, and masks of where they count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image

from ..errors import InputError
from .depth_maps import read_depth_map, valid_depth

AnyDepth = TypeVar("AnyDepth", bound="DepthFiles")


@dataclasses.dataclass(frozen=True)
class DepthFiles:
    """Depth maps in the order of the views (None: a view without one), of any kind `depth_maps` reads.

    z-depth in the unit of the data set is value / `per_unit`; zero and `invalid` values are no measurement,
    nor is depth beyond `farthest`.
    """

    paths: tuple[Path | None, ...]
    per_unit: float = 1.0
    invalid: tuple[int, ...] = ()
    farthest: float = float("inf")

    _per_view: ClassVar[tuple[str, ...]] = ("paths",)

    @classmethod
    def existing(
        cls, paths: Iterable[Path | None], per_unit: float = 1.0, **options: Any
    ) -> DepthFiles | None:
        """Those of the paths, one a view, that exist; None if there is none."""
        found = tuple(path if path is not None and path.is_file() else None for path in paths)
        return cls(found, per_unit, **options) if any(found) else None

    def read(self, index: int) -> Float64[np.ndarray, "height width"] | None:
        """z-depth of one view, NaN where nothing was measured; None for a view without depth."""
        path = self.paths[index]
        if path is None:
            return None
        values = self._stored(index, path)
        depth = valid_depth(values)
        depth[np.isin(values, self.invalid)] = np.nan
        depth /= self.per_unit
        depth[depth > self.farthest] = np.nan
        return depth

    def _stored(self, index: int, path: Path) -> Float64[np.ndarray, "height width"]:
        """What the file of a view holds."""
        return read_depth_map(path)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read, those of masks included."""
        stored = (value for name in self._per_view for value in getattr(self, name))
        single = (one for value in stored for one in (value if isinstance(value, tuple) else (value,)))
        return tuple(one for one in single if isinstance(one, Path))

    def select(self: AnyDepth, views: Sequence[int]) -> AnyDepth:
        """The depth of these views alone, in this order."""
        per_view: dict[str, Any] = {
            name: tuple(getattr(self, name)[i] for i in views) for name in self._per_view
        }
        return dataclasses.replace(self, **per_view)


@dataclasses.dataclass(frozen=True)
class MaskedDepth(DepthFiles):
    """Depth that counts only where a mask image says so; None: everywhere.

    Masks are of what counts, above half of white, eroded by a square of `erosion` pixels; or of what is to be
    left out (`excluded`), every value above zero.
    """

    masks: tuple[Path | None, ...] = ()
    erosion: int = 1
    excluded: bool = False
    _per_view = ("paths", "masks")

    def read(self, index: int) -> Float64[np.ndarray, "height width"] | None:
        depth, mask = super().read(index), self.masks[index]
        if depth is None or mask is None:
            return depth
        try:
            with Image.open(mask) as image:
                values = np.asarray(image.convert("L").resize(depth.shape[::-1], Image.Resampling.NEAREST))
        except OSError as error:
            raise InputError(f"{mask}: cannot be read as a mask ({error}); copy it again") from error
        inside = values == 0 if self.excluded else eroded(values > 127, self.erosion)
        return np.where(inside, depth, np.nan)


def eroded(mask: Bool[np.ndarray, "height width"], side: int) -> Bool[np.ndarray, "height width"]:
    """Erosion by a square whose anchor is `side` // 2, as OpenCV's; beyond the border nothing is missing."""
    before, after = side // 2, side - 1 - side // 2
    padded = np.pad(~mask, ((before, after), (before, after)))
    sums = np.pad(padded.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    missing = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return missing == 0
