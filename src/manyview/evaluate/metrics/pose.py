"""Relative-pose accuracy: angles of all pairs of cameras, recall, and the area under the recall curve.

Source: VGGT (arXiv 2503.11651), section 4.1, and its released evaluation for the default binning. Areas by
different binnings must not be compared: at 3 degrees they differ by 4 to 13 points, at 30 by about 1.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.angles import UNDEFINED_DEG, direction_angle_deg, rotation_angle_deg
from ...geometry.cameras import invert_rigid, relative_pairs

AucBinning = Literal["vggt", "vggt-plus-one", "trapezoid", "exact"]
AUC_BINNINGS: tuple[AucBinning, ...] = get_args(AucBinning)


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

    Scenes are compared independently and their pairs joined. Cameras that are not finite count as
    `UNDEFINED_DEG`. Computed in float64.
    """
    # A camera of which one part is not finite is none: its rotation alone proves nothing.
    whole = estimate.isfinite().flatten(-2).all(-1)[..., None, None]
    estimate = torch.where(whole, estimate, torch.nan)
    found, true = relative_pairs(estimate), relative_pairs(truth)
    rotation = rotation_angle_deg(true[..., :3].transpose(-1, -2) @ found[..., :3])
    rotation = torch.where(rotation.isfinite(), rotation, torch.full_like(rotation, UNDEFINED_DEG))
    translation = direction_angle_deg(found[..., 3], true[..., 3])
    return PairErrors(rotation.flatten(), translation.flatten())


def baselines(cam_from_world: Float[Tensor, "views 3 4"]) -> Float[Tensor, " pairs"]:
    """Distances between the camera centres of all pairs i < j, in the order of `pair_errors`."""
    centres = invert_rigid(cam_from_world.double())[..., 3]
    i, j = torch.triu_indices(len(centres), len(centres), offset=1)
    return (centres[i] - centres[j]).norm(dim=-1)


def auc(errors_deg: Float[Tensor, " pairs"], threshold_deg: int, binning: AucBinning = "vggt") -> float:
    """Area under the recall curve up to a threshold.

    Args:
        errors_deg: The error of each pair in degrees.
        threshold_deg: T, the end of the curve.
        binning: How the area is computed.

            - "vggt": T bins of one degree over [0, T], the curve read at their right edges (VGGT's numpy
              function).
            - "vggt-plus-one": T + 1 bins over [0, T] (the torch function in the same files).
            - "trapezoid": trapezoidal rule through the sorted errors, from (0, 0) to T with the last recall
              (SuperGlue, ScanNet-1500).
            - "exact": the mean over pairs of max(0, 1 - e / T), the area under the step function itself.

    Returns:
        Percent; 0 for no pair.

    Raises:
        ValueError: For a threshold below one degree or an unknown binning.
    """
    if threshold_deg < 1:
        raise ValueError(f"the threshold is at least one degree, not {threshold_deg}")
    if binning not in AUC_BINNINGS:
        raise ValueError(f"a binning is one of {', '.join(AUC_BINNINGS)}, not {binning!r}")
    count = errors_deg.numel()
    if not count:
        return 0.0
    if binning == "exact":
        return 100.0 * float((1 - errors_deg.double() / threshold_deg).clamp(min=0).mean())
    if binning == "trapezoid":
        errors = errors_deg.double().sort().values
        errors = errors[errors < threshold_deg]
        reached = torch.arange(1, len(errors) + 1, dtype=torch.float64) / count
        x = torch.cat([torch.zeros(1), errors, torch.tensor([float(threshold_deg)])]).double()
        zero = torch.zeros(1, dtype=torch.float64)
        y = torch.cat([zero, reached, reached[-1:] if len(reached) else zero])
        return 100.0 * float(torch.trapezoid(y, x)) / threshold_deg
    inside = errors_deg[(errors_deg >= 0) & (errors_deg <= threshold_deg)]
    if binning == "vggt-plus-one":
        bins = threshold_deg + 1
        inside = inside.double() * bins / threshold_deg
    else:
        bins = threshold_deg
    counts = torch.bincount(inside.floor().clamp(max=bins - 1).long(), minlength=bins)
    return 100.0 * float((counts.double().cumsum(0) / count).mean())


def median_deg(errors_deg: Float[Tensor, " pairs"], most_deg: float) -> float | None:
    """Median, of an even number the mean of the middle two; None of none. Larger errors, those of pairs
    without an estimate, count as `most_deg`."""
    return float(np.median(errors_deg.clamp(max=most_deg).numpy())) if errors_deg.numel() else None


def recall(errors_deg: Float[Tensor, " pairs"], threshold_deg: float) -> float:
    """RRA@T or RTA@T: percent of pairs strictly below the threshold; 0 for no pair."""
    return 100.0 * float((errors_deg < threshold_deg).double().mean()) if errors_deg.numel() else 0.0
