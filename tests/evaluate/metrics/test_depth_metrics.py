"""Depth errors after each fit: by hand, against a general minimiser, and where nothing can be fitted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from manyview.evaluate.metrics.depth import DEPTH_FITS, depth_errors, fit_depth

from ..published_cases import published_case


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
    assert depth_errors(truth, truth, ~valid) is None


def depths(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(400, generator=generator, dtype=torch.float64) * 4 + 1
    noise = torch.randn(400, generator=generator, dtype=torch.float64) * 0.05
    found = (truth - 0.7) / 3 + noise.abs() ** 2
    found[::37] *= 4  # outliers, which least absolute errors forgive
    return found, truth


def test_a_scale_minimises_absolute_errors() -> None:
    found, truth = depths()
    a, b = found.numpy(), truth.numpy()

    def cost(scale) -> float:
        return float(np.abs(scale * a - b).sum())

    best = minimize(cost, [2.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}).fun
    scale, shift = fit_depth(found, truth, "scale", steps=60)
    assert cost(scale) == pytest.approx(best, rel=2e-3) and shift == 0.0
    assert fit_depth(found, truth, "median")[0] == np.median(b / a)
    assert fit_depth(found, truth, "none") == (1.0, 0.0)


def test_a_perfect_relation_is_found_exactly() -> None:
    _, truth = depths()
    valid = torch.ones_like(truth, dtype=torch.bool)
    for how in ("scale", "median", "scale-shift"):
        errors = depth_errors(truth / 3, truth, valid, how)
        off = 1e-4 if how == "scale-shift" else 1e-9  # Adam keeps stepping about the answer
        assert errors.abs_rel < off and errors.delta_125 == 100.0
        assert errors.scale == pytest.approx(3.0, rel=off)
    assert depth_errors(truth / 3 + 0.4, truth, valid, "scale").abs_rel > 0.02


def test_steps_of_adam_that_skip_pixels_of_a_sure_sign_are_those_of_all_pixels() -> None:
    found, truth = depths()
    start = truth.sort().values[199] / found.sort().values[199]  # the lower of both middle values
    at = torch.tensor([float(start), 0.0], dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([at], lr=1e-4)
    for _ in range(1000):
        adam.zero_grad()
        (at[0] * found + at[1] - truth).abs().sum().backward()
        adam.step()
    assert fit_depth(found, truth, "scale-shift") == pytest.approx(tuple(at.tolist()), rel=1e-9)


def test_fitted_depth_is_clipped_and_medians_of_even_counts_are_of_either_kind() -> None:
    truth, valid = torch.tensor([1.0, 1.0, 1.0, 2.0]), torch.ones(4, dtype=torch.bool)
    found = torch.tensor([1.0, 1.1, 1.2, 40.0])
    assert depth_errors(found, truth, valid, "none", clip=3.0).rmse == pytest.approx((1.05 / 4) ** 0.5)
    assert depth_errors(found, truth, valid, "none").abs_rel_median == pytest.approx(0.15)
    assert depth_errors(found, truth, valid, "none", lower_median=True).abs_rel_median == pytest.approx(0.1)


@pytest.mark.parametrize("how", ["scale", "scale-shift"])
@pytest.mark.parametrize("name", ["pi3_depth_indoor", "pi3_depth_sintel"])
def test_video_depth_is_what_published_code_makes_of_it(name: str, how: str) -> None:
    case = published_case(name)
    found, truth = (torch.from_numpy(case.inputs[f"{side}_depth"]) for side in ("estimated", "true"))
    valid = (truth > 0) & (truth < 70)
    for clip, word in ((math.inf, ""), (70.0, "clip70_")):
        errors = depth_errors(found, truth, valid, how, clip)
        prefix = f"{how.replace('-', '_')}_{word}"
        figures = {"abs_rel": errors.abs_rel, "rmse": errors.rmse, "delta_1.25": errors.delta_125 / 100}
        case.check(**{prefix + figure: value for figure, value in figures.items()})
    assert errors.pixels == case.outputs["valid_pixels"]
    if how == "scale-shift":
        case.check(scale_shift_scale=errors.scale, scale_shift_shift=errors.shift)


@pytest.mark.parametrize("how", DEPTH_FITS)
def test_what_cannot_be_fitted_has_a_stated_answer(how) -> None:
    truth = torch.linspace(1, 3, 11)
    valid = torch.ones(11, dtype=torch.bool)
    assert depth_errors(truth, truth, ~valid, how) is None
    lost = depth_errors(torch.full((11,), float("nan")), truth, valid, how)
    assert (lost.abs_rel, lost.delta_125, lost.pixels) == (1.0, 0.0, 11)
    flat = depth_errors(torch.ones(11), truth, valid, how)
    assert np.isfinite([flat.abs_rel, flat.rmse, flat.scale]).all() and flat.shift == 0.0
    half = torch.where(torch.arange(11) < 5, truth, torch.tensor(-1.0))
    assert depth_errors(half, truth, valid, how).abs_rel == pytest.approx(6 / 11)


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="best"):
        fit_depth(torch.ones(3), torch.ones(3), "best")  # type: ignore[arg-type]
