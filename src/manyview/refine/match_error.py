"""How far a match of two views is from what their cameras allow, in pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float64, Int

from ..geometry.unproject_np import camera_centres, undistort
from .solution import HeldOutMatches

_LARGEST = 1e6
"""Pixels; for what has no number, such as a match behind a lens that folds the plane over."""


@dataclasses.dataclass(frozen=True, eq=False)
class Cameras:
    """Cameras of all views; intrinsics in pixels of the upright original images."""

    cam_from_world: Float64[np.ndarray, "views 3 4"]
    intrinsics: Float64[np.ndarray, "views 3 3"]
    distortion: Float64[np.ndarray, "views 4"]

    def focal(self) -> Float64[np.ndarray, " views"]:
        """Geometric mean of both focal lengths."""
        return np.sqrt(self.intrinsics[:, 0, 0] * self.intrinsics[:, 1, 1])

    def with_views(self, other: Cameras, views: Bool[np.ndarray, " views"]) -> Cameras:
        """These cameras with those of `other` at some views."""
        chosen = views[:, None]
        return Cameras(
            np.where(chosen[..., None], other.cam_from_world, self.cam_from_world),
            np.where(chosen[..., None], other.intrinsics, self.intrinsics),
            np.where(chosen, other.distortion, self.distortion),
        )


def match_errors(matches: HeldOutMatches, cameras: Cameras) -> Float64[np.ndarray, " n"]:
    """Sampson's distance to the epipolar geometry (Hartley and Zisserman, eq. 11.9) of each match, in pixels.

    Where the rays meet behind a camera, or nowhere because there is no baseline, the nearest that a point can
    be to both is infinity: the error is then at least the angle between the rays, as pixels. So cameras that
    only rotate have a meaning too.
    """
    if not len(matches.first):
        return np.empty(0)
    sides = ((matches.first, matches.first_pixels), (matches.second, matches.second_pixels))
    rays = [_rays(cameras, views, pixels) for views, pixels in sides]
    rotations = [cameras.cam_from_world[views, :, :3] for views, _ in sides]
    focals = [cameras.intrinsics[views][:, [0, 1], [0, 1]] for views, _ in sides]
    centres = camera_centres(cameras.cam_from_world)
    baseline = centres[matches.second] - centres[matches.first]
    world = [np.einsum("nji,nj->ni", turn, ray) for turn, ray in zip(rotations, rays, strict=True)]
    # Epipolar lines in the normalised images: of the first ray in the second view, and the other way round.
    lines = [
        np.einsum("nij,nj->ni", rotations[other], np.cross(baseline, world[1 - other])) for other in (0, 1)
    ]
    with np.errstate(all="ignore"):
        numerator = np.abs((rays[1] * lines[1]).sum(-1))
        slopes = sum(((line[:, :2] / focal) ** 2).sum(-1) for line, focal in zip(lines, focals, strict=True))
        sampson = np.nan_to_num(numerator / np.sqrt(slopes), nan=0.0, posinf=_LARGEST)
        behind, angle = _against(world[0], world[1], baseline)
        focal = np.sqrt(np.prod(np.concatenate(focals, axis=1), axis=1) ** 0.5)
        apart = np.tan(np.minimum(angle, 1.5)) * focal / np.sqrt(2)
        error = np.where(behind, np.maximum(sampson, apart), sampson)
    return np.minimum(np.nan_to_num(error, nan=_LARGEST), _LARGEST)


def median_of_pairs(matches: HeldOutMatches, errors: Float64[np.ndarray, " n"], views: int) -> float:
    """Median over pairs of views of the median error of their matches."""
    groups = _grouped(matches.first * views + matches.second, errors)
    return float(np.median([np.median(group) for group in groups])) if groups else float("nan")


def median_of_views(
    matches: HeldOutMatches, errors: Float64[np.ndarray, " n"], views: int
) -> Float64[np.ndarray, " views"]:
    """Median error of the matches of each view; NaN without any."""
    found = np.full(views, np.nan)
    of_view = np.concatenate([matches.first, matches.second])
    for view, group in zip(
        np.unique(of_view), _grouped(of_view, np.concatenate([errors, errors])), strict=True
    ):
        found[view] = np.median(group)
    return found


def _grouped(
    keys: Int[np.ndarray, " n"], values: Float64[np.ndarray, " n"]
) -> list[Float64[np.ndarray, " _"]]:
    """Values of each key, by rising key."""
    order = np.argsort(keys, kind="stable")
    starts = np.unique(keys[order], return_index=True)[1]
    return np.split(values[order], starts[1:]) if len(keys) else []


def _rays(
    cameras: Cameras, views: Int[np.ndarray, " n"], pixels: Float64[np.ndarray, "n 2"]
) -> Float64[np.ndarray, "n 3"]:
    """Rays [x / z, y / z, 1] in the cameras, without distortion."""
    matrices = cameras.intrinsics[views]
    rays = (pixels - matrices[:, :2, 2]) / matrices[:, [0, 1], [0, 1]]
    with np.errstate(all="ignore"):
        rays = undistort(rays[:, None], cameras.distortion[views])[:, 0]
    return np.concatenate([rays, np.ones((len(rays), 1))], axis=1)


def _against(
    first: Float64[np.ndarray, "n 3"],
    second: Float64[np.ndarray, "n 3"],
    baseline: Float64[np.ndarray, "n 3"],
) -> tuple[Bool[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Whether rays (world axes) meet behind a camera or nowhere, and the angle between them (radians)."""
    a = first / np.linalg.norm(first, axis=1, keepdims=True)
    b = second / np.linalg.norm(second, axis=1, keepdims=True)
    cosine = (a * b).sum(-1)
    # Where the rays come nearest to each other, times the positive 1 - cosine².
    along_first = (baseline * a).sum(-1) - cosine * (baseline * b).sum(-1)
    along_second = cosine * (baseline * a).sum(-1) - (baseline * b).sum(-1)
    sine = np.linalg.norm(np.cross(a, b), axis=1)
    return ~((along_first > 0) & (along_second > 0)), np.arctan2(sine, cosine)
