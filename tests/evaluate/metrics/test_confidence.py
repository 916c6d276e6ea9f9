"""Rankings of depth errors by confidence, on data where each answer is known."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from manyview.evaluate.metrics.confidence import (
    ConfidenceRankings,
    Ranking,
    confidence_rankings,
    sparsification,
)

GENERATOR = torch.Generator().manual_seed(0)
DEPTH = torch.rand(20_000, generator=GENERATOR).double() * 4 + 1
SIGNED = torch.where(torch.rand(20_000, generator=GENERATOR) < 0.5, -1.0, 1.0).double()
# Absolute errors grow with depth, relative ones fall: |e| = 0.2 sqrt(z) n, |e| / z = 0.2 n / sqrt(z).
NOISE = torch.rand(20_000, generator=GENERATOR).double()
ERROR = 0.2 * DEPTH.sqrt() * NOISE


def rankings(confidence: torch.Tensor, error: torch.Tensor = ERROR) -> ConfidenceRankings:
    # The estimate is the truth's depth, moved: its 1/z is nearly the truth's.
    return confidence_rankings(DEPTH + SIGNED * error, DEPTH, confidence)


def test_four_pixels_by_hand() -> None:
    """Depths 1, 2, 4, 8 with absolute errors 0.4, 0.4, 0.4, 0.8: relative 0.4, 0.2, 0.1, 0.1."""
    truth = torch.tensor([1.0, 2.0, 4.0, 8.0])
    scaled = truth + torch.tensor([0.4, 0.4, 0.4, 0.8])
    found = confidence_rankings(scaled, truth, torch.tensor([4.0, 3.0, 2.0, 1.0]))
    # This confidence is the order of 1/z. Absolute: 1 while the far pixel is there, then 0.4 / 0.5.
    assert found.absolute.area == found.absolute.inverse_depth == pytest.approx(found.absolute.oracle)
    assert found.absolute.area < 0.9
    # Relative: the near pixel, the worst, is dropped last, the order is exactly the wrong one.
    assert found.relative.area == found.relative.inverse_depth > 1.2
    assert found.relative.oracle < 0.8


def test_what_vggt_trains_ranks_absolute_errors_not_relative_ones() -> None:
    perfect = rankings(1 / (ERROR + 1e-3))
    assert perfect.absolute.excess == pytest.approx(0, abs=1e-9)
    assert perfect.absolute.area < perfect.absolute.inverse_depth < 1
    assert perfect.relative.excess > 0.02
    relative = rankings(DEPTH / (ERROR + 1e-3))
    assert relative.relative.excess == pytest.approx(0, abs=1e-3)


def test_depth_alone_helps_absolute_and_harms_relative_errors() -> None:
    """The case that was mistaken for a confidence of no use: it knows depth and nothing else."""
    depth_alone = rankings(1 / DEPTH)
    assert depth_alone.absolute.area == pytest.approx(depth_alone.absolute.inverse_depth, abs=0.02)
    assert depth_alone.absolute.area < 0.9 and depth_alone.relative.area > 1.05


def test_chance_is_one_and_so_is_a_constant() -> None:
    blind = rankings(torch.ones(20_000))
    for one in (blind.relative, blind.absolute):
        assert one.random == pytest.approx(1, abs=0.02) and one.area == pytest.approx(1, abs=0.02)
        assert one.oracle < 0.7


def test_scale_of_the_scene_does_not_matter() -> None:
    confidence = 1 / (ERROR + 0.1)
    a = rankings(confidence)
    b = confidence_rankings(50 * (DEPTH + SIGNED * ERROR), 50 * DEPTH, confidence)
    assert a.absolute.area == pytest.approx(b.absolute.area) and a.relative.oracle == pytest.approx(
        b.relative.oracle
    )


def test_degenerate_cases_are_finite() -> None:
    nothing = torch.full((20_000,), math.nan, dtype=torch.float64)
    exact = confidence_rankings(DEPTH, DEPTH, torch.ones_like(DEPTH))
    assert exact.relative == exact.absolute == Ranking()
    assert confidence_rankings(DEPTH[:0], DEPTH[:0], DEPTH[:0]).absolute == Ranking()
    for scaled, confidence in ((nothing, DEPTH), (DEPTH * 1.1, nothing), (-DEPTH, DEPTH)):
        found = dataclasses.asdict(confidence_rankings(scaled, DEPTH, confidence))
        assert all(math.isfinite(value) for one in found.values() for value in one.values())
    # Confidence that is not finite is the least: its pixels go first.
    lost = 1 / (ERROR + 1e-3)
    lost[ERROR.argmax()] = math.nan
    assert rankings(lost).absolute.excess == pytest.approx(0, abs=1e-3)


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
