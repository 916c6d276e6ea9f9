"""Weights that hold a part of their tensors and name the weights that have the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import manyview
from manyview.errors import UsageError, WeightsError
from manyview.models.checkpoints.base import without_base
from manyview.models.checkpoints.metadata import METADATA_KEY
from manyview.models.checkpoints.read import read_checkpoint
from manyview.models.load import weights_of_name


def write_part(path: Path, full: Path, base: Path, name: str) -> None:
    whole = read_checkpoint(full)
    kept, entry = without_base(whole.tensors, read_checkpoint(base), name)
    metadata = json.loads(whole.metadata[METADATA_KEY])
    save_file(kept, path, {METADATA_KEY: json.dumps({**metadata, "base": entry}), "format": "pt"})


def test_a_part_of_named_weights_loads_as_the_whole_file_does(tmp_path: Path) -> None:
    """The whole file is named weights whose global layers moved, and which say for which plan."""
    base = weights_of_name("manyview-small")
    assert base is not None
    named, whole = read_checkpoint(base), tmp_path / "whole.safetensors"
    tensors = {k: v.half() * (2 if "global_blocks" in k else 1) for k, v in named.tensors.items()}
    metadata = {**json.loads(named.metadata[METADATA_KEY]), "accel": {"plan": "flash:r=4"}}
    save_file(tensors, whole, {METADATA_KEY: json.dumps(metadata), "format": "pt"})
    write_part(tmp_path / "part.safetensors", whole, base, "manyview-small")
    part, full = manyview.load(tmp_path / "part.safetensors"), manyview.load(whole)
    assert (tmp_path / "part.safetensors").stat().st_size < 0.6 * whole.stat().st_size
    assert part.state_dict().keys() == full.state_dict().keys()
    assert all(torch.equal(value, full.state_dict()[key]) for key, value in part.state_dict().items())
    assert part.info is not None and full.info is not None
    assert part.info.plan == full.info.plan == "flash:r=4"
    assert part.info.metadata["base"]["weights"] == "manyview-small"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of weights and a part that is another head on it, of two tensors."""
    folder = tmp_path_factory.mktemp("base")
    config = {METADATA_KEY: json.dumps({"licence": "Apache-2.0"})}
    base = {"trunk": torch.randn(3, 4).half(), "head": torch.randn(2).half()}
    save_file(base, folder / "base.safetensors", config)
    save_file({**base, "head": torch.zeros(2).half()}, folder / "full.safetensors", config)
    write_part(
        folder / "part.safetensors",
        folder / "full.safetensors",
        folder / "base.safetensors",
        "base.safetensors",
    )
    return folder


def test_a_part_holds_what_differs(folder: Path) -> None:
    with safe_open(folder / "part.safetensors", "pt") as file:
        assert list(file.keys()) == ["head"]


def test_a_base_that_cannot_be_left_out_is_refused(folder: Path) -> None:
    full = load_file(folder / "full.safetensors")
    base = read_checkpoint(folder / "base.safetensors")
    part = read_checkpoint(folder / "part.safetensors")
    for tensors, other, entity in (
        ({"trunk": full["trunk"]}, base, "head"),  # a tensor too many
        ({"trunk": full["trunk"] + 1, "head": full["head"]}, base, "common"),
        (base.tensors, base, "common"),
        (full, part, "base.safetensors"),  # a part of a part
    ):
        with pytest.raises(UsageError, match=entity):
            without_base(tensors, other, "base.safetensors")


def test_another_base_or_none_is_an_error(folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.safetensors"
    part.write_bytes((folder / "part.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=r"part\.safetensors .* base\.safetensors"):
        manyview.load(part)
    other = load_file(folder / "base.safetensors")
    other["trunk"][0, 0] += 1
    save_file(other, tmp_path / "base.safetensors")
    with pytest.raises(WeightsError, match=r"part\.safetensors .* base\.safetensors"):
        manyview.load(part)
    metadata = {METADATA_KEY: json.dumps({"base": {"weights": "../base.safetensors", "sha256": ""}})}
    save_file({"head": torch.zeros(2)}, tmp_path / "outside.safetensors", metadata)
    with pytest.raises(WeightsError, match="outside"):
        manyview.load(tmp_path / "outside.safetensors")
