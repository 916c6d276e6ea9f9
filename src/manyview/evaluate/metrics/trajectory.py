"""ATE, ARE and RPE of a camera path after no alignment, a scale, SE(3) or Sim(3), as evo 1.31.1 defines them.

Poses are world_from_cam, so translations are camera centres; the adapters that compare the translations
of world-to-camera matrices (`protocols`) hand those in instead. Computed in float64. Nothing is NaN; what
a degenerate path gives is said where it is decided. Sources: Umeyama 1991; Sturm et al., IROS 2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.align import umeyama
from ...geometry.angles import rotation_angle_deg
from ...geometry.cameras import compose_rigid, invert_rigid
from .alignment import Similarity

Alignment = Literal["none", "scale", "se3", "sim3"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)
_STILL = 1e-12
"""Root mean square spread of centres below which a path does not move."""
_WORST_DEG = 180.0


@dataclass(frozen=True)
class ErrorStatistics:
    """Of a list of errors of one kind."""

    rmse: float
    mean: float
    median: float
    std: float
    minimum: float
    maximum: float


def statistics(errors: Float[Tensor, " n"]) -> ErrorStatistics | None:
    """Population statistics as evo has them (the median of two middle values is their mean); None of none."""
    if not errors.numel():
        return None
    values = errors.double()
    return ErrorStatistics(
        rmse=float(values.square().mean().sqrt()),
        mean=float(values.mean()),
        median=float(np.median(values.numpy())),
        std=float(values.std(correction=0)),
        minimum=float(values.min()),
        maximum=float(values.max()),
    )


def spread(centres: Float[Tensor, "n 3"]) -> float:
    """Root mean square distance from their mean; 0 for none."""
    if not len(centres):
        return 0.0
    return float((centres - centres.mean(0)).square().sum(-1).mean().sqrt())


def fit_alignment(
    found: Float[Tensor, "n 3"], truth: Float[Tensor, "n 3"], how: Alignment = "sim3"
) -> Similarity | None:
    """true = scale * rotation @ found + translation by least squares of the centres.

    "scale" keeps the rotation and translation of the identity and only the scale of the Sim(3), as evo does.
    None where the alignment is not determined: fewer than three centres, or ("scale", "sim3") centres of
    which either set does not move. Centres on a line leave the rotation about it open: one of the equally
    good is given, the errors of centres do not depend on which. ValueError for an unknown alignment.
    """
    if how not in ALIGNMENTS:
        raise ValueError(f"an alignment is one of {', '.join(ALIGNMENTS)}, not {how!r}")
    identity = torch.eye(3, dtype=torch.float64)
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    if how == "none":
        return Similarity(one, identity, zero)
    if len(found) < 3:
        return None
    if how == "se3":
        return Similarity(*umeyama(found, truth, with_scale=False))
    if min(spread(found.double()), spread(truth.double())) <= _STILL:
        return None
    similarity = Similarity(*umeyama(found, truth))
    return similarity if how == "sim3" else Similarity(similarity.scale, identity, zero)


def aligned_poses(similarity: Similarity, world_from_cam: Float[Tensor, "n 3 4"]) -> Float[Tensor, "n 3 4"]:
    """The poses moved by a similarity: centres scaled, rotated and shifted, rotations rotated."""
    poses = world_from_cam.double()
    return torch.cat([similarity.rotation @ poses[..., :3], similarity(poses[..., 3])[..., None]], -1)


def moved_to_origin(found: Float[Tensor, "n 3 4"], truth: Float[Tensor, "n 3 4"]) -> Float[Tensor, "n 3 4"]:
    """The path moved rigidly so that its first pose is the first true one (evo's --align_origin).

    Asked for an alignment too, evo 1.28 leaves this out, 1.31.1 does it afterwards, 1.38 refuses.
    """
    move = compose_rigid(truth[:1].double(), invert_rigid(found[:1].double()))
    return compose_rigid(move.expand(len(found), -1, -1), found.double())


@dataclass(frozen=True)
class TrajectoryErrors:
    """ATE and ARE over all poses and RPE over steps of `delta` frames; None where there is no such error.

    Lengths in the unit of the truth. Rotations in degrees (`_deg`) and as the Frobenius norm of R - I
    (`_norm`, evo's "rotation part"). `scale` is that of the alignment.
    """

    ate: ErrorStatistics | None
    are_deg: ErrorStatistics | None
    are_norm: ErrorStatistics | None
    rpe_translation: ErrorStatistics | None
    rpe_rotation_deg: ErrorStatistics | None
    rpe_rotation_norm: ErrorStatistics | None
    scale: float


def trajectory_errors(
    found: Float[Tensor, "n 3 4"],
    truth: Float[Tensor, "n 3 4"],
    how: Alignment = "sim3",
    delta: int = 1,
    origin: bool = False,
) -> TrajectoryErrors:
    """Errors of world_from_cam poses in the same order after an alignment of their centres.

    `origin` afterwards moves the first pose onto the true one. Degenerate cases: a path that does not move
    stands, under "sim3", in the mean of the true centres (its scale is 0, so its steps have no length), under
    "scale" in the origin. Fewer than three poses, or a truth that does not move, have no ATE under "se3" and
    "sim3" respectively (any path would fit) and are otherwise compared as they are. There is no ARE under
    either where the rotation of the alignment is open: centres on a line or in one place. Poses that are not
    finite are left out of the fit; they stand in the mean of the true centres with a rotation error of 180
    degrees, and a step from or to them has the whole true length and 180 degrees as its error.
    """
    if delta < 1:
        raise ValueError(f"steps are of at least one frame, not {delta}")
    found, truth = found.double(), truth.double()
    given = found.isfinite().flatten(1).all(-1)
    source, target = found[given][..., 3], truth[given][..., 3]
    similarity = fit_alignment(source, target, how)
    undetermined = similarity is None
    if similarity is None:
        identity, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        still = len(source) >= 3 and how != "se3" and spread(source) <= _STILL < spread(target)
        undetermined = not still
        scale = torch.tensor(0.0 if still else 1.0, dtype=torch.float64)
        similarity = Similarity(scale, identity, target.mean(0) if still and how == "sim3" else zero)
    moved = truth.clone()
    moved[given] = aligned_poses(similarity, found[given])
    from_first = origin and bool(given[0])
    if from_first:
        moved[given] = moved_to_origin(moved[given], truth[given])
    moved[~given, :, 3] = truth[..., 3].mean(0)
    distances = (moved[..., 3] - truth[..., 3]).norm(dim=-1)
    turned = rotation_angle_deg(truth[..., :3].transpose(-1, -2) @ moved[..., :3])
    turned = torch.where(given, turned, _WORST_DEG)
    translation, rotation = _steps(moved, truth, given, delta)
    fitted = how in ("se3", "sim3")
    no_rotation = fitted and (undetermined or (not from_first and _rotation_is_open(source, target)))
    return TrajectoryErrors(
        ate=None if undetermined and fitted else statistics(distances),
        are_deg=None if no_rotation else statistics(turned),
        are_norm=None if no_rotation else statistics(_rotation_norm(turned)),
        rpe_translation=statistics(translation),
        rpe_rotation_deg=statistics(rotation),
        rpe_rotation_norm=statistics(_rotation_norm(rotation)),
        scale=float(similarity.scale),
    )


def _rotation_is_open(source: Tensor, target: Tensor) -> bool:
    """Centres on a line or in one place: any rotation about it fits as well."""
    covariance = (target - target.mean(0)).T @ (source - source.mean(0))
    extents = torch.linalg.svdvals(covariance)
    return bool(extents[1] <= 1e-9 * extents[0])


def _rotation_norm(angle_deg: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Frobenius norm of R - I for a rotation by an angle."""
    return 8**0.5 * torch.sin(torch.deg2rad(angle_deg) / 2)


def _steps(moved: Tensor, truth: Tensor, given: Tensor, delta: int) -> tuple[Tensor, Tensor]:
    """(length, angle in degrees) of what is left of each step after the true step is undone."""
    own = compose_rigid(invert_rigid(moved[:-delta]), moved[delta:])
    true = compose_rigid(invert_rigid(truth[:-delta]), truth[delta:])
    left = compose_rigid(invert_rigid(true), own)
    both = given[:-delta] & given[delta:]
    translation = torch.where(both, left[..., 3].norm(dim=-1), true[..., 3].norm(dim=-1))
    return translation, torch.where(both, rotation_angle_deg(left[..., :3]), _WORST_DEG)
