"""Files in the published layout: sizes by shapes, one norm of four names, the Gaussian head, broken files."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from manyview.errors import WeightsError
from manyview.models.da3.config import DA3_GIANT, DA3Config
from manyview.models.families import FAMILIES, MODELS, find_model
from manyview.models.load import load
from manyview.models.run_options import RunOptions

from .tiny_da3 import GIANT, SMALL, tiny_da3, write_da3

NORM = "model.head.scratch.output_conv2_aux.{}.2.{}"


def test_sizes_are_those_of_the_shapes(tmp_path):
    model = tiny_da3()
    loaded = load(write_da3(tmp_path / "da3.safetensors", model))
    assert loaded.config == SMALL
    images = torch.rand(3, 3, 28, 42)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images).z_depth, model(images).z_depth)


def test_a_shared_norm_may_have_four_names_and_gaussians_are_left_out(tmp_path, caplog):
    path = write_da3(tmp_path / "da3.safetensors")
    tensors = load_file(path)
    for name in ("weight", "bias"):
        for level in (1, 2, 3):
            assert NORM.format(level, name) not in tensors
            tensors[NORM.format(level, name)] = tensors[NORM.format(0, name)].clone()
    tensors["model.gs_head.scratch.output_conv1.weight"] = torch.zeros(2, 2)
    save_file(tensors, path)
    with caplog.at_level(logging.INFO):
        loaded = load(path)
    assert loaded.config == SMALL
    assert any("Gaussian head" in record.message for record in caplog.records)


def test_parts_may_be_left_out(tmp_path):
    path = write_da3(tmp_path / "da3.safetensors")
    model = load(path, heads=("depth",))
    assert model.available_heads == ("depth", "rays") and model.config.why_no_priors is not None
    with torch.no_grad():
        assert model(torch.rand(2, 3, 28, 42), options=RunOptions(heads=("depth",))).z_depth is not None


@pytest.mark.parametrize("lost", ["head.projects.0.bias", "backbone.pretrained.blocks.3.norm1.bias"])
def test_a_lost_tensor_is_named(tmp_path, lost):
    path = write_da3(tmp_path / "da3.safetensors")
    tensors = load_file(path)
    del tensors[f"model.{lost}"]
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=lost):
        load(path)


@pytest.mark.parametrize("config", [SMALL, GIANT, DA3_GIANT], ids=["small", "giant", "published"])
def test_sizes_are_stored_and_read(tmp_path, config):
    assert DA3Config.from_json(json.loads(json.dumps(config.to_json()))) == config
    if config is GIANT:
        metadata = {"manyview": json.dumps({"config": config.to_json()})}
        save_file(tiny_da3(config).state_dict(), tmp_path / "da3.safetensors", metadata)
        assert load(tmp_path / "da3.safetensors").config == config


@pytest.mark.parametrize(
    ("field", "value"), [("alternating_from", 0), ("layers", 11), ("taps", [1, 7, 9, 11]), ("dim", 33)]
)
def test_sizes_that_cannot_be_are_refused(field, value):
    with pytest.raises(ValueError, match=str(value).strip("[]").split(",")[0]):
        DA3Config.from_json(SMALL.to_json() | {field: value})


def test_an_unknown_number_of_blocks_needs_a_configuration(tmp_path):
    with pytest.raises(WeightsError, match="8 blocks"):
        load(write_da3(tmp_path / "da3.safetensors", tiny_da3(GIANT)))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("small", "da3-small"), ("base", "da3-base"), ("large", "da3-large"), ("giant", "da3-giant"),
        ("metric_large", "da3-metric-large"), ("mono_large", "da3-mono-large"),
        ("nested_giant_large", "da3-nested"),
    ],
)  # fmt: skip
def test_named_networks_have_the_published_tensors(shared_reference, file, name):
    path = shared_reference / "inventories" / "full" / f"da3_{file}.json"
    published = json.loads(path.read_text(encoding="utf-8"))["tensors"]
    row = find_model(name)
    family = next(family for family in FAMILIES if row in family.models)
    with torch.device("meta"):
        network = family.network(row.config)
    found = {f"model.{key}": list(tensor.shape) for key, tensor in network.state_dict().items()}
    assert found == {key: t["shape"] for key, t in published.items() if ".gs_head." not in key}


def test_licences_of_the_named_weights():
    free = {row.name: row.commercial_use for row in MODELS if row.hub_id and "/DA3-" in row.hub_id}
    assert free == {"da3-small": True, "da3-base": True, "da3-large": False, "da3-giant": False}
