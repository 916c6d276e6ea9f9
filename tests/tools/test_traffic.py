"""Counted traffic against what operations must read and write."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from tools.kernels.traffic import Traffic, TrafficCounter, TrafficOptions, count_traffic, main, run

from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import VGGT_1B
from manyview.models.vggt.model import VGGT

ROW = 1000 * 4


def counted(function) -> Traffic:
    with torch.no_grad(), TrafficCounter() as counter:
        function()
        counter.mark("all")
    return counter.stages["all"]


@pytest.mark.parametrize(
    ("function", "tensors"),
    [
        (lambda x, y: x + y, 3),
        (lambda x, y: x + x, 2),
        (lambda x, y: x.add_(y), 3),
        (lambda x, y: x.copy_(y), 2),
        (lambda x, y: x.fill_(1.0), 1),
        (lambda x, y: x.t().view(-1)[3:].unflatten(0, (1, -1)).expand(5, -1), 0),
        (lambda x, y: torch.empty_like(x), 0),
        (lambda x, y: torch.nn.functional.gelu(x), 2),
        (lambda x, y: x.new_zeros(500), 0.5),
        (lambda x, y: torch.zeros_like(x), 1),
        (lambda x, y: x[:, :500].clone(), 1),
        (lambda x, y: x[0, 0].expand(1, 1000) + y, 2.001),
        (lambda x, y: x.index_select(1, torch.empty(500, dtype=torch.int32, device="meta")), 1.5),
    ],
)
def test_what_is_read_and_written_counts_once(function, tensors):
    x, y = torch.empty(2, 1, 1000, device="meta")
    found = counted(lambda: function(x, y))
    assert found.elementwise_bytes == tensors * ROW and found.product_bytes == 0
    assert found.dispatches == (tensors > 0)


def test_products_count_apart_with_their_flops():
    x, weight = torch.empty(10, 20, device="meta"), torch.empty(30, 20, device="meta")
    found = counted(lambda: torch.nn.functional.linear(x, weight, torch.empty(30, device="meta")))
    assert found.product_bytes == 4 * (10 * 20 + 30 * 20 + 30 + 10 * 30)
    assert found.flops == 2 * 10 * 20 * 30 and found.elementwise_bytes == 0
    offset, summed = torch.empty(30, device="meta"), torch.empty(10, 30, device="meta")
    for product in (
        lambda: summed.addmm_(x, weight.t()),
        lambda: torch._addmm_activation(offset, x, weight.t(), use_gelu=True),
    ):
        assert counted(product).flops == 2 * 10 * 20 * 30


def test_peaks_are_those_of_a_stage():
    with torch.no_grad(), TrafficCounter() as counter:
        kept = torch.empty(1000, device="meta")
        del kept
        counter.mark("one")
        kept = [torch.empty(500, device="meta")]
        counter.mark("two")
    assert counter.stages["one"].peak_bytes == ROW
    assert counter.stages["two"].peak_bytes == kept[0].nbytes


def test_fused_norms_move_at_most_half_of_what_plain_operations_moved():
    """A frame of VGGT-1B's width with two layers of each kind, in passes over token tensors of that frame.

    Plain operations took 254 before there were fused norms by default (commit c375a73, counted in this way).
    """
    assert VGGT_1B.encoder is not None
    encoder = dataclasses.replace(VGGT_1B.encoder, depth=2)
    config = dataclasses.replace(VGGT_1B, track_head=None, encoder=encoder, depth=2, taps=(0, 0, 1, 1))
    with torch.device("meta"):
        model = VGGT(config).eval()
    options = RunOptions(torch.bfloat16, 4, 4 * 1041, heads=("camera",), kernels="norms")

    def grows(gelu: str) -> float:
        run = dataclasses.replace(options, gelu=gelu)
        few, many = (
            count_traffic(model, Plan.dense(2), run, frames, (518, 392)).trunk().elementwise_bytes
            for frames in (4, 8)
        )
        return (many - few) / 4 / (1041 * 1024 * 2)

    exact = grows("exact")
    assert exact <= 0.5 * 254
    assert grows("tanh") == pytest.approx(exact - 6 * 8, abs=0.1)  # the hidden layer, written and read


def test_unknown_networks_are_named():
    with pytest.raises(UsageError, match="'nothing'"):
        run(TrafficOptions(("dense",), model="nothing"))


def test_the_command_counts_stages(capsys):
    where = ["dense", "--model", "da3-small", "--frames", "2", "--size", "56", "42", "--json"]
    assert main(where) == 0
    found = json.loads(capsys.readouterr().out)["dense"]
    assert found["trunk"]["flops"] == found["encoder"]["flops"] + found["global layers"]["flops"] + (
        found["frame layers"]["flops"] if "frame layers" in found else 0
    )
    assert found["trunk"]["elementwise_bytes"] > 0
