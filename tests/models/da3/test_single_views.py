"""Depth and sky of single views: loading, pieces, sky, and a scene in metres by them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import manyview
from manyview.attention.plan import Plan
from manyview.errors import UsageError, WeightsError
from manyview.models.da3.metric_scale import in_metres, metric_depth
from manyview.models.da3.sky import far_depth, with_far_sky
from manyview.models.families import family_of, find_model
from manyview.models.flops import forward_flops
from manyview.models.run_options import RunOptions
from tests.models.da3.tiny_mono import TINY_MONO, published, tiny_mono
from tests.models.test_flops import counting

OPTIONS = RunOptions(heads=("depth", "sky"))


@pytest.mark.parametrize(
    ("name", "focal"), [("DA3METRIC-LARGE", 300.0), ("da3mono-large", None), ("other", None)]
)
def test_a_published_file_loads_and_its_name_says_whether_it_is_metric(
    tmp_path: Path, name: str, focal: float | None
) -> None:
    network = tiny_mono()
    loaded = manyview.load(published(network, tmp_path / "metric" / "mono" / name))
    assert loaded.config.metric_focal == focal
    assert loaded.config.patch_size == 14 and loaded.available_heads == ("depth", "sky")
    images = torch.rand(2, 3, 28, 42)
    with torch.inference_mode():
        expected, found = network(images, options=OPTIONS), loaded(images, options=OPTIONS)
    assert torch.equal(expected.z_depth, found.z_depth) and torch.equal(expected.sky, found.sky)
    assert found.z_depth.shape == (1, 2, 28, 42) and found.sky.dtype == torch.bool


def test_names_and_licences() -> None:
    for name in ("da3-metric-large", "depth-anything/DA3MONO-LARGE"):
        row = find_model(name)
        assert row is not None and row.licence == "Apache-2.0" and row.commercial_use


def test_another_number_of_blocks_is_refused(tmp_path: Path) -> None:
    network = type(tiny_mono())(dataclasses.replace(TINY_MONO, layers=4, taps=(0, 1, 2, 3)))
    folder = published(network, tmp_path / "weights")
    with pytest.raises(WeightsError, match="4 blocks"):
        manyview.load(folder)
    assert family_of(network.state_dict()) is not None


def test_cameras_are_refused_with_what_to_take_instead() -> None:
    with pytest.raises(UsageError, match=r"da3-base.*--metric"):
        tiny_mono()(torch.rand(1, 3, 28, 28), options=RunOptions(heads=("camera", "depth")))


def test_plans_with_layers_and_images_from_0_to_255_are_refused() -> None:
    with pytest.raises(UsageError, match="12 layers"):
        tiny_mono()(torch.rand(1, 3, 28, 28), Plan.dense(12), OPTIONS)
    with pytest.raises(UsageError):
        tiny_mono()(255 * torch.rand(1, 3, 28, 28), options=OPTIONS)


def test_pieces_change_nothing() -> None:
    network, images = tiny_mono().double(), torch.rand(5, 3, 28, 28)
    whole = network(images, options=dataclasses.replace(OPTIONS, head_frames_per_chunk=None))
    pieces = network(images, options=dataclasses.replace(OPTIONS, frames_per_chunk=2))
    torch.testing.assert_close(pieces.z_depth, whole.z_depth, rtol=1e-10, atol=1e-10)
    assert torch.equal(pieces.sky, whole.sky)
    one = network(images[3:4], options=OPTIONS)  # views do not see each other, but for the depth of the sky
    score = network.single_views(images[None], OPTIONS)[1]
    clear = score[:, 3:4] < 0.3
    torch.testing.assert_close(one.z_depth[clear], whole.z_depth[:, 3:4][clear], rtol=1e-10, atol=1e-10)


def test_the_sky_gets_the_far_end_of_the_rest() -> None:
    depth = torch.rand(2, 10, 20)
    sky = torch.zeros(2, 10, 20, dtype=torch.bool)
    sky[:, :3] = True
    found = with_far_sky(depth, sky)
    assert torch.equal(found[~sky], depth[~sky])
    torch.testing.assert_close(found[sky], torch.quantile(depth[~sky], 0.99).expand(120))
    assert torch.equal(with_far_sky(depth, torch.ones_like(sky)), depth)
    assert torch.equal(with_far_sky(depth, torch.zeros_like(sky)), depth)
    assert far_depth(torch.tensor([2.0])) == 2.0


@pytest.mark.parametrize("with_sky", [False, True])
def test_a_scene_is_scaled_to_metres_by_its_confident_part(with_sky: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    depth = 1 + torch.rand(3, 12, 16, generator=generator)
    conf = torch.full((3, 12, 16), 5.0)
    conf[:, :, :4] = 1.0
    metres = 2.5 * depth
    metres[:, :, :4] = 70.0  # wrong where confidence is low
    sky = torch.zeros_like(depth, dtype=torch.bool)
    sky[:, :3] = with_sky
    metres[sky] = 500.0
    cameras = torch.eye(4)[:3].repeat(3, 1, 1)
    cameras[:, :, 3] = torch.rand(3, 3, generator=generator)
    scene = in_metres(depth, conf, cameras, metres, sky)
    torch.testing.assert_close(scene.scale, torch.tensor(2.5))
    torch.testing.assert_close(scene.cam_from_world[..., 3], 2.5 * cameras[..., 3])
    torch.testing.assert_close(scene.z_depth[~sky], 2.5 * depth[~sky])
    assert (scene.depth_conf[sky] == 1).all() and (scene.depth_conf[~sky] == conf[~sky]).all()
    if with_sky:
        torch.testing.assert_close(scene.z_depth[0, 0, 0], torch.quantile(2.5 * depth[~sky], 0.99))


def test_a_scene_of_sky_alone_has_no_scale() -> None:
    depth, cameras = torch.ones(1, 4, 4), torch.eye(4)[None, :3]
    with pytest.raises(UsageError, match="sky"):
        in_metres(depth, depth, cameras, depth, torch.ones_like(depth, dtype=torch.bool))


def test_metric_depth_grows_with_the_focal_length() -> None:
    intrinsics = torch.diag(torch.tensor([500.0, 700.0, 1.0]))
    assert (metric_depth(torch.ones(2, 3), intrinsics) == 2.0).all()


def test_operations_are_those_counted() -> None:
    layout = TINY_MONO.layout(2, 28, 42)
    expected = forward_flops(TINY_MONO, layout, Plan.dense(0), ("depth", "sky"))
    with counting() as stages:
        tiny_mono()(torch.rand(2, 3, 28, 42), options=OPTIONS, recorder=stages)
    assert sum(stages.flops.values()) == sum(expected.values())
