"""Configurations read off the shapes of a checkpoint."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from manyview.errors import WeightsError
from manyview.models.checkpoints import compare_keys
from manyview.models.families import family_of
from manyview.models.vggt.config import VGGT_1B, TrackHeadConfig, VGGTConfig
from manyview.models.vggt.model import VGGT
from manyview.models.vggt.spec import SPEC

from .tiny import TINY

TRACKED = dataclasses.replace(
    TINY,
    track_head=TrackHeadConfig(
        features=16, out_channels=(8, 8, 16, 16), hidden_size=24, corr_levels=3, virtual_tracks=5
    ),
)
CONFIGS = {
    "public": VGGT_1B,
    "tiny": TRACKED,
    "no heads": dataclasses.replace(
        TINY, camera_head=None, depth_head=None, point_head=None, track_head=None
    ),
    "patch 8": dataclasses.replace(TINY, patch_size=8, image_size=32, registers=2, mlp_ratio=2.0),
    "convolution": dataclasses.replace(TINY, encoder=None, image_size=518),
    "depth 6": dataclasses.replace(TINY, depth=6, taps=(0, 2, 3, 5)),
}


def shapes_of(config: VGGTConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in VGGT(config).state_dict().items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_is_recovered_from_its_shapes(name):
    assert SPEC.config_from_shapes(shapes_of(CONFIGS[name])) == CONFIGS[name]


def test_guessed_taps_are_logged(caplog):
    SPEC.config_from_shapes(shapes_of(TINY), "weights.pt")
    assert "weights.pt does not say which layers its heads read: taking (0, 1, 2, 3) of 4" in caplog.text
    caplog.clear()
    assert SPEC.config_from_shapes(shapes_of(TINY), taps=(0, 0, 1, 3)).taps == (0, 0, 1, 3)
    SPEC.config_from_shapes(shapes_of(VGGT_1B))
    assert not caplog.text


def test_the_public_inventory_is_the_public_model(shared_reference):
    inventory = json.loads((shared_reference / "inventories/full/vggt.json").read_text())
    shapes = {key: tuple(entry["shape"]) for key, entry in inventory["tensors"].items()}
    assert SPEC.config_from_shapes(shapes) == VGGT_1B
    assert compare_keys(shapes_of(VGGT_1B), shapes).ok
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == inventory["parameters"]


@pytest.mark.parametrize("name", ["pi3", "pi3x", "omega", "omega_text"])
def test_public_checkpoints_of_others_are_named(shared_reference, name):
    inventory = json.loads((shared_reference / f"inventories/full/{name}.json").read_text())
    expected = {"pi3": "Pi3", "pi3x": "Pi3X", "omega": "VGGT-Omega", "omega_text": "VGGT-Omega"}[name]
    family = family_of(inventory["tensors"].keys())
    assert family is not None and family.name == expected
    shapes = {key: tuple(entry["shape"]) for key, entry in inventory["tensors"].items()}
    with pytest.raises(WeightsError, match=r"VGGT checkpoint.*aggregator"):
        SPEC.config_from_shapes(shapes)


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("aggregator.camera_token", (1, 64), "has shape"),
        ("aggregator.frame_blocks.0.attn.q_norm.weight", (7,), "do not divide"),
        ("aggregator.patch_embed.pos_embed", (1, 18, 32), "not a square"),
        ("track_head.tracker.corr_mlp.fc1.weight", (24, 100), "not a multiple of 9x9"),
    ],
)
def test_impossible_shapes(key, shape, words):
    shapes = shapes_of(TRACKED)
    assert key in shapes
    with pytest.raises(WeightsError, match=words):
        SPEC.config_from_shapes(shapes | {key: shape})


@pytest.mark.parametrize("key", ["aggregator.camera_token", "aggregator.patch_embed.patch_embed.proj.weight"])
def test_an_incomplete_trunk(key):
    shapes = shapes_of(TINY)
    del shapes[key]
    with pytest.raises(WeightsError, match=f"VGGT checkpoint.*{key}"):
        SPEC.config_from_shapes(shapes)
