"""Depth errors and sparsification, by hand and by property."""

from __future__ import annotations

import pytest
import torch

from manyview.evaluate.metrics.depth import depth_errors, sparsification


def test_depth_errors_by_hand() -> None:
    truth = torch.tensor([[1.0, 2.0], [4.0, 9.0]])
    valid = torch.tensor([[True, True], [True, False]])
    # Ratios truth / estimate 2, 2, 4: median 2, so the scaled estimate is 1, 2, 2.
    estimate = torch.tensor([[0.5, 1.0], [1.0, float("nan")]])
    found = depth_errors(estimate, truth, valid)
    assert found.scale == pytest.approx(2.0)
    assert found.abs_rel == pytest.approx((0 + 0 + 0.5) / 3)
    assert found.delta_125 == pytest.approx(100 * 2 / 3)


def test_depth_errors_ignore_scale() -> None:
    truth = torch.rand(3, 8, 8) + 1
    valid = torch.ones_like(truth, dtype=torch.bool)
    noisy = truth * (1 + 0.1 * torch.rand(3, 8, 8))
    a, b = depth_errors(noisy, truth, valid), depth_errors(7.5 * noisy, truth, valid)
    assert a.abs_rel == pytest.approx(b.abs_rel)
    assert a.abs_rel > 0.01


def test_unusable_depth_counts_as_wrong() -> None:
    truth = torch.ones(4)
    valid = torch.ones(4, dtype=torch.bool)
    found = depth_errors(torch.tensor([1.0, 1.0, float("inf"), -1.0]), truth, valid)
    assert (found.abs_rel, found.delta_125) == (0.5, 50.0)
    nothing = depth_errors(torch.full((4,), float("nan")), truth, valid)
    assert (nothing.abs_rel, nothing.delta_125) == (1.0, 0.0)
    assert depth_errors(truth, truth, ~valid).abs_rel == 0.0


def test_sparsification_by_hand() -> None:
    errors = torch.tensor([4.0, 3.0, 2.0, 1.0])
    found = sparsification(errors, -errors, steps=4)
    # Mean of all 2.5; without the worst 2.0, 1.5, 1.0.
    torch.testing.assert_close(found.curve, torch.tensor([1.0, 0.8, 0.6, 0.4], dtype=torch.float64))
    assert found.excess == pytest.approx(0.0)
    assert found.area == pytest.approx(0.7)


def test_confidence_orders_perfect_random_and_inverted() -> None:
    errors = torch.rand(20_000).square()
    perfect = sparsification(errors, 1 / (errors + 1e-3))
    constant = sparsification(errors.sort().values, torch.ones(20_000))
    inverted = sparsification(errors, errors)
    assert perfect.excess == pytest.approx(0.0, abs=1e-9)
    assert constant.area == pytest.approx(1.0, abs=0.03)
    assert inverted.area > 1.5 > constant.area > perfect.area
