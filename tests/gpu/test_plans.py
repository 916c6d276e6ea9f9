"""On a CUDA card: every plan and kernel beside float64, and the parts of attention that only a card has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tools.gpu_check.parity import plan_error
from torch.nn.attention import SDPBackend

from manyview.attention.methods import METHODS
from manyview.attention.softmax import sdpa
from manyview.attention.softmax.lengths import attend_lengths
from manyview.attention.softmax.logsumexp import attend_with_lse
from manyview.kernels import KERNELS
from manyview.models.transfer import CudaCopies, in_slices_to_host, to_device, to_host

CARD = torch.cuda.is_available()
on_a_card = pytest.mark.skipif(not CARD, reason="no CUDA card")
BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)
# Of the mean of outputs whose rounding is that of their precision; scores lose a few more bits.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 3e-3, torch.bfloat16: 2e-2}
pytestmark = pytest.mark.gpu


def check_plan(spec: str, kernels: str, device: str) -> None:
    told: list[dict[str, Any]] = []
    plan_error(told.append, spec, kernels, device)
    assert told and told[-1].get("status", "ok").startswith(("ok", "not for")), told[-1]


@on_a_card
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("spec", ["dense", "frame", *METHODS])
def test_a_plan_computes_what_it_does_on_a_cpu(spec, kernels):
    check_plan(spec, kernels, "cuda")


def test_a_plan_on_the_cpu_passes_the_same_check():
    check_plan("spark3r", "plain", "cpu")


def exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = q.double() @ k.double().mT * q.shape[-1] ** -0.5
    return logits.softmax(-1) @ v.double(), logits.logsumexp(-1)


def inputs(device: str, dtype: torch.dtype, dim: int = 64, keys: int = 301) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 257, dim), (2, 3, keys, dim), (2, 3, keys, dim))
    return tuple(torch.randn(*shape, generator=generator).to(device, dtype) for shape in shapes)


@on_a_card
@pytest.mark.parametrize("dim", [32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_log_sum_exp_of_each_backend_is_that_of_float64(monkeypatch, backend, dtype, dim):
    if dtype == torch.float32 and backend != SDPBackend.EFFICIENT_ATTENTION:
        pytest.skip("this backend is for 16 bits")
    for module in (sdpa, "manyview.attention.softmax.logsumexp"):
        name = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{name}.backend_order", lambda *_, **__: [backend])
    q, k, v = inputs("cuda", dtype, dim)
    (out, lse), (want, sums) = attend_with_lse(q, k, v), exact(q, k, v)
    torch.testing.assert_close(out.double(), want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    torch.testing.assert_close(lse.double(), sums, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_a_card)])
def test_heads_of_several_lengths_are_each_its_own_attention(device):
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    q, k, v = inputs(device, dtype)
    lengths = torch.tensor([[1, 257, 0], [40, 13, 256]], device=device)
    parts = [x[:n] for x, n in zip(q.flatten(0, 1), lengths.flatten().tolist())]
    out = attend_lengths(torch.cat(parts)[None, None], k, v, lengths, 257)[0, 0]
    heads = zip(parts, k.flatten(0, 1), v.flatten(0, 1))
    want = torch.cat([exact(a, b, c)[0] for a, b, c in heads])
    torch.testing.assert_close(out.double(), want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@on_a_card
def test_pinned_copies_bring_every_number_there_and_back():
    maps = torch.randn(37, 3, 50, 70)
    there = to_device(maps, torch.device("cuda"))
    assert torch.equal(there.cpu(), maps) and torch.equal(to_host(there), maps)
    device = there.device
    doubled, sums = in_slices_to_host(
        lambda part: [2 * there[part], there[part].sum((1, 2, 3))], len(maps), 5, CudaCopies(device)
    )
    assert torch.equal(doubled, 2 * maps)
    torch.testing.assert_close(sums, maps.sum((1, 2, 3)), rtol=1e-4, atol=1e-3)
