"""ATE, ARE and RPE, of camera centres or of what some papers compare instead."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import torch

from ....geometry.cameras import invert_rigid
from ...metrics.trajectory import Alignment, trajectory_errors
from ..scene_pair import Figures, Needs, ScenePair
from .first_camera import from_first_camera, scene_scales

_RMSE = ("ate", "are_deg", "are_norm", "rpe_translation", "rpe_rotation_deg", "rpe_rotation_norm")
_LENGTHS = ("ate", "ate_mean", "ate_median", "rpe_translation", "path", "ate_share")


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Root mean squares `ate`, `are_deg`, `rpe_translation`, `rpe_rotation_deg` over steps of `delta` frames;
    with `rpe` "mean" the steps' are means.

    `of`: "centres" are world_from_cam poses. "w2c" hands cam_from_world matrices to the same code, each side
    in the frame of its first camera; their "positions" are translations and no centres (FastVGGT's ScanNet-50
    script, FlashVGGT). `origin` afterwards moves the first pose onto the true one. None: see
    `trajectory_errors`. `lengths` are in the unit of the truth, or in mean scene distances (`scene_scales`;
    None without true points). `are_norm`, `rpe_rotation_norm`: of the Frobenius norm of R - I, no angle.
    `path` is the length of the true path, `ate_share` = ate / path.
    """

    alignment: Alignment = "sim3"
    of: Literal["centres", "w2c"] = "centres"
    delta: int = 1
    origin: bool = False
    lengths: Literal["truth", "scene"] = "truth"
    prefix: str = ""
    rpe: Literal["rmse", "mean"] = "rmse"

    @property
    def needs(self) -> Needs:
        return "points" if self.lengths == "scene" else "cameras"

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        if self.of == "w2c":
            found, truth = from_first_camera(pair)
        else:
            found, truth = (
                invert_rigid(torch.from_numpy(c).double()) for c in (pair.found_cameras, pair.true_cameras)
            )
        scales = scene_scales(pair) if self.lengths == "scene" else (1.0, 1.0)
        for poses, scale in zip((found, truth), scales or (1.0, 1.0)):
            poses[..., 3] /= scale
        errors = trajectory_errors(found, truth, self.alignment, self.delta, self.origin)
        path = float(truth[..., 3].diff(dim=0).norm(dim=-1).sum())
        ate = None if errors.ate is None else errors.ate.rmse
        result: Figures = {
            name: None
            if (one := getattr(errors, name)) is None
            else getattr(one, self.rpe if name.startswith("rpe") else "rmse")
            for name in _RMSE
        }
        result |= {
            "ate_mean": None if errors.ate is None else errors.ate.mean,
            "ate_median": None if errors.ate is None else errors.ate.median,
            "path": path,
            "ate_share": ate / path if ate is not None and path > 0 else None,
        }
        if scales is None:
            result |= dict.fromkeys(_LENGTHS)
        if not np.isfinite(pair.true_cameras).all():
            result = dict.fromkeys(result)
        return {self.prefix + name: value for name, value in result.items()}
