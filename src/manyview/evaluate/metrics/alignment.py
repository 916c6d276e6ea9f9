"""One scene after a similarity from its cameras: trajectory error, and accuracy and completeness of points.

Lengths are in scene units: the median true depth is one. Nothing here is ever NaN; what a degenerate
scene or estimate gives is said where it is decided.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.align import umeyama
from ...geometry.cameras import invert_rigid

_LINE = 0.05
"""Centres whose second extent is below this share of the first do not fix a rotation about their line."""
_FAR = 1.0
"""Distances count as at most this, in scene units, so that one stray point cannot rule a mean."""
_MOST = 4096


@dataclass(frozen=True)
class Similarity:
    """true = scale * rotation @ found + translation, float64."""

    scale: Tensor
    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, " 3"]

    def __call__(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        return self.scale * points.double() @ self.rotation.T + self.translation


def nearest_rotation(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation nearest to each matrix in the Frobenius norm; of a mean of rotations, the chordal mean."""
    u, _, vh = torch.linalg.svd(matrix)
    sign = torch.ones_like(matrix[..., 0])
    sign[..., 2] = torch.det(u @ vh).sign()
    return u * sign[..., None, :] @ vh


def align_cameras(
    found: Float[Tensor, "views 3 4"], truth: Float[Tensor, "views 3 4"], depth_scale: float, unit: float
) -> Similarity | None:
    """The similarity of the camera centres by least squares (Umeyama 1991); cam_from_world cameras.

    Where the true centres lie on a line or in a point, or there are fewer than three, the rotation is the
    chordal mean of the cameras' own; where either set of centres is a point (extent below 1e-3 `unit`),
    the scale is that of the depths. None for cameras that are not finite.
    """
    if not bool(found.isfinite().all()):
        return None
    found_world, true_world = invert_rigid(found.double()), invert_rigid(truth.double())
    source, target = found_world[..., 3], true_world[..., 3]
    source_mean, target_mean = source.mean(0), target.mean(0)
    extents = torch.linalg.svdvals(target - target_mean)
    fixed = len(target) >= 3 and float(extents[1]) > max(_LINE * float(extents[0]), 1e-3 * unit)
    spread = (source - source_mean).square().sum()
    moves = float(spread.sqrt()) * depth_scale > 1e-3 * unit and float(extents[0]) > 1e-3 * unit
    if fixed and moves:
        return Similarity(*umeyama(source, target))
    rotation = nearest_rotation((true_world[..., :3] @ found_world[..., :3].transpose(-1, -2)).mean(0))
    scale = torch.tensor(depth_scale, dtype=torch.float64)
    if moves:
        rotated = (source - source_mean) @ rotation.T
        scale = (((target - target_mean) * rotated).sum() / spread).clamp(min=0)
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def trajectory_error(
    similarity: Similarity | None,
    found: Float[Tensor, "views 3 4"],
    truth: Float[Tensor, "views 3 4"],
    unit: float,
) -> float:
    """ATE: root of the mean squared distance of the camera centres, in scene units.

    Without an alignment: the spread of the true centres, as if all cameras stood in their mean.
    """
    target = invert_rigid(truth.double())[..., 3]
    if similarity is None:
        moved = target.mean(0).expand_as(target)
    else:
        moved = similarity(invert_rigid(found.double())[..., 3])
    return float((moved - target).square().sum(-1).mean().sqrt()) / unit


def point_distances(
    found: Float[Tensor, "n 3"], truth: Float[Tensor, "m 3"], unit: float
) -> tuple[float, float]:
    """(accuracy, completeness): mean distance to the nearest point from found to true, and back.

    In scene units, each distance at most 1; of each set at most 4096 points, drawn with a fixed seed.
    Points that are not finite count as 1 in the accuracy; no points at all give (1, 1).
    """
    generator = torch.Generator().manual_seed(0)
    found, truth = (
        points[torch.randperm(len(points), generator=generator)[:_MOST]].double() / unit
        for points in (found, truth)
    )
    usable = found[found.isfinite().all(-1)]
    if not len(usable) or not len(truth):
        return _FAR, _FAR
    distances = torch.cdist(usable, truth)
    accuracy = distances.amin(1).clamp(max=_FAR).sum() + _FAR * (len(found) - len(usable))
    return float(accuracy) / len(found), float(distances.amin(0).clamp(max=_FAR).mean())
