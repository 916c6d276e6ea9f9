"""What stands beside every table of poses: which area its AUC is, and how far focal lengths are off."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from manyview.attention.plan import Plan
from manyview.evaluate.metrics.pose import auc, median_deg
from manyview.evaluate.protocols.measures import RelativePose, Trajectory
from manyview.evaluate.protocols.published import PROTOCOLS
from tests.models.tiny import tiny_vggt

from .scene_pairs import lost, noisy, similar, truth


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_of_poses_has_exact_area_and_focal_error(name: str) -> None:
    protocol = PROTOCOLS[name]
    if not any(isinstance(measure, (RelativePose, Trajectory)) for measure in protocol.measures):
        return
    areas = [int(column[4:]) for column in protocol.columns if re.fullmatch(r"auc_\d+", column)]
    wanted = {"focal_error", *(f"auc_integral_{t}" for t in sorted(areas)[:1])}
    assert wanted <= set(protocol.columns)
    figures = protocol.figures(noisy(similar(truth())), 1)
    assert figures["focal_error"] == pytest.approx(0.0)
    # The histogram is never below the area under the curve.
    for t in areas:
        assert figures[f"auc_{t}"] >= figures[f"auc_integral_{t}"]


def test_medians_of_even_counts_and_of_pairs_without_an_estimate() -> None:
    assert median_deg(torch.tensor([1.0, 2.0, 4.0, 9.0]), 180.0) == 3.0
    assert median_deg(torch.tensor([1.0, 1e6]), 90.0) == 45.5 and median_deg(torch.zeros(0), 90.0) is None
    nothing = RelativePose().figures(lost(truth(), slice(None)))
    assert (nothing["rotation_deg"], nothing["direction_deg"]) == (180.0, 90.0)
    errors = torch.from_numpy(np.random.default_rng(0).exponential(3.0, 500))
    fine = np.linspace(0, 5, 200_001)
    curve = np.searchsorted(np.sort(errors), fine, side="right") / 500
    assert auc(errors, 5, "exact") == pytest.approx(100 * np.trapezoid(curve, fine) / 5, abs=1e-2)


@pytest.mark.parametrize(
    ("spec", "views", "same"),
    [
        ("anchors", 24, True),
        ("anchors:frames=4", 5, False),
        ("random:keep=1.0", 3, True),
        ("random:keep=0.5", 3, False),
        ("avggt:early=0,stride=1x1", 3, True),
        ("frame", 1, True),
        ("frame", 2, False),
        ("dense", 4, None),
    ],
)
def test_a_plan_that_is_dense_with_few_views_says_so(spec: str, views: int, same: bool | None) -> None:
    model = tiny_vggt()
    layout = model.config.layout(views, 28, 42)
    plan = Plan.parse(spec, model.config.depth)
    note = plan.why_dense(layout)
    assert (note is not None) is bool(same)
    if same:
        assert note.startswith(f"{spec}: with {views} views")
        images = torch.rand(1, views, 3, 28, 42, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found, dense = (model(images, plan=one) for one in (plan, Plan.dense(model.config.depth)))
        torch.testing.assert_close(found.cam_from_world, dense.cam_from_world)
