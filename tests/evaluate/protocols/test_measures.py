"""Each measure on scenes whose answer is known, and every protocol where there is no answer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from manyview.evaluate.protocols.measures import (
    CloudChamfer,
    Depth,
    FocalLength,
    FusedSurface,
    PointMaps,
    RelativePose,
    Trajectory,
)
from manyview.evaluate.protocols.measures.fit_points import POINT_FITS, fit_points, moved
from manyview.evaluate.protocols.published import PROTOCOLS
from manyview.evaluate.protocols.scene_pair import Measure

from .scene_pairs import (
    few,
    filled,
    infinite_cameras,
    lost,
    motionless,
    noisy,
    nothing_measured,
    one_point,
    similar,
    straight,
    truth,
    without_depth,
)


@pytest.mark.parametrize("fit", POINT_FITS)
def test_every_fit_undoes_a_similarity_of_its_kind(fit: str) -> None:
    pair = similar(truth())
    figures = PointMaps(fit=fit, icp=None, thresholds=(0.05,)).figures(pair, 1)
    assert figures["accuracy"] < 1e-4 and figures["completeness_median"] < 1e-4
    assert figures["f_score_0.05"] == pytest.approx(100) and figures["nc"] > 0.999
    assert figures["points_missing"] == 0.0 and figures["points_compared"] == 4 * 18 * 24


def test_points_are_compared_pixel_by_pixel_before_they_are_matched() -> None:
    """A fit on corresponding pixels does not mind that the estimate has other scale and noise."""
    pair = noisy(similar(truth(), 4.0), 0.02)
    figures = PointMaps(icp=None).figures(pair, 1)
    assert 0 < figures["accuracy"] < 0.02
    head = PointMaps("head", icp=None).figures(pair, 1)
    assert head["from_head"] == 1.0 and head["accuracy"] != figures["accuracy"]
    none = PointMaps("head", icp=None).figures(dataclasses.replace(pair, head_points=None), 1)
    assert none["from_head"] == 0.0 and none["accuracy"] == figures["accuracy"]


def test_icp_mends_a_fit_that_is_a_little_off() -> None:
    """ "median-z" does not turn; a first camera a little off is mended by ICP."""
    pair = truth()
    cameras = pair.found_cameras.copy()
    cameras[0, :, 3] += 0.03
    off = dataclasses.replace(pair, found_cameras=cameras)
    without = PointMaps(fit="median-z", icp=None).figures(off, 1)
    mended = PointMaps(fit="median-z", icp=0.3).figures(off, 1)
    assert mended["accuracy"] < 0.5 * without["accuracy"] and mended["icp_fitness"] == 1.0


def test_crop_and_sampling() -> None:
    pair = truth()
    cropped = PointMaps(crop=10, icp=None, normals=0).figures(pair, 1)
    assert cropped["points_compared"] == 4 * 100 and cropped["nc"] is None
    one = PointMaps(most=50, icp=None).figures(pair, 1)
    two = PointMaps(most=50, icp=None, independent=True).figures(pair, 1)
    assert one["accuracy"] < 1e-4 < two["accuracy"]  # other pixels of estimate and truth are apart
    assert one["points_compared"] == two["points_compared"] == 50
    holes = lost(pair, 0)
    assert PointMaps(icp=None).figures(holes, 1)["points_missing"] == pytest.approx(25)


def test_thresholds_are_metres_where_the_truth_is_in_millimetres() -> None:
    """The same scene in millimetres: lengths a thousandfold, shares as before."""
    metres = noisy(truth(), 0.03)
    cameras = metres.true_cameras.copy()
    cameras[..., 3] *= 1000
    millimetres = dataclasses.replace(
        metres, true_cameras=cameras, true_points=metres.true_points * 1000, per_metre=1000.0
    )
    for measure in (PointMaps(thresholds=(0.02,)), CloudChamfer(voxel=0.03, clip=0.05)):
        one, two = (measure.figures(pair, 1) for pair in (metres, millimetres))
        for name, value in one.items():
            factor = 1000 if name.startswith(("acc", "comp", "chamfer", "overall", "cd")) else 1
            factor = 1 if name == "cd_from_mesh" else factor
            assert two[name] == pytest.approx(value * factor, rel=2e-3), name
        assert all(np.isfinite(value) for value in one.values())


def test_relative_pose_counts_and_conventions() -> None:
    pair = noisy(truth(5), 0.05)
    figures = RelativePose().figures(pair)
    assert figures["pairs"] == 10 and figures["below_30"] <= 10
    assert figures["auc_30"] == pytest.approx(
        100 * sum(figures[f"below_{d}"] for d in range(1, 31)) / 30 / 10
    )
    other = RelativePose(relative="pi3").figures(pair)
    assert other["rotation_deg"] == pytest.approx(figures["rotation_deg"])
    # Rotations are right here, so only the camera in which directions are seen differs.
    assert other["direction_deg"] == pytest.approx(figures["direction_deg"], abs=1e-6)
    turned = pair.found_cameras.copy()
    turned[2, :, :3] = turned[2, :, :3] @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    wrong = dataclasses.replace(pair, found_cameras=turned)
    one, two = (RelativePose(relative=r).figures(wrong) for r in ("vggt", "pi3"))
    assert one["rra_15"] == two["rra_15"] and one["direction_deg"] != two["direction_deg"]


def test_depth_is_judged_up_to_the_farthest() -> None:
    pair = similar(truth())
    assert Depth().figures(pair)["abs_rel"] < 1e-6
    assert Depth("none").figures(pair)["abs_rel"] == pytest.approx(1.5, rel=1e-5)
    near = Depth(farthest=2.0).figures(pair)
    assert near["pixels"] == (pair.true_depth <= 2.0).sum()


def test_chamfer_to_a_cloud_is_a_sum_of_clipped_means() -> None:
    pair = similar(truth())
    assert CloudChamfer(voxel=0.01).figures(pair, 1)["cd"] < 1e-3
    assert CloudChamfer().figures(pair, 1)["cd_from_mesh"] == 0.0
    cloud = pair.true_points.reshape(-1, 3).astype(np.float64)
    corner = cloud.min(0) - 0.001
    far = dataclasses.replace(pair, cloud=np.concatenate([cloud, corner[None]]))
    figures = CloudChamfer(voxel=0.01).figures(far, 1)
    assert figures["cd_from_mesh"] == 1.0
    assert figures["cd"] == pytest.approx(figures["cd_accuracy"] + figures["cd_completeness"])
    unsure = dataclasses.replace(pair, confidence=np.full_like(pair.confidence, 1.0))
    assert CloudChamfer().figures(unsure, 1)["cd"] == 1.0


@pytest.mark.parametrize("fit", POINT_FITS)
def test_what_does_not_determine_a_fit(fit: str) -> None:
    pair = truth()
    own, true = pair.found_points.reshape(-1, 3), pair.true_points.reshape(-1, 3)
    cameras = pair.found_cameras, pair.true_cameras
    if fit == "ransac-cameras":  # which asks no points
        assert fit_points(own, true, *(c[:2] for c in cameras), fit) is None
        line = straight(pair)
        assert fit_points(own, true, line.found_cameras, line.true_cameras, fit) is None
        still = motionless(pair)
        assert fit_points(own, true, still.found_cameras, still.true_cameras, fit) is None
    elif fit != "camera-norms":  # which two cameras determine
        assert fit_points(own[:2], true[:2], *cameras, fit) is None
    gone = lost(pair, slice(None)).found_cameras
    assert fit_points(own, true, gone, cameras[1], fit) is None or fit == "sim3"
    with pytest.raises(ValueError, match="best"):
        fit_points(own, true, *cameras, "best")  # type: ignore[arg-type]
    matrix = fit_points(own, true, *cameras, fit)
    np.testing.assert_allclose(moved(matrix, own), true, atol=1e-4)


_DEGENERATE = {
    "whole": lambda p: p,
    "one view": lambda p: few(p, 1),
    "two views": lambda p: few(p, 2),
    "motionless": motionless,
    "straight": straight,
    "a lost view": lambda p: lost(p, 1),
    "the first view lost": lambda p: lost(p, 0),
    "all lost": lambda p: lost(p, slice(None)),
    "without depth": without_depth,
    "nothing measured": nothing_measured,
    "one true point": one_point,
    "no number": lambda p: filled(p, np.nan),
    "infinite": lambda p: filled(p, np.inf),
    "zero": lambda p: filled(p, 0.0),
    "negative": lambda p: filled(p, -1.0),
    "huge": lambda p: filled(p, 1e30),
    "some infinite": lambda p: filled(p, np.inf, 0.3),
    "some huge": lambda p: filled(p, 1e30, 0.01),
    "an infinite camera": lambda p: infinite_cameras(p, 1),
    "infinite cameras": lambda p: infinite_cameras(p, len(p.found_cameras)),
    "one view without depth": lambda p: few(filled(p, np.nan), 1),
}


def coarser(measure: Measure) -> Measure:
    """Surfaces of voxels four times as long: a 64th of them."""
    if not isinstance(measure, FusedSurface):
        return measure
    return dataclasses.replace(measure, voxel=4 * measure.voxel, truncation=4 * measure.truncation)


@pytest.mark.parametrize("case", _DEGENERATE)
def test_no_protocol_ever_says_nan(case: str) -> None:
    pair = _DEGENERATE[case](noisy(similar(truth()), 0.02))
    distinct = {measure for protocol in PROTOCOLS.values() for measure in protocol.measures}
    measured = {measure: coarser(measure).figures(pair, 1) for measure in distinct}
    for protocol in PROTOCOLS.values():
        figures = {name: value for m in protocol.measures for name, value in measured[m].items()}
        # Surfaces of single groups have tests of their own.
        columns = [c for c in protocol.columns if "surface" not in c or not protocol.group_measures]
        assert set(columns) <= set(figures), protocol.name
        for name, value in figures.items():
            assert value is None or np.isfinite(value), (protocol.name, name)
        if case == "whole":
            assert all(figures[name] is not None for name in columns), protocol.name


def test_a_camera_that_is_not_finite_is_a_lost_one() -> None:
    pair = noisy(similar(truth(5)), 0.02)
    for measure in (RelativePose(), Trajectory(), Trajectory("se3", of="w2c")):
        assert measure.figures(infinite_cameras(pair, 2)) == measure.figures(lost(pair, slice(0, 2)))


def test_the_focal_error_is_a_median_over_views_in_percent() -> None:
    pair = truth()
    assert FocalLength().figures(pair, 1) == {"focal_error": pytest.approx(0.0)}
    found = pair.found_intrinsics.copy()
    found[:, 0, 0] *= [1.21, 1.44, 1.0, np.nan]  # the last view was given no camera
    wrong = dataclasses.replace(pair, found_intrinsics=found)
    assert FocalLength().figures(wrong, 1)["focal_error"] == pytest.approx(10.0)
    for nothing in ({"true_intrinsics": None}, {"found_intrinsics": None}):
        assert FocalLength().figures(dataclasses.replace(pair, **nothing), 1) == {"focal_error": None}


def test_only_confirmed_depth_is_judged_where_that_is_asked_for() -> None:
    pair, measure = truth(), Depth(confirmed_only=True, prefix="confirmed_")
    assert measure.figures(pair, 1)["confirmed_pixels"] == 0.0
    wrong, confirmed = pair.found_depth.copy(), np.zeros(pair.found_depth.shape, dtype=bool)
    wrong[:, ::2], confirmed[:, 1::2] = 9.0, True
    figures = measure.figures(dataclasses.replace(pair, found_depth=wrong, confirmed=confirmed), 1)
    assert figures["confirmed_abs_rel_median"] < 1e-6 and figures["confirmed_pixels"] == confirmed.sum()
