"""Whether refined cameras are better than the network's, by tests whose numbers are kept.

Matches that no camera was fitted to decide; the other tests are for what such matches do not show. The limits
are from `photos-train` and what they mean is in docs/refinement.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from ..files.naming import counted
from ..geometry.unproject_np import camera_centres, project
from ..reconstruction.inputs.views import ViewRecord
from ..reconstruction.result.tracks import Tracks
from .match_error import Cameras, match_errors, median_of_pairs, median_of_views
from .solution import HeldOutMatches

LEAST_MATCHES = 20
LARGEST_ERROR = 0.0025
"""Median error of held-out matches, of the longer side of the images."""
LEAST_MATCHING = 0.75
"""Share of held-out matches within that; refined sets of photos-train have 90 % and more."""
LEAST_SHARE = 0.5
"""Of views that are refined."""
LEAST_POINTS = 20
"""Observed points of a view (median over refined views)."""
LEAST_POINTS_OF_VIEW = 8
"""Below, one view is not refined."""
LEAST_IN_FRONT = 0.95
LEAST_ANGLE_DEG = 1.0
"""Between the rays of a point (median over points): cameras that only turn say nothing of depth."""
LARGEST_FOCAL_CHANGE = 4.0
"""Times or divided by; the bundled model is off by up to 2.4 times on photos-train (a telephoto lens)."""
_NO_WORSE = 1.1
_FOV_DEG = (4.0, 160.0)  # of the longer side


@dataclasses.dataclass(frozen=True)
class GateTest:
    """One test: what was measured before (None where that has no meaning) and after, and the limit."""

    name: str
    before: float | None
    after: float | None
    limit: float
    passed: bool
    failure: str

    def to_json(self) -> dict[str, Any]:
        numbers = {"before": self.before, "after": self.after, "limit": self.limit}
        shown = {name: None if x is None or not math.isfinite(x) else x for name, x in numbers.items()}
        return {
            "name": self.name,
            **{name: None if value is None else float(f"{value:.5g}") for name, value in shown.items()},
            "passed": self.passed,
        }


def cameras_fit(tests: Sequence[GateTest]) -> bool:
    """Whether the network's own cameras fit held-out matches as well as refined ones have to."""
    named = {test.name: test for test in tests}
    error, matches = named.get("held-out error, pixels"), named.get("held-out matches")
    if error is None or matches is None or error.before is None:
        return False
    return matches.passed and error.before <= error.limit


def pixels(error: float | None) -> str:
    """A distance for a person."""
    return "unknown" if error is None else f"{error:.2f} px" if error < 10 else f"{error:.0f} px"


def longer_sides(records: Sequence[ViewRecord]) -> Float64[np.ndarray, " views"]:
    """Pixels of the longer side of each original image."""
    sizes = [(view.transform.upright_width, view.transform.upright_height) for view in records]
    return np.array(sizes, dtype=np.float64).max(1)


def sane_views(
    before: Cameras,
    after: Cameras,
    tracks: Tracks,
    matches: HeldOutMatches,
    refined: Bool[np.ndarray, " views"],
    fixed: Bool[np.ndarray, " views"],
    sides: Float64[np.ndarray, " views"],
) -> Bool[np.ndarray, " views"]:
    """Refined views that one by one are plausible: one bad image does not spoil the others.

    Args:
        before: Cameras of the network.
        after: Refined ones; what they hold elsewhere does not matter.
        tracks: Of the refined cameras.
        matches: Held out.
        refined: Which views have a refined camera.
        fixed: Which cameras are known and were not moved: they are taken as they are.
        sides: `longer_sides`.
    """
    points = np.bincount(tracks.view_index, minlength=len(refined))
    focal, ratio = after.focal(), after.focal() / before.focal()
    sane = (points >= LEAST_POINTS_OF_VIEW) & _plausible(focal, sides)
    sane &= (ratio < LARGEST_FOCAL_CHANGE) & (ratio > 1 / LARGEST_FOCAL_CHANGE)
    sane = refined & (sane | fixed)
    among = sane[matches.first] & sane[matches.second]
    both = _select(matches, among)
    errors = [median_of_views(both, match_errors(both, cameras), len(refined)) for cameras in (before, after)]
    with np.errstate(invalid="ignore"):
        worse = (errors[1] > errors[0]) & (errors[1] > LARGEST_ERROR * sides)
    return sane & (fixed | ~worse)


def gate(
    before: Cameras,
    after: Cameras,
    tracks: Tracks,
    matches: HeldOutMatches,
    refined: Bool[np.ndarray, " views"],
    fixed: Bool[np.ndarray, " views"],
    sides: Float64[np.ndarray, " views"],
) -> tuple[GateTest, ...]:
    """All tests, the first failed one being the one that is reported; arguments as in `sane_views`.

    `after` holds for all views: those that are not refined are where their neighbours took them. If every
    refined view is known and fixed, only held-out matches can reject it, where there are enough.
    """
    count, total = int(refined.sum()), len(refined)
    given = bool(refined.any() and (fixed | ~refined).all())
    tests = [
        _at_least("views refined", None, count, max(2, math.ceil(LEAST_SHARE * total)),
                  f"{f'only {count}' if count else 'none'} of {counted(total, 'view')} could be placed"),
    ]  # fmt: skip
    if count and not given:
        tests += _of_points(after, tracks, refined)
        tests += _of_focal(before, after, refined, sides)
    compared = len(matches.first)
    if not given or compared >= LEAST_MATCHES:  # too few of them do not count against what is known
        tests += _of_matches(before, after, matches, sides, given)
    return tuple(tests)


