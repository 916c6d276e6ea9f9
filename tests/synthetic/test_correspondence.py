from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from manyview.errors import UsageError
from manyview.synthetic import SceneOptions, correspondence, render_scenes

PLAIN = {"haze_free_share": 1.0, "light_strength": 0.0, "light_change": 0.0}
OTHERS = ~torch.eye(6, dtype=torch.bool)


def _sampled(maps, pixels):
    """maps [b, t, c, h, w] at pixels [b, s, t, p, 2], bilinear -> [b, s, t, p, c]."""
    b, s, t, p, _ = pixels.shape
    height, width = maps.shape[-2:]
    grid = 2.0 * pixels / torch.tensor([width, height]) - 1.0
    flat = grid.transpose(1, 2).reshape(b * t, s, p, 2)
    values = F.grid_sample(maps.flatten(0, 1), flat, align_corners=False, padding_mode="border")
    return values.view(b, t, -1, s, p).permute(0, 3, 1, 4, 2)


@pytest.mark.parametrize("kind", ["room", "outdoor"])
def test_corresponding_pixels_have_the_same_colour_and_depth(kind):
    options = SceneOptions(kind=kind, boxes=(3, 5), spheres=(1, 2), **PLAIN)
    batch = render_scenes(range(6), 6, 64, 64, options)
    found = correspondence(batch, 8)
    seen = found.visible & OTHERS[:, :, None]
    own = _sampled(batch.images, found.source.expand(6, 6, 1, 64, 2).expand(6, 6, 6, 64, 2))
    own = own.diagonal(dim1=1, dim2=2).permute(0, 3, 1, 2)[:, :, None]  # frame s at its own patch centres
    colour = (_sampled(batch.images, found.pixels) - own).abs().amax(-1)[seen]
    assert colour.median() < 0.02 and colour.quantile(0.95) < 0.08
    shuffled = (_sampled(batch.images, found.pixels.flip(3)) - own).abs().amax(-1)[seen]
    assert shuffled.median() > 5 * colour.median()

    points = batch.world_points[:, :, 4::8, 4::8].flatten(2, 3)
    rotation, translation = batch.cam_from_world.split([3, 1], -1)
    z = torch.einsum("btj,bspj->bstp", rotation[:, :, 2], points) + translation[:, None, :, 2]
    nearest = found.pixels.floor().long().clamp(0, 63)
    index = nearest[..., 1] * 64 + nearest[..., 0]
    there = batch.z_depth.flatten(2)[:, None].expand(-1, 6, -1, -1).gather(3, index)
    assert ((there / z - 1.0).abs()[seen] < 0.1).float().mean() > 0.99
    assert ((there / z - 1.0).abs()[seen]).median() < 0.01


def test_the_pixels_are_those_of_the_projected_points():
    batch = render_scenes([2], 3, 32, 48, SceneOptions.hard(kind="room"))
    found = correspondence(batch, 16)
    assert found.source.tolist() == [[8.5 + 16 * x, 8.5 + 16 * y] for y in range(2) for x in range(3)]
    assert found.pixels.shape == (1, 3, 3, 6, 2) and found.visible.shape == (1, 3, 3, 6)
    for frame in range(3):
        assert torch.allclose(found.pixels[0, frame, frame], found.source, atol=1e-3)
        assert found.visible[0, frame, frame].all()
    point = batch.world_points[0, 0, 8, 24].double()  # patch 1 of frame 0
    camera = batch.cam_from_world[0, 2, :, :3].double() @ point + batch.cam_from_world[0, 2, :, 3]
    image = batch.intrinsics[0, 2].double() @ camera
    assert torch.allclose(found.pixels[0, 0, 2, 1].double(), image[:2] / image[2], atol=1e-3)


def test_what_is_hidden_or_outside_is_not_visible():
    options = SceneOptions.hard(boxes=(6, 6), **PLAIN)
    batch = render_scenes(range(8), 4, 48, 48, options)
    found = correspondence(batch, 8)
    points = batch.world_points[:, :, 4::8, 4::8].flatten(2, 3).double()
    # Oracle: a point is hidden if the nearest pixel's surface is clearly nearer to the camera.
    rotation, translation = batch.cam_from_world.double().split([3, 1], -1)
    camera = torch.einsum("btij,bspj->bstpi", rotation, points) + translation[:, None, :, None, :, 0]
    nearest = found.pixels.floor().long().clamp(0, 47)
    index = nearest[..., 1] * 48 + nearest[..., 0]
    there = batch.z_depth.flatten(2)[:, None].expand(-1, 4, -1, -1).gather(3, index)
    outside = (found.pixels < 0).any(-1) | (found.pixels > 48).any(-1) | (camera[..., 2] <= 0)
    hidden = ~outside & (there > 0) & (there < 0.8 * camera[..., 2])
    assert outside.any() and hidden.sum() > 50
    assert not (found.visible & outside).any()
    assert (found.visible & hidden).sum() <= 0.02 * hidden.sum()
    sky = ~batch.valid[:, :, 4::8, 4::8].flatten(2)
    assert sky.any()
    assert not (found.visible & sky[:, :, None]).any()


@pytest.mark.parametrize(("kind", "least"), [("room", 0.5), ("outdoor", 0.3)])
@pytest.mark.parametrize("path", ["orbit", "walk", "unordered"])
def test_views_of_a_set_overlap(kind, path, least):
    batch = render_scenes(range(16), 6, 48, 48, SceneOptions(kind=kind, path=path, motion="wide"))
    share = correspondence(batch, 8).visible.float().mean(-1)[:, OTHERS]
    assert share.median() > least
    assert share.mean(-1).min() > 0.15  # no scene without overlap


def test_a_size_that_patches_do_not_fill_is_refused():
    batch = render_scenes([0], 1, 20, 16)
    with pytest.raises(UsageError, match="20x16"):
        correspondence(batch, 8)
