"""The receipt: deviation free of world and scale, an honest break-even, and what reaches the result."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from manyview.attention.plan import Plan
from manyview.errors import MemoryLimitError, OutputError, UsageError
from manyview.models.vggt.config import VGGT_1B
from manyview.reconstruction.plan.machine import Machine
from manyview.reconstruction.plan.preflight import Request, preflight
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.save import save
from manyview.reconstruction.run import compare, comparison, engine
from manyview.reconstruction.run.compare import break_even, sample_views
from manyview.reconstruction.run.deviation import Deviation, deviation
from manyview.reconstruction.run.engine import reconstruct, with_comparison
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare
from tests.models.tiny import tiny_vggt

NO_DEVIATION = Deviation(None, None, None, None, None, None)

pytestmark = pytest.mark.photos(5, 128, 96)


def scene(views: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rotation = torch.from_numpy(Rotation.random(views, random_state=0).as_matrix())
    centre = torch.randn(views, 3, 1, generator=generator, dtype=torch.float64)
    depth = torch.rand(views, 5, 6, generator=generator, dtype=torch.float64) + 1
    return torch.cat([rotation, -rotation @ centre], -1), depth, torch.ones(views, 5, 6, dtype=torch.bool)


def test_another_world_and_scale_is_no_deviation():
    cameras, depth, valid = scene()
    turn = torch.from_numpy(Rotation.random(1, random_state=1).as_matrix())
    shift, scale = torch.randn(3, 1, dtype=torch.float64), 2.5
    rotation = cameras[..., :3] @ turn
    moved = torch.cat([rotation, scale * cameras[..., 3:] + rotation @ shift], -1)
    found = deviation(moved, cameras, scale * depth, depth, valid)
    assert found.depth_scale == pytest.approx(1 / scale)
    for value in (found.rotation_deg_max, found.translation_deg_max, found.depth_relative):
        assert value == pytest.approx(0, abs=1e-5)


def test_known_differences_are_found():
    cameras, depth, valid = scene(3)
    # The last camera turned by 10 degrees in place: its own pairs turn, the others do not.
    turned = cameras.clone()
    turn = torch.from_numpy(Rotation.from_rotvec([0, math.radians(10), 0]).as_matrix())
    turned[2] = turn @ turned[2]
    found = deviation(turned, cameras, depth, depth, valid)
    assert found.rotation_deg_max == pytest.approx(10) and found.rotation_deg_median == pytest.approx(10)
    # The world mirrored through its origin in translation: every direction is opposite.
    opposite = torch.cat([cameras[..., :3], -cameras[..., 3:]], -1)
    found = deviation(opposite, cameras, depth, depth, valid)
    assert found.rotation_deg_max == pytest.approx(0, abs=1e-6)
    assert found.translation_deg_median == pytest.approx(180)
    # A third of the columns a tenth nearer, a third a tenth farther, and nonsense where nothing is valid.
    other = depth * torch.tensor([0.9, 0.9, 1.0, 1.0, 1.1, 1.1], dtype=torch.float64)
    other[0, 0, 0], other[1, 0, 0], other[2, 0, 0] = torch.nan, -1, 1e6
    valid[2, 0, 0] = False
    found = deviation(cameras, cameras, other, depth, valid)
    assert found.depth_scale == pytest.approx(1) and found.depth_relative == pytest.approx(0.1)


def test_views_at_one_place_have_no_direction():
    cameras, depth, valid = scene(3)
    centre = -cameras[0, :, :3].T @ cameras[0, :, 3]
    cameras[1, :, 3] = -cameras[1, :, :3] @ (centre + 1e-6)
    noisy = cameras.clone()
    noisy[1, :, 3] += 2e-6
    found = deviation(noisy, cameras, depth, depth, valid)
    assert found.translation_deg_max is not None and found.translation_deg_max < 0.01
    one = deviation(cameras[:1], cameras[:1], depth[:1], depth[:1], ~valid[:1])
    assert set(dataclasses.asdict(one).values()) == {None}


def test_samples_are_evenly_spread_and_begin_with_the_first():
    assert sample_views(100, 4) == (0, 33, 66, 99)
    assert sample_views(3, 24) == (0, 1, 2)
    assert sample_views(1, 24) == (0,) == sample_views(9, 1)


def request(plan: str, views: int) -> Request:
    parsed = Plan.parse(plan, VGGT_1B.depth)
    return Request(VGGT_1B, views, 392, 518, parsed, ("camera", "depth"), torch.float32)


def total(plan: str, views: int) -> float:
    return request(plan, views).total_flops()


def test_break_even_is_where_the_plan_becomes_faster():
    slower = 2.0
    found = break_even(request("avggt", 50), slower, 1.0)
    assert found is not None and found > 2
    assert slower * total("avggt", found) < total("dense", found)
    assert slower * total("avggt", found - 1) >= total("dense", found - 1)
    assert break_even(request("avggt", 50), 1.0, 1.0) in (1, 2)
    assert break_even(request("dense", 50), 1.0, 1.0) is None


def test_expected_time_counts_what_merging_adds():
    httm = request("httm", 60)
    extra = httm.attention_cost().extra_flops
    assert extra > 0
    machine = Machine(torch.device("cpu"), "test machine", 2**40, 2**40)
    seconds = preflight(httm, machine, flops_per_s=2.0).seconds
    assert seconds == pytest.approx(sum(httm.flops_by_stage().values()) + extra)  # half the rate is reached


def test_a_receipt_reaches_result_and_files(photos, tmp_path):
    model, stages = tiny_vggt(), []
    result = reconstruct(
        photos, model, accel="frame", compare=True, compare_views=3, progress=lambda *now: stages.append(now)
    )
    found = result.comparison
    assert found is not None and found["sample"] == [0, 2, 4] and found["views"] == 5
    assert found["seconds"] > 0 and found["dense_seconds"] > 0
    assert found["saved_seconds"] == found["dense_seconds"] - found["seconds"]
    assert found["deviation"]["rotation_deg_max"] > 0 and found["deviation"]["depth_relative"] > 0
    assert found["cost"]["attention"] < found["dense_cost"]["attention"]
    assert set(found["lines"]) <= set(result.notes) and "3 of 5 views" in found["lines"][0]
    assert [stage for stage in stages if stage[0] == "receipt"][-1] == ("receipt", 8, 8)
    save(result, tmp_path / "out")
    assert load_reconstruction(tmp_path / "out").comparison == json.loads(json.dumps(found))
    path = tmp_path / "out" / "receipt.json"
    assert json.loads(path.read_text())["plan"] == "frame"
    # A result without one takes it away, but nothing that others wrote.
    plain = dataclasses.replace(result, comparison=None)
    save(plain, tmp_path / "out", overwrite=True)
    assert not path.exists()
    path.write_text("{}")
    save(plain, tmp_path / "out", overwrite=True)
    assert path.read_text() == "{}"
    with pytest.raises(OutputError, match=r"receipt\.json"):
        save(result, tmp_path / "out", overwrite=True)
    assert load_reconstruction(tmp_path / "out").comparison is None


def test_the_deviation_is_that_of_the_two_results(photos):
    model = tiny_vggt()
    fast = reconstruct(photos, model, accel="frame", compare=True)
    dense = reconstruct(photos, model)
    cameras = [torch.from_numpy(one.cam_from_world.copy()) for one in (fast, dense)]
    depths = [torch.from_numpy(one.z_depth.copy()) for one in (fast, dense)]
    want = deviation(cameras[0], cameras[1], depths[0], depths[1], torch.from_numpy(dense.valid))
    assert fast.comparison is not None
    for name, value in dataclasses.asdict(want).items():
        assert fast.comparison["deviation"][name] == pytest.approx(value, rel=1e-3), name
    assert fast.settings == reconstruct(photos, model, accel="frame").settings


def test_a_plan_that_does_not_pay_says_so(photos, monkeypatch):
    real, waits = compare._timed, {"frame": 9.0, "dense": 3.0}

    def timed(model, images, chosen):
        return waits[str(chosen.request.plan)], real(model, images, chosen)[1]

    monkeypatch.setattr(compare, "_timed", timed)
    result = reconstruct(photos, tiny_vggt(), accel="frame", compare=True)
    assert result.comparison is not None and not result.comparison["pays"]
    assert result.comparison["saved_seconds"] == -6 and result.comparison["runs"] == 3
    told = " ".join(result.comparison["lines"])
    assert "does not pay" in told and "from operations" in told
    assert str(result.comparison["break_even_views"]) in told
    # Slower on the sample, and yet faster for all views.
    costs = {
        name: comparison.PassCost(total, 1.0, 0.0)
        for name, total in zip(
            ("sample_cost", "dense_sample_cost", "cost", "dense_cost"), (1.0, 1.0, 10.0, 40.0), strict=True
        )
    }
    few = comparison.PlanComparison(
        "p", 300, (0, 299), 2.0, 1.0, 3, NO_DEVIATION, 0, break_even_views=90, **costs
    )
    assert few.pays and few.expected_seconds == (20.0, 40.0)
    assert "pays only for many views: below 90 views" in " ".join(few.lines())
    waits.update(frame=3.0, dense=90.0)
    result = reconstruct(photos, tiny_vggt(), accel="frame", compare=True)
    assert result.comparison is not None and result.comparison["runs"] == 1  # long passes are not repeated
    assert result.comparison["pays"] and "30.00x" in result.comparison["lines"][0]
    assert "does not pay" not in " ".join(result.comparison["lines"])


def test_views_that_only_dense_answers_are_told(photos, monkeypatch):
    real = compare._timed

    def timed(model, images, chosen):
        wall, result = real(model, images, chosen)
        if str(chosen.request.plan) == "frame" and result.z_depth is not None:
            second = torch.tensor([0.0, torch.nan, 0.0, 0.0, 0.0])
            result = dataclasses.replace(result, z_depth=result.z_depth + second[None, :, None, None])
        return wall, result

    monkeypatch.setattr(compare, "_timed", timed)
    result = reconstruct(photos, tiny_vggt(), accel="frame", compare=True)
    assert result.comparison is not None and result.comparison["lost_views"] == 1
    assert any("no camera for 1 of 5 views" in line for line in result.comparison["lines"])
    assert result.comparison["deviation"]["depth_relative"] > 0


def test_dense_has_nothing_to_compare(photos):
    result = reconstruct(photos, tiny_vggt(), compare=True)
    assert result.comparison is None
    assert [note for note in result.notes if "nothing to compare" in note]


def test_the_sample_shrinks_until_dense_is_bearable(photos, monkeypatch):
    ready = prepare(photos, tiny_vggt(), ReconstructOptions(accel="frame", compare=True))
    dense = dataclasses.replace(ready.chosen.request, plan=Plan.dense(4))
    seconds = [dataclasses.replace(dense, views=n).total_flops() for n in (4, 6)]
    # The CPU reaches half of the rate: 4 views take just less than the limit, 6 more.
    monkeypatch.setattr(compare, "_DENSE_PASS_S", 2 * (seconds[0] + seconds[1]) / 2)
    assert compare._manageable_views(dense, ready.chosen, 1.0) == 4
    assert compare._manageable_views(dense, ready.chosen, None) == 24


def test_when_dense_does_not_fit_the_result_is_kept(photos, monkeypatch):
    def refuse(*_: object) -> None:
        raise MemoryLimitError("too much")

    monkeypatch.setattr(engine, "compare_with_dense", refuse)
    result = reconstruct(photos, tiny_vggt(), accel="frame", compare=True)
    assert len(result) == 5 and result.comparison is None
    assert any("too much" in note for note in result.notes)


def test_a_later_receipt_replaces_the_earlier_one(photos):
    model = tiny_vggt()
    options = ReconstructOptions(accel="frame", compare=True)
    first = reconstruct(photos, model, options)
    second = with_comparison(
        first, prepare(photos, model, dataclasses.replace(options, compare_views=2)), model
    )
    assert second.comparison is not None and second.comparison["sample"] == [0, 4]
    assert set(second.comparison["lines"]) == set(second.notes)
    assert np.array_equal(first.z_depth, second.z_depth)


def test_impossible_samples_are_refused():
    with pytest.raises(UsageError, match="0"):
        ReconstructOptions(compare=True, compare_views=0)
    with pytest.raises(UsageError, match="--receipt-views"):
        ReconstructOptions(compare_views=3)
