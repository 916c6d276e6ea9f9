"""Linear layers in the run's precision and in fp8, and weights that are converted once."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from manyview.models.fp8 import Fp8Weight, fp8_linear, quantise
from manyview.models.layers import Linear
from manyview.models.precision import Compute, ConvertedWeights, in_dtype
from manyview.models.run_options import RunOptions
from tests.models.tiny import tiny_vggt

BF16 = torch.bfloat16


def images(frames: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (frames, 3, 28, 42), dtype=torch.uint8, generator=generator)


class Conversions(TorchDispatchMode):
    """Counts converted elements of a model's weights, and conversions of anything."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._storages = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.weights = 0
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].dtype != result.dtype:
            self.weights += result.numel() * (args[0].untyped_storage().data_ptr() in self._storages)
            self.calls += 1
        return result


def converted_elements(
    model: nn.Module, options: RunOptions, passes: int = 1, weights: ConvertedWeights | None = None
) -> Conversions:
    with torch.no_grad(), Conversions(model) as count:
        for _ in range(passes):
            model(images(), options=options, weights=weights)
    return count


def test_a_pass_converts_each_weight_once_however_many_pieces():
    model = tiny_vggt()
    trunk = sum(p.numel() for p in model.aggregator.parameters())
    pieces = {"frames_per_chunk": 1, "mlp_tokens_per_chunk": 10, "heads": ("camera",)}
    once = converted_elements(model, RunOptions(BF16, **pieces))
    anew = converted_elements(model, RunOptions(BF16, **pieces, keep_weights=False))
    assert once.weights <= trunk
    assert anew.weights > 2 * trunk and anew.calls > 2 * once.calls
    # A caller that runs several passes keeps them for all.
    many = converted_elements(model, RunOptions(BF16, **pieces), passes=3, weights=ConvertedWeights())
    assert many.weights <= 1.01 * trunk  # special tokens are converted by every pass


def test_nothing_is_converted_in_the_weights_own_precision():
    assert converted_elements(tiny_vggt(), RunOptions(heads=("camera",))).weights == 0


@pytest.mark.parametrize("linear_precision", ["plain", "fp8"])
def test_keeping_changes_nothing_and_leaves_nothing(linear_precision):
    model = tiny_vggt()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        kept, anew = (
            model(
                images(),
                options=RunOptions(BF16, 2, 20, linear_precision=linear_precision, keep_weights=keep),
            )
            for keep in (True, False)
        )
    assert torch.equal(kept.z_depth, anew.z_depth)
    assert torch.equal(kept.cam_from_world, anew.cam_from_world)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert all(not vars(part).keys() - vars(type(part)(*_sizes(part))).keys() for part in _linears(model))


def _linears(model: nn.Module) -> list[Linear]:
    return [part for part in model.modules() if type(part) is Linear]


def _sizes(part: Linear) -> tuple[int, int]:
    return part.in_features, part.out_features


@pytest.mark.parametrize("change", ["in place", "new storage", "another parameter"])
def test_a_changed_parameter_is_converted_again(change):
    layer, x = Linear(16, 16), torch.randn(3, 16).to(BF16)
    compute = Compute(weights=ConvertedWeights())
    with torch.no_grad():
        layer(x, compute)
        if change == "in place":
            layer.weight.mul_(2)
        elif change == "new storage":
            layer.weight.data = 3 * layer.weight
        else:
            layer.weight = nn.Parameter(5 * layer.weight)
        found = layer(x, compute)
    with torch.no_grad():
        assert torch.equal(found, layer(x))


def test_what_was_converted_goes_with_its_parameter():
    converted, parameter = ConvertedWeights(), nn.Parameter(torch.randn(4, 4))
    converted.get(parameter, BF16, lambda p: p.to(BF16))
    assert len(converted) == 1
    del parameter
    gc.collect()
    assert len(converted) == 0


def test_gradients_reach_weights_that_were_converted_without_them():
    layer, x = Linear(16, 16), torch.randn(3, 16).to(BF16)
    compute = Compute(linear_precision="fp8", weights=ConvertedWeights())
    with torch.no_grad():
        layer(x, compute)  # kept now, and not for what follows
    layer(x, compute).sum().backward()
    assert in_dtype(layer.weight, BF16, compute).requires_grad
    assert layer.weight.grad is not None and bool(layer.weight.grad.any())


