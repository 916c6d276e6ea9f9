"""The nested network: metres, sky, plans, pieces, known cameras, checkpoints, memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import manyview
from manyview.attention.plan import Plan
from manyview.bench.live_bytes import LiveBytes
from manyview.errors import UsageError
from manyview.geometry.cameras import invert_rigid
from manyview.models.config import NetworkConfig
from manyview.models.da3.metric_scale import metric_depth
from manyview.models.da3.nested_config import DA3NestedConfig
from manyview.models.da3.nested_spec import NESTED_SPEC
from manyview.models.families import family_of
from manyview.models.flops import forward_flops
from manyview.models.part_configs import DenseHeadConfig
from manyview.models.priors import Priors
from manyview.models.run_options import RunOptions
from manyview.reconstruction.plan.footprint import estimate_peak_bytes
from tests.models.da3.tiny_mono import published
from tests.models.da3.tiny_nested import TINY_NESTED, tiny_nested
from tests.models.test_flops import counting

IMAGES = torch.rand(4, 3, 28, 42, generator=torch.Generator().manual_seed(3))


def test_cameras_and_depth_are_the_any_view_networks_in_metres() -> None:
    network = tiny_nested()
    with torch.inference_mode():
        found, plain = network(IMAGES), network.da3(IMAGES)
        output, score = network.da3_metric.single_views(IMAGES[None], RunOptions())
    scale, sky = found.metric_scale, found.sky
    assert scale.shape == (1,) and torch.equal(sky, score >= 0.3) and not sky.all()
    torch.testing.assert_close(found.z_depth[~sky], scale * plain.z_depth[~sky])
    torch.testing.assert_close(found.cam_from_world[..., 3], scale * plain.cam_from_world[..., 3])
    torch.testing.assert_close(found.cam_from_world[..., :3], plain.cam_from_world[..., :3])
    assert torch.equal(found.intrinsics, plain.intrinsics)
    metres = metric_depth(output, plain.intrinsics)
    ratio = (metres / plain.z_depth)[~sky]
    assert ratio.min() < scale < ratio.max()


@pytest.mark.parametrize("spec", ["frame", "anchors:frames=2", "spark3r"])
def test_every_plan_runs(spec: str) -> None:
    network = tiny_nested()
    with torch.inference_mode():
        found = network(IMAGES, Plan.parse(spec, network.config.depth))
    assert found.z_depth.isfinite().all() and found.metric_scale.isfinite().all()


def test_pieces_change_nothing_beyond_rounding() -> None:
    network, images = tiny_nested().double(), IMAGES.double()
    pieces = RunOptions(frames_per_chunk=1, mlp_tokens_per_chunk=7, head_frames_per_chunk=3)
    with torch.inference_mode():
        whole, split = network(images), network(images, options=pieces)
    for name in ("z_depth", "depth_conf", "cam_from_world", "metric_scale"):
        torch.testing.assert_close(getattr(split, name), getattr(whole, name), rtol=1e-9, atol=1e-9)
    assert torch.equal(split.sky, whole.sky)


def test_scenes_of_a_batch_have_scales_of_their_own() -> None:
    network = tiny_nested().double()
    both = torch.stack([IMAGES, IMAGES.flip(0) / 2]).double()
    with torch.inference_mode():
        joint, alone = network(both), network(both[1])
    torch.testing.assert_close(joint.metric_scale[1:], alone.metric_scale, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(joint.z_depth[1:], alone.z_depth, rtol=1e-9, atol=1e-9)


def test_known_cameras_keep_their_world_and_unit() -> None:
    network = tiny_nested()
    world_from_cam = torch.eye(4).repeat(1, 4, 1, 1)
    world_from_cam[..., :3, 3] = torch.rand(1, 4, 3, generator=torch.Generator().manual_seed(4))
    intrinsics = torch.tensor([[40.0, 0, 21], [0, 40, 14], [0, 0, 1]]).repeat(1, 4, 1, 1)
    priors = Priors(world_from_cam=world_from_cam, intrinsics=intrinsics)
    with torch.inference_mode():
        found = network(IMAGES, priors=priors)
        farther = dataclasses.replace(priors, world_from_cam=world_from_cam.clone())
        farther.world_from_cam[..., :3, 3] *= 10
        larger = network(IMAGES, priors=farther)
    torch.testing.assert_close(found.cam_from_world, invert_rigid(world_from_cam[..., :3, :]))
    torch.testing.assert_close(larger.z_depth, 10 * found.z_depth, rtol=1e-3, atol=1e-3)


def test_streams_and_attached_frames_are_refused_with_the_reason() -> None:
    network = tiny_nested()
    assert "all views" in str(network.why_not_attachable) and "all views" in str(network.why_not_streamable)


def test_published_files_load(tmp_path: Path) -> None:
    """With a Gaussian head, and with the shared norm under all of its names or under the first."""
    network = tiny_nested()
    folder = published(network, tmp_path / "nested")
    assert family_of(network.state_dict()) is NESTED_SPEC
    path = folder / "model.safetensors"
    tensors = load_file(path)
    norm = "model.da3.head.scratch.output_conv2_aux.{}.2.weight"
    for level in (1, 2, 3):
        tensors[norm.format(level)] = tensors[norm.format(0)].clone()
    save_file({**tensors, "model.da3.gs_head.projects.0.weight": torch.ones(3, 3)}, path)
    loaded = manyview.load(folder)
    published_taps = TINY_NESTED.any_view.taps
    assert loaded.config.any_view.taps == published_taps and loaded.config.metric.metric
    tensors["model.da3_metric.head.projects.0.weight"] = torch.ones(8, 63, 1, 1)
    save_file(tensors, path)
    with pytest.raises(manyview.errors.WeightsError, match=r"da3_metric\.head\.projects\.0\.weight"):
        manyview.load(folder)


def test_a_scene_of_sky_alone_is_refused() -> None:
    network = tiny_nested()
    with torch.no_grad():
        network.da3_metric.head.scratch.sky_output_conv2[2].bias.fill_(1e3)
    with pytest.raises(UsageError, match="sky"):
        network(IMAGES)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("dtype", "pieces"),
    [(torch.float32, {}), (torch.bfloat16, {"frames_per_chunk": 2, "head_frames_per_chunk": 2})],
)
def test_memory_is_as_expected(dtype: torch.dtype, pieces: dict[str, Any]) -> None:
    head = DenseHeadConfig(64, (32, 64, 128, 128))
    wide = dataclasses.replace(
        TINY_NESTED,
        any_view=dataclasses.replace(TINY_NESTED.any_view, dim=192, num_heads=3, head=head),
        metric=dataclasses.replace(TINY_NESTED.metric, dim=256, num_heads=4, head=head),
    )
    network = tiny_nested(any_view=wide.any_view, metric=wide.metric)
    options = RunOptions(dtype=dtype, channels_last=True, **pieces)
    images = torch.randint(0, 256, (1, 8, 3, 112, 154), dtype=torch.uint8)
    with torch.no_grad(), LiveBytes() as live:
        network(images, options=options)
    counted = live.peak + images.numel()
    estimate = estimate_peak_bytes(wide, wide.layout(8, 112, 154), options, dtype.itemsize)
    assert counted <= estimate <= 1.4 * counted


def test_operations_are_those_counted() -> None:
    network, config = tiny_nested(), TINY_NESTED
    layout = config.layout(4, 28, 42)
    expected = forward_flops(config, layout, Plan.dense(config.depth), ("camera", "depth"))
    with counting() as stages:
        network(IMAGES, recorder=stages)
    assert stages.flops.keys() == expected.keys()
    for (
        stage,
        operations,
    ) in expected.items():  # what the choice of a view and the change of world take, aside
        assert stages.flops[stage] == pytest.approx(operations, rel=1e-3)


def test_sizes_are_those_of_the_any_view_network() -> None:
    """Whatever a configuration can be asked; what a plan, preflight or a run decides follows from it."""
    asked = [name for name in dir(NetworkConfig) if isinstance(getattr(NetworkConfig, name), property)]
    asked += ["dim", "depth", "num_heads", "mlp_ratio", "rope_base", "patch_size", "image_size"]
    for name in [*asked, "special_tokens", "encoder"]:
        assert getattr(TINY_NESTED, name) == getattr(TINY_NESTED.any_view, name), name
    assert DA3NestedConfig.from_json(TINY_NESTED.to_json()) == TINY_NESTED
