"""ATE and RPE, of camera centres or of what some papers compare instead."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch

from ....geometry.cameras import invert_rigid
from ...metrics.trajectory import Alignment, trajectory_errors
from ..scene_pair import Figures, Needs, ScenePair


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """`ate` (root mean square), `rpe_translation` and `rpe_rotation_deg` over steps of `delta` frames.

    `of`: "centres" are world_from_cam poses. "w2c" hands cam_from_world matrices to the same code, whose
    "positions" are then translations and no centres (FastVGGT's ScanNet-50 script); it depends on where the
    truth's world lies. `origin` afterwards moves the first pose onto the true one. None: see
    `trajectory_errors`. `path` is the length of the true path, `ate_share` = ate / path.
    """

    needs: ClassVar[Needs] = "cameras"

    alignment: Alignment = "sim3"
    of: Literal["centres", "w2c"] = "centres"
    delta: int = 1
    origin: bool = False
    prefix: str = ""

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        found, truth = torch.from_numpy(pair.found_cameras), torch.from_numpy(pair.true_cameras)
        if self.of == "centres":
            found, truth = invert_rigid(found), invert_rigid(truth)
        errors = trajectory_errors(found, truth, self.alignment, self.delta, self.origin)
        path = float(truth[..., 3].double().diff(dim=0).norm(dim=-1).sum())
        ate = None if errors.ate is None else errors.ate.rmse
        result: Figures = {
            "ate": ate,
            "ate_mean": None if errors.ate is None else errors.ate.mean,
            "ate_median": None if errors.ate is None else errors.ate.median,
            "rpe_translation": None if errors.rpe_translation is None else errors.rpe_translation.rmse,
            "rpe_rotation_deg": None if errors.rpe_rotation_deg is None else errors.rpe_rotation_deg.rmse,
            "path": path,
            "ate_share": ate / path if ate is not None and path > 0 else None,
        }
        return {self.prefix + name: value for name, value in result.items()}
