"""Weights that were trained on keep the licence of those they come from."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from manyview.models.load import _commercial_use
from manyview.train.provenance import initial_weights, licence_after


@pytest.mark.parametrize(
    ("start", "licence", "commercial"),
    [
        (None, "Apache-2.0", True),
        ("manyview-small", "Apache-2.0", True),
        ("vggt-1b", "CC-BY-NC-4.0", False),
        ("facebook/VGGT-1B", "CC-BY-NC-4.0", False),
        ("flashvggt", "not stated: trained on from flashvggt", None),
        ("gone.pt", "not stated: trained on from gone.pt", None),
    ],
)
def test_by_name(start, licence, commercial):
    assert licence_after(start) == licence
    assert _commercial_use(licence) is commercial


def test_weights_of_the_package_come_with_their_recipe():
    start = initial_weights("manyview-small")
    assert start["weights"] == "manyview-small" and len(start["sha256"]) == 64
    assert start["recipe"]["command"].startswith("manyview train base")
    assert initial_weights("vggt-1b") == {"weights": "vggt-1b"}


def test_by_file(tmp_path):
    tensors = {"a": torch.zeros(1)}
    save_file(tensors, tmp_path / "plain.safetensors")
    assert (
        licence_after(str(tmp_path / "plain.safetensors")) == "not stated: trained on from plain.safetensors"
    )
    save_file(tensors, tmp_path / "ours.safetensors", {"manyview": json.dumps({"licence": "CC-BY-NC-4.0"})})
    assert licence_after(str(tmp_path / "ours.safetensors")) == "CC-BY-NC-4.0"
