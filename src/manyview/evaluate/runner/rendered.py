"""Rendered scenes as scenes of the loop: images in memory, with exact ground truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ...attention.plan import Plan
from ...models.network import Network
from ...models.predictions import Predictions
from ...models.run_options import RunOptions
from ...reconstruction.plan.machine import synchronise
from ...synthetic import SceneBatch, SceneOptions, render_scenes
from ..protocols.measures import Figures
from ..protocols.rendered import RenderedErrors
from ..protocols.scene_pair import ScenePair
from ..references.baselines import Baseline
from .records import PlanRow, SceneRows


def rendered_pairs(found: Predictions | Baseline, truth: SceneBatch) -> list[ScenePair]:
    """Each scene of a batch and its ground truth, on the CPU; a baseline has no confidence and no points."""
    cameras, depth = _array(found.cam_from_world), _array(found.z_depth)
    confidence = intrinsics = None
    if isinstance(found, Predictions):
        confidence, intrinsics = _array(found.depth_conf), _array(found.intrinsics)
    valid, true_points = _array(truth.valid), _array(truth.world_points)
    true_cameras, true_depth = _array(truth.cam_from_world), _array(truth.z_depth)
    true_intrinsics = _array(truth.intrinsics)
    nothing = np.zeros((truth.images.shape[1], 0, 0), dtype=np.float32)
    return [
        ScenePair(
            found_cameras=cameras[i],
            true_cameras=true_cameras[i],
            found_depth=depth[i],
            confidence=nothing if confidence is None else confidence[i],
            found_points=nothing[..., None].repeat(3, -1),
            seen=np.ones(valid[i].shape, dtype=bool),
            true_depth=np.where(valid[i], true_depth[i], np.nan),
            true_points=np.where(valid[i][..., None], true_points[i], np.nan),
            found_intrinsics=None if intrinsics is None else intrinsics[i],
            true_intrinsics=true_intrinsics[i],
        )
        for i in range(len(truth))
    ]


def _array(values: torch.Tensor | None) -> np.ndarray:
    assert values is not None
    values = values.detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()


def predict(
    model: Network, images: torch.Tensor, plan: Plan, options: RunOptions
) -> tuple[Predictions, float]:
    """Predictions for a batch of scenes, and the seconds they took, the device's queue included."""
    synchronise(images.device)
    start = time.perf_counter()
    with torch.no_grad():
        found = model(images, plan=plan, options=options)
    synchronise(images.device)
    return found, time.perf_counter() - start


@dataclass(frozen=True)
class RenderedScenes:
    """A batch of procedural scenes that are run together, drawn from `seeds`, as one scene of the loop.

    Rows are `plans` by name, then `baselines` by name, each measured by `errors` scene by scene. `facts` are
    handed on to the rows; with `warm` the first plan runs once unmeasured.
    """

    name: str
    seeds: tuple[int, ...]
    views: int
    size: tuple[int, int]
    options: SceneOptions
    plans: Mapping[str, Plan]
    errors: Callable[[ScenePair], RenderedErrors]
    run: RunOptions
    device: str = "cpu"
    baselines: Mapping[str, Callable[[int], Baseline]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    warm: bool = False

    @property
    def rows(self) -> int:
        return len(self.plans) + len(self.baselines)

    def measure(self, model: Network, row_done: Callable[[], None]) -> SceneRows:
        """Render the scenes and run every plan and baseline on them."""
        truth = render_scenes(list(self.seeds), self.views, *self.size, self.options, device=self.device)
        if self.warm:
            predict(model, truth.images, next(iter(self.plans.values())), self.run)
        rows, there = [], truth.to("cpu")
        for name, plan in self.plans.items():
            found, seconds = predict(model, truth.images, plan, self.run)
            head_dim = model.config.dim // model.config.num_heads
            cost = plan.cost(found.layout, model.config.dim, head_dim=head_dim)
            figures: Figures = {"attention_flops": cost.attention_flops, "linear_flops": cost.linear_flops}
            errors = tuple(self.errors(pair) for pair in rendered_pairs(found, there))
            rows.append(PlanRow(name, "", figures, str(plan), {"forward": seconds}, errors=errors))
            row_done()
        for name, baseline in self.baselines.items():
            errors = tuple(self.errors(pair) for pair in rendered_pairs(baseline(len(there)), there))
            rows.append(PlanRow(name, "", reference=True, errors=errors))
            row_done()
        return SceneRows(self.name, "", self.views, "", (), "", tuple(rows), facts=dict(self.facts))
