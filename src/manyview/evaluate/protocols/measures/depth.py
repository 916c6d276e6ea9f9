"""AbsRel and the share within 1.25 of all frames of a scene together."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import torch

from ...metrics.depth import DepthFit, depth_errors, step_difference
from ..scene_pair import Figures, Needs, ScenePair
from .first_camera import scene_scales


@dataclasses.dataclass(frozen=True)
class Depth:
    """`abs_rel`, `abs_rel_median`, `delta_125` in percent, `depth_rmse`, after one `fit` for the scene.

    `shares` are the bounds of `delta_`, with `squares` there are `sq_rel` and `log_rmse` too.

    `lengths` are in the unit of the truth, or each side's in its mean scene distance (`scene_scales`; None
    without). Truth from `farthest` on does not count, and fitted depth counts as at most `clip`, both in that
    unit. With `confirmed_only` only estimates that other views confirm count; with `lower_median` the lower
    of two middle values is the median; with `least` pixels whose fitted depth is not above it do not count.
    `pixels` were compared; all else is None without any.

    With `steps` there is `tgm`, the mean over neighbouring frames of | mean |z' - z| - mean |z*' - z*| |, of
    fitted depth in the pixels where both frames have a true one (SpatialBench).
    """

    fit: DepthFit = "median"
    farthest: float | None = None
    clip: float | None = None
    lower_median: bool = False
    lengths: Literal["truth", "scene"] = "truth"
    confirmed_only: bool = False
    prefix: str = ""
    least: float | None = None
    shares: tuple[float, ...] = (1.25,)
    squares: bool = False
    steps: bool = False

    @property
    def needs(self) -> Needs:
        return "points" if self.lengths == "scene" else "depth"

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        errors = steps = None
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
            mask, least = torch.from_numpy(valid), self.least
            errors = depth_errors(found, truth, mask, self.fit, clip, self.lower_median, least, self.shares)
            if errors is not None and self.steps:
                steps = step_difference(found * errors.scale + errors.shift, truth, mask)
        figures: Figures = {
            "abs_rel": None if errors is None else errors.abs_rel,
            "abs_rel_median": None if errors is None else errors.abs_rel_median,
            **{
                f"delta_{100 * bound:.0f}": None if errors is None else errors.shares[bound]
                for bound in self.shares
            },
            "depth_rmse": None if errors is None else errors.rmse,
            "pixels": float(errors.pixels if errors is not None else 0),
        }
        if self.squares:
            figures["sq_rel"] = None if errors is None else errors.sq_rel
            figures["log_rmse"] = None if errors is None else errors.log_rmse
        if self.steps:
            figures["tgm"] = steps
        return {self.prefix + name: value for name, value in figures.items()}
