"""No plan waits for the device or sends it anything in a layer like one that has run before."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan
from manyview.kernels import KERNELS
from manyview.models.part_configs import EncoderConfig
from manyview.models.run_options import RunOptions
from manyview.models.vggt.model import VGGT

from ..models.tiny import TINY
from .fake_cuda import CARD, DeviceWatch, Found, card

FRAMES = 40
OPTIONS = {
    "anchors": ["descriptors=4", "own_frame=false", "choice=even", "frames=30,early=1,sensitive=1x2"],
    "avggt": ["early=1", "early=1,gain=1", "early=0,mean_before_positions=true"],
    "blocksparse": ["sparsity=0.5,tau=0"],
    "fastvggt": ["start=1,half_scores=true"],
    "flash": [
        "count_bias=1,duplicates=false,keyframes=3",
        "version=v2",
        "causal=true,keep_one_in=5",
        "causal=true,count_bias=1,duplicates=false",
    ],
    "httm": ["outliers=0", "count_bias=1", "into=random,anchor=true"],
    "random": ["fill=true"],
    "spark3r": ["q=4,r=3"],
}
OTHERS = ["dense", "frame", "avggt:early=0+httm", "avggt:early=0+spark3r:q=4"]
SPECS = [f"{name}:{options}" for name in METHODS for options in OPTIONS.get(name, [])]
SPECS = [*METHODS, *SPECS, *OTHERS]


class Done(Exception):
    """All layers have run."""


class LayerCount:
    """A recorder that tells the watch which global layer runs, and ends the pass after the last."""

    def __init__(self, watch: DeviceWatch, depth: int) -> None:
        self.watch, self.depth = watch, depth

    def mark(self, stage: str) -> None: ...

    def global_tokens(self, layer: int, tokens: torch.Tensor) -> None:
        assert tokens.device == CARD
        self.watch.layer = layer + 1
        if self.watch.layer == self.depth:
            raise Done


def later(found: list[Found], plan: Plan) -> list[Found]:
    """What was found in layers (and the frame layers before them) that have a twin among earlier ones."""
    layers = plan.layers
    return [f for f in found if layers[f.layer] in layers[: f.layer]]


@contextlib.contextmanager
def until_done() -> Iterator[None]:
    with contextlib.suppress(Done):
        yield
        raise AssertionError("the pass ended before its last global layer")


def watched(model: nn.Module, plan: Plan, fake: Any, size: tuple[int, int], kernels: str) -> list[Found]:
    """Syncs and uploads of a pass through all layers."""
    watch = DeviceWatch(fake)
    images = torch.empty(1, FRAMES, 3, *size, dtype=torch.uint8, device=CARD)
    options = RunOptions(torch.bfloat16, 31, 512, kernels=kernels)
    with torch.inference_mode(), watch, until_done():
        model(images, plan, options, LayerCount(watch, len(plan.layers)))
    return watch.found


@pytest.mark.parametrize("kernels", [name for name in KERNELS if name != "triton"])
@pytest.mark.parametrize("spec", SPECS)
def test_plans(spec: str, kernels: str) -> None:
    config = dataclasses.replace(TINY, dim=128, encoder=EncoderConfig(1, 2, native_grid=4))
    plan = Plan.parse(spec, config.depth)
    with torch.device("meta"):
        model = VGGT(config).eval()
    with card() as fake:
        model.to_empty(device=CARD)
        found = watched(model, plan, fake, (84, 112), kernels)
    assert not later(found, plan)
