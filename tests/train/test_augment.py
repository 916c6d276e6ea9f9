"""Photometric changes: drawn from the seed, within bounds, each view by itself, nothing at strength zero."""

from __future__ import annotations

import torch

from manyview.train.augment import photometric


def test_strength_zero_changes_nothing():
    images = torch.rand(2, 3, 3, 8, 8)
    assert photometric(images, 0.0, 1) is images


def test_changes_are_the_seeds_and_stay_in_range():
    images = torch.rand(2, 3, 3, 16, 16)
    changed = photometric(images, 1.0, 7)
    assert torch.equal(changed, photometric(images, 1.0, 7))
    assert not torch.equal(changed, photometric(images, 1.0, 8))
    assert changed.min() >= 0 and changed.max() <= 1
    assert (changed - images).abs().mean() > 0.02


def test_each_view_is_changed_by_itself():
    images = torch.full((1, 6, 3, 8, 8), 0.4)
    means = photometric(images, 1.0, 3).mean((2, 3, 4))[0]
    assert means.std() > 0.02


def test_gradients_of_geometry_stay_in_place():
    """An edge stays where it is: exposure and noise move no pixel."""
    images = torch.zeros(1, 4, 3, 8, 16)
    images[..., 8:] = 0.8
    step = photometric(images, 0.5, 2).mean((2, 3)).diff(dim=-1)
    assert (step.argmax(-1).sub(7).abs() <= 1).all()
