"""The figures of one plan on the scenes of one case."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.cameras import invert_rigid
from ..geometry.unproject import world_points
from ..models.vggt.model import Predictions
from ..synthetic import SceneBatch
from .metrics.alignment import align_cameras, point_distances, trajectory_error
from .metrics.confidence import ConfidenceRankings, Ranking, confidence_rankings
from .metrics.depth import depth_errors
from .metrics.pose import auc, pair_errors

_NO_BASELINE = 1e-4
"""Pairs of cameras nearer than this, in scene units, have no direction between them."""


@dataclass(frozen=True)
class Scores:
    """AUC in percent, medians in degrees over the pairs of all scenes; the rest means over scenes.

    `ate`, `accuracy` and `completeness` are in units of the median true depth of a scene;
    `translation_median_deg` is None where no pair has a baseline (pure rotation), and such pairs are
    judged by their rotation alone. `confidence_area` lies under the sparsification curve of relative depth
    errors: 1 knows nothing, smaller is better, `confidence_oracle` is the least; `confidence_random` and
    `confidence_inverse_depth` are those of a random order and of 1/z as confidence. Names with
    `absolute` rank absolute errors, which is what VGGT's confidence is trained on (see `confidence`).
    `seconds` is the median of a scene.
    """

    auc_3: float
    auc_5: float
    auc_15: float
    auc_30: float
    rotation_median_deg: float
    translation_median_deg: float | None
    ate: float
    abs_rel: float
    accuracy: float
    completeness: float
    confidence_area: float
    confidence_oracle: float
    seconds: float
    attention_flops: float
    linear_flops: float
    confidence_random: float
    confidence_inverse_depth: float
    confidence_absolute_area: float
    confidence_absolute_oracle: float
    confidence_absolute_random: float
    confidence_absolute_inverse_depth: float


class ScoreKeeper:
    """Collects scenes, one at a time, and turns them into scores."""

    def __init__(self) -> None:
        self._rotation: list[Tensor] = []
        self._translation: list[Tensor] = []
        self._based: list[Tensor] = []
        self._means: list[tuple[float, ...]] = []
        self._rankings: list[tuple[float, ...]] = []
        self._seconds: list[float] = []

    def add(self, found: Predictions, truth: SceneBatch, seconds: float) -> None:
        """Compare the predictions for a batch of one scene (tensors on the CPU) with its truth.

        A scene without a valid pixel has depth error 0, points at 1 and a confidence of no use (1, 1).
        """
        assert found.z_depth is not None and found.depth_conf is not None and len(truth) == 1
        cameras, true_cameras = found.cam_from_world[0].float().cpu(), truth.cam_from_world[0].cpu()
        depth, true_depth, valid = (
            found.z_depth[0].float().cpu(),
            truth.z_depth[0].cpu(),
            truth.valid[0].cpu(),
        )
        unit = float(true_depth[valid].median()) if bool(valid.any()) else 1.0

        pairs = pair_errors(cameras, true_cameras)
        centres = invert_rigid(true_cameras.double())[..., 3]
        i, j = torch.triu_indices(len(centres), len(centres), offset=1)
        based = (centres[i] - centres[j]).norm(dim=-1) > _NO_BASELINE * unit
        self._rotation.append(pairs.rotation_deg)
        self._translation.append(torch.where(based, pairs.translation_deg, 0.0))
        self._based.append(based)

        if bool(valid.any()):
            errors = depth_errors(depth, true_depth, valid)
            abs_rel, scale = errors.abs_rel, errors.scale
            rankings = confidence_rankings(
                depth[valid] * scale, true_depth[valid], found.depth_conf[0].float().cpu()[valid]
            )
        else:
            abs_rel, scale, rankings = 0.0, 1.0, ConfidenceRankings(Ranking(), Ranking())

        similarity = align_cameras(cameras, true_cameras, scale, unit)
        ate = trajectory_error(similarity, cameras, true_cameras, unit)
        accuracy = completeness = 1.0
        if similarity is not None and bool(valid.any()):
            points = world_points(depth, cameras, found.intrinsics[0].float().cpu())[valid]
            accuracy, completeness = point_distances(
                similarity(points), truth.world_points[0].cpu()[valid], unit
            )
        self._means.append((ate, abs_rel, accuracy, completeness))
        self._rankings.append(
            tuple(
                value
                for one in (rankings.relative, rankings.absolute)
                for value in (one.area, one.oracle, one.random, one.inverse_depth)
            )
        )
        self._seconds.append(seconds)

    def scores(self, attention_flops: float, linear_flops: float) -> Scores:
        """The figures of everything added, at least one scene."""
        rotation, translation = torch.cat(self._rotation), torch.cat(self._translation)
        based = torch.cat(self._based)
        worst = torch.maximum(rotation, translation)
        ate, abs_rel, accuracy, completeness = _mean(self._means)
        relative, absolute = _mean(self._rankings)[:4], _mean(self._rankings)[4:]
        return Scores(
            auc_3=auc(worst, 3),
            auc_5=auc(worst, 5),
            auc_15=auc(worst, 15),
            auc_30=auc(worst, 30),
            rotation_median_deg=float(rotation.median()),
            translation_median_deg=float(translation[based].median()) if bool(based.any()) else None,
            ate=ate,
            abs_rel=abs_rel,
            accuracy=accuracy,
            completeness=completeness,
            confidence_area=relative[0],
            confidence_oracle=relative[1],
            seconds=statistics.median(self._seconds),
            attention_flops=attention_flops,
            linear_flops=linear_flops,
            confidence_random=relative[2],
            confidence_inverse_depth=relative[3],
            confidence_absolute_area=absolute[0],
            confidence_absolute_oracle=absolute[1],
            confidence_absolute_random=absolute[2],
            confidence_absolute_inverse_depth=absolute[3],
        )


def _mean(rows: list[tuple[float, ...]]) -> list[float]:
    return [float(value) for value in torch.tensor(rows, dtype=torch.float64).mean(0)]
