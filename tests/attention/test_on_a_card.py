"""A layer like one that ran before waits for nothing on the device and sends it nothing, in any plan."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from manyview.attention.dense import AllKeys
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan
from manyview.attention.protocols import KeySet, LayerInput, LayerRun
from manyview.attention.visible_keys import hide_keys
from manyview.kernels import KERNELS
from manyview.models.blocks import Attention, BoundAttention
from manyview.models.da3.model import DA3
from manyview.models.pi3.model import Pi3
from manyview.models.precision import Compute
from manyview.models.rotary import frame_rotation
from manyview.models.run_options import RunOptions
from manyview.models.vggt.model import VGGT

from ..models.da3.tiny_da3 import SMALL as SMALL_DA3
from ..models.tiny import TINY
from ..models.tiny_pi3 import SMALL
from .fake_cuda import CARD, DeviceWatch, Found, HostSync, card

LAYOUT = TokenLayout(28, 5, (6, 8))  # more frames than anchors and covering frames
DEPTH = 24
OPTIONS = {
    "anchors": ["frames=9,descriptors=4", "own_frame=false", "choice=even", "early=9,sensitive=11x16"],
    "avggt": ["early=0,gain=1", "early=0,mean_before_positions=true", "mean=false"],
    "blocksparse": ["sparsity=0.5,tau=0"],
    "fastvggt": ["half_scores=true"],
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
SPECS = [*METHODS, *(f"{name}:{more}" for name in METHODS for more in OPTIONS.get(name, [])), *OTHERS]


def second_layers(plan: Plan, kernels: str) -> list[Found]:
    """Syncs and uploads of each of the plan's kinds of layers where one like it ran before."""
    heads, dim = 2, 64
    with card() as fake, torch.inference_mode():
        with torch.device(CARD):
            attention = Attention(heads * dim, heads, qk_norm=True)
            tokens = torch.empty(1, LAYOUT.tokens, heads * dim, dtype=torch.bfloat16)
            features = torch.empty(1, LAYOUT.frames, heads * dim)
        rotation = frame_rotation(LAYOUT, dim, 100.0, CARD)
        bound = BoundAttention(attention, Compute.for_trunk(RunOptions(kernels=kernels), None))
        run = LayerRun(0, None, None, features, kernels=kernels)
        watch = DeviceWatch(fake)
        with watch:
            for layer in dict.fromkeys(plan.layers):
                for time in range(2):
                    watch.watching = time > 0
                    run = dataclasses.replace(run, layer=run.layer + 1)
                    out = layer(bound, tokens, LAYOUT, rotation, run)
                    assert (out.shape, out.device, out.dtype) == (tokens.shape, CARD, torch.bfloat16)
    return watch.found


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "blocksparse"])
def test_plans(spec: str, kernels: str) -> None:
    if kernels != "plain":
        pytest.importorskip("triton")
    assert not second_layers(Plan.parse(spec, DEPTH), kernels)


@pytest.mark.parametrize("spec", ["blocksparse"])
def test_how_many_blocks_are_seen_depends_on_scores_so_that_block_sparse_attention_asks(spec: str) -> None:
    with pytest.raises(HostSync, match=r"blocksparse\.py"):
        second_layers(Plan.parse(spec, DEPTH), "plain")


@pytest.mark.parametrize("spec", ["dense", "avggt:early=0", "spark3r:r=3", "gotohunt:frames=9"])
def test_masks(spec: str) -> None:
    hidden = torch.arange(LAYOUT.frames * LAYOUT.patches_per_frame).view(LAYOUT.frames, -1) % 3 == 0
    plan, _ = hide_keys(Plan.parse(spec, 3), hidden)
    assert not second_layers(plan, "plain")


class Done(Exception):
    """All layers have run."""


class AfterTheFirst:
    """A recorder: what follows the first global layer is watched, and the last ends the pass."""

    def __init__(self, watch: DeviceWatch, depth: int) -> None:
        self.watch, self.depth = watch, depth

    def mark(self, stage: str) -> None: ...

    def global_tokens(self, layer: int, tokens: torch.Tensor) -> None:
        self.watch.watching = True
        if layer + 1 == self.depth:
            raise Done


@pytest.mark.parametrize(("network", "config"), [(VGGT, TINY), (Pi3, SMALL), (DA3, SMALL_DA3)])
def test_networks(network: Any, config: Any) -> None:
    kernels = "norms" if importlib.util.find_spec("triton") else "plain"
    with card() as fake, torch.inference_mode():
        with torch.device(CARD):
            model = network(config).eval()
        images = torch.empty(1, 3, 3, 56, 56, dtype=torch.uint8, device=CARD)
        watch = DeviceWatch(fake)
        watch.watching = False
        options = RunOptions(torch.bfloat16, 2, 40, kernels=kernels)
        with watch, contextlib.suppress(Done):
            model(images, Plan.dense(config.depth), options, AfterTheFirst(watch, config.depth))
            raise AssertionError("the pass ended before its last global layer")
    assert watch.watching and not watch.found


PLANTED: dict[str, Callable[[Tensor], Any]] = {
    "sync item": lambda x: x.sum().item(),
    "sync __int__": lambda x: int(x.sum()),
    "sync __bool__": lambda x: 1 if x.any() else 0,
    "sync item of tolist": lambda x: x.tolist(),
    "sync cpu": lambda x: x.cpu(),
    "sync to": lambda x: x.to("cpu"),
    "sync nonzero": lambda x: x.nonzero(),
    "sync __getitem__": lambda x: x[x > 0],
    "sync repeat_interleave": lambda x: x.repeat_interleave(x),
    "upload to": lambda x: torch.arange(3).to(x.device),
    "upload tensor": lambda x: torch.tensor([1, 2], device=x.device),
    "upload copy_": lambda x: x.copy_(torch.zeros(3, dtype=torch.long)),
    "upload __getitem__": lambda x: x[torch.arange(2)],
    "upload __setitem__": lambda x: x.__setitem__([0, 1], 2),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_is_found(planted: str) -> None:
    with card() as fake, torch.inference_mode(), DeviceWatch(fake) as watch, contextlib.suppress(HostSync):
        PLANTED[planted](torch.zeros(3, dtype=torch.long, device=CARD))
    kind, call, *_ = planted.split()
    assert [(found.kind, found.call) for found in watch.found] == [(kind, call)]
    assert "test_on_a_card.py" in watch.found[0].where


def test_what_stays_on_the_device_is_no_finding() -> None:
    with card() as fake, torch.inference_mode(), DeviceWatch(fake) as watch:
        x = torch.arange(6, device=CARD).to(torch.float32).to(CARD)
        x[1:3] = x[x.argsort()][:2] * 2.0
        x[:] = torch.where(x > 0, x, 0.0).clamp(max=len(x))
    assert not watch.found


def test_tensors_on_two_devices_are_an_error() -> None:
    with card(), torch.inference_mode(), pytest.raises((RuntimeError, ValueError)):
        torch.ones(3, device=CARD) + torch.ones(3)


def test_a_layer_that_asks_each_time_is_found() -> None:
    @dataclasses.dataclass(frozen=True)
    class Asking(AllKeys):
        def select(self, layer: LayerInput) -> KeySet:
            keys = super().select(layer)
            kept = torch.ones(keys.k.shape[2], dtype=torch.bool).to(keys.k.device)
            return KeySet(keys.k, keys.v, kept=kept, dropped=len(kept.nonzero()))

    found = second_layers(Plan((GlobalAttention(keys=Asking()),)), "plain")
    assert [f.kind for f in found] == ["upload", "sync"]
