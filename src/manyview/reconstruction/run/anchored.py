"""Anchors once, then any other frames against them: what streaming and long input are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from ...attention.anchor_memory import (
    AnchorMemory,
    ChosenAnchors,
    attaching_plan,
    solving_plan,
    why_not_attachable,
)
from ...attention.plan import Plan
from ...errors import UsageError
from ...geometry.cameras import compose_rigid
from ...models.network import Network
from ...models.precision import ConvertedWeights
from ...models.predictions import Predictions
from ...models.run_options import RunOptions
from ..plan.chunked_plan import selection_chunk


def why_not_anchored(model: Network, plan: Plan) -> str | None:
    """Why frames cannot be attached one by one with this network and plan; None where they can."""
    return model.why_not_attachable or why_not_attachable(plan)


def encoder_features(
    model: Network,
    read: Callable[[int, int], Tensor],
    frames: int,
    options: RunOptions,
    mark: Callable[[int], None] = lambda views: None,
    weights: ConvertedWeights | None = None,
    first: int = 0,
) -> Float[Tensor, "frames dim"]:
    """By what frames are chosen as anchors, as one pass over all of them sees it.

    `read(start, stop)` gives images on the device; the encoder runs on chunks whose size does
    not depend on how many are attached at a time later. `mark(views)` is called after each chunk.
    `weights`: see `SolvedAnchors`. `first`: the number in the scene of the first of these frames.
    """
    height, width = read(0, 1).shape[-2:]
    step = selection_chunk(model.config.layout(1, height, width).tokens, options)
    parts = []
    for start in range(0, frames, step):
        images = read(start, min(start + step, frames))[None]
        parts.append(model.encoder_features(images, options, first + start > 0, weights)[0])
        mark(images.shape[1])
    return torch.cat(parts)


@dataclasses.dataclass(frozen=True, eq=False)
class SolvedAnchors:
    """A network with anchors solved: `attach` gives any other frames' cameras, depth and points.

    The world is that of the anchors' pass. `world`: from the first camera's frame to the network's own
    world, for networks that have one (π³). `weights`: converted weights that passes share (None: each
    converts what it needs).
    """

    model: Network
    plan: Plan
    options: RunOptions
    memory: AnchorMemory
    world: Float[Tensor, "1 1 3 4"] | None = None
    weights: ConvertedWeights | None = None

    def attach(
        self,
        images: Num[Tensor, "views 3 height width"],
        recorder: Any = None,
        passing: dict[Any, Any] | None = None,
    ) -> Predictions:
        """Predictions [1, views, ...] for frames that are no anchors; each is as if it came alone.

        `passing`, if given, receives the "frame features" [1, views, C] by which anchors are chosen.
        """
        plan = attaching_plan(self.plan, self.memory, features=passing is not None)
        return self._pass(images, plan, recorder, passing)

    def adopt(self, images: Num[Tensor, "views 3 height width"]) -> SolvedAnchors:
        """With these frames as further anchors, each as it was attached: earlier anchors do not change."""
        left = AnchorMemory()
        self._pass(images, attaching_plan(self.plan, self.memory, left), None, None)
        return dataclasses.replace(self, memory=self.memory.joined(left))

    def _pass(self, images: Tensor, plan: Plan, recorder: Any, passing: dict[Any, Any] | None) -> Predictions:
        result = self.model(
            images, plan, self.options, recorder, continues=True, memory=passing, weights=self.weights
        )
        if self.world is None:
            return result
        cameras, intrinsics = result.cameras
        result.cameras = (compose_rigid(cameras, self.world.expand_as(cameras)), intrinsics)
        if result.world_points is not None:
            turn, shift = self.world[:, :, None, :, :3], self.world[:, :, None, None, :, 3]
            result.world_points = (result.world_points - shift) @ turn
        return result


def solve_anchors(
    model: Network,
    images: Num[Tensor, "anchors 3 height width"],
    chosen: ChosenAnchors,
    options: RunOptions,
    recorder: Any = None,
    weights: ConvertedWeights | None = None,
) -> tuple[SolvedAnchors, Predictions]:
    """One pass over the anchors of `chosen`, and its predictions for them.

    Raises UsageError for a network that joins frames elsewhere too.
    """
    problem = why_not_anchored(model, chosen.plan)
    if problem is not None:
        raise UsageError(f"frames cannot be attached to anchors with {model.name}: {problem}")
    memory = AnchorMemory()
    result = model(images, solving_plan(chosen.plan, memory), options, recorder, weights=weights)
    world = None if result.world_from_cam is None else result.world_from_cam[:, :1, :3]
    return SolvedAnchors(model, chosen.plan, options, memory, world, weights), result
