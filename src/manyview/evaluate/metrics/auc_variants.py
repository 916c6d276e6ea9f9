"""Area under the recall curve as different papers and scripts compute it; never compare one with another.

`exact` is the true area under the recall step function; the others are estimates of it that read higher
(papers.md of the field: 4 to 13 points at 3 degrees, about 1.5 at 30).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from .pose import auc

AucBinning = Literal["vggt", "vggt-plus-one", "trapezoid", "exact"]
AUC_BINNINGS: tuple[AucBinning, ...] = get_args(AucBinning)


def auc_as(errors_deg: Float[Tensor, " pairs"], threshold_deg: int, binning: AucBinning = "vggt") -> float:
    """Area under recall up to `threshold_deg` in percent, 0 for no pair.

    - "vggt": T bins of one degree over [0, T], curve read at the right edges (VGGT's numpy function).
    - "vggt-plus-one": T + 1 bins over [0, T], the second function of the same files (VGGT's torch one).
    - "trapezoid": the curve through the sorted errors by the trapezoidal rule, starting at (0, 0) and
      closed at T with the last recall, as image matching does (SuperGlue, ScanNet-1500).
    - "exact": mean over pairs of max(0, 1 - e / T).

    ValueError for a threshold below one degree or an unknown binning.
    """
    if threshold_deg < 1:
        raise ValueError(f"the threshold is at least one degree, not {threshold_deg}")
    errors = errors_deg.double()
    count = errors.numel()
    if not count:
        return 0.0
    if binning == "vggt":
        return auc(errors, threshold_deg)
    if binning == "vggt-plus-one":
        inside = errors[(errors >= 0) & (errors <= threshold_deg)]
        bins = (inside * (threshold_deg + 1) / threshold_deg).floor().clamp(max=threshold_deg).long()
        recall = torch.bincount(bins, minlength=threshold_deg + 1).double().cumsum(0) / count
        return 100.0 * float(recall.mean())
    if binning == "exact":
        return 100.0 * float((1 - errors / threshold_deg).clamp(min=0).mean())
    if binning == "trapezoid":
        rising = errors.sort().values
        rising = rising[rising < threshold_deg]
        recall = torch.arange(1, len(rising) + 1, dtype=torch.float64) / count
        end = recall[-1:] if len(recall) else torch.zeros(1, dtype=torch.float64)
        x = torch.cat([torch.zeros(1), rising, torch.tensor([float(threshold_deg)])]).double()
        y = torch.cat([torch.zeros(1, dtype=torch.float64), recall, end])
        return 100.0 * float(torch.trapezoid(y, x)) / threshold_deg
    raise ValueError(f"a binning is one of {', '.join(AUC_BINNINGS)}, not {binning!r}")


def recall(errors_deg: Float[Tensor, " pairs"], threshold_deg: float) -> float:
    """RRA@T or RTA@T: percent of pairs strictly below the threshold; 0 for no pair."""
    return 100.0 * float((errors_deg < threshold_deg).double().mean()) if errors_deg.numel() else 0.0
