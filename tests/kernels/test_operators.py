"""Kernels as operators: what they declare to change, and tensors without memory."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from manyview.attention.plan import Plan
from manyview.models.run_options import RunOptions
from manyview.models.vggt.model import VGGT

from .test_models import SMALL


class Dispatched(TorchDispatchMode):
    """Names of what is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))

    def ours(self) -> set[str]:
        return {name.split("::")[1] for name in self.names if name.startswith("manyview::")}


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("place", ["meta", "cuda:0"])
def test_tensors_without_memory_are_launched_as_real_ones(device, place):
    if place != "meta" and torch.version.cuda is None:
        pytest.skip("without CUDA PyTorch cannot index fake tensors of CUDA")
    options = RunOptions(torch.bfloat16, 1, 13, kernels="norms")
    with torch.device("meta"):
        model = VGGT(SMALL).eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model.to_empty(device=place)
        images = torch.zeros(2, 3, 28, 42, dtype=torch.uint8, device=place)
        with Dispatched() as seen:
            found = model(images, Plan.dense(2), options)
    assert found.z_depth.shape == (1, 2, 28, 42) and found.z_depth.device == torch.device(place)
    assert seen.ours() == {"layer_norm", "add_scaled_norm", "head_rotate"}


def test_operators_change_what_they_say(triton):
    from manyview.kernels.fp8_rows import _quantise_rows
    from manyview.kernels.head_rotate import _head_rotate
    from manyview.kernels.merge_outliers import _copy
    from manyview.kernels.row_norm import _add_scaled_norm, _layer_norm

    x, branch, out = torch.randn(3, 1, 6, 16, device=triton)
    ones = torch.ones(16, device=triton)
    angles = torch.ones(3, 2, 2, device=triton)
    heads = torch.empty(1, 2, 6, 8, device=triton)
    codes, scale = torch.empty(6, 16, dtype=torch.float8_e4m3fn), torch.empty(6, 1)
    slot = torch.zeros(1, 1, 6, dtype=torch.long, device=triton)
    for launch, given in (
        (_layer_norm, (x, ones, None, 1e-5, out)),
        (_add_scaled_norm, (x, branch, ones, ones, ones, ones, 1e-5, out)),
        (_head_rotate, (x, None, None, None, angles, angles, False, heads)),
        (_copy, (x[:, None], slot, out[:, None].clone())),
    ):
        torch.library.opcheck(launch, given, test_utils=("test_schema", "test_faketensor"))
    given = (x[0], 1.0, 1.0, codes, scale)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _quantise_rows(*given)
