"""Kernels that prepare for each new shape meet few of them: the same whatever the data are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerRun
from manyview.models.blocks import Attention, BoundAttention
from manyview.models.precision import Compute
from manyview.models.rotary import frame_rotation
from manyview.models.run_options import RunOptions

from .fake_cuda import CARD, DeviceWatch, card
from .test_on_a_card import LAYOUT

DEPTH = 8  # all kinds of layers of these plans
MANY = 3  # shapes a plan
# The shapes of these depend on the data or are many, so that cuDNN takes none of them.
WITHOUT_CUDNN = {"blocksparse", "httm", "flash:causal=true"}


class AttentionShapes(TorchDispatchMode):
    """Notes what every call of PyTorch's attention is given: operator, shapes, strides, precision."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: set[tuple[Any, ...]] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if "attention" in func.name():
            given = [(tuple(x.shape), x.stride(), x.dtype) for x in args[:3]]
            self.calls.add((func.name(), *given))
        return func(*args, **(kwargs or {}))


def shapes_of(plan: Plan) -> set[tuple[Any, ...]]:
    """What attention is given in all layers of a plan."""
    heads, dim = 2, 64
    with card() as fake, torch.inference_mode():
        with torch.device(CARD):
            attention = Attention(heads * dim, heads, qk_norm=True)
            tokens = torch.empty(1, LAYOUT.tokens, heads * dim, dtype=torch.bfloat16)
            features = torch.empty(1, LAYOUT.frames, heads * dim)
        rotation = frame_rotation(LAYOUT, dim, 100.0, CARD)
        bound = BoundAttention(attention, Compute.for_trunk(RunOptions(), None))
        run, shapes = LayerRun(0, None, None, features), AttentionShapes()
        with DeviceWatch(fake), shapes:
            for number, layer in enumerate(plan.layers):
                layer(bound, tokens, LAYOUT, rotation, dataclasses.replace(run, layer=number))
    return shapes.calls


SPECS = ["dense", "frame", *(name for name in METHODS if name not in WITHOUT_CUDNN)]
SPECS += ["anchors:descriptors=4", "avggt:early=1,gain=1", "flash:count_bias=1", "spark3r:q=4,r=3"]


@pytest.mark.parametrize("spec", SPECS)
def test_a_plan_has_few_shapes(spec):
    assert 1 <= len(shapes_of(Plan.parse(spec, DEPTH))) <= MANY


def test_many_shapes_leave_cudnn_out():
    calls = shapes_of(Plan.parse("flash:causal=true", DEPTH))
    assert calls and not any("cudnn" in name for name, *_ in calls)


def test_tensors_beyond_32_bits_leave_cudnn_out():
    from manyview.attention.softmax.sdpa import backend_order

    with card():
        q = torch.empty(1, 16, 2**21 + 64, 64, dtype=torch.bfloat16, device=CARD)
        names = [x.name for x in backend_order(q, q, q, shapes_vary=False)]
        few = [
            x.name for x in backend_order(q[:, :, 64:-1], q[:, :, 64:-1], q[:, :, 64:-1], shapes_vary=False)
        ]
    assert names == ["FLASH_ATTENTION", "EFFICIENT_ATTENTION"] and few == ["CUDNN_ATTENTION", *names]
