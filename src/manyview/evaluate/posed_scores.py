"""The figures of one estimate on pictures with known cameras, and of two estimates that do not look.

Degenerate cases have a stated answer and are never NaN: None where a figure does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.align import umeyama
from ..geometry.cameras import compose_rigid, invert_rigid
from .metrics.alignment import Similarity, trajectory_error
from .metrics.confidence import ConfidenceRankings, confidence_rankings
from .metrics.depth import depth_errors
from .metrics.pose import auc, pair_errors

_NO_BASELINE = 1e-4
"""Pairs of cameras nearer than this share of the set's spread have no direction between them."""


@dataclass(frozen=True)
class PosedEstimate:
    """Cameras (not finite: none was given), z-depth up to one scale, and its confidence if there is one."""

    cam_from_world: Float[Tensor, "views 3 4"]
    z_depth: Float[Tensor, "views height width"]
    confidence: Float[Tensor, "views height width"] | None = None


@dataclass(frozen=True)
class PosedTruth:
    """Measured cameras, and z-depth in the pixels of the network's images, NaN where nothing was measured."""

    cam_from_world: Float[Tensor, "views 3 4"]
    z_depth: Float[Tensor, "views height width"] | None = None

    @property
    def centres(self) -> Float[Tensor, "views 3"]:
        return invert_rigid(self.cam_from_world.double())[..., 3]

    @property
    def length(self) -> float:
        """Of the path through the camera centres in their order."""
        return float(self.centres.diff(dim=0).norm(dim=-1).sum())

    @property
    def spread(self) -> float:
        """Root mean square distance of the centres from their mean: the ATE of cameras all in one point."""
        return float((self.centres - self.centres.mean(0)).square().sum(-1).mean().sqrt())


@dataclass(frozen=True)
class PosedNumbers:
    """AUC, RRA and RTA in percent over all pairs, medians in degrees, ATE in the units of the truth.

    Pairs without a baseline are judged by their rotation alone; RTA and `translation_median_deg` are of
    the others, None without any. `ate` is None below three views with a camera, `ate_share` (of the
    path's length) also for a motionless camera. `abs_rel` and `delta_125` (percent), after one median
    scale for the set, are None without true depth; so is `confidence`, also without any confidence.
    """

    auc_3: float
    auc_5: float
    auc_15: float
    auc_30: float
    rra_5: float
    rra_15: float
    rra_30: float
    rta_5: float | None
    rta_15: float | None
    rta_30: float | None
    rotation_median_deg: float
    translation_median_deg: float | None
    ate: float | None
    ate_share: float | None
    abs_rel: float | None
    delta_125: float | None
    confidence: ConfidenceRankings | None = None


def posed_numbers(found: PosedEstimate, truth: PosedTruth) -> PosedNumbers:
    """Compare an estimate with the truth; views without a camera count as wrong in every figure."""
    pairs = pair_errors(found.cam_from_world, truth.cam_from_world)
    centres, spread = truth.centres, truth.spread
    i, j = torch.triu_indices(len(centres), len(centres), offset=1)
    based = (centres[i] - centres[j]).norm(dim=-1) > _NO_BASELINE * spread
    rotation, direction = pairs.rotation_deg, pairs.translation_deg
    worst = torch.maximum(rotation, torch.where(based, direction, 0.0))
    directed = direction[based]
    ate = aligned_error(found.cam_from_world, truth)
    abs_rel = delta = rankings = None
    if truth.z_depth is not None and bool(truth.z_depth.isfinite().any()):
        valid = truth.z_depth.isfinite()
        errors = depth_errors(found.z_depth, truth.z_depth, valid)
        abs_rel, delta = errors.abs_rel, errors.delta_125
        if found.confidence is not None:
            scaled = found.z_depth[valid] * errors.scale
            rankings = confidence_rankings(scaled, truth.z_depth[valid], found.confidence[valid])

    def recall(values: Tensor, threshold: int) -> float:
        return 100.0 * float((values < threshold).double().mean())

    def recall_of_directions(threshold: int) -> float | None:
        return recall(directed, threshold) if len(directed) else None

    return PosedNumbers(
        auc_3=auc(worst, 3),
        auc_5=auc(worst, 5),
        auc_15=auc(worst, 15),
        auc_30=auc(worst, 30),
        rra_5=recall(rotation, 5),
        rra_15=recall(rotation, 15),
        rra_30=recall(rotation, 30),
        rta_5=recall_of_directions(5),
        rta_15=recall_of_directions(15),
        rta_30=recall_of_directions(30),
        rotation_median_deg=float(rotation.median()),
        translation_median_deg=float(directed.median()) if len(directed) else None,
        ate=ate,
        ate_share=ate / truth.length if ate is not None and truth.length > 0 else None,
        abs_rel=abs_rel,
        delta_125=delta,
        confidence=rankings,
    )


def aligned_error(found: Float[Tensor, "views 3 4"], truth: PosedTruth) -> float | None:
    """ATE after the Sim(3) of least squares between camera centres (Umeyama 1991), as evo computes it.

    Never more than the spread of the true centres, which is the answer for cameras all in one point;
    views without a camera count as standing in the mean of the true centres. None below three views.
    """
    given = found.isfinite().flatten(1).all(-1)
    if int(given.sum()) < 3:
        return None
    own, true = found[given].double(), truth.cam_from_world[given].double()
    source, target = invert_rigid(own)[..., 3], truth.centres[given]
    moves = bool((source - source.mean(0)).norm(dim=-1).max() > 1e-12)
    similarity = Similarity(*umeyama(source, target)) if moves else None
    squared = trajectory_error(similarity, own, true, 1.0) ** 2 * int(given.sum())
    lost = (truth.centres[~given] - truth.centres.mean(0)).square().sum()
    return float((squared + lost) / len(found)) ** 0.5


def identity_estimate(truth: PosedTruth, shape: tuple[int, int], seed: int) -> PosedEstimate:
    """Chance: no rotation, camera centres at random, the same depth everywhere.

    Centres in one point would have no direction, which the protocol counts as beyond every threshold.
    """
    views = len(truth.cam_from_world)
    centres = torch.randn(views, 3, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rotation = torch.eye(3, dtype=torch.float64).expand(views, 3, 3)
    return PosedEstimate(torch.cat([rotation, centres], -1), torch.ones(views, *shape))


def mean_step_estimate(truth: PosedTruth, shape: tuple[int, int]) -> PosedEstimate:
    """The best that is known without looking, taken from the truth itself: from each view to the next the
    same step, the mean of the true ones (rotation: chordal mean), and in each pixel the mean true depth."""
    cameras = truth.cam_from_world.double()
    views = len(cameras)
    steps = compose_rigid(cameras[1:], invert_rigid(cameras[:-1])).mean(0)
    u, _, vh = torch.linalg.svd(steps[:, :3])
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.det(u @ vh).sign()
    step = torch.cat([u * sign @ vh, steps[:, 3:]], -1)
    chain = [torch.eye(4, dtype=torch.float64)[:3]]
    for _ in range(views - 1):
        chain.append(compose_rigid(step, chain[-1]))
    depth = torch.ones(shape)
    if truth.z_depth is not None and bool(truth.z_depth.isfinite().any()):
        known = truth.z_depth.nanmean(0)
        depth = torch.where(known.isfinite(), known, truth.z_depth.nanmedian())
    return PosedEstimate(torch.stack(chain), depth.expand(views, *shape))
