"""Multi-view tracks from depth maps that agree.

A pixel of one view is lifted to the world by its depth and projected into the other views. Where their
depth agrees (`track_agreement`), the observation is measured in the image (`patch_matching`), so that
reprojection errors reflect the cameras and a bundle adjustment has something to improve.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from .._deprecation import RenamedAttribute, accepts_renamed
from .._option_checks import check_options
from ..errors import UsageError
from ..reconstruction.result.tracks import Tracks
from .grey_levels import grey_levels, textured
from .patch_matching import match_patches
from .track_agreement import agreement, overlapping_views, pixel_points, to_index
from .trial_adjustment import adjustable_tracks

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

# Seeds tried for each track wanted: many fall on surfaces no other view sees.
_OVERSAMPLING = 4
# A view compensates for others with few tracks by at most this many even shares: where hardly anything
# agrees, the last views would otherwise try every pixel.
_MOST_SHARES = 2
# Seeds times views processed together: bounds the memory to about 150 MB.
_PAIRS_AT_ONCE = 300_000


@accepts_renamed
@dataclasses.dataclass(frozen=True)
class TrackOptions:
    """How points and their observations are chosen."""

    max_points: int = 100_000
    """At most this many points."""
    fill: int = 0
    """Fill up to this many points with points of single views. They initialise splats, no more: no view
    observes them, so that bundle adjustment leaves them alone."""
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
    """Measure every observation in the images; otherwise they are projections of the point, which agree
    with the cameras by construction."""
    seed: int = 0
    """Seed of the random choice of pixels."""

    def __post_init__(self) -> None:
        check_options(
            self, at_least={"max_points": 1, "fill": 0, "min_length": 2, "max_neighbours": 1, "seed": 0}
        )
        if not (self.depth_tolerance > 0 and self.max_error_px > 0):
            raise UsageError("tracks: depth_tolerance and max_error_px must be positive")

    min_points = RenamedAttribute("fill")


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    """State of all steps; `used` marks the pixels that belong to tracks.

    `extents`: corners (x, y) of each source image in its network image, top left then bottom right.
    """

    scene: Reconstruction
    options: TrackOptions
    valid: Bool[np.ndarray, "v h w"]
    used: Bool[np.ndarray, "v h w"]
    extents: Float[np.ndarray, "2 v 2"]
    greys: tuple[Float32[np.ndarray, "v h w"], ...] | None


@dataclasses.dataclass(frozen=True, eq=False)
class _Piece:
    """Tracks that start in one view; `member`: which of `members` (views) see which point."""

    points: Float[np.ndarray, "n 3"]
    colours: UInt8[np.ndarray, "n 3"]
    members: Int[np.ndarray, " k"]
    member: Bool[np.ndarray, "k n"]
    pixels: Float[np.ndarray, "k n 2"]


def scene_tracks(
    scene: Reconstruction,
    options: TrackOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tracks:
    """The points of a result and who observes them, at least two views each, and then points to fill up.

    Those that refined cameras rest on, if there are any (the longest tracks, if they are more than
    `max_points`); else `build_tracks`, without what a bundle adjustment cannot bring together
    (`adjustable_tracks`). Up to `fill`, points of single views follow, without observations.
    """
    options = options or TrackOptions()
    if scene.tracks is not None:
        low, high = np.stack([view.transform.image_corners for view in scene.views], axis=1)
        found = scene.tracks
        inside = ((found.pixels >= low[found.view_index]) & (found.pixels <= high[found.view_index])).all(-1)
        tracks = _longest(_unmasked(scene, found.observed(inside)), options.max_points)
    else:
        built = _unmasked(scene, build_tracks(scene, options, progress))
        tracks = adjustable_tracks(scene, built, options.max_error_px)
    return _filled(scene, tracks, min(options.fill, options.max_points), options)


def _unmasked(scene: Reconstruction, tracks: Tracks) -> Tracks:
    """Without observations in masked pixels, where a measured place may have moved."""
    if scene.masked is None:
        return tracks
    x, y, inside = to_index(tracks.pixels, scene.width, scene.height)
    return tracks.observed(~(inside & scene.masked[tracks.view_index, y, x]))


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
    extents = np.stack([view.transform.image_corners for view in scene.views], axis=1)
    greys = grey_levels(scene) if options.measure else None
    work = _Work(scene, options, valid, np.zeros_like(valid), extents, greys)
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
        neighbours = overlapping_views(scene, valid, view, options.max_neighbours, rng)
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
    return _join(pieces)


def _grow(
    work: _Work, view: int, seeds: Int[np.ndarray, " n"], neighbours: Int[np.ndarray, " k"], share: int
) -> _Piece:
    """At most `share` tracks that start at `seeds` of `view`; marks the pixels they take as used."""
    scene, options = work.scene, work.options
    members = np.concatenate([[view], neighbours])
    points, member, pixels = agreement(
        scene, work.valid, view, seeds, neighbours, options.depth_tolerance, options.max_error_px
    )
    chosen = np.flatnonzero(member[0] & (member.sum(0) >= options.min_length))[:share]
    points, member, pixels = points[chosen], member[:, chosen], pixels[:, chosen]
    if work.greys is not None:
        rows, columns = np.nonzero(member[1:])
        rows += 1  # the seed itself is exact by definition
        seen = pixels[rows, columns]
        member[rows, columns], pixels[rows, columns] = match_patches(
            scene, work.greys, view, pixels[0, columns], members[rows], seen, options.max_error_px
        )
    x, y, inside = to_index(pixels, scene.width, scene.height)
    # A measured place may have moved onto padding.
    low, high = work.extents[:, members, None]
    inside &= ((pixels >= low) & (pixels <= high)).all(-1)
    member &= inside & ~work.used[members[:, None], y, x]
    member = _first_of_each(y * scene.width + x, member)
    keep = member[0] & (member.sum(0) >= options.min_length)
    rows, columns = np.nonzero(member & keep)
    work.used[members[rows], y[rows, columns], x[rows, columns]] = True
    colours = scene.images[view].reshape(-1, 3)[seeds[chosen[keep]]]
    return _Piece(points[keep], colours, members, member[:, keep], pixels[:, keep])


def _longest(tracks: Tracks, at_most: int) -> Tracks:
    """At most so many of the tracks, those with the most observations, in their order."""
    kept = np.zeros(len(tracks.points), dtype=bool)
    kept[np.argsort(-tracks.lengths, kind="stable")[:at_most]] = True
    return tracks.select(kept)


def _filled(scene: Reconstruction, tracks: Tracks, wanted: int, options: TrackOptions) -> Tracks:
    """The tracks and, where they are fewer than `wanted`, points of single views, spread over all of them."""
    left = wanted - len(tracks.points)
    if left <= 0:
        return tracks
    rng = np.random.default_rng(options.seed)
    threshold = scene.confidence_threshold(options.min_conf_percentile)
    points, colours = [tracks.points], [tracks.colours]
    x, y, inside = to_index(tracks.pixels, scene.width, scene.height)
    for view in range(len(scene)):
        free = scene.view_valid(view) & (scene.depth_conf[view] >= threshold)
        own = inside & (tracks.view_index == view)
        free[y[own], x[own]] = False
        seeds = rng.permutation(np.flatnonzero(free))[: -(-left // (len(scene) - view))]
        points.append(pixel_points(scene, view, seeds)[1])
        colours.append(scene.images[view].reshape(-1, 3)[seeds])
        left -= len(seeds)
    return dataclasses.replace(tracks, points=np.concatenate(points), colours=np.concatenate(colours))


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
