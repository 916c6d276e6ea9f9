"""Photometric changes: drawn from the seed, within bounds, each view by itself, nothing at strength zero."""

from __future__ import annotations

import pytest
import torch

from manyview.train.augment import photometric, through_camera


@pytest.mark.parametrize("change", [photometric, through_camera])
def test_strength_zero_changes_nothing(change):
    images = torch.rand(2, 3, 3, 8, 8)
    assert change(images, 0.0, 1) is images


@pytest.mark.parametrize("change", [photometric, through_camera])
def test_changes_are_the_seeds_and_stay_in_range(change):
    images = torch.rand(2, 3, 3, 16, 16)
    before = images.clone()
    changed = change(images, 1.0, 7)
    assert torch.equal(images, before)
    assert torch.equal(changed, change(images, 1.0, 7))
    assert not torch.equal(changed, change(images, 1.0, 8))
    assert changed.min() >= 0 and changed.max() <= 1
    assert (changed - images).abs().mean() > 0.02


def test_each_view_is_changed_by_itself():
    images = torch.full((1, 6, 3, 8, 8), 0.4)
    means = photometric(images, 1.0, 3).mean((2, 3, 4))[0]
    assert means.std() > 0.02


@pytest.mark.parametrize("change", [photometric, through_camera])
def test_gradients_of_geometry_stay_in_place(change):
    """An edge stays where it is: exposure and noise move no pixel."""
    images = torch.zeros(1, 4, 3, 8, 16)
    images[..., 8:] = 0.8
    step = change(images, 0.5, 2).mean((2, 3)).diff(dim=-1)
    assert (step.argmax(-1).sub(7).abs() <= 1).all()


def test_a_camera_darkens_corners_and_stores_jpegs():
    images = torch.full((40, 1, 3, 32, 32), 0.5)
    found = through_camera(images, 1.0, 5)
    assert found[..., :4, :4].mean() < found[..., 14:18, 14:18].mean() - 0.02
    # A JPEG has 8 bits a channel.
    eighths = [bool(((scene * 255) - (scene * 255).round()).abs().max() < 1e-3) for scene in found]
    assert 8 < sum(eighths) < 32


def test_some_scenes_are_grey_in_all_views():
    images = torch.rand(40, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = through_camera(images, 1.0, 3)
    colour = (found.amax(2) - found.amin(2)).mean((2, 3))
    grey = colour < 1e-3
    assert torch.equal(grey.all(1), grey.any(1)) and 2 < int(grey.all(1).sum()) < 16
