"""Clouds and point maps of published inputs: the protocols give what the published code gave."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from manyview.evaluate.metrics.nearest import draw
from manyview.evaluate.protocols.measures import CloudChamfer, Depth, MedianCloud
from manyview.evaluate.protocols.measures.fit_points import fit_points
from manyview.evaluate.protocols.published import PROTOCOLS
from manyview.evaluate.protocols.scene_pair import ScenePair

from ..published_cases import published_case
from .scene_pairs import flash_pair, lost, noisy, of_cameras, similar, truth, without_depth

POINT_FIGURES = {
    "accuracy": "accuracy_mean",
    "accuracy_median": "accuracy_median",
    "completeness": "completeness_mean",
    "completeness_median": "completeness_median",
    "nc": "nc_mean",
    "nc_median": "nc_median",
    "points_compared": "points",
    "icp_fitness": "icp_fitness",
}
"""Our names of the figures, and those of the cases."""


def of_points(found: np.ndarray, first_true_c2w: np.ndarray) -> ScenePair:
    """Points [views, height, width, 3] in the frame of the first estimated camera."""
    cameras = np.repeat(np.eye(4)[None], len(found), 0)
    pair = of_cameras(cameras, cameras @ np.linalg.inv(first_true_c2w))
    shape = found.shape[:3]
    return dataclasses.replace(
        pair, found_points=found, head_points=found, seen=np.ones(shape, bool), confidence=np.full(shape, 5.0)
    )


def size_of(matrix: np.ndarray) -> float:
    return float(np.cbrt(np.linalg.det(matrix[:3, :3])))


@pytest.mark.parametrize("name", ["small", "draw", "flying_undrawn", "flying_drawn"])
@pytest.mark.parametrize("frames", [100, 1000])
def test_chamfer_distance_on_scannet_is_that_of_fastvggt(name: str, frames: int) -> None:
    case = published_case(f"fastvggt_cd_{name}")
    points = case.inputs["points_first_camera"]
    pair = of_points(points[None, :, None], case.inputs["first_true_c2w"])
    pair = dataclasses.replace(pair, cloud=case.inputs["truth"])
    (measure,) = (
        m for m in PROTOCOLS[f"fastvggt-scannet50-{frames}"].measures if isinstance(m, CloudChamfer)
    )
    figures = measure.figures(pair, 1)
    matrix = fit_points(points, pair.cloud, pair.found_cameras, pair.true_cameras, "box")
    case.check(cd=figures["cd"], scale_factor=size_of(matrix))
    if "draw_sum" in case.outputs:
        assert draw(len(points), measure.most, measure.seed, legacy=True).sum() == case.outputs["draw_sum"]
        assert not case.close("trap_cd_box_after_draw", figures["cd"])


@pytest.mark.parametrize("protocol", ["pi3-points-sparse", "pi3-points-dense"])
def test_point_maps_are_those_of_pi3(protocol: str) -> None:
    case = published_case("pi3_points")
    true = np.where(case.inputs["valid"][..., None], case.inputs["true_points"], np.float32(np.nan))
    pair = of_points(case.inputs["estimated_points"], np.eye(4))
    # From depth there are no points here: only the network's own can be compared.
    pair = dataclasses.replace(pair, true_points=true, found_points=np.full_like(true, np.nan))
    (measure,) = PROTOCOLS[protocol].measures
    assert measure.most is None and measure.icp_most is None
    figures = measure.figures(pair, 1)
    case.check(**{theirs: figures[ours] for ours, theirs in POINT_FIGURES.items()})


def test_point_maps_are_those_of_fastvggt() -> None:
    case = published_case("fastvggt_points")
    true = np.where(case.inputs["valid"][..., None], case.inputs["true_points"], np.float32(np.nan))
    pair = of_points(case.inputs["estimated_points"], case.inputs["first_true_c2w"].astype(np.float64))
    pair = dataclasses.replace(pair, true_points=true)
    measures = {
        name: measure
        for name in ("fastvggt-points-3", "fastvggt-points-10", "httm-points-3", "spark3r-points-1000")
        for measure in PROTOCOLS[name].measures
    }
    assert {dataclasses.replace(measure, points="depth") for measure in measures.values()} == {
        measures["httm-points-3"]
    }
    figures = measures["fastvggt-points-3"].figures(pair, 1)
    case.check(**{theirs: figures[ours] for ours, theirs in POINT_FIGURES.items()})
    for wrong in ("shift_xyz", "fit_on_crop"):
        for name in ("accuracy", "completeness"):
            assert not case.close(f"trap_{name}_mean_{wrong}", figures[name])
    both = case.inputs["valid"]
    matrix = fit_points(
        case.inputs["estimated_points"][both], true[both], pair.found_cameras, pair.true_cameras, "median-z"
    )
    given = case.outputs
    assert size_of(matrix) == pytest.approx(given["true_scale"] / given["estimated_scale"], rel=2e-5)
    shift = (np.vstack([pair.true_cameras[0], [0, 0, 0, 1]]) @ matrix)[:3, 3]
    expected = given["true_shift_z"] - size_of(matrix) * given["estimated_shift_z"]
    np.testing.assert_allclose(shift, [0, 0, expected], atol=1e-5)


def test_depth_and_clouds_in_scene_distances_are_those_of_flashvggt() -> None:
    case = published_case("flashvggt_plain")
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
