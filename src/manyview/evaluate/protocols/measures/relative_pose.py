"""RRA, RTA and AUC of the relative poses of all pairs."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch

from ....geometry.cameras import invert_rigid
from ...metrics.pose import AucBinning, auc, baselines, median_deg, pair_errors, recall
from ...metrics.trajectory import spread
from ..scene_pair import Figures, Needs, ScenePair
from .first_camera import from_first_camera

_NO_BASELINE = 1e-4
HISTOGRAM_DEG = 30


@dataclasses.dataclass(frozen=True)
class RelativePose:
    """AUC in percent by `binning`, RRA and RTA in percent of pairs strictly below, medians in degrees.

    `auc_T` is by `binning`, VGGT's histogram; `auc_integral_T` is the area under the same curve itself, which
    a histogram overstates by several points at small T. `relative`: E_i E_j^-1 for i < j ("vggt"),
    E_j E_i^-1 ("pi3"), or E_i^-1 E_j of cameras in the frame of the first one ("da3"); directions differ
    where rotations are wrong. `undefined`: pairs whose true baseline is below 1e-4 of the spread have no
    direction; "rotation" judges them by their rotation alone and leaves them out of RTA, "wrong" counts them
    as the papers' scripts do: an estimate of no direction is beyond every threshold. In the medians
    `rotation_deg` and `direction_deg` pairs without an estimate count as 180 and 90 degrees, the largest
    there are. `pairs` is the number of pairs and `below_N` how many have a worst error below N degrees, from
    which AUC is pooled over scenes. One view has no pair: all figures but `pairs` are None.
    """

    needs: ClassVar[Needs] = "cameras"

    thresholds: tuple[int, ...] = (3, 5, 15, 30)
    binning: AucBinning = "vggt"
    relative: Literal["vggt", "pi3", "da3"] = "vggt"
    undefined: Literal["rotation", "wrong"] = "rotation"

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        found, truth = torch.from_numpy(pair.found_cameras), torch.from_numpy(pair.true_cameras)
        names = [f"{kind}_{t}" for kind in ("auc", "auc_integral", "rra", "rta") for t in self.thresholds]
        if len(truth) < 2:
            return {"pairs": 0.0, **dict.fromkeys([*names, "rotation_deg", "direction_deg"])}
        if self.relative == "pi3":
            found, truth = found.flip(0), truth.flip(0)
        elif self.relative == "da3":
            found, truth = (invert_rigid(cameras) for cameras in from_first_camera(pair))
        errors = pair_errors(found, truth)
        rotation, direction = errors.rotation_deg, errors.translation_deg
        based = torch.ones_like(rotation, dtype=torch.bool)
        if self.undefined == "rotation":
            based = baselines(truth) > _NO_BASELINE * spread(invert_rigid(truth.double())[..., 3])
        worst = torch.maximum(rotation, torch.where(based, direction, 0.0))
        directed = direction[based]
        result: Figures = {f"auc_{t}": auc(worst, t, self.binning) for t in self.thresholds}
        result |= {f"auc_integral_{t}": auc(worst, t, "exact") for t in self.thresholds}
        result |= {f"rra_{t}": recall(rotation, t) for t in self.thresholds}
        result |= {f"rta_{t}": recall(directed, t) if len(directed) else None for t in self.thresholds}
        result["rotation_deg"] = median_deg(rotation, 180.0)
        result["direction_deg"] = median_deg(directed, 90.0)
        result["pairs"] = float(len(worst))
        # As numpy's histogram has it: the last bin holds its right edge.
        for degree in range(1, HISTOGRAM_DEG + 1):
            below = worst <= degree if degree == HISTOGRAM_DEG else worst < degree
            result[f"below_{degree}"] = float(below.sum())
        return result
