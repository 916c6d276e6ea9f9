"""Every definition of the area under recall, by hand and against a reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyview.evaluate.metrics.pose import AUC_BINNINGS, auc, recall

ERRORS = np.random.default_rng(0).exponential(6.0, 400)


@pytest.mark.parametrize("threshold", [3, 5, 30])
def test_histograms_are_numpys(threshold: int) -> None:
    for binning, bins in (("vggt", threshold), ("vggt-plus-one", threshold + 1)):
        counts, _ = np.histogram(ERRORS, bins=bins, range=(0, threshold))
        expected = 100 * np.cumsum(counts / len(ERRORS)).mean()
        assert auc(torch.from_numpy(ERRORS), threshold, binning) == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [3, 30])
def test_exact_is_the_integral_of_recall(threshold: int) -> None:
    grid = (np.arange(200_000) + 0.5) * threshold / 200_000
    steps = np.searchsorted(np.sort(ERRORS), grid, side="right") / len(ERRORS)
    assert auc(torch.from_numpy(ERRORS), threshold, "exact") == pytest.approx(100 * steps.mean(), abs=1e-2)


def test_trapezoid_is_the_matchers() -> None:
    """SuperGlue's convention, with its searchsorted."""
    for threshold in (5, 10, 20):
        errors = np.concatenate([[0.0], np.sort(ERRORS)])
        values = np.concatenate([[0.0], (np.arange(len(ERRORS)) + 1) / len(ERRORS)])
        last = np.searchsorted(errors, threshold)
        y = np.concatenate([values[:last], [values[last - 1]]])
        x = np.concatenate([errors[:last], [threshold]])
        expected = 100 * np.trapezoid(y, x) / threshold
        assert auc(torch.from_numpy(ERRORS), threshold, "trapezoid") == pytest.approx(expected)


def test_right_edges_overstate_and_the_extra_bin_reads_lower() -> None:
    errors = torch.from_numpy(ERRORS)
    for threshold in (3, 5, 30):
        vggt, plus, exact = (auc(errors, threshold, b) for b in ("vggt", "vggt-plus-one", "exact"))
        assert min(vggt, plus) > exact
        # At 30 degrees the extra bin changes the area by less than its noise.
        assert threshold == 30 or vggt > plus


@pytest.mark.parametrize("binning", AUC_BINNINGS)
def test_limits(binning) -> None:
    assert auc(torch.zeros(4), 5, binning) == pytest.approx(100.0)
    assert auc(torch.full((4,), 1e6), 30, binning) == 0.0
    assert auc(torch.zeros(0), 5, binning) == 0.0
    with pytest.raises(ValueError, match="0"):
        auc(torch.zeros(4), 0, binning)
    with pytest.raises(ValueError, match="round"):
        auc(torch.zeros(4), 5, "round")  # type: ignore[arg-type]


def test_recall_is_strictly_below() -> None:
    assert recall(torch.tensor([1.0, 5.0, 4.999, 9.0]), 5) == 50.0
    assert recall(torch.zeros(0), 5) == 0.0
