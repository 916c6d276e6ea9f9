"""Clouds and point maps of published inputs: the protocols give what the published code gave."""

from __future__ import annotations

import pytest

from manyview.evaluate.protocols.measures import Depth, MedianCloud
from manyview.evaluate.protocols.published import PROTOCOLS

from ..published_cases import published_case
from .scene_pairs import flash_pair, lost, noisy, similar, truth, without_depth


@pytest.mark.parametrize("name", ["flashvggt_plain", "flashvggt_moved"])
def test_depth_and_clouds_in_scene_distances_are_those_of_flashvggt(name: str) -> None:
    case = published_case(name)
    figures = PROTOCOLS["flashvggt"].figures(flash_pair(case), 1)
    case.check(
        depth_rel_median=figures["abs_rel_median"],
        point_accuracy=figures["accuracy_median"],
        point_completeness=figures["completeness_median"],
        point_cd=figures["cd_median"],
        point_nc=figures["nc_paired"],
    )
    assert figures["delta_125"] == pytest.approx(100 * case.outputs["depth_tau_1.25"])


def test_scene_distances_know_no_world_and_no_unit() -> None:
    one, two = (similar(noisy(truth(), 0.02), scale) for scale in (1.0, 3.0))
    for measure in (Depth("none", lengths="scene"), MedianCloud()):
        figures = measure.figures(one, 1)
        assert measure.figures(two, 1) == pytest.approx(figures, rel=1e-3)
        for pair in (without_depth(one), lost(one, slice(None))):
            values = measure.figures(pair, 1)
            assert all(
                value is None for name, value in values.items() if name not in ("pixels", "points_compared")
            )
