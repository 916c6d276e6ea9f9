"""VGGT-Ω's checkpoints: recognised, read off shapes, licence logged; operations and memory known before."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest
import torch

from manyview.attention.layout import TokenLayout
from manyview.attention.plan import Plan
from manyview.bench.live_bytes import LiveBytes
from manyview.errors import UsageError, WeightsError
from manyview.models.checkpoints import compare_keys
from manyview.models.families import family_of
from manyview.models.flops import forward_flops
from manyview.models.load import load
from manyview.models.omega.config import OMEGA_256_TEXT, OMEGA_512, OmegaConfig, ReadoutConfig
from manyview.models.omega.model import Omega
from manyview.models.omega.spec import SPEC
from manyview.models.run_options import RunOptions
from manyview.reconstruction.plan.footprint import estimate_peak_bytes
from tests.models.test_flops import counting

from .tiny_omega import SMALL, tiny_omega, write_omega


def shapes_of(config: OmegaConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in Omega(config).state_dict().items()}


@pytest.mark.parametrize(("name", "config"), [("omega", OMEGA_512), ("omega_text", OMEGA_256_TEXT)])
def test_the_public_inventories_are_the_public_networks(shared_reference, name, config):
    inventory = json.loads((shared_reference / f"inventories/full/{name}.json").read_text())
    shapes = {key: tuple(entry["shape"]) for key, entry in inventory["tensors"].items()}
    assert SPEC.config_from_shapes(shapes) == config and config.depth == 19
    assert compare_keys(shapes_of(config), shapes).ok
    learnt = (k for k, entry in inventory["tensors"].items() if entry["kind"] == "param")
    assert sum(torch.Size(shapes[key]).numel() for key in learnt) == inventory["parameters"]


def test_sizes_are_read_off_the_shapes():
    for config in (OMEGA_512, OMEGA_256_TEXT):
        shapes = shapes_of(config)
        assert family_of(shapes) is SPEC and SPEC.config_from_shapes(shapes) == config
    told = {"register_layers": SMALL.register_layers, "taps": SMALL.taps, "readout_heads": 4}
    found = SPEC.config_from_shapes(shapes_of(SMALL), **told)
    assert dataclasses.replace(found, image_size=SMALL.image_size) == dataclasses.replace(
        SMALL, encoder=dataclasses.replace(SMALL.encoder, native_grid=found.encoder.native_grid)
    )
    with pytest.raises(WeightsError, match=r"5 pairs.*register layers"):
        SPEC.config_from_shapes(shapes_of(SMALL))
    shapes = shapes_of(SMALL)
    del shapes["aggregator.camera_token"]
    with pytest.raises(WeightsError, match=r"VGGT-Omega.*aggregator"):
        SPEC.config_from_shapes(shapes, **told)


def test_a_file_loads_and_its_licence_is_logged(tmp_path, caplog):
    path = write_omega(tmp_path / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        model = load(path)
    assert "FAIR Noncommercial Research License" in caplog.text and "outputs" in caplog.text
    assert isinstance(model, Omega) and model.config == SMALL
    images = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(model(images).z_depth, tiny_omega()(images).z_depth)
    assert OmegaConfig.from_json(json.loads(json.dumps(SMALL.to_json()))) == SMALL


@pytest.mark.parametrize("name", ["vggt-omega", "facebook/VGGT-Omega", "vggt-omega-256-text"])
def test_commercial_only_refuses_it_before_any_download(name):
    with pytest.raises(UsageError, match="FAIR Noncommercial"):
        load(name, commercial_only=True, offline=True)


def test_commercial_only_refuses_a_file(tmp_path):
    with pytest.raises(UsageError, match="not known to allow commercial use"):
        load(write_omega(tmp_path / "model.safetensors"), commercial_only=True)


def test_some_heads_are_enough(tmp_path):
    path = write_omega(tmp_path / "model.safetensors")
    model = load(path, heads=("depth",))
    assert model.available_heads == ("depth",)
    assert not any(k.startswith(("camera", "text")) for k in model.state_dict())
    with pytest.raises(UsageError, match=r"points head.*camera, depth, text"):
        load(path, heads=("points",))


def test_damaged_and_foreign_files_are_refused(tmp_path):
    model = tiny_omega()
    del model.aggregator.inter_frame_blocks[0].attn.qkv.bias_mask
    with pytest.raises(WeightsError, match=r"inter_frame_blocks\.0\.attn\.qkv\.bias_mask"):
        load(write_omega(tmp_path / "less.safetensors", model))
    with pytest.raises(WeightsError, match="register layers"):
        load(write_omega(tmp_path / "bare.safetensors", with_config=False))
    model = tiny_omega()
    model.camera_head.trunk[0].attn.qkv.bias_mask.fill_(torch.nan)  # as a module that was never loaded
    with pytest.raises(WeightsError, match="NaN or infinity"):
        load(write_omega(tmp_path / "nan.safetensors", model))


@pytest.mark.parametrize("plan", ["dense", "0:frame,1-2:dense"])
@pytest.mark.parametrize("heads", [("camera", "depth"), ("text",)])
def test_operations_are_those_counted(plan, heads):
    layout = TokenLayout(3, SMALL.special_tokens, (3, 5))
    expected = forward_flops(SMALL, layout, Plan.parse(plan, SMALL.depth), heads)
    with counting() as stages:
        tiny_omega()(torch.rand(3, 3, 48, 80), Plan.parse(plan, 3), RunOptions(heads=heads), stages)
    assert stages.flops == expected
    with pytest.raises(UsageError, match="no points head"):
        forward_flops(SMALL, layout, heads=("points",))


@pytest.mark.parametrize(
    ("pieces", "dtype"),
    [((None, None, None), torch.bfloat16), ((4, 3000, 2), torch.float32), ((8, 9000, 4), torch.bfloat16)],
)
def test_memory_estimate_is_near_and_not_below_counted_bytes(pieces, dtype):
    config = dataclasses.replace(
        OMEGA_512, dim=256, pairs=5, register_layers=(2,), taps=(0, 1, 3, 4), num_heads=4,
        text_head=ReadoutConfig(),
    )  # fmt: skip
    with torch.device("meta"):
        model = Omega(config)
        images = torch.empty(1, 12, 3, 160, 224, dtype=torch.uint8)
    options = RunOptions(dtype, *pieces, heads=("camera", "depth", "text"))
    with torch.no_grad(), LiveBytes() as live:
        model(images, options=options)
    counted = live.peak + images.numel()
    layout = model.config.layout(12, 160, 224)
    estimate = estimate_peak_bytes(config, layout, options, dtype.itemsize)
    assert counted <= estimate <= 1.5 * counted
