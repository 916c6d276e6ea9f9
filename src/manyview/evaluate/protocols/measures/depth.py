"""AbsRel and the share within 1.25 of all frames of a scene together."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import torch

from ...metrics.depth import DepthFit, depth_errors
from ..scene_pair import Figures, Needs, ScenePair
from .first_camera import scene_scales


@dataclasses.dataclass(frozen=True)
class Depth:
    """`abs_rel`, `abs_rel_median`, `delta_125` in percent, `depth_rmse`, after one `fit` for the scene.

    `lengths` are in the unit of the truth, or each side's in its mean scene distance (`scene_scales`; None
    without). Truth from `farthest` on does not count, and fitted depth counts as at most `clip`, both in that
    unit. With `confirmed_only` only estimates that other views confirm count; with `lower_median` the lower
    of two middle values is the median. `pixels` were compared; all else is None without any.
    """

    fit: DepthFit = "median"
    farthest: float | None = None
    clip: float | None = None
    lower_median: bool = False
    lengths: Literal["truth", "scene"] = "truth"
    confirmed_only: bool = False
    prefix: str = ""

    @property
    def needs(self) -> Needs:
        return "points" if self.lengths == "scene" else "depth"

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        names = ("abs_rel", "abs_rel_median", "delta_125", "depth_rmse")
        errors = None
        scales = scene_scales(pair) if self.lengths == "scene" else (1.0, 1.0)
        if pair.true_depth is not None and scales is not None:
            valid = np.isfinite(pair.true_depth)
            if self.farthest is not None:
                valid &= pair.true_depth < self.farthest * scales[1]
            if self.confirmed_only:
                valid &= np.zeros_like(valid) if pair.confirmed is None else pair.confirmed
            clip = math.inf if self.clip is None else self.clip
            found, truth = (
                torch.from_numpy(depth) if scale == 1 else torch.from_numpy(depth / scale)
                for depth, scale in zip((pair.found_depth, pair.true_depth), scales)
            )
            errors = depth_errors(found, truth, torch.from_numpy(valid), self.fit, clip, self.lower_median)
        values: tuple[float | None, ...] = (None,) * 4
        if errors is not None:
            values = errors.abs_rel, errors.abs_rel_median, errors.delta_125, errors.rmse
        figures = {**dict(zip(names, values)), "pixels": float(errors.pixels if errors is not None else 0)}
        return {self.prefix + name: value for name, value in figures.items()}
