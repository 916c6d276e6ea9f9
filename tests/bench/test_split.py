"""The division of a global layer, which must see what happens inside and change nothing."""

from __future__ import annotations

import time

import pytest
import torch
from tools.bench.reference import ReferenceVGGT

from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan
from manyview.bench.method_run import MethodRun
from manyview.bench.methods import Implementation, Method
from manyview.bench.options import BenchOptions
from manyview.bench.split import SplitTimer, timed_plan
from manyview.models.blocks import Attention
from manyview.reconstruction.plan.preflight import Request
from tests.models.da3.tiny_da3 import tiny_da3
from tests.models.omega.tiny_omega import tiny_omega
from tests.models.tiny import TINY, tiny_vggt
from tests.models.tiny_pi3 import tiny_pi3

CPU = torch.device("cpu")
IMAGES = torch.randint(0, 256, (3, 3, 42, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("spec", ["dense", "frame", *sorted(METHODS)])
def test_a_timed_plan_gives_the_same_numbers(spec):
    model, plan = tiny_vggt(), Plan.parse(spec, TINY.depth)
    timer = SplitTimer(CPU)
    with torch.inference_mode():
        plain, timed = model(IMAGES, plan), model(IMAGES, timed_plan(plan, timer), recorder=timer)
    assert torch.equal(plain.z_depth, timed.z_depth)
    assert 0 < timer.attention_share() < 1


@pytest.mark.parametrize("make", [tiny_pi3, tiny_omega, tiny_da3])
def test_other_families_are_divided_too(make):
    model = make()
    side = 3 * model.config.patch_size
    images = torch.rand(2, 3, side, side)
    plan, timer = Plan.dense(model.config.depth), SplitTimer(CPU)
    with torch.inference_mode():
        plain, timed = model(images, plan), model(images, timed_plan(plan, timer), recorder=timer)
    assert torch.equal(plain.cam_from_world, timed.cam_from_world)
    assert 0 < timer.attention_share() < 1


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("slow, low, high", [("attend", 0.6, 1.0), ("project", 0.0, 0.3)])
def test_time_is_booked_where_it_is_spent(monkeypatch, slow, low, high):
    real_attend, real_output = torch.nn.functional.scaled_dot_product_attention, Attention.output

    def attend(*args, **kwargs):
        time.sleep(0.03 * (slow == "attend"))
        return real_attend(*args, **kwargs)

    def output(self, *inputs):
        time.sleep(0.03 * (slow == "project"))
        return real_output(self, *inputs)

    monkeypatch.setattr("manyview.attention.softmax.sdpa.F.scaled_dot_product_attention", attend)
    monkeypatch.setattr(Attention, "output", output)
    timer = SplitTimer(CPU)
    with torch.inference_mode():
        tiny_vggt()(IMAGES, timed_plan(Plan.dense(TINY.depth), timer), recorder=timer)
    assert low <= timer.attention_share() <= high


def case(method: Method, **changes: object) -> MethodRun:
    request = Request(TINY, 3, 42, 56, method.plan, ("camera", "depth"), torch.float32)
    return MethodRun(tiny_vggt(), method, request, IMAGES, BenchOptions(**changes))


@pytest.mark.parametrize("other", [None, Implementation("reference", ReferenceVGGT)])
def test_a_case_knows_its_share_and_memory(other):
    one = case(Method(Plan.dense(TINY.depth), implementation=other))
    one.run(counts=True)
    one.split()
    figures = one.figures()
    stages = figures.shown_stages()
    assert (
        0 < figures.attention_share < 1
        and figures.peak_bytes > 0
        and figures.implementation == (other and "reference")
    )
    assert stages["global linears"] + stages["global attention"] == pytest.approx(
        figures.stage_seconds["global layers"]
    )
    assert sum(figures.shown_flops().values()) == pytest.approx(figures.flops)


def test_long_cases_run_once_or_not_again():
    dense = Method(Plan.dense(TINY.depth))
    assert case(dense, runs=4).passes_of_a_round == 4
    assert case(dense, runs=4, long_pass=1e-9).passes_of_a_round == 1
    single = case(dense, runs=4, single_pass=1e-9)
    assert single.passes_of_a_round == 0
    figures = single.figures()
    assert figures.first_pass and figures.seconds == single.first_seconds and not figures.noisy
