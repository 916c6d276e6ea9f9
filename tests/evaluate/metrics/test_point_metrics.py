"""Clouds whose distances are known: planes, spheres, brute force; ICP and normals beside them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from manyview.errors import MissingExtraError
from manyview.evaluate.metrics.nearest import draw, draw_on_mesh, estimate_normals, icp, nearest, thin
from manyview.evaluate.metrics.points import cloud_errors


def cloud(seed: int, count: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3))


def plane(z: float, step: float = 0.1) -> np.ndarray:
    x, y = np.meshgrid(np.arange(0, 2, step), np.arange(0, 1.5, step))
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], -1)


def test_figures_are_those_of_all_distances() -> None:
    found, truth = cloud(0), cloud(1, 250)
    distances = np.linalg.norm(found[:, None] - truth[None], axis=-1)
    errors = cloud_errors(found, truth, thresholds=(0.3,), workers=1)
    assert errors.accuracy_mean == pytest.approx(distances.min(1).mean())
    assert errors.accuracy_median == pytest.approx(np.median(distances.min(1)))
    assert errors.completeness_mean == pytest.approx(distances.min(0).mean())
    assert errors.completeness_median == pytest.approx(np.median(distances.min(0)))
    assert errors.chamfer == pytest.approx(2 * errors.overall)
    precision, recall = (100 * (distances.min(axis) < 0.3).mean() for axis in (1, 0))
    assert errors.f_score[0.3] == pytest.approx(2 * precision * recall / (precision + recall))
    clipped = cloud_errors(found, truth, clip=0.2, workers=1)
    assert clipped.accuracy_mean == pytest.approx(distances.min(1).clip(max=0.2).mean())


def test_parallel_planes() -> None:
    found, truth = plane(0.25), plane(0.0)
    normals = [estimate_normals(points, workers=1) for points in (found, truth)]
    errors = cloud_errors(found, truth, *normals, thresholds=(0.2, 0.3), workers=1)
    assert errors.accuracy_mean == errors.completeness_median == pytest.approx(0.25)
    assert errors.nc_mean == pytest.approx(1.0) and errors.nc_median == pytest.approx(1.0)
    assert errors.f_score == {0.2: 0.0, 0.3: pytest.approx(100.0)}
    # One plane turned by 60 degrees about x: its normals agree by cos 60 everywhere.
    turned = truth @ Rotation.from_euler("x", 60, degrees=True).as_matrix().T
    tilted = cloud_errors(turned, truth, estimate_normals(turned, workers=1), normals[1], workers=1)
    assert tilted.nc_mean == pytest.approx(0.5)


def test_empty_clouds_have_a_stated_answer() -> None:
    none, some = np.zeros((0, 3)), cloud(2, 5)
    assert cloud_errors(some, none) is None and cloud_errors(none, some) is None
    lost = cloud_errors(none, some, thresholds=(0.1,), clip=0.5)
    assert (lost.accuracy_mean, lost.chamfer, lost.f_score[0.1], lost.nc_mean) == (0.5, 1.0, 0.0, None)
    assert estimate_normals(some[:2], workers=1).tolist() == [[0, 0, 1]] * 2
    assert len(thin(none, 0.1)) == 0


def test_normals_of_a_sphere_point_outwards_or_inwards() -> None:
    points = cloud(3, 3000)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    normals = estimate_normals(points, workers=1)
    assert np.quantile(np.abs((normals * points).sum(-1)), 0.01) > 0.99
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)


def test_icp_undoes_a_small_motion() -> None:
    target = cloud(4, 2000)
    turn = Rotation.from_euler("xyz", [2, -1, 1.5], degrees=True).as_matrix()
    source = (target - [0.02, -0.01, 0.015]) @ turn
    found = icp(source, target, threshold=0.3, iterations=100, workers=1)
    np.testing.assert_allclose(found(source), target, atol=1e-6)
    assert found.fitness == 1.0 and found.rmse < 1e-6
    far = icp(source + 100, target, threshold=0.3, workers=1)
    assert far.fitness == 0.0 and np.array_equal(far.rotation, np.eye(3)) and far.rmse == 0.0
    assert icp(source[:0], target, 0.3).fitness == 0.0
    # Points beyond the threshold pull nothing.
    stray = np.concatenate([source, cloud(5, 50) + 50])
    np.testing.assert_allclose(icp(stray, target, 0.3, 100, workers=1)(source), target, atol=1e-6)


def test_thinning_keeps_the_mean_of_each_cube() -> None:
    points = np.array([[0.0, 0, 0], [0.02, 0, 0], [1.0, 0, 0], [1.0, 0.04, 0]])
    np.testing.assert_allclose(thin(points, 0.1), [[0.01, 0, 0], [1.0, 0.02, 0]])
    many = np.random.default_rng(0).random((5000, 3))
    few = thin(many, 0.25)
    assert len(few) <= 125 and nearest(many, few, 1)[0].max() < 0.25 * np.sqrt(3)


def test_drawing_repeats_itself_and_never_an_index() -> None:
    assert draw(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
    chosen = draw(1000, 100, 3)
    assert len(set(chosen)) == 100 and (np.diff(chosen) > 0).all()
    np.random.seed(33)
    legacy = np.random.choice(1000, 100, replace=False)
    assert np.array_equal(draw(1000, 100, 33, legacy=True), np.sort(legacy))
    assert draw(5, None, 0).tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(chosen, draw(1000, 100, 3)) and not np.array_equal(chosen, draw(1000, 100, 4))


def test_points_of_a_mesh_lie_on_it_as_densely_everywhere() -> None:
    vertices = np.array([[0.0, 0, 0], [3, 0, 0], [3, 1, 0], [0, 1, 0], [9, 9, 9]])
    points = draw_on_mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]), 3000, 0)
    assert (points[:, 2] == 0).all() and (points.min(0) >= 0).all() and (points.max(0) <= [3, 1, 0]).all()
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=(3, 2))[0]
    assert (abs(counts - 500) < 100).all()  # four and a half deviations of 500 of 3000


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    with pytest.raises(MissingExtraError, match="eval"):
        nearest(cloud(0), cloud(1))
