"""Depth against points: scale, shift where it pays, and neither where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from manyview.refine.depth_scale import PointDepths, fit_depths, with_fitted_depth, world_scale

RNG = np.random.default_rng(0)


def _depths(scale: float, shift: float, count: int = 200, outliers: float = 0.2) -> PointDepths:
    predicted = RNG.uniform(1, 6, count)
    triangulated = (scale * predicted + shift) * np.exp(0.01 * RNG.standard_normal(count))
    wrong = RNG.random(count) < outliers
    triangulated = np.where(wrong, triangulated * RNG.uniform(1.5, 4, count), triangulated)
    return PointDepths(predicted, triangulated, np.arange(count) % 4)


@pytest.mark.parametrize(("scale", "shift"), [(2.0, 0.0), (0.5, 0.4), (1.3, -0.5)])
def test_scale_and_shift_are_found_among_outliers(scale: float, shift: float) -> None:
    z_depth = RNG.uniform(1, 6, (2, 8, 8)).astype(np.float32)
    z_depth[0, 0, 0], z_depth[0, 0, 1] = -1.0, np.nan
    fit, other = fit_depths([_depths(scale, shift), _depths(1.0, 0.0, count=4)], z_depth)
    assert fit.own and fit.scale == pytest.approx(scale, rel=0.03)
    assert fit.shift == pytest.approx(shift, abs=0.06) and (shift != 0 or fit.shift == 0)
    assert fit.residual < 0.02
    assert not other.own and other.residual is None
    changed = with_fitted_depth(z_depth[0], fit)
    assert not changed[0, 0] > 0 and np.isnan(changed[0, 1])  # what was no depth is none
    np.testing.assert_allclose(changed[1:], fit.scale * z_depth[0, 1:] + fit.shift, rtol=1e-5)


def test_a_shift_must_not_turn_depth_negative() -> None:
    depths = _depths(1.0, -0.9, outliers=0.0)
    near = np.full((1, 4, 4), 0.5, dtype=np.float32)
    (fit,) = fit_depths([depths], near)
    assert fit.shift == 0 and (with_fitted_depth(near[0], fit) > 0).all()


def test_the_unit_of_length_is_that_of_the_depth() -> None:
    assert world_scale([_depths(4.0, 0.0), _depths(5.0, 0.0), _depths(50.0, 0.0)]) == pytest.approx(
        0.2, rel=0.05
    )
    assert world_scale([PointDepths(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))]) is None
