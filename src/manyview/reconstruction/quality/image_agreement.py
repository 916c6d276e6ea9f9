"""Whether images agree where cameras and depth say that they show the same point.

Depth and cameras of one network can agree with each other and both be wrong: the images decide. A patch of
one view, warped by cameras and depth, is searched in another by normalised correlation; a right result finds
it where it predicts it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int

from ...geometry.unproject_np import project, unproject
from .sampled import SampledViews

REACH = 0.25
"""How far from the predicted pixel a patch is searched, of the longer side."""
_SIDE = 64  # pixels of the longer side of the small images, about
_HALF = 3  # pixels of a patch on each side of its middle
_LEAST_SPREAD = 4.0  # grey levels; below, a patch shows nothing that could be found
_LEAST_CORRELATION = 0.7
_LEAST_LEAD = 0.05  # in correlation, before the best place elsewhere
_PATCHES = 64  # of a pair of views that are searched
LEAST_PATCHES = 3
"""Found patches of a pair of views that tell anything."""
_PAIRS = 48
_RANKS = (0, 2, 5)  # of the neighbours of a view, by how much they see of it
_GRID = np.arange(-_HALF, _HALF + 1)
_OFFSETS = np.stack(np.meshgrid(_GRID, _GRID), axis=-1).reshape(-1, 2).astype(np.float64)


@dataclasses.dataclass(frozen=True, eq=False)
class FoundPatches:
    """Patches of the view at the place `first` that the view at `second` shows at one place only.

    Attributes:
        distance: from the predicted to the found pixel, in network pixels.
        parallax_deg: median angle between the rays of the two views.
    """

    first: int
    second: int
    distance: Float[np.ndarray, " n"]
    parallax_deg: float


def find_patches(views: SampledViews, neighbours: Sequence[Int[np.ndarray, " _"]]) -> list[FoundPatches]:
    """Search patches of a bounded number of pairs of views; pairs that have enough of them."""
    pairs = [(i, int(near[rank])) for i, near in enumerate(neighbours) for rank in _RANKS if rank < len(near)]
    if len(pairs) > _PAIRS:
        chosen = np.random.default_rng(0).choice(len(pairs), _PAIRS, replace=False)
        pairs = [pairs[index] for index in sorted(chosen)]
    images: dict[int, _SmallImage] = {}
    found = []
    for first, second in pairs:
        for place in (first, second):
            if place not in images:
                images[place] = _SmallImage(views, place)
        distance = _search(views, first, second, images[first], images[second])
        if len(distance) >= LEAST_PATCHES:
            points = views.samples[first].points
            parallax = float(views.parallax_deg(first, points, np.array([second]))[0])
            found.append(FoundPatches(first, second, distance, parallax))
    return found


class _SmallImage:
    """A grey image of about `_SIDE` pixels, and all its patches, normalised."""

    def __init__(self, views: SampledViews, place: int) -> None:
        scene = views.scene
        self.factor = factor = max(1, round(max(scene.width, scene.height) / _SIDE))
        height, width = scene.height // factor, scene.width // factor
        image = scene.images[views.views[place]][: height * factor, : width * factor]
        image = image.mean(-1, dtype=np.float32)
        self.grey = image.reshape(height, factor, width, factor).mean((1, 3))
        self._patches: Float32[np.ndarray, "n k"] | None = None

    @property
    def patches(self) -> Float32[np.ndarray, "n k"]:
        """Patches around all pixels that are `_HALF` or more from the border, row by row."""
        if self._patches is None:
            side = 2 * _HALF + 1
            every = np.lib.stride_tricks.sliding_window_view(self.grey, (side, side))
            self._patches = _normalised(every.reshape(-1, side * side))
        return self._patches

    def at(self, pixels: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
        """Grey levels between pixels (centres at +0.5), NaN outside."""
        height, width = self.grey.shape
        x, y = pixels[..., 0] - 0.5, pixels[..., 1] - 0.5
        inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
        x, y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
        column, row = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
        dx, dy, grey = x - column, y - row, self.grey
        upper = grey[row, column] * (1 - dx) + grey[row, column + 1] * dx
        lower = grey[row + 1, column] * (1 - dx) + grey[row + 1, column + 1] * dx
        return np.where(inside, upper * (1 - dy) + lower * dy, np.nan)


def _normalised(patches: Float[np.ndarray, "n k"]) -> Float32[np.ndarray, "n k"]:
    """Zero mean and unit length; the noise of a flat patch stays small."""
    centred = patches - patches.mean(1, keepdims=True)
    length = np.sqrt((centred**2).sum(1, keepdims=True) + 4.0 * patches.shape[1])
    return (centred / length).astype(np.float32)


def _search(
    views: SampledViews, first: int, second: int, one: _SmallImage, other: _SmallImage
) -> Float[np.ndarray, " n"]:
    """Network pixels from the predicted to the found place, of patches that are found at one place only."""
    sample, factor = views.samples[first], one.factor
    height, width = other.grey.shape
    if min(height, width) <= 2 * _HALF + 1 or not len(sample.points):
        return np.empty(0)
    predicted, warp = _predicted(views, first, second)
    inside = np.isfinite(warp).all((1, 2))
    determinant = np.linalg.det(np.where(inside[:, None, None], warp, np.eye(2)))
    inside &= (determinant > 0.1) & (determinant < 10)
    at = predicted / factor
    with np.errstate(invalid="ignore"):
        inside &= ((at >= _HALF) & (at < np.array([width, height]) - _HALF)).all(1)
    at, start, warp = at[inside], sample.pixels[inside] / factor, warp[inside]
    # The patch as the second view would show it, on its pixel grid.
    middle = np.floor(at) + 0.5
    around = (middle - at)[:, None] + _OFFSETS
    patch = one.at(start[:, None] + np.einsum("nij,nkj->nki", np.linalg.inv(warp), around))
    usable = np.flatnonzero(np.isfinite(patch).all(1) & (np.nan_to_num(patch).std(1) > _LEAST_SPREAD))[
        :_PATCHES
    ]
    if not len(usable):
        return np.empty(0)
    middle = middle[usable]
    correlation = _normalised(patch[usable]) @ other.patches.T
    y, x = np.divmod(np.arange(correlation.shape[1], dtype=np.int32), width - 2 * _HALF)
    places = np.stack([x, y], axis=-1).astype(np.float32) + (_HALF + 0.5)
    correlation[_squared(places, middle) > (REACH * max(height, width)) ** 2] = -1.0
    best, highest = correlation.argmax(1), correlation.max(1)
    correlation[_squared(places, places[best]) <= _HALF**2] = -1.0
    found = (highest > _LEAST_CORRELATION) & (highest - correlation.max(1) > _LEAST_LEAD)
    return np.linalg.norm(places[best] - at[usable], axis=-1)[found] * factor


def _squared(places: Float[np.ndarray, "n 2"], middles: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, "m n"]:
    """Squared distances of all places from each middle."""
    x, y = (places[:, axis] - middles[:, axis, None].astype(np.float32) for axis in (0, 1))
    return x * x + y * y


def _predicted(
    views: SampledViews, first: int, second: int
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2 2"]]:
    """Pixels of the second view, and their change with the pixel of the first, on a surface that faces it."""
    sample, scene = views.samples[first], views.scene

    def seen(shift: tuple[float, float]) -> np.ndarray:
        camera, matrix = views.cameras[first], views.intrinsics[first]
        pixels, lens = sample.pixels + shift, views.lens(first)
        points = unproject(pixels, sample.z_depth, camera, matrix, scene.pixel_centres, lens)
        return project(points, views.cameras[second], views.intrinsics[second], views.lens(second))[0]

    centre = seen((0.0, 0.0))
    warp = np.stack([seen((1.0, 0.0)) - centre, seen((0.0, 1.0)) - centre], axis=-1)
    return centre + views.offset, warp
