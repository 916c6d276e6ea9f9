"""Figures of rendered scenes: the truth in another world is perfect, degenerate cases have stated answers."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from manyview.attention.layout import TokenLayout
from manyview.evaluate.metrics.alignment import align_cameras, point_distances, trajectory_error
from manyview.evaluate.protocols.measures import Figures
from manyview.evaluate.protocols.procedural import Case
from manyview.evaluate.protocols.rendered import (
    benchmark_errors,
    benchmark_figures,
    quick_errors,
    quick_figures,
)
from manyview.evaluate.runner.rendered import rendered_pairs
from manyview.geometry.cameras import compose_rigid, invert_rigid
from manyview.models.predictions import Predictions
from manyview.synthetic import SceneBatch


def predictions(truth: SceneBatch, **changes: torch.Tensor) -> Predictions:
    """The truth itself as a network's output, with `changes`."""
    found = {
        "cam_from_world": truth.cam_from_world,
        "intrinsics": truth.intrinsics,
        "z_depth": truth.z_depth,
        "depth_conf": torch.ones_like(truth.z_depth),
    } | changes
    cameras = found.pop("cam_from_world"), found.pop("intrinsics")
    views, height, width = truth.z_depth.shape[1:]
    layout = TokenLayout(views, 5, (height // 8, width // 8))
    return Predictions(height, width, layout, cameras=cameras, **found)


def scored(truth: SceneBatch, **changes: torch.Tensor) -> Figures:
    """Figures of the truth itself, in another world and scale, with `changes`."""
    angle = torch.tensor(0.7)
    cos, sin = angle.cos(), angle.sin()
    other = torch.stack([cos, -sin, sin * 0, sin, cos, cos * 0, cos * 0, cos * 0, cos / cos]).view(3, 3)
    world = torch.cat([other, torch.tensor([[1.0], [2.0], [-3.0]])], -1)
    cameras = compose_rigid(truth.cam_from_world, world)
    moved = {
        "cam_from_world": torch.cat([cameras[..., :3], 0.25 * cameras[..., 3:]], -1),
        "z_depth": 0.25 * truth.z_depth,
    }
    (pair,) = rendered_pairs(predictions(truth, **(moved | changes)), truth)
    return benchmark_figures([benchmark_errors(pair)], [0.5], 10.0, 20.0)


def finite(figures: Figures) -> bool:
    return all(value is None or math.isfinite(value) for value in figures.values())


@pytest.mark.parametrize("level", ["easy", "forward", "rotation"])
@pytest.mark.parametrize("views", [2, 5])
def test_the_truth_in_another_world_and_scale_is_perfect(level, views):
    scores = scored(Case(level, views).render(0, (16, 16)))
    assert scores["auc_3"] == 100.0 and scores["ate"] < 1e-4 and scores["abs_rel"] < 1e-5
    assert scores["accuracy"] < 1e-3 and scores["completeness"] < 1e-3
    assert (scores["translation_median_deg"] is None) == (level == "rotation")
    assert (scores["seconds"], scores["attention_flops"], scores["linear_flops"]) == (0.5, 10.0, 20.0)


def test_errors_are_seen():
    truth = Case("easy", 5).render(0, (16, 16))
    moved = truth.cam_from_world.clone()
    moved[0, 2, :, 3] += 1.0
    bad = scored(truth, cam_from_world=moved, z_depth=truth.z_depth)
    assert bad["ate"] > 0.05 and bad["auc_3"] < 90 and bad["accuracy"] > 0.01 and bad["abs_rel"] < 1e-5
    noise = torch.rand(truth.z_depth.shape, generator=torch.Generator().manual_seed(0))
    z_depth = truth.z_depth * (1 + 0.3 * noise)
    error = (z_depth / truth.z_depth - 1.15).abs()
    knows, blind = (scored(truth, z_depth=z_depth, depth_conf=c) for c in (-error, torch.ones_like(error)))
    assert knows["confidence_area"] < 0.7 < 0.9 < blind["confidence_area"]
    assert knows["accuracy"] > 0.005


@pytest.mark.parametrize("level", ["easy", "rotation"])
def test_hopeless_estimates_have_finite_figures(level):
    truth = Case(level, 4).render(0, (16, 16))
    still = torch.eye(4)[:3].expand_as(truth.cam_from_world)
    nothing = torch.full_like(truth.z_depth, float("nan"))
    for changes in (
        {"cam_from_world": still},
        {"cam_from_world": still * float("nan")},
        {"z_depth": nothing, "depth_conf": nothing},
        {"z_depth": -truth.z_depth},
    ):
        assert finite(scored(truth, **changes)), changes
    lost = scored(truth, cam_from_world=still * float("nan"))
    assert (lost["auc_30"], lost["accuracy"], lost["completeness"]) == (0.0, 1.0, 1.0)


def test_a_scene_of_sky_alone_has_finite_figures():
    truth = Case("easy", 3).render(0, (8, 8))
    empty = dataclasses.replace(truth, valid=torch.zeros_like(truth.valid))
    scores = scored(empty)
    assert finite(scores) and (scores["accuracy"], scores["confidence_area"]) == (1.0, 1.0)


def test_trajectory_error_is_the_spread_where_nothing_aligns():
    truth = Case("easy", 4).render(0, (8, 8)).cam_from_world[0]
    assert align_cameras(truth * float("nan"), truth, 1.0, 1.0) is None
    centres = invert_rigid(truth)[..., 3]
    spread = float((centres - centres.mean(0)).square().sum(-1).mean().sqrt())
    assert trajectory_error(None, truth, truth, 2.0) == pytest.approx(spread / 2)


def test_point_distances_are_those_of_a_naive_search():
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(n, 3, generator=generator) for n in (40, 30))
    there = sum(min(float((p - q).norm()) for q in b) for p in a) / 40
    back = sum(min(float((p - q).norm()) for p in a) for q in b) / 30
    assert point_distances(a, b, 1.0) == pytest.approx((there, back), rel=1e-5)
    assert point_distances(a + 100, b, 1.0) == (1.0, 1.0)
    assert point_distances(a[:0], b, 1.0) == (1.0, 1.0)


def test_a_confidence_that_knows_the_absolute_error_reaches_its_oracle() -> None:
    truth = Case("easy", 3).render(0, (16, 16))
    noise = torch.rand(truth.z_depth.shape, generator=torch.Generator().manual_seed(0))
    z_depth = truth.z_depth * (1 + 0.3 * noise)
    scale = (truth.z_depth / z_depth)[truth.valid].median()
    knows = -(z_depth * scale - truth.z_depth).abs()
    (pair,) = rendered_pairs(predictions(truth, z_depth=z_depth, depth_conf=knows), truth)
    scores = benchmark_figures([benchmark_errors(pair)], [0.0], 0.0, 0.0)
    oracle = scores["confidence_absolute_oracle"]
    assert scores["confidence_absolute_area"] == pytest.approx(oracle, abs=1e-3)
    assert scores["confidence_area"] > scores["confidence_oracle"] + 0.01
    assert scores["confidence_absolute_inverse_depth"] > scores["confidence_absolute_area"]
    assert scores["confidence_random"] == pytest.approx(1, abs=0.1)
    # The quick table ranks the same pixels.
    quick = quick_figures([quick_errors(pair)])
    assert quick["confidence_absolute_excess"] == pytest.approx(0, abs=1e-3)
    assert quick["abs_rel"] == pytest.approx(scores["abs_rel"])
