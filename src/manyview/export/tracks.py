"""Points with multi-view tracks out of depth maps that agree.

A pixel of one view is lifted to the world by its depth and projected into the other views. A view counts
as seeing the same point if its own depth there agrees and if, lifted by *that* depth and projected back,
the point returns to where it came from. Then the place is measured in the picture (`measure.py`), so
that reprojection errors say how good the cameras are and a bundle adjuster has something to improve.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from ..errors import UsageError
from ..geometry.unproject_np import project, unproject
from .measure import grey_levels, measure, textured

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

# Seeds tried for each track wanted: many fall on surfaces no other view sees.
_OVERSAMPLING = 4
# A view makes up for others that gave few tracks, up to this many even shares: where hardly anything
# agrees, the last views would otherwise try every pixel in vain.
_MOST_SHARES = 2
# Seeds times views examined in one go: bounds the memory to about 150 MB.
_PAIRS_AT_ONCE = 300_000
_OVERLAP_SAMPLES = 128
_OVERLAP_TOLERANCE = 0.1
_LEAST_OVERLAP = 0.05


@dataclasses.dataclass(frozen=True)
class TrackOptions:
    """How points and their observations are chosen."""

    max_points: int = 100_000
    """At most this many points."""
    min_points: int = 20_000
    """With fewer tracks than this, points with one observation fill up: a start for splats, no help to BA."""
    min_conf_percentile: float = 50.0
    """Points start from pixels above this percentile of confidence."""
    depth_tolerance: float = 0.03
    """Largest relative difference between a point's depth and the depth map of a view that sees it."""
    max_error_px: float = 3.0
    """Largest error of an observation, in pixels of the network images."""
    min_length: int = 2
    """A track has at least this many observations."""
    max_neighbours: int = 24
    """Each view is compared with at most this many others, spread over those that overlap with it."""
    measure: bool = True
    """Measure every observation in the pictures; without it they are projections of the point, and agree
    with the cameras by construction."""
    seed: int = 0
    """Seed of the random choice of pixels."""

    def __post_init__(self) -> None:
        if self.max_points < 1 or self.min_length < 1 or self.max_neighbours < 1:
            raise UsageError("tracks: max_points, min_length and max_neighbours must be at least 1")
        if not (self.depth_tolerance > 0 and self.max_error_px > 0):
            raise UsageError("tracks: depth_tolerance and max_error_px must be positive")