def code_by_code(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """float64 twin: every entry rounded to e4m3 by search among all of its values."""
    values = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).double()
    values = values[values.isfinite()].unique()

    def rounded(rows: Tensor) -> Tensor:
        result = rows.double().clone()
        for row in result:
            step = row.abs().max() / 448
            row.copy_(values[(row[:, None] / step - values).abs().argmin(1)] * step)
        return result

    return rounded(x) @ rounded(weight).T + bias.double()


def test_fp8_against_the_twin():
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 32, generator=generator) for n in (7, 48))
    x[2] *= 300  # an outlier among tokens
    bias = torch.randn(48, generator=generator)
    found = fp8_linear(x[None], Fp8Weight.of(weight), bias)
    twin = code_by_code(x, weight, bias)
    assert found.shape == (1, 7, 48)
    # A tie may round to another code than the search's; nothing else may differ.
    assert (found[0] - twin).abs().median() < 1e-5 and (found[0] - twin).norm() < 2e-3 * twin.norm()


def test_a_scale_for_each_token_saves_the_others_from_an_outlier():
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(64, 64, generator=generator) for _ in range(2))
    x[0] *= 3e5
    want = (x @ weight.T)[1:]
    found = fp8_linear(x, Fp8Weight.of(weight), None)[1:]
    coarse = (x / x.abs().max() * 448).to(torch.float8_e4m3fn).float() * x.abs().max() / 448  # one for all
    errors = [((one - want).norm() / want.norm()).item() for one in (found, (coarse @ weight.T)[1:])]
    assert errors[0] < 0.05 < 4 * errors[0] < errors[1]


def test_codes_use_their_whole_range_and_zeros_stay_zero():
    rows = torch.tensor([[0.0, 0.0], [-1e-3, 5e-4], [3e5, -1e4], [-7.123e9, 3e9]])
    codes, scale = quantise(rows)
    assert codes.float().abs().amax(1).tolist() == [0, 448, 448, 448]
    torch.testing.assert_close(codes.float() * scale, rows, rtol=0.07, atol=0)


@pytest.mark.parametrize("rows", [slice(0, 16), slice(16, 48)])
def test_a_part_of_the_outputs_is_that_part(rows):
    layer, x = Linear(32, 48), torch.randn(5, 32)
    codes = Fp8Weight.of(layer.weight)
    whole = fp8_linear(x, codes, layer.bias.detach())
    part = fp8_linear(x, codes.rows(rows), layer.bias.detach()[rows])
    torch.testing.assert_close(part, whole[:, rows])


def test_fp8_runs_the_trunk_and_only_it():
    model = tiny_vggt()
    with torch.no_grad():
        plain, fp8 = (model(images(), options=RunOptions(linear_precision=kind)) for kind in ("plain", "fp8"))
    error = (fp8.z_depth - plain.z_depth).norm() / plain.z_depth.norm()
    assert 1e-4 < error < 0.1
    x = torch.randn(2, 3, 64)
    compute = Compute(linear_precision="fp8")
    with torch.no_grad():
        inside = model.camera_head(x, compute=compute)[-1]
        # What chooses is the argument, not the layer: a pass runs its heads without it.
        assert not torch.equal(inside, model.camera_head(x)[-1])
        shared = model(images(), options=RunOptions(linear_precision="fp8"), weights=ConvertedWeights())
    assert torch.equal(shared.pose_encoding, fp8.pose_encoding)
    odd = Linear(9, 32)  # sides that matrix units do not take
    with torch.no_grad():
        assert torch.equal(odd(x[..., :9], compute), nn.functional.linear(x[..., :9], odd.weight, odd.bias))


@pytest.mark.parametrize("unknown", ["int3", "fp8-tensor"])
def test_unknown_precisions_are_refused(unknown):
    with pytest.raises(ValueError, match=f"linear_precision '{unknown}'"):
        RunOptions(linear_precision=unknown)


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_the_largest_entry_never_overflows(dtype):
    values = torch.rand(20000, 1, generator=torch.Generator().manual_seed(0)).mul(1e3).to(dtype)
    codes, scale = quantise(values)
    assert codes.float().isfinite().all() and codes.float().max() == 448 and scale.shape == (20000, 1)
