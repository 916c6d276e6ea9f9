"""AbsRel and the share within 1.25 of all frames of a scene together."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import torch

from ...metrics.depth import DepthFit, depth_errors
from ..scene_pair import Figures, Needs, ScenePair


@dataclasses.dataclass(frozen=True)
class Depth:
    """`abs_rel`, `abs_rel_median`, `delta_125` in percent, `depth_rmse`, after one `fit` for the scene.

    Truth beyond `farthest` does not count, and with `confirmed_only` only estimates that other views confirm
    do. `pixels` were compared; all else is None without any.
    """

    needs: ClassVar[Needs] = "depth"

    fit: DepthFit = "median"
    farthest: float | None = None
    confirmed_only: bool = False
    prefix: str = ""

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        names = ("abs_rel", "abs_rel_median", "delta_125", "depth_rmse")
        errors = None
        if pair.true_depth is not None:
            valid = np.isfinite(pair.true_depth)
            if self.farthest is not None:
                valid &= ~(pair.true_depth > self.farthest)
            if self.confirmed_only:
                valid &= np.zeros_like(valid) if pair.confirmed is None else pair.confirmed
            found, truth = torch.from_numpy(pair.found_depth), torch.from_numpy(pair.true_depth)
            errors = depth_errors(found, truth, torch.from_numpy(valid), self.fit)
        values: tuple[float | None, ...] = (None,) * 4
        if errors is not None:
            values = errors.abs_rel, errors.abs_rel_median, errors.delta_125, errors.rmse
        figures = {**dict(zip(names, values)), "pixels": float(errors.pixels if errors is not None else 0)}
        return {self.prefix + name: value for name, value in figures.items()}
