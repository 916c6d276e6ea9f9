"""Scenes with pictures, shadows and things that stand in relation to each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manyview.errors import UsageError
from manyview.synthetic import SceneOptions, correspondence, render_scenes
from manyview.synthetic.textures import PICTURE_RESOLUTION, sample, texture_bank

RED, BLUE = (200, 30, 20), (20, 40, 210)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two pictures: the left half red, the right half blue, and the same in grey stripes."""
    folder = tmp_path_factory.mktemp("pictures")
    halves = np.empty((60, 80, 3), np.uint8)
    halves[:, :40], halves[:, 40:] = RED, BLUE
    Image.fromarray(halves).save(folder / "halves.png")
    stripes = np.repeat(np.arange(0, 250, 25, np.uint8), 8)[None, :, None]
    Image.fromarray(np.broadcast_to(stripes, (60, 80, 3)).copy()).save(folder / "stripes.png")
    return str(folder)


def with_pictures(pictures: str, **changes) -> SceneOptions:
    plain = {"picture_share": 1.0, "haze_free_share": 1.0, "light_strength": 0.0}
    return SceneOptions.medium(pictures=pictures, **(plain | changes))


def test_every_second_repetition_of_a_picture_is_mirrored(pictures: str) -> None:
    bank = texture_bank(0, pictures=pictures)
    assert bank.pictures is not None and bank.pictures.tiles == 2 and bank.tiles == texture_bank(0).tiles
    u, v = torch.rand(100, generator=torch.Generator().manual_seed(0)), torch.full((100,), 0.4)

    def at(place: torch.Tensor) -> torch.Tensor:
        assert bank.pictures is not None
        return sample(bank.pictures, torch.zeros(100), place, v, torch.full((100,), 1 / PICTURE_RESOLUTION))

    torch.testing.assert_close(at(u), at(2 - u), atol=1e-4, rtol=0)
    torch.testing.assert_close(at(u), at(u - 4), atol=1e-4, rtol=0)
    assert at(u)[u < 0.45].mean(0).tolist() == pytest.approx([x / 255 for x in RED], abs=0.01)
    assert at(u)[u > 0.55].mean(0).tolist() == pytest.approx([x / 255 for x in BLUE], abs=0.01)


def test_pictures_are_on_the_surfaces_and_move_with_them(pictures: str) -> None:
    found = render_scenes([1, 2], 3, 64, 64, with_pictures(pictures, motion="narrow", light_change=0.0))
    plain = render_scenes([1, 2], 3, 64, 64, SceneOptions.medium(motion="narrow"))
    torch.testing.assert_close(found.z_depth, plain.z_depth)  # what stands where is as without
    both = correspondence(found, 8)
    seen = both.visible[:, 0, 1]
    x, y = (both.pixels[:, 0, 1, :, i].long().clamp(0, 63) for i in range(2))
    scene = torch.arange(2)[:, None]
    there = found.images[scene, 1, :, y, x]
    source = both.source.long()
    here = found.images[:, 0][:, :, source[:, 1], source[:, 0]].transpose(1, 2)
    assert float((there - here).abs()[seen].median()) < 0.02


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pictures"):
        render_scenes(0, 1, 16, 16, SceneOptions(picture_share=1.0))
    with pytest.raises(UsageError, match=str(tmp_path)):
        render_scenes(0, 1, 16, 16, SceneOptions(pictures=str(tmp_path), picture_share=1.0))
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    with pytest.raises(UsageError, match="damaged"):
        render_scenes(0, 1, 16, 16, SceneOptions(pictures=str(tmp_path), picture_share=1.0))


@pytest.mark.parametrize("kind", ["room", "outdoor"])
def test_shadows_only_darken(kind: str) -> None:
    lit = SceneOptions.medium(kind=kind, light_strength=1.0, haze_free_share=1.0, boxes=(5, 5))
    bright = render_scenes(range(4), 2, 48, 48, lit)
    dark = render_scenes(range(4), 2, 48, 48, dataclasses.replace(lit, shadows=1.0))
    change = dark.images - bright.images
    assert float(change.max()) <= 1e-5
    assert 0.005 < float((change < -0.02).float().mean()) < 0.6


def test_highlights_and_clouds_only_brighten_or_cover_the_sky() -> None:
    plain = SceneOptions.medium(kind="outdoor", haze_free_share=1.0)
    before = render_scenes(range(3), 2, 48, 48, plain)
    shiny = render_scenes(range(3), 2, 48, 48, dataclasses.replace(plain, gloss=1.0))
    assert float((shiny.images - before.images).min()) >= -1e-5
    assert float((shiny.images - before.images).max()) > 0.05
    cloudy = render_scenes(range(3), 2, 48, 48, dataclasses.replace(plain, clouds=1.0))
    changed = (cloudy.images - before.images).abs().amax(2) > 1e-4
    assert bool(changed.any()) and not bool((changed & before.valid).any())


@pytest.mark.parametrize(
    ("kind", "arrangement", "motion"),
    [
        ("outdoor", "facade", "mixed"),
        ("outdoor", "street", "forward"),
        ("outdoor", "street", "mixed"),
        ("room", "table", "wide"),
    ],
)
def test_arrangements_leave_cameras_free(kind: str, arrangement: str, motion: str) -> None:
    options = SceneOptions.medium(kind=kind, motion=motion)
    more = dataclasses.replace(options, arrangement=arrangement)
    plain, found = (render_scenes(range(12), 4, 32, 32, each) for each in (options, more))
    down = found.cam_from_world[..., 2, 2].neg().asin().rad2deg()  # of the optical axis
    if arrangement == "table":
        assert 15 < float(down.median()) < 60
    elif arrangement == "facade":
        assert float(found.valid.float().mean()) > 0.1 + float(plain.valid.float().mean())
        assert float(down.median()) < float(plain.cam_from_world[..., 2, 2].neg().asin().rad2deg().median())
    elif motion != "forward":  # drives along a street are of other lengths
        torch.testing.assert_close(found.cam_from_world, plain.cam_from_world)
        before, after = (torch.where(each.valid, each.z_depth, torch.inf) for each in (plain, found))
        assert float((after < before - 1e-3).float().mean()) > 0.03
    assert float(found.z_depth[found.valid].min()) > 0.05
    # The camera is inside of nothing: the nearest thing does not fill its image.
    assert float((found.z_depth < 0.3)[found.valid].float().mean()) < 0.05
    alone = render_scenes([7], 4, 32, 32, more)
    torch.testing.assert_close(alone.z_depth[0], found.z_depth[7])


def test_a_room_has_no_street() -> None:
    with pytest.raises(UsageError, match="arrangement"):
        SceneOptions(kind="room", arrangement="street")
    with pytest.raises(UsageError, match="arrangement"):
        SceneOptions(kind="mixed", arrangement="table")