@dataclasses.dataclass(frozen=True, eq=False)
class Tracks:
    """Points and their observations; observation i belongs to point `point_index[i]`, sorted by point.

    `pixels` are in the network images, centres at +0.5. No pixel of a view belongs to two observations.
    """

    points: Float[np.ndarray, "n 3"]
    colours: UInt8[np.ndarray, "n 3"]
    point_index: Int[np.ndarray, " m"]
    view_index: Int[np.ndarray, " m"]
    pixels: Float[np.ndarray, "m 2"]

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Number of observations of each point."""
        return np.bincount(self.point_index, minlength=len(self.points))


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    """What all steps share; `used` is filled in as tracks take their pixels."""

    scene: Reconstruction
    options: TrackOptions
    valid: Bool[np.ndarray, "v h w"]
    used: Bool[np.ndarray, "v h w"]
    greys: tuple[Float32[np.ndarray, "v h w"], ...] | None


@dataclasses.dataclass(frozen=True, eq=False)
class _Piece:
    """The tracks that start in one view; `member` says which of `members` (views) see which point."""

    points: Float[np.ndarray, "n 3"]
    colours: UInt8[np.ndarray, "n 3"]
    members: Int[np.ndarray, " k"]
    member: Bool[np.ndarray, "k n"]
    pixels: Float[np.ndarray, "k n 2"]


def build_tracks(
    scene: Reconstruction,
    options: TrackOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tracks:
    """Points seen consistently by several views; deterministic for a given seed.

    Time is linear in views times neighbours; beyond the scene itself memory grows by ten bytes a pixel.
    `progress` is called with (views done, views).
    """
    options = options or TrackOptions()
    count = len(scene)
    threshold = scene.confidence_threshold(options.min_conf_percentile)
    valid = scene.valid
    work = _Work(scene, options, valid, np.zeros_like(valid), grey_levels(scene) if options.measure else None)
    rng = np.random.default_rng(options.seed)
    pieces: list[_Piece] = []
    made = 0
    most = _MOST_SHARES * -(-options.max_points // count)
    for view in range(count):
        share = min(-(-(options.max_points - made) // (count - view)), most)
        start = valid[view] & (scene.depth_conf[view] >= threshold) & ~work.used[view]
        if work.greys is not None:
            start &= textured(work.greys[-1][view])
        seeds = rng.permutation(np.flatnonzero(start))[: share * _OVERSAMPLING]
        neighbours = _overlapping_views(work, view, rng)
        step = max(_PAIRS_AT_ONCE // (len(neighbours) + 1), 1)
        for first in range(0, len(seeds), step):
            if share == 0:
                break
            piece = _grow(work, view, seeds[first : first + step], neighbours, share)
            share -= len(piece.points)
            made += len(piece.points)
            pieces.append(piece)
        if progress is not None:
            progress(view + 1, count)
    wanted = min(options.min_points, options.max_points) - made
    if wanted > 0:
        free = valid & ~work.used & (scene.depth_conf >= threshold)
        pieces += _single_view_points(scene, free, wanted, rng)
    return _join(pieces)


def _overlapping_views(work: _Work, view: int, rng: np.random.Generator) -> Int[np.ndarray, " k"]:
    """Views in which points of `view` are seen at about the right depth, spread from near to far overlap."""
    scene, valid = work.scene, work.valid
    samples = np.flatnonzero(valid[view])
    if len(samples) == 0:
        return np.empty(0, dtype=np.int64)
    samples = rng.choice(samples, size=min(_OVERLAP_SAMPLES, len(samples)), replace=False)
    points = _lift(scene, view, *_seed_pixels(scene, view, samples))
    pixels, z = project(points[None], scene.cam_from_world, scene.intrinsics)
    x, y, inside = _to_index(pixels, scene.width, scene.height)
    index = np.arange(len(scene))[:, None]
    agree = np.abs(scene.z_depth[index, y, x] - z) < _OVERLAP_TOLERANCE * z
    overlap = (inside & valid[index, y, x] & agree).mean(axis=1)
    overlap[view] = 0.0
    order = np.argsort(-overlap, kind="stable")
    order = order[overlap[order] >= _LEAST_OVERLAP]
    if len(order) > work.options.max_neighbours:
        # The nearest frames of a video see the most but tell the least; spread over the whole range.
        spread = np.linspace(0, len(order) - 1, work.options.max_neighbours)
        order = order[np.unique(spread.round().astype(int))]
    return order


def _grow(
    work: _Work, view: int, seeds: Int[np.ndarray, " n"], neighbours: Int[np.ndarray, " k"], share: int
) -> _Piece:
    """At most `share` tracks that start at `seeds` of `view`; marks the pixels they take as used."""
    scene, options = work.scene, work.options
    members = np.concatenate([[view], neighbours])
    points, member, pixels = _agreement(work, view, seeds, neighbours)
    chosen = np.flatnonzero(member[0] & (member.sum(0) >= options.min_length))[:share]
    points, member, pixels = points[chosen], member[:, chosen], pixels[:, chosen]
    if work.greys is not None:
        rows, columns = np.nonzero(member[1:])
        rows += 1  # the seed itself is where it is by definition
        matches = measure(
            scene,
            work.greys,
            view,
            pixels[0, columns],
            members[rows],
            pixels[rows, columns],
            options.max_error_px,
        )
        member[rows, columns] = matches.found
        pixels[rows, columns] = matches.pixels
    x, y, inside = _to_index(pixels, scene.width, scene.height)
    member &= inside & ~work.used[members[:, None], y, x]
    member = _first_of_each(y * scene.width + x, member)
    keep = member[0] & (member.sum(0) >= options.min_length)
    rows, columns = np.nonzero(member & keep)
    work.used[members[rows], y[rows, columns], x[rows, columns]] = True
    colours = scene.images[view].reshape(-1, 3)[seeds[chosen[keep]]]
    return _Piece(points[keep], colours, members, member[:, keep], pixels[:, keep])


def _agreement(
    work: _Work, view: int, seeds: Int[np.ndarray, " n"], neighbours: Int[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, "1+k n"], Float[np.ndarray, "1+k n 2"]]:
    """For each seed its point, which views agree about it (`view` itself first), and where they see it."""
    scene, options = work.scene, work.options
    seed_pixels, seed_z = _seed_pixels(scene, view, seeds)
    points = _lift(scene, view, seed_pixels, seed_z)
    cameras, intrinsics = scene.cam_from_world[neighbours], scene.intrinsics[neighbours]
    pixels, z = project(points[None], cameras, intrinsics)
    found_z, known = _sample_depth(work, neighbours, pixels)
    member = known & (np.abs(found_z - z) <= options.depth_tolerance * z)
    asked = np.where(member[..., None], pixels, 0.0)
    theirs = unproject(asked, found_z, cameras, intrinsics, scene.pixel_centres)
    back, back_z = project(theirs, scene.cam_from_world[view][None], scene.intrinsics[view][None])
    member &= (back_z > 0) & (_distance(back, seed_pixels[None]) <= options.max_error_px)

    members = np.concatenate([[view], neighbours])
    member = np.concatenate([np.ones((1, len(seeds)), dtype=bool), member])
    pixels = np.concatenate([seed_pixels[None], pixels])
    x, y, _ = _to_index(pixels, scene.width, scene.height)
    weights = np.where(member, np.maximum(scene.depth_conf[members[:, None], y, x], 1e-6), 0.0)
    said = np.concatenate([points[None], theirs])
    mean = (said * weights[..., None]).sum(0) / weights.sum(0)[:, None]
    reprojected, mean_z = project(mean[None], scene.cam_from_world[members], scene.intrinsics[members])
    member &= (mean_z > 0) & (_distance(reprojected, pixels) <= options.max_error_px)
    return mean, member, pixels


def _single_view_points(
    scene: Reconstruction, free: Bool[np.ndarray, "v h w"], count: int, rng: np.random.Generator
) -> list[_Piece]:
    """Up to `count` points that only the view they come from observes, spread over all views."""
    pieces = []
    for view in range(len(scene)):
        share = -(-count // (len(scene) - view))
        seeds = rng.permutation(np.flatnonzero(free[view]))[:share]
        pixels, z = _seed_pixels(scene, view, seeds)
        colours = scene.images[view].reshape(-1, 3)[seeds]
        alone = np.ones((1, len(seeds)), dtype=bool)
        points = _lift(scene, view, pixels, z)
        pieces.append(_Piece(points, colours, np.array([view]), alone, pixels[None]))
        count -= len(seeds)
    return pieces


def _seed_pixels(
    scene: Reconstruction, view: int, flat: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
    pixels = np.stack([flat % scene.width + 0.5, flat // scene.width + 0.5], axis=-1)
    return pixels, scene.z_depth[view].reshape(-1)[flat]


def _lift(
    scene: Reconstruction, view: int, pixels: Float[np.ndarray, "n 2"], z: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 3"]:
    return unproject(pixels, z, scene.cam_from_world[view], scene.intrinsics[view], scene.pixel_centres)


def _to_index(
    pixels: Float[np.ndarray, "*batch 2"], width: int, height: int
) -> tuple[Int[np.ndarray, "*batch"], Int[np.ndarray, "*batch"], Bool[np.ndarray, "*batch"]]:
    """(x, y) of the array element a place falls on, and whether it is inside; (0, 0) if not or NaN."""
    inside = (pixels >= 0).all(-1) & (pixels[..., 0] < width) & (pixels[..., 1] < height)
    safe = np.where(inside[..., None], pixels, 0.0).astype(np.int64)
    return safe[..., 0], safe[..., 1], inside


def _sample_depth(
    work: _Work, views: Int[np.ndarray, " k"], pixels: Float[np.ndarray, "k n 2"]
) -> tuple[Float[np.ndarray, "k n"], Bool[np.ndarray, "k n"]]:
    """Depth of `views` at continuous pixels, and where it is known (NaN pixels are not).

    1/z is interpolated (it is linear across the image of a plane) between four valid neighbours that do
    not straddle a depth edge.
    """
    scene = work.scene
    _, _, known = _to_index(pixels, scene.width, scene.height)
    corner = np.where(known[..., None], pixels, 0.5) - 0.5
    base = np.clip(np.floor(corner).astype(np.int64), 0, [scene.width - 2, scene.height - 2])
    fraction = corner - base
    # Less than half a pixel from the border there are no four neighbours.
    known &= ((fraction >= 0) & (fraction <= 1)).all(-1)
    inverse = np.zeros(known.shape)
    nearest, farthest = np.full(known.shape, np.inf), np.zeros(known.shape)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = base[..., 0] + dx, base[..., 1] + dy
        known &= work.valid[views[:, None], y, x]
        depth = np.where(known, scene.z_depth[views[:, None], y, x], 1.0).astype(np.float64)
        weight = np.abs(1 - dx - fraction[..., 0]) * np.abs(1 - dy - fraction[..., 1])
        inverse += weight / depth
        nearest, farthest = np.minimum(nearest, depth), np.maximum(farthest, depth)
    known &= farthest - nearest <= 2 * work.options.depth_tolerance * nearest
    return 1.0 / np.where(known, inverse, 1.0), known


def _distance(first: Float[np.ndarray, "*#batch 2"], second: Float[np.ndarray, "*#batch 2"]) -> np.ndarray:
    return np.linalg.norm(first - second, axis=-1)


def _first_of_each(flat: Int[np.ndarray, "k n"], member: Bool[np.ndarray, "k n"]) -> Bool[np.ndarray, "k n"]:
    """`member` with only the first track on every pixel of every row left."""
    result = np.zeros_like(member)
    for row in range(len(member)):
        columns = np.flatnonzero(member[row])
        _, first = np.unique(flat[row, columns], return_index=True)
        result[row, columns[first]] = True
    return result


def _join(pieces: list[_Piece]) -> Tracks:
    points = [piece.points for piece in pieces]
    starts = np.cumsum([0, *(len(piece.points) for piece in pieces)])
    point_index, view_index, pixels = [], [], []
    for start, piece in zip(starts, pieces):
        column, row = np.nonzero(piece.member.T)
        point_index.append(start + column)
        view_index.append(piece.members[row])
        pixels.append(piece.pixels[row, column])
    return Tracks(
        np.concatenate([*points, np.empty((0, 3))]),
        np.concatenate([*(piece.colours for piece in pieces), np.empty((0, 3), np.uint8)]),
        np.concatenate([*point_index, np.empty(0, np.int64)]),
        np.concatenate([*view_index, np.empty(0, np.int64)]),
        np.concatenate([*pixels, np.empty((0, 2))]),
    )
