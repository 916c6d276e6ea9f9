from __future__ import annotations

import pytest
import torch

from manyview.synthetic.textures import RESOLUTION, sample, texture_bank


@pytest.fixture(scope="module")
def bank():
    return texture_bank(0)


def _at(bank, tile, u, v, footprint):
    n = max(len(u), len(v))
    values = (torch.full((n,), float(tile)), u, v, torch.full((n,), footprint))
    return sample(bank, *values)


def test_texel_centres_return_the_texels(bank):
    centres = (torch.arange(RESOLUTION) + 0.5) / RESOLUTION
    row = _at(bank, 3, centres, torch.full_like(centres, 2.5 / RESOLUTION), 1e-6)
    first = 3 * (len(bank.texels) // bank.tiles) + 2 * RESOLUTION
    assert torch.allclose(row, bank.texels[first : first + RESOLUTION, :3], atol=1e-4)


def test_tiles_repeat(bank):
    u, v = torch.rand(50), torch.rand(50)
    for footprint in (1e-6, 0.03, 0.2):
        assert torch.allclose(
            _at(bank, 60, u, v, footprint), _at(bank, 60, u + 2, v - 3, footprint), atol=1e-3
        )


def test_a_pixel_as_large_as_the_tile_sees_its_mean(bank):
    for tile in range(0, bank.tiles, 7):
        seen = _at(bank, tile, torch.rand(20), torch.rand(20), 4.0)
        assert seen.abs().max() < 0.05  # tiles have mean 0


def test_larger_footprints_vary_less(bank):
    u, v = torch.rand(500), torch.rand(500)
    hard = bank.tiles - 1
    spread = [float(_at(bank, hard, u, v, footprint).std()) for footprint in (1e-6, 0.05, 0.2, 0.6)]
    assert spread == sorted(spread, reverse=True)


def test_smooth_tiles_are_smooth_and_hard_ones_are_not(bank):
    u = torch.linspace(0, 1, 200)
    v = torch.full_like(u, 0.3)

    def roughness(tile):
        return _at(bank, tile, u, v, 1e-6).diff(dim=0).abs().sum(0).mean()

    smooth = torch.stack([roughness(tile) for tile in range(bank.smooth)]).median()
    hard = torch.stack([roughness(tile) for tile in range(bank.smooth, bank.tiles)]).median()
    assert hard > 2 * smooth