def _of_points(after: Cameras, tracks: Tracks, refined: Bool[np.ndarray, " views"]) -> list[GateTest]:
    each = np.bincount(tracks.view_index, minlength=len(refined))[refined]
    points = float(np.median(each)) if len(each) else 0.0
    in_front, angle = 0.0, 0.0
    if len(tracks.view_index):
        angle = float(np.median(track_angles_deg(after.cam_from_world, tracks)))
        own = tracks.points[tracks.point_index][:, None]
        _, z = project(own, after.cam_from_world[tracks.view_index], np.eye(3)[None])
        in_front = float((z > 0).mean())
    return [
        _at_least("points per view", None, points, LEAST_POINTS,
                  f"a view sees only {points:.0f} points that other views see too"),
        _at_least("share of points in front", None, in_front, LEAST_IN_FRONT,
                  f"only {in_front:.0%} of the points are in front of the cameras"),
        _at_least("angle between rays, degrees", None, angle, LEAST_ANGLE_DEG,
                  f"rays of two views to a point differ by {angle:.2g}° only, the cameras hardly move"),
    ]  # fmt: skip


def _of_focal(
    before: Cameras,
    after: Cameras,
    refined: Bool[np.ndarray, " views"],
    sides: Float64[np.ndarray, " views"],
) -> list[GateTest]:
    focals = [float(np.median(cameras.focal()[refined])) for cameras in (before, after)]
    change = max(focals[1] / focals[0], focals[0] / focals[1])
    plausible = bool(_plausible(after.focal(), sides)[refined].all())
    return [
        GateTest("focal length, pixels", focals[0], focals[1], LARGEST_FOCAL_CHANGE,
                 change < LARGEST_FOCAL_CHANGE and plausible,
                 f"the focal length would change from {focals[0]:.0f} to {focals[1]:.0f} px"),
    ]  # fmt: skip


def _of_matches(
    before: Cameras,
    after: Cameras,
    matches: HeldOutMatches,
    sides: Float64[np.ndarray, " views"],
    given: bool,
) -> list[GateTest]:
    compared, views, limit = len(matches.first), len(sides), LARGEST_ERROR * float(np.median(sides))
    errors = [match_errors(matches, cameras) for cameras in (before, after)]
    medians = [median_of_pairs(matches, error, views) for error in errors]
    shares = [float((error <= limit).mean()) if compared else 0.0 for error in errors]
    difference = (
        f"held-out matches are {pixels(medians[1])} from the epipolar lines of the refined cameras, "
        f"{pixels(medians[0])} from those of the network's"
    )
    if given:  # these may be the cameras that the network was shown: no worse is enough
        allowed = _NO_WORSE * medians[0]
        return [
            GateTest(
                "held-out error, pixels", medians[0], medians[1], allowed, medians[1] <= allowed, difference
            )
        ]
    return [
        _at_least("held-out matches", None, compared, LEAST_MATCHES,
                  f"only {counted(compared, 'match')} of two views are left to check it with"),
        GateTest("held-out error, pixels", medians[0], medians[1], limit, medians[1] <= limit, difference),
        GateTest("held-out error, better than before", medians[0], medians[1], medians[0],
                 medians[1] < medians[0], difference),
        _at_least("share of held-out matches within the limit", shares[0], shares[1],
                  max(shares[0], LEAST_MATCHING),
                  f"{shares[1]:.0%} of the held-out matches fit the refined cameras, "
                  f"{shares[0]:.0%} the network's"),
    ]  # fmt: skip


def track_angles_deg(
    cam_from_world: Float64[np.ndarray, "views 3 4"], tracks: Tracks
) -> Float64[np.ndarray, " n"]:
    """Angle between a point's first ray and the one farthest from it, in degrees."""
    rays = camera_centres(cam_from_world)[tracks.view_index] - tracks.points[tracks.point_index]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True) + 1e-12
    first = rays[np.searchsorted(tracks.point_index, tracks.point_index)]
    sine = np.linalg.norm(np.cross(rays, first), axis=1)
    angles = np.arctan2(sine, (rays * first).sum(1))
    found = np.zeros(len(tracks.points))
    np.maximum.at(found, tracks.point_index, angles)
    return np.degrees(found)


def _plausible(
    focal: Float64[np.ndarray, " views"], sides: Float64[np.ndarray, " views"]
) -> Bool[np.ndarray, " views"]:
    fov = np.degrees(2 * np.arctan(sides / (2 * focal)))
    return (fov > _FOV_DEG[0]) & (fov < _FOV_DEG[1])


def _at_least(name: str, before: float | None, after: float, limit: float, failure: str) -> GateTest:
    return GateTest(name, before, after, limit, after >= limit, failure)


def _select(matches: HeldOutMatches, kept: Bool[np.ndarray, " n"]) -> HeldOutMatches:
    return HeldOutMatches(
        matches.first[kept], matches.second[kept], matches.first_pixels[kept], matches.second_pixels[kept]
    )
