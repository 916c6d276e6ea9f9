"""Starting from weights: a deeper network that computes the same, and clear refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from manyview.errors import UsageError
from manyview.models.run_options import RunOptions
from manyview.models.vggt.model import VGGT
from manyview.train.config import load_config
from manyview.train.grow import grow_from
from manyview.train.initialise import initialise
from manyview.train.loop import run
from manyview.train.weights import export_weights
from tests.train.tiny import tiny_config


def _pair() -> tuple[VGGT, VGGT]:
    config = tiny_config()
    small = VGGT(config.model)
    initialise(small, config)
    places = tuple(2 * i + 1 for i in range(config.model.depth))
    deeper = dataclasses.replace(
        config.model, depth=2 * config.model.depth, taps=tuple(places[t] for t in config.model.taps)
    )
    large = VGGT(deeper)
    initialise(large, dataclasses.replace(config, model=deeper, seed=5))
    grow_from(large, small, places)
    return small, large


def test_a_deeper_network_computes_the_same_while_its_new_pairs_are_silent():
    small, large = _pair()
    images = torch.rand(1, 3, 3, 32, 32)
    with torch.no_grad():
        want, got = (model.eval()(images, options=RunOptions()) for model in (small, large))
    torch.testing.assert_close(got.pose_encoding, want.pose_encoding, atol=1e-5, rtol=1e-4)


def test_new_pairs_learn():
    _, large = _pair()
    result = large(torch.rand(1, 2, 3, 32, 32), options=RunOptions(head_frames_per_chunk=None))
    assert result.z_depth is not None
    (result.z_depth.sum() + result.pose_encoding.sum()).backward()
    gradient = large.aggregator.global_blocks[2].ls1.gamma.grad
    assert gradient is not None and gradient.abs().max() > 0


@pytest.mark.parametrize("places", [(0,), (1, 0), (0, 99)])
def test_places_that_do_not_fit_are_refused(places):
    config = tiny_config()
    with pytest.raises(UsageError, match="pairs"):
        grow_from(VGGT(config.model), VGGT(config.model), places)


def test_another_width_is_refused():
    config = tiny_config()
    wider = dataclasses.replace(config.model, dim=2 * config.model.dim)
    with pytest.raises(UsageError, match="shape"):
        grow_from(VGGT(wider), VGGT(config.model))


def _wider() -> tuple[VGGT, VGGT]:
    """A network, and one of twice the width that begins with its weights."""
    config = tiny_config()
    model = config.model
    assert model.encoder is not None and model.camera_head is not None
    wide = dataclasses.replace(
        model,
        dim=2 * model.dim,
        num_heads=2 * model.num_heads,
        encoder=dataclasses.replace(model.encoder, num_heads=2 * model.encoder.num_heads),
        camera_head=dataclasses.replace(model.camera_head, num_heads=2 * model.camera_head.num_heads),
    )
    small, large = VGGT(model), VGGT(wide)
    initialise(small, config)
    torch.manual_seed(3)
    with torch.no_grad():  # every norm and bias of its own
        for parameter in small.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    grow_from(large, small)
    return small, large


def test_a_network_of_twice_the_width_computes_the_same():
    small, large = _wider()
    images = torch.rand(1, 3, 3, 32, 24)
    with torch.no_grad():
        want, got = (model.double().eval()(images.double(), options=RunOptions()) for model in (small, large))
    torch.testing.assert_close(got.pose_encoding, want.pose_encoding, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.z_depth, want.z_depth, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.world_points, want.world_points, atol=1e-5, rtol=1e-4)


def test_both_copies_of_a_channel_learn_by_themselves():
    _, large = _wider()
    result = large(torch.rand(1, 2, 3, 32, 32), options=RunOptions(head_frames_per_chunk=None))
    assert result.z_depth is not None
    (result.z_depth.square().sum() + result.pose_encoding.square().sum()).backward()
    for block in (*large.aggregator.frame_blocks, *large.aggregator.global_blocks):
        for layer in ("attn.qkv", "mlp.fc1"):
            weight = block.get_submodule(layer).weight
            assert isinstance(weight, torch.nn.Parameter) and weight.grad is not None
            first, second = weight.grad[::2], weight.grad[1::2]
            assert float((first - second).norm() / first.norm()) > 0.05


def test_the_bundled_recipe_names_a_place_for_every_pair():
    grown, small = load_config("grown"), load_config("small")
    assert len(grown.init_layers) == small.model.depth
    assert grown.init_layers[-1] < grown.model.depth


def test_weights_tell_what_they_started_from_without_a_path(tmp_path: Path):
    config = tiny_config(steps=1, sync_every=1)
    run(config, tmp_path / "first")
    first = tmp_path / "first.safetensors"
    export_weights(tmp_path / "first", first)
    run(dataclasses.replace(config, init=str(first)), tmp_path / "second")
    recipe = export_weights(tmp_path / "second", tmp_path / "second.safetensors")["recipe"]
    assert recipe["command"].endswith("--init first.safetensors")
    assert recipe["start"]["weights"] == "first.safetensors" and len(recipe["start"]["sha256"]) == 64
    assert recipe["start"]["recipe"]["steps"] == 1
    assert str(tmp_path) not in json.dumps(recipe)
