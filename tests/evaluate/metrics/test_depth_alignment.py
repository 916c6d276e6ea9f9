"""Depth errors after each fit, against a general minimiser and where nothing can be fitted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from manyview.evaluate.metrics.depth_alignment import DEPTH_FITS, aligned_depth_errors, fit_depth


def depths(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(400, generator=generator, dtype=torch.float64) * 4 + 1
    noise = torch.randn(400, generator=generator, dtype=torch.float64) * 0.05
    found = (truth - 0.7) / 3 + noise.abs() ** 2
    found[::37] *= 4  # outliers, which least absolute errors forgive
    return found, truth


def test_fits_minimise_absolute_errors() -> None:
    found, truth = depths()
    a, b = found.numpy(), truth.numpy()

    def cost(x) -> float:
        return float(np.abs(x[0] * a + (x[1] if len(x) > 1 else 0) - b).sum())

    for how, start in (("scale", [2.0]), ("scale-shift", [2.0, 0.5])):
        best = minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}).fun
        scale, shift = fit_depth(found, truth, how, steps=60)
        assert cost([scale, shift]) == pytest.approx(best, rel=2e-3)
    assert fit_depth(found, truth, "median")[0] == float((truth / found).median())
    assert fit_depth(found, truth, "none") == (1.0, 0.0)


def test_a_perfect_relation_is_found_exactly() -> None:
    _, truth = depths()
    valid = torch.ones_like(truth, dtype=torch.bool)
    for how, found in (("scale", truth / 3), ("median", truth / 3), ("scale-shift", truth / 3 + 0.4)):
        errors = aligned_depth_errors(found, truth, valid, how)
        assert errors.abs_rel < 1e-9 and errors.delta_125 == 100.0 and errors.rmse < 1e-8
        assert errors.scale == pytest.approx(3.0)
    assert aligned_depth_errors(truth / 3 + 0.4, truth, valid, "scale").abs_rel > 0.02


@pytest.mark.parametrize("how", DEPTH_FITS)
def test_what_cannot_be_fitted_has_a_stated_answer(how) -> None:
    truth = torch.linspace(1, 3, 11)
    valid = torch.ones(11, dtype=torch.bool)
    assert aligned_depth_errors(truth, truth, ~valid, how) is None
    lost = aligned_depth_errors(torch.full((11,), float("nan")), truth, valid, how)
    assert (lost.abs_rel, lost.delta_125, lost.pixels) == (1.0, 0.0, 11)
    flat = aligned_depth_errors(torch.ones(11), truth, valid, how)
    assert np.isfinite([flat.abs_rel, flat.rmse, flat.scale]).all() and flat.shift == 0.0
    half = torch.where(torch.arange(11) < 5, truth, torch.tensor(-1.0))
    assert aligned_depth_errors(half, truth, valid, how).abs_rel == pytest.approx(6 / 11)


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="depth is fitted by one of"):
        fit_depth(torch.ones(3), torch.ones(3), "best")  # type: ignore[arg-type]
