"""Expected seconds against the figures that the rates were made from, and what `auto` makes of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import manyview
from manyview.attention.auto import ExpectedTime, SuitedPlans, choose_plan
from manyview.attention.plan import Plan
from manyview.models.da3.config import DA3_BASE
from manyview.models.families import empty_network, suited_plans
from manyview.models.network import NetworkConfig
from manyview.models.vggt.config import VGGT_1B
from manyview.reconstruction.plan.device_model import (
    Card,
    DeviceModel,
    card_model,
    device_model,
    known_devices,
)
from manyview.reconstruction.plan.estimate import stage_seconds, total_seconds
from manyview.reconstruction.plan.machine import Machine
from manyview.reconstruction.plan.preflight import Request, preflight
from manyview.train.config import load_config

H100 = known_devices()["NVIDIA H100"]
FRAMES = (100, 300, 1000, 3000)
# Seconds on an H100 as a reading of the code gave them: fused norms and bf16 heads, and plain with float32
# heads. Of avggt and anchors, whose terms run at a head's own width since, the read figures less those terms.
FUSED = {
    "dense": (3.0, 23, 243, 2150),
    "avggt": (0.9, 3.7, 25, 190),
    "flash": (0.8, 3.4, 23, 169),
    "httm": (0.8, 3.3, 21, 152),
    "anchors": (1.3, 3.7, 12, 37),
    "spark3r": (None, 3.1, 8.5, 26),
}
PLAIN = {"dense": (3.4, 24, 247, 2150), "flash": (1.2, 4.6, 27, 181), "spark3r": (None, 4.4, 12.8, 38)}


def request(
    plan: str | Plan,
    views: int,
    config: NetworkConfig = VGGT_1B,
    size: tuple[int, int] = (392, 518),
    **changed: object,
) -> Request:
    parsed = Plan.parse(plan, config.depth) if isinstance(plan, str) else plan
    fused = {"kernels": "norms", "head_dtype": torch.bfloat16} | changed
    return Request(config, views, *size, parsed, ("camera", "depth"), torch.bfloat16, **fused)


@pytest.mark.parametrize("spec", FUSED)
def test_the_figures_that_the_rates_were_made_from(spec):
    for views, expected in zip(FRAMES, FUSED[spec], strict=True):
        if expected is not None:
            assert total_seconds(request(spec, views), H100) == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("spec", PLAIN)
def test_plain_kernels_and_float32_heads(spec):
    for views, expected in zip(FRAMES, PLAIN[spec], strict=True):
        if expected is not None:
            found = total_seconds(request(spec, views, kernels="plain", head_dtype=None), H100)
            assert found == pytest.approx(expected, rel=0.25)


def test_ratios_between_plans_are_those_measured_on_a_cpu():
    file = Path(__file__).parents[2] / "docs/benchmarks/cpu-small/bench.json"
    bench = json.loads(file.read_text())
    measured = reversed(bench["measurements"])  # dense first, its twin after it
    many = {one["plan"]: one["seconds"] for one in measured if one["frames"] == 64}
    config = dataclasses.replace(load_config("nano").model, point_head=None)  # what was measured
    assert sum(p.numel() for p in empty_network(config).parameters()) == bench["model"]["parameters"]
    core, (width, height) = known_devices()["CPU"], bench["model"]["image_size"]

    def seconds(plan: str) -> float:
        return total_seconds(
            request(plan, 64, config, (height, width), kernels="plain", head_dtype=None), core
        )

    for plan in ("frame", "avggt", "flash", "gotohunt", "anchors", "spark3r", "fastvggt"):
        ratio = many[plan] / many["dense"]
        assert seconds(plan) / seconds("dense") == pytest.approx(ratio, rel=0.3), plan


def chosen(
    config: NetworkConfig,
    suited: SuitedPlans,
    views: int,
    ordered: bool,
    size: tuple[int, int],
    device: DeviceModel,
) -> tuple[Plan, float, float, str]:
    def seconds(plan: Plan) -> float:
        return total_seconds(request(plan, views, config, size), device)

    layout = request("dense", views, config, size).layout
    expected = ExpectedTime(seconds, device.said())
    plan, reason = choose_plan(views, ordered, config.depth, layout, suited, expected)
    return plan, seconds(plan), seconds(Plan.dense(config.depth)), reason


@pytest.mark.parametrize("device", ["NVIDIA H100", "NVIDIA H200", "CPU", "small"])
@pytest.mark.parametrize("family", ["vggt-1b", "da3-base", "bundled"])
def test_auto_never_picks_what_is_expected_to_be_slower_than_dense(device, family):
    bundled = manyview.load()
    config, suited = {
        "vggt-1b": (VGGT_1B, SuitedPlans()),
        "da3-base": (DA3_BASE, SuitedPlans(coarse_keys=False, sensitive=(3 / 14, 13 / 14))),
        "bundled": (bundled.config, suited_plans(bundled)),
    }[family]
    small = card_model(Card("NVIDIA small", (8, 6), 20, 1.5e9, 200e9))
    rates = small if device == "small" else known_devices()[device]
    patch = config.patch_size
    for views in (2, 29, 31, 70, 101, 250, 301, 1000):
        for ordered in (False, True):
            for rows, columns in ((4, 5), (10, 14), (28, 37)):
                plan, seconds, dense, reason = chosen(
                    config, suited, views, ordered, (rows * patch, columns * patch), rates
                )
                assert seconds < dense or plan == Plan.dense(config.depth)
                assert str(plan) in reason


def test_the_fastest_of_the_plans_that_keep_accuracy():
    def picked(views: int, ordered: bool = True, size: tuple[int, int] = (392, 518), **known: object) -> str:
        return str(chosen(VGGT_1B, SuitedPlans(**known), views, ordered, size, H100)[0])

    assert picked(29) == "dense"
    assert picked(80).startswith("avggt")
    assert picked(1000).startswith("spark3r") and picked(1000, ordered=False).startswith("anchors")
    assert picked(1000, early=0).startswith("anchors")  # weights on which merging was seen to cost
    # So few tokens that starting operations is all that takes time.
    assert picked(40, size=(56, 56)) == "dense"


def test_a_plan_that_cannot_run_is_not_picked():
    layout = request("dense", 1000).layout

    def seconds(plan: Plan) -> float:
        return 5.0 if plan.has_anchors else float("inf")

    expected = ExpectedTime(seconds, "said")
    assert choose_plan(1000, True, 24, layout, None, expected)[0].has_anchors
    nothing = ExpectedTime(lambda plan: float("inf"), "said")
    assert choose_plan(1000, True, 24, layout, None, nothing)[0].has_anchors


def test_stages_add_up_and_are_said():
    machine = Machine(torch.device("cpu"), "CPU", 2**40, 2**40)
    found = preflight(request("avggt", 100), machine, flops_per_s=1e12)
    assert sum(found.stage_seconds().values()) == pytest.approx(found.seconds)
    assert {"encoder", "frame layers", "global layers", "depth head"} <= found.stage_seconds().keys()
    card = dataclasses.replace(machine, device=torch.device("cuda"), name="NVIDIA H100")
    found = preflight(request("dense", 100), card, flops_per_s=1e12)
    if not torch.cuda.is_available():
        assert found.seconds == pytest.approx(total_seconds(found.request, H100))
        assert H100.said() in found.sentence()
    assert device_model(torch.device("mps")) is None


def test_a_card_has_its_own_rates_or_those_of_one_like_it():
    assert card_model(Card("NVIDIA H100 80GB HBM3", (9, 0), 132, 1.98e9, 3.35e12)) == H100
    assert card_model(Card("NVIDIA H200", (9, 0), 132)).bytes_per_s > H100.bytes_per_s
    half = card_model(Card("NVIDIA X", (9, 0), 66, H100.clock_hz, H100.bytes_per_s / 0.9))
    assert half.products["bf16"] == pytest.approx(H100.products["bf16"] / 2)
    assert half.bytes_per_s == pytest.approx(H100.bytes_per_s) and not half.measured
    a100 = card_model(Card("NVIDIA A100-SXM4-80GB", (8, 0), 108, 1.41e9, 2.04e12))
    assert 150e12 < a100.products["bf16"] < 312e12 and 1.5e12 < a100.bytes_per_s < 2.04e12
    slow, fast = (total_seconds(request("dense", 100), one) for one in (a100, H100))
    assert 2 < slow / fast < 6


def test_measured_rates_replace_estimated_ones(tmp_path):
    measured = dataclasses.replace(H100, name="NVIDIA H100 PCIe", measured=True, bytes_per_s=1.8e12)
    entries = [H100.to_json(), json.loads(json.dumps(measured.to_json()))]
    file = tmp_path / "devices.json"
    file.write_text(json.dumps({"devices": entries, "cpu_core": known_devices()["CPU"].to_json()}))
    found = known_devices(file)
    assert found["NVIDIA H100 PCIe"] == measured and found["NVIDIA H100"] == H100
    assert measured.name in measured.said()


def test_more_of_anything_takes_longer():
    def stages(spec: str, views: int, **changed: object) -> dict[str, float]:
        return stage_seconds(request(spec, views, **changed), H100)

    few, many = stages("spark3r", 200), stages("spark3r", 400)
    assert few.keys() == many.keys() and all(many[stage] >= few[stage] for stage in few)
    plain = stages("dense", 200, kernels="plain")
    assert plain["frame layers"] > stages("dense", 200)["frame layers"]
    assert stages("httm", 200)["matching"] > 0 and "matching" not in stages("dense", 200)
