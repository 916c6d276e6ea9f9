"""Relative-pose accuracy in VGGT's protocol: all pairs, the larger of two angles, area under recall.

Source: VGGT (arXiv 2503.11651), section 4.1; the binning is the one of its released evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.angles import UNDEFINED_DEG, direction_angle_deg, rotation_angle_deg
from ...geometry.cameras import compose_rigid, invert_rigid

__all__ = ["UNDEFINED_DEG", "PairErrors", "auc", "direction_angle_deg", "pair_errors", "rotation_angle_deg"]


@dataclass(frozen=True)
class PairErrors:
    """Errors in degrees of all unordered pairs i < j of one or more scenes, in one row."""

    rotation_deg: Float[Tensor, " pairs"]
    translation_deg: Float[Tensor, " pairs"]

    @property
    def worst_deg(self) -> Float[Tensor, " pairs"]:
        """The larger of the two errors, which the AUC integrates."""
        return torch.maximum(self.rotation_deg, self.translation_deg)


def pair_errors(
    estimate: Float[Tensor, "*scenes views 3 4"], truth: Float[Tensor, "*scenes views 3 4"]
) -> PairErrors:
    """Compare `cam_from_world` cameras pair by pair: E_i E_j^-1 of the estimate against the truth's.

    Scenes are compared independently and their pairs joined. Not-finite estimates count as
    `UNDEFINED_DEG`. Computed in float64.
    """
    views = truth.shape[-3]
    i, j = torch.triu_indices(views, views, offset=1)
    estimate, truth = estimate.double(), truth.double()
    # A camera of which one part is not finite is none: its rotation alone proves nothing.
    whole = estimate.isfinite().flatten(-2).all(-1)[..., None, None]
    estimate = torch.where(whole, estimate, torch.nan)

    def relative(cameras: Tensor) -> Tensor:
        return compose_rigid(cameras[..., i, :, :], invert_rigid(cameras[..., j, :, :]))

    found, true = relative(estimate), relative(truth)
    rotation = rotation_angle_deg(true[..., :3].transpose(-1, -2) @ found[..., :3])
    rotation = torch.where(rotation.isfinite(), rotation, torch.full_like(rotation, UNDEFINED_DEG))
    translation = direction_angle_deg(found[..., 3], true[..., 3])
    return PairErrors(rotation.flatten(), translation.flatten())


def auc(errors_deg: Float[Tensor, " pairs"], threshold_deg: int) -> float:
    """Area under the recall curve up to `threshold_deg`, in percent.

    Histogram of T bins of one degree over [0, T] (the last includes T), divided by the number of pairs,
    summed cumulatively, averaged over the bins. The curve is read at the right edge of each bin. 0 for no
    pair. Other definitions are in `auc_variants`.
    """
    if errors_deg.numel() == 0:
        return 0.0
    inside = errors_deg[(errors_deg >= 0) & (errors_deg <= threshold_deg)]
    bins = inside.floor().clamp(max=threshold_deg - 1).long()
    recall = torch.bincount(bins, minlength=threshold_deg).double().cumsum(0) / errors_deg.numel()
    return 100.0 * float(recall.mean())
