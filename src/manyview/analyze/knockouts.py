"""Change one global layer at a time and measure the effect on the predictions."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..attention.dense import SameFrameKeys
from ..attention.global_attention import GlobalAttention
from ..attention.layout import TokenLayout
from ..attention.methods.avggt import GridKeys
from ..attention.plan import Plan
from ..attention.protocols import Keys, KeySet, LayerInput
from ..evaluate.metrics.pose import auc, pair_errors
from ..models.network import Network, Predictions
from ..models.run_options import RunOptions


@dataclasses.dataclass(frozen=True)
class MeanKey(Keys):
    """The mean of all keys and of all values (AVGGT's "G2M", arXiv 2512.02541), the same for every query."""

    def select(self, layer: LayerInput) -> KeySet:
        k, v = layer.keys_values()
        return KeySet(k.mean(2, keepdim=True), v.mean(2, keepdim=True))

    def count(self, layout: TokenLayout) -> float:
        return 1


KINDS = {
    "frame": GlobalAttention(keys=SameFrameKeys()),
    "mean": GlobalAttention(keys=MeanKey()),
    "coarse": GlobalAttention(keys=GridKeys((2, 2))),
}
"""Same-frame attention, one mean key, a quarter of the keys (without fill)."""


@dataclasses.dataclass(frozen=True)
class Change:
    """Against dense attention: median angle of relative poses (the larger of rotation and direction, in
    degrees), median relative depth; and AUC@30 against the ground truth if there is one."""

    pose_deg: float
    depth_rel: float
    auc_30: float | None = None


def with_layer(depth: int, layer: int, changed: GlobalAttention) -> Plan:
    """Dense attention in all layers but one."""
    layers = list(Plan.dense(depth).layers)
    layers[layer] = changed
    return Plan(tuple(layers))


@torch.no_grad()
def predict(
    model: Network,
    images: Float[Tensor, "s 3 h w"],
    plan: Plan,
    options: RunOptions | None = None,
    recorder: Any = None,
) -> Predictions:
    """Cameras and depth of one scene, in small pieces; `options` say all else."""
    options = dataclasses.replace(
        options or RunOptions(), frames_per_chunk=8, mlp_tokens_per_chunk=1 << 14, head_frames_per_chunk=8
    )
    found: Predictions = model(images[None], plan, options, recorder)
    return found


def change(found: Predictions, dense: Predictions, truth: Float[Tensor, "s 3 4"] | None = None) -> Change:
    """Difference of predictions to the dense ones; pairs without a direction count as 180 degrees."""
    assert found.z_depth is not None and dense.z_depth is not None
    worst = pair_errors(found.cam_from_world.float().cpu(), dense.cam_from_world.float().cpu()).worst_deg
    depth = (found.z_depth - dense.z_depth).abs() / dense.z_depth
    score = None
    if truth is not None:
        score = auc(pair_errors(found.cam_from_world[0].float().cpu(), truth.cpu()).worst_deg, 30)
    pose = float(worst.clamp(max=180.0).median()) if worst.numel() else 0.0
    return Change(pose, float(depth.median()), score)
